"""The append-only record of a run: one checked JSON object a line, one writer. The only source of resume and reports.

Every line carries its number and a checksum, so a lost or altered line is noticed, never believed. A last line that
was cut off by a kill is dropped when the ledger is opened for writing.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from nas.errors import RunError
from nas.runs.records import Record, decode_line, encode_line
from nas.runs.state import replay
from nas.tools.locks import folder_lock
from nas.tools.words import quoted


class Reading(Iterator[Record]):
    """The whole records of a ledger, one by one, from where an earlier reading came to; a cut-off last line is left out.

    Attributes:
        size: the bytes that the records read so far take.
        count: how many they are.

    Raises:
        RunError: the file cannot be read, or a line other than the last is damaged.
    """

    def __init__(self, path: str | Path, size: int = 0, count: int = 0) -> None:
        self._path = path
        self.size, self.count = size, count
        self._records = self._read()

    def __next__(self) -> Record:
        return next(self._records)

    def _read(self) -> Iterator[Record]:
        try:
            with Path(self._path).open("rb") as file:
                file.seek(self.size)
                for line in file:
                    if not line.endswith(b"\n"):
                        return
                    try:
                        record = decode_line(line[:-1].decode("utf-8"), self.count)
                    except ValueError as error:
                        if not file.read(1):
                            return  # a torn write can end in what looks like a whole line
                        where = f"{self._path}, line {self.count + 1}"
                        raise RunError(f"{where}: a ledger line must be as it was written, but {error}") from None
                    self.size += len(line)
                    self.count += 1
                    yield record
        except OSError as error:
            raise RunError(f"{self._path}: the ledger cannot be read: {error.strerror or error}") from None


def read_records(path: str | Path) -> tuple[list[Record], int]:
    """All whole records of a ledger, and the bytes they take. Raises RunError, see ``Reading``."""
    reading = Reading(path)
    return list(reading), reading.size


def _take(path: Path, lock: FileLock | None = None) -> FileLock:
    """The lock of a ledger, taken; one that is this process's already once more. Raises RunError where another process has it."""
    lock = folder_lock(path.with_suffix(".lock")) if lock is None else lock
    try:
        lock.acquire()
    except Timeout:
        watch = f"watch it with `nas watch {quoted(path.parent)}`"
        message = f"{path.parent}: another process is running this search; stop it first, or {watch}"
        raise RunError(message) from None
    return lock


@contextmanager
def held(path: Path, lock: FileLock | None = None) -> Iterator[FileLock]:
    """Keep other processes from a ledger before it is opened: while images are read, say. What is yielded goes to ``Ledger``.

    Args:
        path: of the ledger.
        lock: its lock, where this process holds it already.

    Raises:
        RunError: another process writes to this run.
    """
    lock = _take(path, lock)
    try:
        yield lock
    finally:
        lock.release()


class Ledger:
    """Appends records to a run's ledger and keeps the state they add up to. A second writer is refused by a lock.

    ``lock`` is that of a process that holds the run already (``held``).

    Raises:
        RunError: another process writes to this run, or the ledger is damaged.
    """

    def __init__(self, path: Path, lock: FileLock | None = None) -> None:
        self.path = path
        self._grouped = 0
        self._unforced = False
        self._lock = _take(path, lock)
        try:
            path.touch()
            reading = Reading(path)
            self.state = replay(reading, path)
            self._lines, self._size = reading.count, reading.size
            os.truncate(path, self._size)
            self._file = path.open("ab", buffering=0)
        except BaseException:
            self._lock.release()
            raise

    @contextmanager
    def together(self) -> Iterator[None]:
        """Group commit: what is appended inside is written at once, as always, and forced to the disk once, at the end.

        A kill of the process loses nothing either way. A power cut inside the group may lose its end, whole records from
        some point on; what was done about them (children handed out, a snapshot) is then done again or ignored.
        """
        self._grouped += 1
        try:
            yield
        finally:
            self._grouped -= 1
            if not self._grouped and self._unforced:
                self._force()

    def append(self, *records: Record) -> None:
        """Write the records and wait until they are on disk (see ``together``): only then may anybody act on them.

        Raises:
            OSError: the disk is full or gone; what was recorded before stays whole.
        """
        content = "".join(encode_line(self._lines + i, record) + "\n" for i, record in enumerate(records)).encode()
        try:
            written = 0
            while written < len(content):  # a disk that fills up takes a part first
                written += self._file.write(content[written:]) or 0
            self._unforced = True
            if not self._grouped:
                self._force()
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(self._size)
            raise OSError(error.errno, error.strerror, str(self.path)) from None
        self._size += len(content)
        self._lines += len(records)
        for record in records:
            self.state.apply(record)

    def _force(self) -> None:
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from None
        self._unforced = False

    def close(self) -> None:
        """Release the file and the lock."""
        self._file.close()
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
