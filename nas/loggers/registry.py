"""Loggers by name: what opens each, and the library and extra that it needs. Imports no client."""

import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

from nas.errors import ConfigError
from nas.loggers.logger import Logged, Logger
from search_spaces.plugins import Registry, instance_of


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
