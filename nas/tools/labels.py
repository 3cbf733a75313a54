"""What a person says of a folder: a note, and the names that it has had. Kept in it, so that both go where it goes."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from nas.tools.files import write_atomically

LABEL_FILE = "about.json"


@dataclass(frozen=True)
class Label:
    """A line of a person's own, and former names of the folder, the latest last."""

    note: str = ""
    formerly: tuple[str, ...] = ()


def read_label(folder: Path) -> Label:
    """The label of a folder; an empty one where there is none, or none that can be understood: it must not hide what it is about."""
    try:
        document = json.loads((folder / LABEL_FILE).read_text(encoding="utf-8"))
        return Label(str(document.get("note", "")), tuple(str(name) for name in document.get("formerly", ())))
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return Label()


def write_label(folder: Path, label: Label) -> None:
    """Keep a label in its folder; an empty one leaves no file. Raises OSError."""
    if label == Label():
        (folder / LABEL_FILE).unlink(missing_ok=True)
        return
    write_atomically(folder / LABEL_FILE, json.dumps(asdict(label), indent=2, ensure_ascii=False) + "\n")


def names_of(folder: Path) -> tuple[str, ...]:
    """The name of a folder, and the former ones that no other folder beside it has taken since."""
    former = (name for name in read_label(folder).formerly if not (folder.parent / name).exists())
    return (folder.absolute().name, *former)
