"""Is everything here that the package needs? Checks that a person, or a bug report, can be told. Loads torch, and starts nothing.

What is found holds versions, sizes and folders, the user's home as ``~``; no environment, no addresses, no tokens.
"""

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from nas.tools.hardware import detect
from nas.tools.words import counted

if TYPE_CHECKING:
    from packaging.requirements import Requirement

PACKAGE = "nas-engine"
LEAST_PYTHON = (3, 11)
LEAST_FILES = 4096
"""Open files at once that a search with some dozens of workers comes near: Ray holds about a hundred for each."""
LEAST_SHARED_GIB = 0.5
"""Shared memory that the images of a search and the readers of a training take; containers often have 64 MiB."""
LEAST_MEMORY_GIB = 3.0
LEAST_DISK_GIB = 5.0
"""A run with its checkpoints is seldom larger."""
REPLACEABLE = ("ray",)
"""Required packages without which part of this one works: ``--runner local`` does without Ray."""
GIB = 2**30


class Verdict(Enum):
    """How a check came out: all is well, something is worth knowing, or the package cannot be used."""

    GOOD = "ok"
    NOTE = "note"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, in a line, and what to do about it where it is not well."""

    name: str
    verdict: Verdict
    found: str
    remedy: str | None = None

    def document(self) -> dict[str, str | None]:
        """As plain data."""
        return {"name": self.name, "verdict": self.verdict.value, "found": self.found, "remedy": self.remedy}


def examine() -> Iterator[Finding]:
    """Carry out all checks, one after the other. None of them raises."""
    for name, check in CHECKS.items():
        try:
            verdict, found, remedy = check()
        except Exception as problem:  # whatever a broken installation raises is what is to be told
            verdict, found, remedy = Verdict.NOTE, f"could not be checked: {type(problem).__name__}: {problem}", None
        yield Finding(name, verdict, _without_home(found), None if verdict is Verdict.GOOD else remedy)


Answer = tuple[Verdict, str, str | None]


def _without_home(text: str) -> str:
    home = str(Path.home())
    return text.replace(home, "~") if len(home) > 1 else text


def _python() -> Answer:
    found = f"{platform.python_implementation()} {platform.python_version()} on {platform.platform()}"
    return (Verdict.GOOD if sys.version_info >= LEAST_PYTHON else Verdict.BAD), found, "install Python 3.11 or newer"


def _packages() -> Answer:
    """The required packages: whether they are there, in the ranges that the package states."""
    missing, outside = [], []
    for requirement in _requirements():
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            missing.append(requirement.name)
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            outside.append(f"{requirement.name} {version} (not {requirement.specifier})")
    told = [*(f"{name} is missing" for name in missing), *outside]
    verdict = Verdict.BAD if set(missing).difference(REPLACEABLE) else Verdict.NOTE if told else Verdict.GOOD
    found = "; ".join(told) or f"{PACKAGE} {metadata.version(PACKAGE)}, and all that it needs, in the ranges that it states"
    return verdict, found, f"pip install -U {' '.join(missing) or PACKAGE}, with `-c constraints.txt` of the sources where you have them"


def _requirements() -> "list[Requirement]":
    from packaging.requirements import Requirement

    every = [Requirement(text) for text in metadata.requires(PACKAGE) or ()]
    return [one for one in every if one.marker is None or one.marker.evaluate({"extra": ""})]


def _tested_versions() -> Answer:
    """Against the versions that a release was tested with, where its sources lie beside the package."""
    file = Path(__file__).parents[2] / "constraints.txt"
    if not file.is_file():
        return Verdict.GOOD, "no constraints.txt beside the package, which is installed from a wheel", None
    tested = dict(line.split("==") for line in file.read_text(encoding="utf-8").split() if line.count("==") == 1)
    others = []
    for requirement in _requirements():
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            continue
        if tested.get(requirement.name, version).partition("+")[0] != version.partition("+")[0]:
            others.append(f"{requirement.name} {version} (tested: {tested[requirement.name]})")
    return (Verdict.NOTE if others else Verdict.GOOD), ", ".join(others) or "as tested", "pip install -c constraints.txt -e ."


def _torch() -> Answer:
    try:
        import torch

        total = float(torch.ones(2, 2).matmul(torch.ones(2, 2)).sum())
    except Exception as problem:  # a torch that does not load has many ways of saying so
        return Verdict.BAD, f"cannot be used: {type(problem).__name__}: {problem}", "pip install --force-reinstall torch torchvision"
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    return (Verdict.GOOD if total == 8 else Verdict.BAD), f"{torch.__version__}, {built}", "pip install --force-reinstall torch"


def _gpus() -> Answer:
    import torch

    listed = detect().gpus
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
        return Verdict.GOOD, ", ".join(f"{one.name} ({one.total_memory / GIB:.0f} GiB)" for one in names), None
    if not listed:
        return Verdict.GOOD, "none: children train on the CPU", None
    why = "torch is built without CUDA" if torch.version.cuda is None else "torch cannot use it: the driver may be too old for it"
    return Verdict.NOTE, f"{', '.join(listed)}, but {why}", "install torch for your driver: https://pytorch.org/get-started/locally"


def _kernels() -> Answer:
    from search_spaces.networks.native.library import describe

    found = describe()
    verdict = Verdict.NOTE if found.startswith("none") else Verdict.GOOD
    return verdict, found, "works without, at half the speed on a CPU: install gcc or clang, and this package again"


def _threads() -> Answer:
    """Cores that this process may use, and what else limits its threads."""
    import torch

    cores, quota, said = detect().cores, _cpu_quota(), os.environ.get("OMP_NUM_THREADS")
    parts = [f"{cores} cores, {counted(torch.get_num_threads(), 'thread')} in torch"]
    parts += [f"OMP_NUM_THREADS={said[:20]}"] if said else []
    if quota is not None and quota < cores:
        parts.append(f"but a limit of {quota:g} cores on this container")
        most = max(1, int(quota))
        return Verdict.NOTE, ", ".join(parts), f"give --workers {most} to a search and --threads {most} to a training"
    return Verdict.GOOD, ", ".join(parts), None


def _cpu_quota() -> float | None:
    """Cores that a control group grants; None where it does not limit them."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _open_files() -> Answer:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    many = soft == resource.RLIM_INFINITY or soft >= LEAST_FILES
    remedy = f"ulimit -n {max(LEAST_FILES, min(hard, 65_536))}"
    return (Verdict.GOOD if many else Verdict.NOTE), f"{soft} files at once (at most {hard})", remedy


