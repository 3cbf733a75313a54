"""Turns Ctrl-C and SIGTERM into a question that a loop can ask, so that it stops in order. For the main thread. No torch, no ray."""

import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import FrameType, TracebackType
from typing import Any, TypeVar

T = TypeVar("T")

LOOK_SECONDS = 0.2
"""How often ``aside`` calls ``meanwhile``."""


class Stopper:
    """While entered: the first signal makes ``asked`` true and says so through ``tell``; a second one says so, and interrupts at once.

    Outside the main thread nobody can take signals, and none are taken.
    """

    def __init__(self, tell: Callable[[str], None], message: str) -> None:
        self._tell, self._message = tell, message
        self._asked = self._urgent = False
        self._before: dict[int, Any] = {}

    def asked(self) -> bool:
        """Whether somebody wants the loop to stop."""
        return self._asked

    def urgent(self) -> bool:
        """Whether it is SIGTERM that asks, which is followed by a kill: there is no time to finish anything."""
        return self._urgent

    def __enter__(self) -> "Stopper":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            self._tell("\nstopping at once")
            raise KeyboardInterrupt
        self._asked, self._urgent = True, number == signal.SIGTERM
        self._tell(f"\n{self._message} (Ctrl-C again to stop at once)")


def aside(work: Callable[[], T], meanwhile: Callable[[], None] = lambda: None, *, stay: bool = False) -> T:
    """Do ``work`` in a thread and wait for it here, calling ``meanwhile`` now and then.

    For libraries that take signals for themselves in the main thread, or block there until a signal is of no use any more.
    ``stay`` keeps the thread until the program ends: on Linux, processes that shall die with their parent die with the thread
    that started them.
    """
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)
        if stay:
            threading.Event().wait()

    threading.Thread(target=run, daemon=True).start()  # a second Ctrl-C does not wait for it
    while not done.done():
        meanwhile()
        try:
            return done.result(timeout=LOOK_SECONDS)
        except TimeoutError:
            continue
    return done.result()
