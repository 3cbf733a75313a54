"""From what a person names (files, folders, globs, a list) to image files, one after the other: lazily, in a fixed order. No torch."""

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nas.data.names import SUFFIXES, printable
from nas.data.walk import Walk
from nas.errors import DataError
from search_spaces.plugins import guess

STANDARD_INPUT = "-"
"""Stands for a list of names, one a line, on standard input."""


@dataclass(frozen=True)
class Named:
    """A file that is said to be an image; or, where ``problem`` is not empty, a name that leads to none, and why."""

    path: Path
    problem: str = ""


def named_images(names: Iterable[str | os.PathLike[str]], listed: Iterable[str] = ()) -> Iterator[Named]:
    """The files that are meant, in the order named; in a folder and of a glob sorted by name.

    Folders are gone through at every depth, as ``nas.data.walk`` does. No image is opened.

    Args:
        names: files, folders, globs such as ``photos/**/*.jpg``, or ``-`` for what is ``listed``.
        listed: names, one a line, as standard input has them.
    """
    for name in names:
        if os.fspath(name) == STANDARD_INPUT:
            for line in listed:
                if entry := line.rstrip("\r\n"):
                    yield from _of_name(Path(entry))
        else:
            yield from _of_name(Path(name))


def check_named(names: Iterable[str | os.PathLike[str]]) -> None:
    """Refuse a name that leads nowhere, before anything slow is done; what a list on standard input names is seen as it comes.

    Raises:
        DataError: there is no such file or folder, or no file matches a glob.
    """
    for given in names:
        name = os.fspath(given)
        if name == STANDARD_INPUT or os.path.lexists(name):
            continue
        if not glob.has_magic(name):
            place = Path(name)
            near = guess(place.name, (entry.name for entry in place.parent.iterdir()) if place.parent.is_dir() else ())
            raise DataError(f"{printable(name)[-200:]}: there is no such file or folder{near}")
        if next(glob.iglob(name, recursive=True), None) is None:  # noqa: PTH207 - as below
            raise DataError(f"{printable(name)[-200:]}: no file matches")


def _of_name(path: Path) -> Iterator[Named]:
    if path.is_dir():
        yield from _of_folder(path)
    elif path.exists() or not glob.has_magic(str(path)):
        yield Named(path)
    else:
        matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 - pathlib's does not skip hidden files
        if not matches:
            yield Named(path, "no file matches")
        for match in matches:
            yield from _of_name(Path(match))


def _of_folder(folder: Path) -> Iterator[Named]:
    try:
        names = list(Walk(folder).tree.all_images())
    except DataError as problem:
        yield Named(folder, str(problem))
        return
    if not names:
        yield Named(folder, f"no images in this folder ({', '.join(sorted(SUFFIXES))})")
    for name in names:
        yield Named(folder / name)
