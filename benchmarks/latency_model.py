"""How good the additive model of latency is, against measurements on this machine: order and error, and what a matched width takes.

    python benchmarks/latency_model.py --cells 20 --match 8ms

Random cells of the NASNet space, N=1, at a few widths, on one CPU thread. The model's prediction is made before a network is measured, as
a search makes it: the factor of the pieces' sum is the median of the networks before. Then each cell is cut to the latency of ``--match``,
and measured again by itself. A table goes to standard output; say what ran beside it.
"""

import argparse
import random
import statistics
import time
from dataclasses import dataclass

from scipy.stats import spearmanr

from nas.networks.architecture import Architecture, searched_skeleton
from nas.networks.matching import LATENCY_TOLERANCE, place_words
from nas.networks.scaling import Scaled, Target, parse_time
from nas.networks.stopwatch import Stopwatch, match_latency
from nas.training.numerics import own_threads
from search_spaces.genotype import Genotype
from search_spaces.registry import load_space
from search_spaces.space import sample_actions

WIDTHS = (4, 8, 16)
"""F of the networks that are predicted."""


@dataclass(frozen=True)
class Guess:
    """A network's latency as it was predicted and as it was measured, in seconds, the sum of its pieces and its MACs."""

    predicted: float
    measured: float
    pieces: float
    macs: int

    @property
    def error(self) -> float:
        """Share of the measurement by which the prediction was off."""
        return abs(self.predicted / self.measured - 1)


def network(genotype: Genotype, filters: float, side: int) -> Architecture:
    """The network of a cell, N=1, for ten classes of colour images."""
    return Architecture(genotype, searched_skeleton(genotype, cells=1, filters=filters), "searched", 10, 3, side)


def guess(stopwatch: Stopwatch, chosen: Architecture) -> Guess:
    """Predict a network's latency, then measure it."""
    predicted, pieces = stopwatch.predicted(chosen), stopwatch.sum_of_pieces(chosen)
    return Guess(predicted, stopwatch.seconds(chosen), pieces, chosen.cost().macs)


def order(guesses: list[Guess]) -> str:
    """Spearman's rank correlation with the measurements: of the model, and of MACs."""
    measured = [one.measured for one in guesses]
    of_model, of_macs = (float(spearmanr(costs, measured)[0]) for costs in ([g.pieces for g in guesses], [g.macs for g in guesses]))
    return f"{of_model:.3f} | {of_macs:.3f}"


def row(name: str, guesses: list[Guess]) -> str:
    """A line of the table."""
    errors = sorted(one.error for one in guesses)
    middle, worst = statistics.median(errors), errors[-1]
    span = f"{1e3 * min(one.measured for one in guesses):.2f} – {1e3 * max(one.measured for one in guesses):.2f}"
    return f"| {name} | {len(guesses)} | {span} | {order(guesses)} | {middle:.1%} | {worst:.1%} |"


def predictions(stopwatch: Stopwatch, cells: list[Genotype], side: int) -> None:
    """The table of how well latencies are predicted; the first network, before which no factor is known, is left out."""
    began = time.perf_counter()
    guesses = {width: [guess(stopwatch, network(cell, width, side)) for cell in cells] for width in WIDTHS}
    guesses[WIDTHS[0]].pop(0)
    print(f"one image of {side}×{side} on {place_words(stopwatch.place)}, N=1, random cells of the NASNet space")
    print("| F | networks | measured ms | Spearman, model | Spearman, MACs | median error | largest error |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for width, found in guesses.items():
        print(row(str(width), found))
    print(row("all", [one for found in guesses.values() for one in found]))
    factor = stopwatch.factor(network(cells[0], WIDTHS[0], side))
    print(f"a network takes {factor:.2f} times the sum of its pieces; {time.perf_counter() - began:.0f} s")


def matches(stopwatch: Stopwatch, cells: list[Genotype], side: int, target: Target) -> None:
    """How many measurements the width of a latency takes, how near it comes, and what another measurement says."""
    measured: list[int] = []
    found: list[Scaled] = []
    for cell in cells:
        before = stopwatch.measured
        found.append(match_latency(network(cell, 8, side), target, stopwatch, cells=1, tolerance=LATENCY_TOLERANCE))
        measured.append(stopwatch.measured - before)
    near = [one for one in found if abs(one.off) <= LATENCY_TOLERANCE]
    again = sorted(abs(Stopwatch(stopwatch.place).seconds(one.architecture) / target.value - 1) for one in near)
    reached = f"\nmatched to {target}: {len(near)} of {len(cells)} cells within {LATENCY_TOLERANCE:.0%}"
    print(f"{reached}, after {statistics.fmean(measured):.1f} measurements a cell ({max(measured)} at most)")
    if again:
        print(f"measured again, they are {statistics.median(again):.1%} off in the median, {again[-1]:.1%} at most")


def main() -> None:
    """Read the flags, predict, match."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=20)
    parser.add_argument("--side", type=int, default=32, help="of the images, in pixels")
    parser.add_argument("--match", default="8ms", help="latency that cells are cut to")
    parser.add_argument("--seed", type=int, default=0)
    said = parser.parse_args()
    space, rng = load_space("nasnet"), random.Random(said.seed)
    cells = [space.decode(sample_actions(space, rng)) for _ in range(said.cells)]
    with own_threads(1):
        stopwatch = Stopwatch("cpu")
        predictions(stopwatch, cells, said.side)
        matches(stopwatch, cells, said.side, Target("latency", parse_time(said.match, "--match")))


if __name__ == "__main__":
    main()
