"""Training steps and scoring of children on a CPU: native kernels against torch's layers, a plain NCHW network, and another commit.

python benchmarks/child_training.py                              # a look: three cells, one thread, a minute
python benchmarks/child_training.py --cells 21 --repeats 9 --threads 1 2 --reference
python benchmarks/child_training.py --against CHECKOUT --repeats 9
python benchmarks/child_training.py --scoring --cells 21
python benchmarks/child_training.py --profile --sizes 1.25M@16
python benchmarks/child_training.py --memory --cells 21 --sizes 1.25M@16 5M@32 1,16,16 2,16,32 2,32,32

All ways of one child alternate in one process (another checkout in a process of its own, in turns), so that the machine's moods hit all
of them; a ratio is that of the fastest repeats. NASNet-A first, then random cells of the NASNet space.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from children import CLASSES, SIZES, Size, cell, engine_network, filters_of, peak_gflops, print_profile, seconds_of
from torch import nn

from search_spaces.skeletons import NASNetSkeleton

LEAST_SECONDS = 0.15
"""A repeat is as many steps as take about so long."""


# ---------------------------------------------------------------------------------------------------- one way of training


class Step:
    """A network and its training step, as the engine does it: cross-entropy, clipped gradients, fused SGD with momentum."""

    def __init__(self, network: nn.Module, size: Size, channels_last: bool = True) -> None:
        layout = torch.channels_last if channels_last else torch.contiguous_format
        generator = torch.Generator().manual_seed(0)
        self.network = network.to(memory_format=layout).train()  # type: ignore[call-overload]
        self.images = torch.randn(size.batch, 3, size.side, size.side, generator=generator).contiguous(memory_format=layout)
        self.labels = torch.randint(0, CLASSES, (size.batch,), generator=generator)
        self.optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, fused=True)

    def __call__(self) -> float:
        """One step; returns the loss."""
        loss = F.cross_entropy(self.network(self.images), self.labels)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())


class Scoring:
    """A trained network and the scoring of a batch of validation images, as the engine does it."""

    def __init__(self, network: nn.Module, size: Size) -> None:
        trained = Step(network, size)
        trained()
        self.network, self.batch = network, (trained.images, trained.labels)

    def __call__(self) -> float:
        """Score the batch; returns the loss."""
        from nas.training.scoring import score

        return score(self.network, [self.batch]).loss


class Elsewhere:
    """The same child in a process of its own that imports another checkout."""

    def __init__(self, checkout: Path, number: int, size: Size, filters: int, threads: int) -> None:
        command = [sys.executable, __file__, "--serve", str(number), size.name, str(filters), str(threads)]
        environment = os.environ | {"PYTHONPATH": str(checkout)}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=checkout)

    def __call__(self) -> float:
        """One step; returns the loss."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def serve(number: int, name: str, filters: int, threads: int) -> None:
    """Answer every line of the standard input with the loss of a step: the other end of ``Elsewhere``."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    size = next(size for size in SIZES if size.name == name)
    step = Step(engine_network(cell(number)[1], size, filters), size)
    for _ in sys.stdin:
        print(step(), flush=True)


# ---------------------------------------------------------------------------------------------------- comparing


@dataclass
class Way:
    """A way to train, what it runs in, and how long its steps took."""

    name: str
    step: Callable[[], float]
    within: Callable[[], AbstractContextManager[None]] = nullcontext
    loss: float = 0.0
    seconds: tuple[float, ...] = ()


def ways_of(number: int, size: Size, filters: int, arguments: argparse.Namespace, threads: int) -> list[Way]:
    """The first one is what the others are compared with."""
    from search_spaces.networks.native import library

    genotype = cell(number)[1]
    done = Scoring if arguments.scoring else Step
    ways = [
        Way("kernels", done(engine_network(genotype, size, filters), size)),
        Way("torch", done(engine_network(genotype, size, filters), size), library.without),
    ]
    if arguments.reference:
        from nchw_reference import ReferenceNetwork

        for name, channels_last in (("NCHW", False), ("NCHW, channels-last", True)):
            torch.manual_seed(0)
            ways.append(Way(name, Step(ReferenceNetwork(genotype, NASNetSkeleton(size.cells, filters), CLASSES), size, channels_last)))
    if arguments.against:
        ways.append(Way("other commit", Elsewhere(arguments.against, number, size, filters, threads)))
    return ways


def measure(ways: list[Way], repeats: int) -> None:
    """Fill in the ways' seconds, alternating."""
    steps = {}
    for way in ways:
        with way.within():
            way.loss = way.step()
            steps[way.name] = max(1, round(LEAST_SECONDS / seconds_of(way.step, 1)))
    for _ in range(repeats):
        for way in ways:
            with way.within():
                way.seconds += (seconds_of(way.step, steps[way.name]),)


def rows(size: Size, threads: int, arguments: argparse.Namespace) -> Iterator[tuple[str, int, float, list[Way]]]:
    """Name, F, GFLOP of what is timed, and the measured ways of every child."""
    from search_spaces.networks.cost import count_macs

    torch.set_num_threads(threads)
    for number in range(arguments.cells):
        name, genotype = cell(number)
        filters = filters_of(genotype, size)
        ways = ways_of(number, size, filters, arguments, threads)
        measure(ways, arguments.repeats)
        for way in ways:
            if isinstance(way.step, Elsewhere):
                way.step.close()
        macs = count_macs(engine_network(genotype, size, filters), image_size=size.side)
        passes = 1 if arguments.scoring else 3  # forward, and twice backward
        yield name, filters, passes * 2 * macs * size.batch / 1e9, ways  # a multiply and an add


