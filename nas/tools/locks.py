"""Locks that keep a second process out of a folder, and the question whether one is held."""

from pathlib import Path

from filelock import FileLock, Timeout

PATIENCE = 0.3
"""Seconds that whoever wants a lock waits for it: somebody may just be asking whether it is held."""


def folder_lock(path: Path) -> FileLock:
    """The lock at a path. Acquiring it raises ``filelock.Timeout`` where another process has it."""
    return FileLock(path, timeout=PATIENCE)


def is_held(path: Path) -> bool:
    """Whether somebody holds the lock at a path. Nothing is made where there is none."""
    if not path.is_file():
        return False
    lock = FileLock(path, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        return True
    except OSError:  # a place where nothing may be written: whoever works there could not have the lock either
        return False
    lock.release()
    return False
