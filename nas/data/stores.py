"""Where the bytes of images are: a store gives those of one image by its name. Stores hold nothing, so they go to any process. No torch."""

import os
from pathlib import Path
from typing import Protocol


class Store(Protocol):
    """Images below one place (``root``), each with a name that stays the same when the place is moved."""

    def read(self, root: Path, name: str) -> bytes:
        """The encoded image. Raises OSError."""

    def stamp(self, root: Path, name: str) -> tuple[int, int]:
        """Size and time (ns) of what holds it: while they are as they were, the image is too. Raises OSError."""


class _Disk:
    """Files below a folder, named relative to it."""

    def read(self, root: Path, name: str) -> bytes:
        return (root / name).read_bytes()

    def stamp(self, root: Path, name: str) -> tuple[int, int]:
        status = os.stat(f"{root}{os.sep}{name}")  # noqa: PTH116 - for every file of large sets at every start
        return status.st_size, status.st_mtime_ns


DISK: Store = _Disk()