def table(size: Size, threads: int, arguments: argparse.Namespace) -> None:
    """Print the children of one size as a Markdown table."""
    peak = peak_gflops()
    print(
        f"\n### {size.name}, batch {size.batch}, {threads} thread{'s' * (threads > 1)} (a product of large matrices: {peak:.0f} GFLOP/s)\n"
    )
    ratios: dict[str, list[float]] = {}
    for name, filters, work, ways in rows(size, threads, arguments):
        if not ratios:
            print(
                "| cell | F | loss | "
                + " | ".join(f"{way.name}, images/s" for way in ways)
                + " | GFLOP/s | of the peak | "
                + " | ".join(f"ratio to {way.name}" for way in ways[1:])
                + " |"
            )
            print("|" + "---|" * (5 + len(ways) + len(ways) - 1))
            ratios = {way.name: [] for way in ways[1:]}
        best = {way.name: min(way.seconds) for way in ways}
        for way in ways[1:]:
            ratios[way.name].append(best[way.name] / best["kernels"])
        speed = work / best["kernels"]
        print(
            f"| {name} | {filters} | {ways[0].loss:.4f} | "
            + " | ".join(f"{size.batch / best[way.name]:.0f}" for way in ways)
            + f" | {speed:.1f} | {speed / peak:.0%} | "
            + " | ".join(f"{ratios[way.name][-1]:.2f}" for way in ways[1:])
            + " |",
            flush=True,
        )
    for name, found in ratios.items():
        print(f"\nmedian ratio to {name}: **{median(found):.2f}** ({min(found):.2f}–{max(found):.2f})")


def profile_table(size: Size, arguments: argparse.Namespace) -> None:
    """Where a step's time goes with kernels, as the profiler sees it (self time), over all cells asked for."""
    from torch.profiler import ProfilerActivity, profile

    steps = []
    for number in range(arguments.cells):
        genotype = cell(number)[1]
        steps.append(Step(engine_network(genotype, size, filters_of(genotype, size)), size))
        steps[-1]()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for step in steps:
            step()
    print(f"\n### {size.name}")
    print_profile(profiler, len(steps), arguments.rows)


def memory_table(size: Size, cells: int) -> None:
    """Peak bytes of a step as ``training_memory`` follows them, the engine's network and the plain NCHW one, as a Markdown table."""
    from nchw_reference import ReferenceNetwork

    from search_spaces.networks.cost import training_memory

    print(f"\n### {size.name}, batch {size.batch}: peak memory of a step\n")
    print("| cell | F | kernels, MB | NCHW, MB | ratio |\n|---|---|---|---|---|")
    ratios = []
    for number in range(cells):
        name, genotype = cell(number)
        filters = filters_of(genotype, size)
        skeleton = NASNetSkeleton(size.cells, filters)
        ours = engine_network(genotype, size, filters).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        reference = ReferenceNetwork(genotype, skeleton, CLASSES)
        peaks = [training_memory(network, batch_size=size.batch, image_size=size.side) / 1e6 for network in (ours, reference)]
        ratios.append(peaks[0] / peaks[1])
        print(f"| {name} | {filters} | {peaks[0]:.1f} | {peaks[1]:.1f} | {ratios[-1]:.2f} |", flush=True)
    print(f"\nmedian ratio to NCHW: **{median(ratios):.2f}** ({min(ratios):.2f}–{max(ratios):.2f})")


def main() -> None:
    """Measure what was asked for."""
    if sys.argv[1:2] == ["--serve"]:
        number, name, filters, threads = sys.argv[2:]
        serve(int(number), name, int(filters), int(threads))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=3, help="NASNet-A and so many random cells less one")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--sizes", nargs="+", default=[size.name for size in SIZES[:2]], choices=[size.name for size in SIZES])
    parser.add_argument("--reference", action="store_true", help="also the plain NCHW network, as it is and set to channels-last")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="also the engine of another checkout")
    parser.add_argument("--scoring", action="store_true", help="time the scoring of a batch, instead of a step")
    parser.add_argument("--profile", action="store_true", help="where the time goes, instead")
    parser.add_argument("--memory", action="store_true", help="peak memory of a step, instead")
    parser.add_argument("--rows", type=int, default=16, help="of the profile")
    arguments = parser.parse_args()
    if arguments.scoring and (arguments.reference or arguments.against):
        parser.error("--scoring compares kernels with torch's layers alone")

    from search_spaces.networks.native import library

    torch.set_flush_denormal(True)
    print(f"native kernels: {library.describe()}; torch {torch.__version__}; {torch.backends.cpu.get_cpu_capability()}")
    for size in (size for size in SIZES if size.name in arguments.sizes):
        if arguments.profile:
            torch.set_num_threads(arguments.threads[0])
            profile_table(size, arguments)
            continue
        if arguments.memory:
            memory_table(size, arguments.cells)
            continue
        for threads in arguments.threads:
            table(size, threads, arguments)


if __name__ == "__main__":
    main()
