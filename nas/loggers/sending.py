"""Brings points to the loggers, each in a thread of its own: neither a slow nor a failing one holds up what is logged."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import chain
from queue import Empty, SimpleQueue

from nas.loggers.logger import Logged, Point
from nas.loggers.registry import LOGGERS, LoggerRow
from nas.tools.words import kind_and_line

OPEN_SECONDS = 30.0
"""How long a session waits for its loggers to be opened: what they say to a person is then said before the work begins."""
CLOSE_SECONDS = 60.0
"""How long the end of a session waits for a logger to take what is left."""

Warn = Callable[[str], None]


class Loggers:
    """All loggers of a session."""

    def __init__(self, senders: Sequence["_Sender"]) -> None:
        self._senders = senders

    def log(self, points: Sequence[Point]) -> None:
        """Hand over the next points of the folder. Every session begins with its very first; returns at once."""
        for sender in self._senders:
            sender.send(points)


@contextmanager
def opened(names: Sequence[str], about: Logged, warn: Warn) -> Iterator[Loggers]:
    """The loggers of these names. ``warn`` is told once of each that fails, from the logger's thread."""
    senders = [_Sender(name, LOGGERS[name], about, warn) for name in names]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.opened.wait(OPEN_SECONDS)
    try:
        yield Loggers(senders)
    finally:
        for sender in senders:
            sender.end()
        for sender in senders:
            sender.wait()


class _Sender(threading.Thread):
    """Opens one logger, hands it whatever comes, closes it. Nothing that the logger raises leaves the thread."""

    def __init__(self, name: str, row: LoggerRow, about: Logged, warn: Warn) -> None:
        super().__init__(name=f"log-{name}", daemon=True)
        self.opened = threading.Event()
        self._logger, self._row, self._about, self._warn = name, row, about, warn
        self._failed = False
        self._queue: SimpleQueue[Sequence[Point] | None] = SimpleQueue()

    def send(self, points: Sequence[Point]) -> None:
        if points and not self._failed:
            self._queue.put(points)

    def end(self) -> None:
        self._queue.put(None)

    def wait(self) -> None:
        """Until all is logged, or it takes too long."""
        self.join(CLOSE_SECONDS)
        if self.is_alive():
            self._say(f"it has not taken everything within {CLOSE_SECONDS:.0f} s")

    def run(self) -> None:
        try:
            with closing(self._row.open(self._about)) as logger:
                self.opened.set()
                left_out = logger.logged
                for points in self._batches():
                    fresh = points[left_out:]
                    left_out = max(0, left_out - len(points))
                    if fresh:
                        logger.log(fresh)
        except Exception as problem:  # whatever a library or a service comes up with
            self._failed = True
            self._say(kind_and_line(problem))
        finally:
            self.opened.set()

    def _batches(self) -> Iterator[list[Point]]:
        """All that waits, as one list; until the end is among it."""
        ended = False
        while not ended:
            waiting = [self._queue.get()]
            while True:
                try:
                    waiting.append(self._queue.get_nowait())
                except Empty:
                    break
            ended = None in waiting
            yield list(chain.from_iterable(points for points in waiting if points is not None))

    def _say(self, what: str) -> None:
        self._warn(f"warning: logger {self._logger}: {what}; it gets nothing more in this session, all else goes on")
