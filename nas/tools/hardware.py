"""What this machine has, asked without torch where possible: picks the ``auto`` preset and goes on record with a run."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass

from nas.errors import ConfigError
from search_spaces.plugins import guess


@dataclass(frozen=True, slots=True)
class Hardware:
    """CPU cores this process may use, memory in GiB, and the names of the GPUs."""

    cores: int
    memory_gib: float
    gpus: tuple[str, ...]

    def describe(self) -> str:
        """One line for a person."""
        gpus = f"{len(self.gpus)} × {self.gpus[0]}" if self.gpus else "no GPU"
        return f"{self.cores} CPU cores, {self.memory_gib:.0f} GiB, {gpus}"


def check_device(name: str) -> None:
    """Raise ConfigError where that is no device's name; whether this machine has it, torch knows (``nas.training.session``)."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        near = guess(name, ("auto", "cpu", "cuda"))
        raise ConfigError(f"--device must be auto, cpu or one of this machine's GPUs (cuda, cuda:N), but got {name!r}{near}")


def wanted_threads() -> int:
    """CPU threads of a training where nobody says more: OMP_NUM_THREADS, as everywhere, else one for each core of this process."""
    cores, said = detect().cores, os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return min(int(said), cores) if said.isdecimal() and int(said) > 0 else cores


def detect() -> Hardware:
    """Look at this machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Hardware(
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, memory_gib=memory, gpus=_gpus()
    )


def _gpus() -> tuple[str, ...]:
    """NVIDIA GPUs as the driver's own tool lists them, within CUDA_VISIBLE_DEVICES."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    tool = shutil.which("nvidia-smi")
    if visible in ("", "-1") or tool is None:
        return ()
    try:
        command = [tool, "--query-gpu=name", "--format=csv,noheader"]
        listing = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)  # noqa: S603 - a fixed command
    except (OSError, subprocess.TimeoutExpired):
        return ()
    names = tuple(line.strip() for line in listing.stdout.splitlines() if line.strip()) if listing.returncode == 0 else ()
    return names[: len(visible.split(","))] if visible else names


def auto_preset(hardware: Hardware) -> tuple[str, str]:
    """The preset that suits the machine, and why."""
    if hardware.gpus:
        return "gpu", f"{hardware.describe()}: children train on the GPU"
    return "cpu", f"{hardware.describe()}: small children, one per core"
