"""Files written so that a reader, or a kill, sees the old content or the new one."""

import os
from pathlib import Path


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
        scratch.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None
