"""Mirrors a run folder to any fsspec URL while it grows (object storage, network disk), and fetches it elsewhere. No torch, no ray.

What is mirrored is all that a resume needs. Files that only grow are kept in parts of a fixed size, since object stores cannot
append: each sync writes the last part again. One small object says which driver is at work, so that a second one is noticed.
"""

import json
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import fsspec
from filelock import Timeout

from nas.errors import ConfigError, RunError
from nas.runs.folder import RunFolder
from nas.tools.files import write_atomically
from nas.tools.locks import folder_lock
from nas.tools.shelves import RUNS
from nas.tools.words import kind_and_line, quoted

PART_BYTES = 1 << 20
GROWING = ("ledger.jsonl", "log.txt")
"""Files that are only ever appended to."""
WHOLE = re.compile(r"(config|space|best/\d+)\.yaml|(environment|loggers|about)\.json|snapshot\.safetensors|checkpoints/\d+-\d+\.state")
"""Files that are replaced as a whole. Everything else in a folder is made from these, or is nobody's business."""
LEASE = "driver.json"
SILENT_SYNCS = 3
"""A driver that has not written for so many of its intervals is dead."""
CLOSE_SECONDS = 60.0
"""How long the end of a search waits for the last sync."""


class Remote:
    """The folder at a URL, with names relative to it.

    Raises:
        ConfigError: the URL has no known protocol, or the package for it is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            self._fs, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError, OSError) as error:
            raise ConfigError(f"runner.sync: a URL such as s3://bucket/run or file:///run is needed, but got {url!r} ({error})") from None
        self._local = "file" in (self._fs.protocol if isinstance(self._fs.protocol, tuple) else (self._fs.protocol,))

    @property
    def name(self) -> str:
        """The last part of the URL's path."""
        return Path(self._root).name

    def put(self, name: str, content: bytes) -> None:
        """Write an object; a reader sees the old content or the new one. Any exception of the file system comes through."""
        path = f"{self._root}/{name}"
        if self._local:  # an object store's put is all or nothing, a plain file's is not
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(Path(path), content)
        else:
            try:
                self._fs.pipe_file(path, content)
            except FileNotFoundError:  # a file system with folders; asking an object store for one might make a bucket
                self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
                self._fs.pipe_file(path, content)

    def get(self, name: str) -> bytes | None:
        """The content of an object; None where there is none."""
        self._fs.invalidate_cache()
        try:
            return bytes(self._fs.cat_file(f"{self._root}/{name}"))
        except FileNotFoundError:
            return None

    def remove(self, name: str) -> None:
        """Remove an object, if it is there."""
        with suppress(FileNotFoundError):
            self._fs.rm_file(f"{self._root}/{name}")

    def names(self) -> list[str]:
        """The names of all objects."""
        self._fs.invalidate_cache()
        try:
            found = self._fs.find(self._root)
        except FileNotFoundError:
            return []
        return sorted(path[len(self._root) :].lstrip("/") for path in found)

    def grown(self, name: str) -> bytes:
        """A growing file, put together from its parts."""
        parts: list[bytes] = []
        while (part := self.get(_part(name, len(parts)))) is not None:
            parts.append(part)
        return b"".join(parts)


def _part(name: str, number: int) -> str:
    return f"{name}.parts/{number:06d}"


