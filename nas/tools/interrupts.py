"""Turns Ctrl-C and SIGTERM into a question that a loop can ask, so that it stops in order. For the main thread. No torch, no ray."""

import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any


class Stopper:
    """While entered: the first signal makes ``asked`` true and says so through ``tell``, a second one interrupts at once."""

    def __init__(self, tell: Callable[[str], None], meanwhile: str) -> None:
        self._tell, self._meanwhile = tell, meanwhile
        self._asked = False
        self._before: dict[int, Any] = {}

    def asked(self) -> bool:
        """Whether somebody wants the loop to stop."""
        return self._asked

    def __enter__(self) -> "Stopper":
        self._before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        self._tell(f"\n{self._meanwhile} (Ctrl-C again to stop at once)")
