"""Who is shown how far a file has come that is being fetched: set once by whoever talks to a person. No torch."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar

Tell = Callable[[int, int | None], None]
"""Takes the bytes that are there, and the bytes in all, where the server says so."""


def _nobody(name: str) -> AbstractContextManager[Tell]:
    return nullcontext(lambda done, total: None)


SHOWN: ContextVar[Callable[[str], AbstractContextManager[Tell]]] = ContextVar("shown", default=_nobody)
"""Entered with the file's name around its transfer. A library shows nothing."""
