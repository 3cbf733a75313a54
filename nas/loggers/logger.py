"""What a logger is: opened for a run, told its points in their order, closed. Imports no client."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from nas.tools.files import write_atomically

NAMES_FILE = "loggers.json"
"""File of a folder in which a logger keeps under which name the folder is known where it logs to."""


@dataclass(frozen=True)
class Point:
    """What is known at one step: scalars by name, and the time in seconds since 1970. Steps never fall from one point to the next."""

    step: int
    time: float
    scalars: Mapping[str, float]


@dataclass(frozen=True)
class Logged:
    """What a logger is opened for: a folder, what is done there, every setting of it, and what its steps count."""

    folder: Path
    kind: str
    settings: Mapping[str, Any]
    steps: str

    @property
    def name(self) -> str:
        """What a person calls it."""
        return self.folder.resolve().name

    def kept(self, logger: str) -> Mapping[str, Any]:
        """What a logger has kept in the folder; nothing where it has not, or where the file is damaged."""
        found = self._names().get(logger)
        return found if isinstance(found, dict) else {}

    def keep(self, logger: str, facts: Mapping[str, Any]) -> None:
        """Keep something in the folder for the next session."""
        write_atomically(self.folder / NAMES_FILE, json.dumps({**self._names(), logger: facts}) + "\n")

    def _names(self) -> dict[str, Any]:
        try:
            found = json.loads((self.folder / NAMES_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def flat(self) -> dict[str, Any]:
        """The settings by their dotted names."""
        return dict(_flat("", self.settings))


class Logger(Protocol):
    """One place that scalars go to. It may raise whatever it likes: that is said once, and the work goes on without it."""

    @property
    def logged(self) -> int:
        """How many points it has from earlier sessions, the first ones of this folder: these are not told again."""
        ...

    def log(self, points: Sequence[Point]) -> None:
        """Take the next points."""
        ...

    def close(self) -> None:
        """Nothing more comes in this session."""
        ...


def _flat(prefix: str, value: object) -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, part in value.items():
            yield from _flat(f"{prefix}.{name}" if prefix else str(name), part)
    else:
        yield prefix, value
