"""Who is shown what is being done that may take seconds: set once by whoever talks to a person. No torch."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

Tell = Callable[[int, int], None]
"""Takes how much is done, and of how much."""


def unseen(what: str) -> AbstractContextManager[Tell]:
    """Shows nothing."""
    return nullcontext(lambda done, total: None)


STAGES: ContextVar[Callable[[str], AbstractContextManager[Tell]]] = ContextVar("stages", default=unseen)
"""Entered with what is being done around the doing of it. A library shows nothing."""


@contextmanager
def doing(what: str) -> Iterator[Tell]:
    """Say that something is being done, such as ``reading images``; what is yielded may be told how far it has come."""
    with STAGES.get()(what) as tell:
        yield tell


def loading_torch() -> AbstractContextManager[object]:
    """Around whatever imports torch first: that takes seconds, in which no other thread gets to say anything."""
    return nullcontext() if "torch" in sys.modules else doing("loading torch")
