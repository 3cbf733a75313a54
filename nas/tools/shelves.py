"""Where things of a kind are kept and found by name: in the folder that a variable names, else from the working directory upwards."""

import logging
import os
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from nas.tools.files import check_not_blank

logger = logging.getLogger(__name__)

COMPARISON_FILE = "compare.json"
"""What makes a folder that of a comparison of networks."""


@dataclass(frozen=True)
class Shelf:
    """Folders of one name that hold things of one kind; ``variable`` names one such folder for good."""

    name: str
    variable: str

    @property
    def chosen(self) -> Path | None:
        """The folder that the environment names."""
        said = os.environ.get(self.variable)
        return Path(said).expanduser() if said else None

    def new(self) -> Path:
        """Where a new thing is made: in the folder that the environment names, else in that of the working directory."""
        return self.chosen or Path(self.name)

    def places(self) -> list[Path]:
        """The folders that exist and in which a name is looked up, the nearest first."""
        if self.chosen is not None:
            return [self.chosen] if _is_folder(self.chosen) else []
        found = (Path(self.name), *(above / self.name for above in Path.cwd().parents))
        return [place for place in found if _is_folder(place)]

    def holding(self, file: str) -> list[Path]:
        """The folders with that file which are found without being named by a path.

        They are those of the nearest place that has any, and those that lie in the working directory itself.
        """
        shelved = next((found for place in self.places() if (found := folders_with(place, file))), [])
        named = {path.resolve() for path in shelved}
        return [*shelved, *(path for path in folders_with(Path(), file) if path.resolve() not in named)]

    def find(self, name: str) -> Iterator[Path]:
        """Paths that the name may stand for: itself, and in each place."""
        check_not_blank(name, "the name of a folder")
        said = Path(name).expanduser()
        yield said if said.name not in ("", "..") else said.resolve()  # ``.`` is no name, and things are called by theirs
        yield from (place / name for place in self.places())


RUNS = Shelf("runs", "NAS_RUNS")
"""Where searches go by their names."""
TRAINED = Shelf("trained", "NAS_TRAINED")
"""Where trainings go by their names."""


TOOK_LAST: ContextVar[Path | None] = ContextVar("took_last", default=None)
"""What ``last`` stood for: another command may take it for something else."""


def took_last(path: Path) -> None:
    """Say which one ``last`` stands for: what did something last, of the kind that is needed where one kind alone will do."""
    TOOK_LAST.set(path)
    logger.info("last is %s", path)


def folders_with(place: Path, file: str) -> list[Path]:
    """The folders right below a place that have a file of that name, in order of their names."""
    return [path.parent for path in sorted(place.glob(f"*/{file}"))]


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a folder above that may not be looked into
        return False