class Mirror:
    """Keeps the copy at ``url`` current from a background thread. Use it as a context manager around a session.

    The search never waits for it and never ends for it: a remote that fails is tried again, and a person is told once.

    Raises:
        ConfigError: the URL cannot be used.
        RunError: another driver is at work on this mirror, or it holds another run, or more of this one.
    """

    def __init__(self, folder: RunFolder, url: str, every: float, warn: Callable[[str], None]) -> None:
        self.folder, self.url, self.every, self._warn = folder, url, every, warn
        self._remote = Remote(url)
        self._driver = f"{socket.gethostname()}, process {os.getpid()}, {uuid.uuid4().hex[:8]}"
        self._beat = 0
        self._sent: dict[str, tuple[int, int]] = {}
        self._grown: dict[str, int] = {}
        self._claimed = self._lost = self._warned = False
        self._error: str | None = None
        self._current = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)

    def __enter__(self) -> Self:
        new = not self.folder.ledger_file.is_file() or self.folder.ledger_file.stat().st_size == 0
        try:
            self._claim()
        except (RunError, ConfigError):
            raise
        except Exception as error:
            if new:
                raise ConfigError(f"runner.sync: {self.url} cannot be used: {kind_and_line(error)}; nothing was trained") from None
            self._failed(error)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(timeout=CLOSE_SECONDS)

    def status(self) -> str:
        """One line for the summary: up to date, or how far behind and why."""
        if self._lost:
            return f"mirror {self.url}: given up, another driver has taken it over"
        if self._error is None and not self._thread.is_alive():
            return f"mirror {self.url}: up to date"
        behind = time.monotonic() - self._current
        return f"mirror {self.url}: {behind:.0f} s behind ({self._error or 'the last sync is still under way'})"

    # ------------------------------------------------------------------------------------------------ who is at work

    def _claim(self) -> None:
        """Become this mirror's driver, where no other one lives and it holds nothing but a beginning of this run."""
        lease = self._remote.get(LEASE)
        seen = _read_lease(lease)
        if seen is not None and not seen["released"]:
            deadline = time.monotonic() + SILENT_SYNCS * seen["every"]
            if seen["every"] >= 1:
                self._warn(f"waiting {SILENT_SYNCS * seen['every']:.0f} s to see whether another driver ({seen['driver']}) is at work …")
            while time.monotonic() < deadline:
                time.sleep(min(0.5, seen["every"] / 2))
                now = self._remote.get(LEASE)
                if now != lease and not (_read_lease(now) or {"released": True})["released"]:
                    raise RunError(f"{self.url}: another driver ({seen['driver']}) is running this search; stop it first")
        there = self._remote.grown("ledger.jsonl")
        here = _whole_lines(self.folder.ledger_file)
        if not here.startswith(there):
            if there.startswith(here) and here:
                raise RunError(f"{self.url}: the mirror is ahead of {self.folder.path}; go on from it with `nas resume {quoted(self.url)}`")
            that = f"`nas resume {quoted(self.url)}`"
            raise RunError(f"{self.url}: the mirror holds another run; resume that with {that}, or give another URL")
        self._beat_lease()
        self._claimed = True

    def _beat_lease(self, released: bool = False) -> None:
        self._beat += 1
        document = {"driver": self._driver, "beat": self._beat, "every": self.every, "released": released}
        self._remote.put(LEASE, json.dumps(document).encode())

    def _still_ours(self) -> bool:
        lease = _read_lease(self._remote.get(LEASE))
        return lease is None or lease["driver"] == self._driver

    # ------------------------------------------------------------------------------------------------ the copying

    def _run(self) -> None:
        while not self._lost:
            last = self._stop.wait(self.every)
            try:
                started = time.monotonic()
                self.sync(last)
            except RunError as error:  # another driver, found when the remote came back
                self._lost = True
                self._warn(f"{error}; this search goes on without a mirror")
            except Exception as error:
                self._failed(error)
            else:
                self._current, self._error = started, None
            if last:
                return

    def sync(self, last: bool = False) -> None:
        """Copy what has changed. Any exception of the file system comes through."""
        if not self._claimed:
            self._claim()
        if not self._still_ours():
            self._lost = True
            self._warn(f"mirror {self.url}: another driver has taken it over; this search goes on without a mirror")
            return
        # The ledger first: a state that it does not name yet is no use, one that it names and that is gone costs only time.
        for name in ("config.yaml", *GROWING):
            (self._send_grown if name in GROWING else self._send)(name)
        present = set(_whole_files(self.folder.path))
        for name in sorted(present):
            self._send(name)
        for name in sorted(set(self._sent) - present - {"config.yaml"}):
            self._remote.remove(name)
            del self._sent[name]
        self._beat_lease(released=last)

    def _send(self, name: str) -> None:
        try:
            status = (self.folder.path / name).stat()
            version = status.st_mtime_ns, status.st_size
            if self._sent.get(name) == version:
                return
            content = (self.folder.path / name).read_bytes()
        except FileNotFoundError:
            return  # an ended trial's state
        self._remote.put(name, content)
        self._sent[name] = version

    def _send_grown(self, name: str) -> None:
        done = self._grown.get(name, 0)
        number = done // PART_BYTES
        content = _whole_lines(self.folder.path / name, number * PART_BYTES)
        if number * PART_BYTES + len(content) == done:
            return
        for start in range(0, len(content), PART_BYTES):
            self._remote.put(_part(name, number + start // PART_BYTES), content[start : start + PART_BYTES])
        self._grown[name] = number * PART_BYTES + len(content)

    def _failed(self, error: Exception) -> None:
        self._error = kind_and_line(error)
        if not self._warned:
            self._warned = True
            self._warn(f"mirror {self.url}: {self._error}; the search goes on, and the mirror is tried again every {self.every:g} s")


def fetch(url: str, into: str | Path | None = None) -> RunFolder:
    """Bring the run mirrored at a URL into a local folder (default: ``runs/`` and the URL's last name), to be resumed there.

    A folder that holds the same run already is brought up to the mirror, or left alone where it is further.

    Raises:
        ConfigError: the URL cannot be used.
        RunError: there is no run at the URL, or the local folder holds another one or is in use.
    """
    remote = Remote(url)
    try:
        names = remote.names()
        ledger = remote.grown("ledger.jsonl")
        config = remote.get("config.yaml")
    except Exception as error:
        raise RunError(f"{url}: the mirror cannot be read: {kind_and_line(error)}") from None
    if config is None:
        raise RunError(f"{url}: no mirror of a run there (it would have a config.yaml); mirrors are made with --sync")
    folder = RunFolder(Path(into or RUNS.new() / remote.name))
    folder.path.mkdir(parents=True, exist_ok=True)
    lock = folder_lock(folder.lock_file)
    try:
        with lock:
            here = _whole_lines(folder.ledger_file)
            if here.startswith(ledger) and here:
                return folder
            if not ledger.startswith(here):
                raise RunError(f"{folder.path}: this folder holds another run than {url}; name another folder with --run")
            for name in names:
                if WHOLE.fullmatch(name) and (content := remote.get(name)) is not None:
                    (folder.path / name).parent.mkdir(exist_ok=True)
                    write_atomically(folder.path / name, content)
            write_atomically(folder.log_file, remote.grown("log.txt"))
            write_atomically(folder.ledger_file, ledger)
    except Timeout:
        raise RunError(f"{folder.path}: another process is running this search; stop it first") from None
    return folder


def _whole_files(folder: Path) -> Iterator[str]:
    for pattern in ("*", "best/*", "checkpoints/*"):
        for path in folder.glob(pattern):
            name = str(path.relative_to(folder))
            if WHOLE.fullmatch(name):
                yield name


def _whole_lines(path: Path, start: int = 0) -> bytes:
    """The content from ``start`` up to the end of the last whole line."""
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        file.seek(start)
        content = file.read()
    return content[: content.rfind(b"\n") + 1]


def _read_lease(content: bytes | None) -> dict[str, Any] | None:
    """The lease, or None where there is none that can be understood."""
    try:
        lease = json.loads(content or b"")
        return {
            "driver": str(lease["driver"]),
            "every": min(60.0, max(0.01, float(lease["every"]))),
            "released": lease["released"] is True,
        }
    except (ValueError, KeyError, TypeError):
        return None
