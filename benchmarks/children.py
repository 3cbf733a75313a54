"""What the benchmarks of children share: the same cells and sizes every time, how steps are timed, and what the machine can do at best."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.profiler import profile

from search_spaces.genotype import Genotype
from search_spaces.nasnet import NASNET
from search_spaces.reference import load_reference
from search_spaces.skeletons import NASNetSkeleton
from search_spaces.space import sample_actions

CLASSES = 10
FIRST_CELL_SEED = 1000
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Size:
    """N, F and side of images; ``macs`` instead of F solves for it."""

    name: str
    cells: int
    filters: int
    side: int
    batch: int = 64
    macs: int = 0


SIZES = (
    Size("1.25M@16", 1, 0, 16, macs=1_250_000),
    Size("5M@32", 1, 0, 32, macs=5_000_000),
    Size("1,16,8", 1, 16, 8),
    Size("1,16,16", 1, 16, 16),
    Size("2,16,32", 2, 16, 32),
    Size("2,32,32", 2, 32, 32, batch=32),
)


def cell(number: int) -> tuple[str, Genotype]:
    """NASNet-A, then random cells, the same every time."""
    if number == 0:
        return "NASNet-A", load_reference("nasnet-a")
    return f"random {number}", NASNET.decode(sample_actions(NASNET, random.Random(FIRST_CELL_SEED + number)))


def filters_of(genotype: Genotype, size: Size) -> int:
    """F of the child: the size's own, or a whole number (which older commits build, too) whose MACs are near those wanted."""
    if not size.macs:
        return size.filters
    from nas.networks.architecture import Architecture
    from nas.networks.scaling import Target, scale_to

    whole = Architecture(genotype, NASNetSkeleton(1, 8), "nasnet-cifar", CLASSES, 3, size.side)
    found = scale_to(whole, Target("macs", size.macs), cells=size.cells).architecture.skeleton
    assert isinstance(found, NASNetSkeleton)
    return round(found.filters)


def engine_network(genotype: Genotype, size: Size, filters: int) -> nn.Module:
    """The engine's network, from the same weights every time."""
    try:
        from search_spaces.networks.build import build_network
    except ImportError:  # another checkout, of before 2026-11-24
        from search_spaces.network import build_network
    torch.manual_seed(0)
    return build_network(genotype, NASNetSkeleton(size.cells, filters), classes=CLASSES, image_size=size.side)


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(step: Callable[[], object], steps: int, device: torch.device = CPU) -> float:
    """Seconds of one step, from so many."""
    synchronise(device)
    started = time.perf_counter()
    for _ in range(steps):
        step()
    synchronise(device)
    return (time.perf_counter() - started) / steps


def peak_gflops(device: torch.device = CPU) -> float:
    """What a product of large float32 matrices reaches now, on as many threads."""
    side = 1024 if device.type == "cpu" else 8192
    a = torch.randn(side, side, device=device)
    return 2 * side**3 / min(seconds_of(lambda: a @ a, 3, device) for _ in range(8)) / 1e9


def print_profile(profiler: profile, steps: int, rows: int) -> None:
    """Where the time of so many steps went, as the profiler saw it (self time), as a Markdown table."""
    found = sorted(profiler.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in found)
    print(f"\n{total / steps / 1e3:.0f} ms a step under the profiler\n")
    print("| part | share | calls a step | µs a call |\n|---|---|---|---|")
    for event in found[:rows]:
        share, calls = event.self_cpu_time_total / total, event.count / steps
        print(f"| {event.key[:60]} | {share:.1%} | {calls:.0f} | {event.self_cpu_time_total / event.count:.0f} |")
