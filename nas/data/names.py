"""What the names of files, folders and columns say: which are images, which are no data, which part, which class. No torch."""

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Literal, TypeVar

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
PARTS: tuple["Role", ...] = ("train", "validation", "test")
Role = Literal["train", "validation", "test"]
_ROLES: dict[str, Role] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval", "evaluation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
SURE_ROLES = frozenset({"val", "valid", "validation", "test", "testing"})
"""Words that name a part even where no part to train on lies beside it; the others may then be classes."""
_LEFT_BY_SYSTEMS = frozenset(
    {
        *("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "@eadir", "#recycle"),
        *("$recycle.bin", "system volume information", "lost+found", "__pycache__"),
    }
)
T = TypeVar("T")


def is_image(name: str) -> bool:
    """Whether the name ends as an image's does, in any case."""
    return os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122 - called for every file of large sets


def is_no_data(name: str) -> bool:
    """Whether a file or folder is hidden, or one that systems and tools leave behind."""
    return name.startswith(".") or name.lower() in _LEFT_BY_SYSTEMS


def part_of(name: str) -> Role | None:
    """The part that a word names, in any case: train, val, test and their like."""
    return _ROLES.get(name.strip().lower())


def part_within(name: str) -> tuple[Role, str] | None:
    """The part that one of a name's words names, and the rest of them: ``training_set`` is (train, set), ``seg_test`` (test, seg)."""
    words = [word for word in re.split(r"[\W_]+|\d+", name.lower()) if word]
    roles = [word for word in words if word in _ROLES]
    return (_ROLES[roles[0]], " ".join(word for word in words if word not in _ROLES)) if len(roles) == 1 else None


def roles_of(found: Mapping[Role, T], scoring: bool = False) -> dict[Role, T]:
    """Which part is used for what: one to validate on is the test part where there is no other, as in ImageNet.

    Where images are only scored and there are none to train on, those of the test part are all there are.
    """
    if scoring and found and "train" not in found:
        return {"train": found["test" if "test" in found else "validation"]}
    if "validation" in found and "test" not in found:
        return {role: found[name] for role, name in (("train", "train"), ("test", "validation")) if name in found}  # type: ignore[misc, index]
    return dict(found)


def parts_in_words(found: Iterable[Role]) -> str:
    """How a file or table that names parts is divided; where it names none, what is done about it."""
    names = [role for role in PARTS if role in found]
    if len(names) < 2:
        return "; a fifth is held out as test part"
    listed = " and ".join([", ".join(names[:-1]), names[-1]])
    return f" in the parts {listed}" + ("; validation is the test part" if "test" not in names else "")


def class_name(raw: str) -> str:
    """A class by the name of its folder, the same in every Unicode normal form (file systems differ) and printable."""
    return printable(unicodedata.normalize("NFC", raw))


def printable(name: object) -> str:
    """A name or path for people: bytes that are no UTF-8 are written as text, a backslash and hexadecimal digits."""
    return os.fsencode(str(name)).decode("utf-8", "backslashreplace")


def in_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Distinct labels as class names, numbers by their size: 2 before 10."""
    distinct = set(labels)
    whole = all(re.fullmatch(r"-?\d+", label) for label in distinct)
    return tuple(sorted(distinct, key=lambda label: (int(label) if whole else 0, label)))


def some(names: Iterable[object], most: int = 5) -> str:
    """The first names of a list for a message."""
    listed = [printable(name) for name in names]
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")
