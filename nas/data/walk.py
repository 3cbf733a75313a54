"""All that lies below a folder, once: images and other files, links followed, circles noticed, what is no data left out. No torch."""

import errno
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from nas.data.names import is_image, is_no_data, printable
from nas.errors import DataError
from nas.tools.words import counted

MOST_VISITS = 50
"""How often links may lead to the same folder: more is a net of links, of which the number of paths explodes."""
DEEPEST = 100
Inode = tuple[int, int]


@dataclass(frozen=True)
class Folder:
    """A folder with what is directly in it. ``path`` is relative to where the walk began (there it is empty), with ``/``."""

    path: str
    images: list[str]
    others: list[str]
    folders: list["Folder"]

    @property
    def name(self) -> str:
        """Its own."""
        return self.path.rpartition("/")[2]

    @cached_property
    def total(self) -> int:
        """Images in it at any depth."""
        return len(self.images) + sum(folder.total for folder in self.folders)

    @property
    def holding(self) -> list["Folder"]:
        """The folders in it that hold images."""
        return [folder for folder in self.folders if folder.total]

    def all_images(self) -> Iterator[str]:
        """Their paths relative to where the walk began."""
        for folder in self.walk():
            yield from (_below(folder.path, name) for name in folder.images)

    def all_others(self) -> Iterator[str]:
        """Paths of the files that are no images by their names."""
        for folder in self.walk():
            yield from (_below(folder.path, name) for name in folder.others)

    def walk(self) -> Iterator["Folder"]:
        """This folder and all below it."""
        yield self
        for folder in self.folders:
            yield from folder.walk()


@dataclass
class Walk:
    """The tree below ``base``, and what was left out: links that lead to nothing, and links back to a folder they lie in."""

    base: Path
    tree: Folder = field(init=False)
    broken: list[str] = field(default_factory=list)
    circles: list[str] = field(default_factory=list)
    _visits: Counter[Inode] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        place = self.base.resolve()
        self.tree = self._folder("", frozenset(_inode(above) for above in place.parents))

    def notes(self) -> list[str]:
        """What was left out, in words."""
        lines = []
        if self.circles:
            one, several = "link leads back to a folder above it and is", "links lead back to a folder above them and are"
            lines.append(f"{counted(len(self.circles), one, several)} not followed: {_first(self.circles)}")
        if self.broken:
            which = counted(len(self.broken), "link leads to nothing and is skipped", "links lead to nothing and are skipped")
            lines.append(f"{which}: {_first(self.broken)}")
        return lines

    def _folder(self, path: str, above: frozenset[Inode]) -> Folder:
        found = Folder(path, [], [], [])
        place = self.base / path
        try:
            mine = above | {_inode(place)}
            with os.scandir(place) as entries:
                visible = sorted((entry for entry in entries if not is_no_data(entry.name)), key=lambda entry: entry.name)
            for entry in visible:
                self._add(found, entry, mine)
        except OSError as problem:
            raise DataError(
                f"{printable(problem.filename or place)}: must be readable to know which images there are, but {problem.strerror}"
            ) from None
        return found

    def _add(self, found: Folder, entry: os.DirEntry[str], above: frozenset[Inode]) -> None:
        path = _below(found.path, entry.name)
        if path.count("/") > DEEPEST:
            raise OSError(errno.ELOOP, f"it lies more than {DEEPEST} folders deep", entry.path)
        if _leads_to_itself(entry):
            self.circles.append(path)
        elif entry.is_dir():
            inode = _inode(Path(entry.path))
            self._visits[inode] += entry.is_symlink()
            if inode in above or (entry.is_symlink() and self._visits[inode] > MOST_VISITS):
                self.circles.append(path)
            else:
                found.folders.append(self._folder(path, above))
        elif entry.is_file():
            (found.images if is_image(entry.name) else found.others).append(entry.name)
        elif entry.is_symlink():
            self.broken.append(path)


def _leads_to_itself(entry: os.DirEntry[str]) -> bool:
    """Whether it is a link that ends at itself, through others maybe: nobody can say what it leads to."""
    try:
        entry.is_dir()
    except OSError as problem:
        if problem.errno != errno.ELOOP:
            raise
        return True
    return False


def _inode(path: Path) -> Inode:
    status = path.stat()
    return status.st_dev, status.st_ino


def _below(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _first(paths: list[str]) -> str:
    return printable(paths[0]) + (", …" if len(paths) > 1 else "")
