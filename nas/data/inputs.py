"""From what a person names (files, folders, globs, a list) to image files, one after the other: lazily, in a fixed order. No torch."""

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nas.data.folder import SUFFIXES

STANDARD_INPUT = "-"
"""Stands for a list of names, one a line, on standard input."""


@dataclass(frozen=True)
class Named:
    """A file that is said to be an image; or, where ``problem`` is not empty, a name that leads to none, and why."""

    path: Path
    problem: str = ""


def named_images(names: Iterable[str | os.PathLike[str]], listed: Iterable[str] = ()) -> Iterator[Named]:
    """The files that are meant, in the order named; in a folder and of a glob sorted by name.

    Folders are gone through at every depth: hidden ones are skipped, links followed, circles left out. Nothing is opened.

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
    found = False
    for path in _walk(folder, frozenset()):
        found = True
        yield Named(path)
    if not found:
        yield Named(folder, f"no images in this folder ({', '.join(sorted(SUFFIXES))})")


def _walk(folder: Path, above: frozenset[str]) -> Iterator[Path]:
    """Image files below a folder: its own first, then those of its folders, each sorted by name."""
    here = os.path.realpath(folder)
    if here in above:
        return
    with os.scandir(folder) as entries:
        visible = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    yield from (Path(entry.path) for entry in visible if entry.is_file() and Path(entry.name).suffix.lower() in SUFFIXES)
    for entry in visible:
        if entry.is_dir():
            yield from _walk(Path(entry.path), above | {here})
