"""What a logger is: opened for a run, told its points in their order, closed. And the table of all of them. Imports no client."""

import importlib.util
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

from pydantic import AfterValidator

from nas.errors import ConfigError
from nas.tools.files import write_atomically
from search_spaces.plugins import Registry, instance_of

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


@dataclass(frozen=True)
class LoggerRow:
    """A logger in the table: what opens it, the library that it needs, and the extra of this package that brings that."""

    open: Callable[[Logged], Logger]
    library: str
    extra: str = ""


def _event_file(about: Logged) -> Logger:
    from nas.loggers.event_file import EventFile

    return EventFile(about)


def _wandb(about: Logged) -> Logger:
    from nas.loggers.wandb_run import WandbRun

    return WandbRun(about)


def _mlflow(about: Logged) -> Logger:
    from nas.loggers.mlflow_run import MlflowRun

    return MlflowRun(about)


LOGGERS: Registry[LoggerRow] = Registry(
    "logger",
    "nas.loggers",
    {
        "tensorboard": LoggerRow(_event_file, "tensorboardX"),
        "wandb": LoggerRow(_wandb, "wandb", "wandb"),
        "mlflow": LoggerRow(_mlflow, "mlflow", "mlflow"),
    },
    instance_of(LoggerRow),
    ConfigError,
    "or none",
)
"""Loggers by name. Each works by the library's own client, which it configures as everybody does: by the library's variables."""


def _known(names: list[str]) -> list[str]:
    for name in names:
        LOGGERS.check(name)
    return names


LoggerNames = Annotated[list[str], AfterValidator(_known)]
"""A setting that names loggers. Nothing is imported when it is read."""
DEFAULT_LOGGERS = ("tensorboard",)
"""An event file in the folder, which needs no service."""


def check_installed(names: Iterable[str]) -> None:
    """Raise ConfigError where the library of a logger is not installed, before anything is trained."""
    for name in names:
        row = LOGGERS[name]
        if importlib.util.find_spec(row.library) is None:
            how = f": pip install 'nas-engine[{row.extra}]'" if row.extra else ""
            raise ConfigError(f"--log {name} needs the package {row.library}, which is not installed{how}; or leave {name} out of --log")


def _flat(prefix: str, value: object) -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, part in value.items():
            yield from _flat(f"{prefix}.{name}" if prefix else str(name), part)
    else:
        yield prefix, value
