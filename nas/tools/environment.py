"""What a result depends on beside its settings, for the record of a run: versions, commit, machine, data, command line. No torch."""

import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import time
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from nas.tools.files import write_atomically
from nas.tools.hardware import detect

PACKAGE = "nas-engine"
COMMAND: ContextVar[tuple[str, ...] | None] = ContextVar("command", default=None)
"""The words of the command that a person typed, its name first; set by the command line. None: something is called from Python."""
DEFAULTS: ContextVar[tuple[str, ...]] = ContextVar("defaults", default=())
"""The options of that command which came from variables and files of defaults, as they would be typed."""
VARIABLES = ("NAS_DATA", "NAS_KERNELS", "NAS_GRAPHS", "NAS_TRUST", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
"""Variables that a result may depend on, beside those that stand for options."""


def environment() -> dict[str, Any]:
    """Versions of everything that computes, the commit, the machine and the command, as plain data. The data's checksum comes later."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "hardware": detect().describe(),
        "packages": versions(),
        "commit": commit(),
        "data": None,
        **_occasion(),
    }


def absent(packages: Iterable[str]) -> list[str]:
    """Those of the packages that are not installed. Imports none of them."""
    return [name for name in packages if importlib.util.find_spec(name) is None]


def _occasion() -> dict[str, Any]:
    """Who asked, where and when."""
    command = COMMAND.get()
    return {
        "command": None if command is None else list(command),
        **({"defaults": list(DEFAULTS.get())} if DEFAULTS.get() else {}),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "directory": str(Path.cwd()),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def versions() -> dict[str, str]:
    """This package and all that it names as required, extras included where they are installed."""
    names = {match[0].lower() for text in _required() if (match := re.match(r"[A-Za-z0-9._-]+", text))}
    return {name: version for name in (PACKAGE, *sorted(names)) if (version := _version(name)) is not None}


@cache
def _version(package: str) -> str | None:
    """That of an installed package, None where it is not; looked up once, since a process goes on with what it has imported."""
    from importlib import metadata  # here, as below: a tenth of all that a completion takes

    with suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return None


def _required() -> list[str]:
    """The package's requirements, extras included: those of its sources, where they lie beside it, which may be newer than its metadata."""
    from importlib import metadata

    with suppress(OSError, tomllib.TOMLDecodeError, KeyError):
        project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        if project["name"] == PACKAGE:
            return [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    with suppress(metadata.PackageNotFoundError):
        return metadata.requires(PACKAGE) or []
    return []


def commit() -> str | None:
    """The commit of this package, with ``-dirty`` where its files were changed since; None where it is not known.

    It is that which pip fetched, or that of the repository which has this very file: not of one that merely has an environment in it.
    """
    from importlib import metadata

    with suppress(metadata.PackageNotFoundError, ValueError, KeyError, TypeError):
        return str(json.loads(metadata.distribution(PACKAGE).read_text("direct_url.json") or "")["vcs_info"]["commit_id"])
    here = Path(__file__)
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return None
    return _git(here.parent, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(folder: Path, *words: str) -> str | None:
    """What git says; None where it cannot say it, or not soon."""
    program = shutil.which("git")
    if program is None:
        return None
    try:
        done = subprocess.run([program, "-C", str(folder), *words], capture_output=True, text=True, timeout=5, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def write_environment(file: Path) -> None:
    """Record what something that begins now depends on. Raises OSError."""
    _write(file, environment())


def add_data(file: Path, checksum: str | None) -> None:
    """Complete the record with the checksum of the data, once they have been read. Raises OSError."""
    known = read_environment(file)
    if checksum is not None and known.get("data") != checksum:
        _write(file, known | {"data": checksum})


def add_session(file: Path) -> None:
    """Add a session that goes on: its time and command, and what is another than at the beginning. Raises OSError."""
    known, now = read_environment(file), environment()
    _write(file, known | {"later": [*known.get("later", []), _occasion() | changes(known, now)]})


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """What of the versions, the commit and the machine is another now, as it is now."""
    found = {name: now.get(name) for name in ("python", "platform", "hardware", "commit") if now.get(name) != before.get(name)}
    old, new = before.get("packages") or {}, now.get("packages") or {}
    packages = {name: new.get(name, "not installed") for name in sorted({*old, *new}) if old.get(name) != new.get(name)}
    return found | ({"packages": packages} if packages else {})


def read_environment(file: Path) -> dict[str, Any]:
    """The record; an empty one where there is none, or none that can be understood: it is there for people."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _write(file: Path, document: Mapping[str, Any]) -> None:
    write_atomically(file, json.dumps(document, indent=2, ensure_ascii=False) + "\n")