def _shared_memory() -> Answer:
    place = Path("/dev/shm")  # noqa: S108 - looked at, not used
    if not place.is_dir():
        return Verdict.GOOD, "this system has no /dev/shm", None
    free = shutil.disk_usage(place).free / GIB
    verdict = Verdict.GOOD if free >= LEAST_SHARED_GIB else Verdict.NOTE
    return verdict, f"{free:.2f} GiB free in {place}", "docker run --shm-size=2g …, or --runner local and --loader-workers 0"


def _memory() -> Answer:
    total = least = detect().memory_gib
    with suppress(OSError, ValueError):  # no control groups, or "max"
        least = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")) / GIB)
    found = f"{least:.1f} GiB" + (f", by the limit of this container ({total:.0f} GiB in the machine)" if least < total else "")
    return (Verdict.GOOD if least >= LEAST_MEMORY_GIB else Verdict.NOTE), found, "fewer --workers, or smaller children (--filters)"


def _ray() -> Answer:
    try:
        import nas.runners.ray_start  # noqa: F401 - loads Ray, and all of it that is used
    except Exception as problem:  # as with torch
        remedy = "search with --runner local, or pip install 'ray[tune]'"
        return Verdict.NOTE, f"cannot be used: {type(problem).__name__}: {problem}", remedy
    version = metadata.version("ray")
    guarded = tuple(int(part) for part in version.split(".")[:2]) >= (2, 59)
    found = version + ("" if guarded else ": its ports are not guarded by a token")
    return (Verdict.GOOD if guarded else Verdict.NOTE), found, "pip install -U 'ray[tune]' (SECURITY.md says why)"


def _data_sets() -> Answer:
    from nas.data.cifar import SPECS, data_home, find

    there = {name: find(spec, [data_home()]) for name, spec in SPECS.items()}
    parts = [f"{name} in {found[0]}" if found else f"{name} not in {data_home()}" for name, found in there.items()]
    verdict = Verdict.GOOD if all(there.values()) else Verdict.NOTE
    missing = next((name for name, found in there.items() if not found), None)
    remedy = f"fetched when asked for, or by `nas data {missing}`; NAS_DATA names their folder"
    return verdict, "; ".join([*parts, "digits built in"]), remedy


def _disk() -> Answer:
    from nas.data.cifar import data_home

    home = next(place for place in (data_home(), *data_home().parents) if place.exists())
    free = {place: shutil.disk_usage(place).free / GIB for place in (Path.cwd(), home)}
    verdict = Verdict.GOOD if min(free.values()) >= LEAST_DISK_GIB else Verdict.NOTE
    return verdict, ", ".join(f"{gib:.1f} GiB free in {place}" for place, gib in free.items()), "make room, or work in another folder"


def _writing() -> Answer:
    """Whether runs can be written here, and data sets kept."""
    from nas.data.cifar import data_home

    refused = []
    for place in (Path.cwd(), Path("runs"), Path("trained"), data_home()):
        try:
            if place.exists():
                with tempfile.TemporaryFile(dir=place):
                    pass
        except OSError as problem:
            refused.append(f"{place}: {problem.strerror}")
    found = "; ".join(refused) or f"{Path.cwd()} and the folder of data sets can be written"
    remedy = "work in a folder of yours (--run and --output name others), NAS_DATA for data sets"
    return (Verdict.NOTE if refused else Verdict.GOOD), found, remedy


def _encoding() -> Answer:
    name, files = sys.stdout.encoding, sys.getfilesystemencoding()
    whole = {part.lower().replace("-", "") for part in (name or "", files)} == {"utf8"}
    return (Verdict.GOOD if whole else Verdict.NOTE), f"terminal {name}, names of files {files}", "export LC_ALL=C.UTF-8"


CHECKS: dict[str, Callable[[], Answer]] = {
    "python": _python,
    "packages": _packages,
    "versions": _tested_versions,
    "torch": _torch,
    "gpu": _gpus,
    "kernels": _kernels,
    "threads": _threads,
    "memory": _memory,
    "open files": _open_files,
    "shared memory": _shared_memory,
    "ray": _ray,
    "data sets": _data_sets,
    "disk": _disk,
    "writing": _writing,
    "encoding": _encoding,
}
"""Every check by its name: a new one is a function here that returns a verdict, what it found, and what to do about it."""
