"""What was read from many files, kept for the next start: what is known of each file, and decoded pixels. No torch.

It lies beside the data sets (``nas.data.cifar.data_home``) in ``kept/``, may be removed at any time, and is written as far as there
is room: nothing depends on it but the time of a start.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.data.cifar import data_home
from nas.tools.files import write_atomically

WORTH_KEEPING = 2_000
"""Fewer files are read anew: that takes seconds."""
MOST_BYTES = 10 * 10**9
"""Of all that is kept: what was used longest ago goes first."""
PIXELS_VERSION = "1"
"""To be raised when ``nas.data.pixels`` makes other pixels of the same file."""


def known_files(root: Path) -> dict[str, list[Any]]:
    """What was found of the files below a folder when it was last read, by name; nothing where that is not known."""
    try:
        found = json.loads(_list_of(root).read_text(encoding="utf-8"))
        return {str(name): list(values) for name, values in found["files"].items()} if found["root"] == str(root.resolve()) else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def keep_files(root: Path, files: dict[str, list[Any]]) -> None:
    """Keep what was found of the files below a folder, where there are many."""
    if len(files) >= WORTH_KEEPING:
        _write(_list_of(root), json.dumps({"root": str(root.resolve()), "files": files}).encode())


def pixels(
    digests: tuple[str, ...], how: tuple[object, ...], shape: tuple[int, ...], read: Callable[[], npt.NDArray[np.uint8]]
) -> npt.NDArray[np.uint8]:
    """Pixels of many files, decoded once: read back where they are kept, else by ``read``, and kept.

    Args:
        digests: of the files' contents, in order.
        how: all that the pixels depend on besides.
        shape: theirs: (files, side, side, channels).
        read: decodes them.
    """
    if len(digests) < WORTH_KEEPING:
        return read()
    path = _folder() / f"{_key(*digests, PIXELS_VERSION, *map(str, how))}.npy"
    with contextlib.suppress(OSError, ValueError, EOFError):
        kept = np.load(path, mmap_mode="r", allow_pickle=False)
        if kept.shape == shape and kept.dtype == np.uint8:
            os.utime(path)
            return kept  # type: ignore[no-any-return]
    found = read()
    _write(path, found)
    return found


def _folder() -> Path:
    return data_home() / "kept"


def _list_of(root: Path) -> Path:
    return _folder() / f"{_key(str(root.resolve()))}.json"


def _key(*parts: str) -> str:
    return hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _write(path: Path, content: bytes | npt.NDArray[np.uint8]) -> None:
    """Write where there is room; a full or closed disk only costs time at the next start."""
    size = len(content) if isinstance(content, bytes) else content.nbytes
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _make_room(path.parent, size)
        if size > MOST_BYTES or shutil.disk_usage(path.parent).free < 4 * size:
            return
        if isinstance(content, bytes):
            write_atomically(path, content)
            return
        with scratch.open("wb") as file:
            np.save(file, content, allow_pickle=False)
        scratch.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            scratch.unlink()


def _make_room(folder: Path, size: int) -> None:
    files = sorted(((entry.stat().st_mtime_ns, entry.stat().st_size, entry) for entry in folder.iterdir()), reverse=True)
    for _, length, path in files:
        size += length
        if size > MOST_BYTES:
            path.unlink(missing_ok=True)
