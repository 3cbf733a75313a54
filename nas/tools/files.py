"""Files written so that a reader, or a kill, sees the old content or the new one; and folders rid of what is ours in them."""

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from nas.errors import ConfigError, RunError

LEAST_ROOM = 20_000_000
"""Bytes that must be free where something is begun: a ledger, checkpoints and weights of the smallest kind."""


def check_not_blank(said: object, name: str, whence: str = "", folder: bool = True) -> None:
    """Raise ConfigError where a path or a name has no letter in it: as a path it would be the working directory.

    Args:
        said: what stands for a path or a name; anything but a text is fine.
        name: the option or argument, as it is typed.
        whence: where it comes from, if it was not typed; follows the value.
        folder: whether it may stand for a folder.
    """
    if isinstance(said, str) and not said.strip():
        hint = " (the working directory is .)" if folder else ""
        raise ConfigError(f"{name} must not be empty, but got {said!r}{whence}{hint}")


def check_room(folder: Path) -> None:
    """Raise RunError where nothing can be written in a folder that is, or would be made, there: no permission, no room, a file."""
    there = next((place for place in (folder, *folder.absolute().parents) if place.exists()), Path())
    if not there.is_dir():
        raise RunError(f"{folder}: a folder is needed, but {there} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise RunError(f"{folder}: nothing can be written in {there}: permission denied; name another folder")
    disk = shutil.disk_usage(there)
    if disk.total and (free := disk.free) < LEAST_ROOM:  # /proc and its like have no size
        raise RunError(f"{folder}: its disk has {free / 1e6:.0f} MB left, too little to begin anything: make room, or name another folder")


def is_stream(path: Path) -> bool:
    """Whether a path names something that is there and is neither a file nor a folder: a device, a pipe, a terminal."""
    return path.exists() and not path.is_file() and not path.is_dir()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a kill, sees the old content or the new one, never a part.

    A device or a pipe (``/dev/stdout``) is written to as it is: a file that takes its name would be put in its place.
    """
    if is_stream(path):
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with scratch.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError as error:
        with suppress(OSError):  # read-only: it would blame a name that nobody gave
            scratch.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None


def remove_own(folder: Path, patterns: Iterable[str]) -> list[Path]:
    """Remove the files that match in a folder, and every folder that has become empty, itself too.

    A folder that matches goes where it is empty, or with all that is in it where its pattern ends in ``/**``.

    The working directory stays, emptied: whoever stands in it would stand nowhere.

    Returns:
        What is left there: not ours to remove.
    """
    for pattern in patterns:
        whole = pattern.endswith("/**")
        for path in sorted(folder.glob(pattern.removesuffix("/**"))):
            if not path.is_dir() or path.is_symlink():
                path.unlink(missing_ok=True)
            elif whole:
                shutil.rmtree(path)
            elif not any(path.iterdir()):
                path.rmdir()
    left = sorted(folder.iterdir()) if folder.is_dir() else []
    if not left and folder.is_dir() and not holds_working_directory(folder):
        folder.rmdir()
    return left


def holds_working_directory(folder: Path) -> bool:
    """Whether a folder is the working directory of this process, or is above it."""
    try:
        return Path.cwd().is_relative_to(folder.resolve())
    except FileNotFoundError:  # it has been removed
        return False


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
