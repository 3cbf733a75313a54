"""How long networks take for one image, each measured once; and how long by the sum of their pieces, which says what is worth measuring."""

import math
import statistics
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from nas.errors import ConfigError
from nas.networks.architecture import Architecture
from nas.networks.scaling import Scaled, Target, solve_width
from search_spaces.skeletons import Conventions, NASBench201Skeleton, NASNetSkeleton, family_of

if TYPE_CHECKING:
    from torch import nn

    from search_spaces.networks.cell import Piece

RUNS, WARMUP = 50, 10
SECONDS = 2.0
"""A measurement takes about so long at most: slow networks are run less often, ``FEWEST`` times at least."""
FEWEST = 5
PIECE_RUNS, PIECE_WARMUP = 9, 3
WIDEST_PIECE = 256
"""Channels above which a piece is not measured: its time follows its MACs there."""
KEPT = 4096
"""Networks whose latency is remembered."""
FACTOR_OF = 16
"""The last networks measured whose latencies say how far off the sums of pieces are."""
ROUNDS = 5
"""Widths of a network that are measured at most, to find the one of a latency."""
SCREEN = 3.0
"""A network that misses its latency by this factor, by the model, is not measured."""
OF_PIECES = NASNetSkeleton | NASBench201Skeleton
"""Skeletons whose networks the model knows by their pieces."""
SECONDS_PER_MAC = 1e-9
"""For other networks: only what it is at another width matters."""


class Stopwatch:
    """Measures batch-1 latency on one place: a CPU (on as many threads as PyTorch has now), a GPU, or onnxruntime.

    A network is built, run ``WARMUP`` times and then ``RUNS`` times; its latency is the median. The model beside it is additive: every
    piece of a network (``search_spaces.networks.pieces``) is measured by itself, once, at widths that are powers of two, and between these
    the time is linear. What a sum leaves out (stem, head, additions, Python) or counts twice (waiting for a GPU after every piece) is one
    factor for all networks of cells, the median of those measured so far.

    Attributes:
        place: ``cpu``, ``cuda``, ``cuda:1`` or ``onnx``, whose pieces are timed on the CPU.
        measured: networks measured.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self.measured = 0
        self.seconds = lru_cache(KEPT)(self._seconds)
        """Of one image, measured. Raises LatencyError where there is no such place."""
        self._piece = cache(self.time_piece)
        self._factors: deque[float] = deque(maxlen=FACTOR_OF)

    def factor(self, architecture: Architecture) -> float:
        """How many times as long as the sum of its pieces a network takes; 1 while none is measured, and for networks without pieces."""
        return statistics.median(self._factors) if self._factors and isinstance(architecture.skeleton, OF_PIECES) else 1.0

    def sum_of_pieces(self, architecture: Architecture) -> float:
        """Seconds of all pieces; of a network that is not made of pieces, what its MACs would take."""
        skeleton = architecture.skeleton
        if not isinstance(skeleton, OF_PIECES):
            return architecture.cost().macs * SECONDS_PER_MAC
        from search_spaces.networks.pieces import network_pieces

        pieces = Counter(network_pieces(architecture.genotype, skeleton, image_size=architecture.image_size))
        return sum(count * self._piece_seconds(*sided) for sided, count in pieces.items())

    def predicted(self, architecture: Architecture) -> float:
        """Seconds by the model."""
        return self.factor(architecture) * self.sum_of_pieces(architecture)

    def _piece_seconds(self, piece: "Piece", side: int, conventions: Conventions) -> float:
        if piece.kind == "as_is":
            return 0.0
        widest = max(piece.channels_in, piece.channels_out)
        if widest > WIDEST_PIECE:
            narrow = with_widths(piece, *(max(1, width * WIDEST_PIECE // widest) for width in (piece.channels_in, piece.channels_out)))
            return self._piece_seconds(narrow, side, conventions) * _growth(narrow, piece, side, conventions)
        return sum(share * self._piece(corner, side, conventions) for corner, share in corners(piece))

    def _seconds(self, architecture: Architecture) -> float:
        expected = max(self.predicted(architecture), 1e-9)
        measured = self.time_network(architecture, min(RUNS, max(FEWEST, int(SECONDS / expected))))
        if isinstance(architecture.skeleton, OF_PIECES):
            self._factors.append(measured / expected * self.factor(architecture))
        self.measured += 1
        return measured

    def time_network(self, architecture: Architecture, runs: int) -> float:
        """Seconds of one image through a network, at the median. Raises LatencyError where there is no such place."""
        return self._timed(architecture.build(), architecture.image_size, architecture.channels, runs, WARMUP)

    def time_piece(self, piece: "Piece", side: int, conventions: Conventions) -> float:
        """Seconds of a piece that takes maps of ``side`` pixels a side."""
        from search_spaces.networks.operations import Layers

        return self._timed(piece.build(Layers(conventions)), side, piece.channels_in, PIECE_RUNS, PIECE_WARMUP, whole=False)

    def _timed(self, module: "nn.Module", side: int, channels: int, runs: int, warmup: int, whole: bool = True) -> float:
        from nas.networks.latency import measure_latency, measure_onnx_latency

        if self.place == "onnx" and whole:
            return measure_onnx_latency(module, image_size=side, channels=channels, runs=runs, warmup=warmup).median
        device = "cpu" if self.place == "onnx" else self.place
        return measure_latency(module, image_size=side, channels=channels, device=device, runs=runs, warmup=warmup).median


@cache
def stopwatch_at(place: str) -> Stopwatch:
    """The process's stopwatch for a place: a plan, a search and a comparison measure nothing twice."""
    return Stopwatch(place)


def with_widths(piece: "Piece", channels_in: int, channels_out: int) -> "Piece":
    """The piece between other widths."""
    return replace(piece, channels_in=channels_in, channels_out=channels_out)


def corners(piece: "Piece") -> Iterator[tuple["Piece", float]]:
    """The pieces of round widths around a piece, and what share each has in its time: two where it keeps its width, else up to four."""
    if piece.channels_in == piece.channels_out:
        for width, share in _around(piece.channels_in):
            yield with_widths(piece, width, width), share
        return
    for channels_in, first in _around(piece.channels_in):
        for channels_out, second in _around(piece.channels_out):
            yield with_widths(piece, channels_in, channels_out), first * second


def _around(width: int) -> list[tuple[int, float]]:
    """The powers of two on both sides of a width, with the shares that make it."""
    low = 1 << (width.bit_length() - 1)
    share = width / low - 1
    return [(low, 1 - share), (2 * low, share)] if share else [(low, 1.0)]


def _growth(narrow: "Piece", wide: "Piece", side: int, conventions: Conventions) -> float:
    """How many times as much work a piece is at greater widths: MACs, or channels where it has none."""
    from search_spaces.networks.pieces import piece_cost

    few, many = (piece_cost(piece, side, conventions).macs for piece in (narrow, wide))
    return many / few if few else wide.channels_in / narrow.channels_in


# ---------------------------------------------------------------------------------------------------- the width of a latency


def match_latency(architecture: Architecture, target: Target, stopwatch: Stopwatch, *, cells: int | None, tolerance: float) -> Scaled:
    """The network of the width whose measured latency comes closest to the target; its depth is ``cells`` or its own.

    The model says the first width. What is measured there corrects it: the next width is the model's, times the median of how far off it
    was for this cell; for networks without pieces it is read off the line through the measurements nearest to the target. That goes on
    until one is within half the tolerance (measured again, it is still within the whole), a width comes up twice, or ``ROUNDS`` are
    measured. A network that the model expects to be off by ``SCREEN`` is not measured: its latency is the model's.

    Raises:
        ConfigError: the skeleton has one size.
        LatencyError: there is no such place.
    """
    plane = family_of(architecture.skeleton).plane
    if plane is None:
        raise ConfigError(f"a latency does not go with the skeleton {architecture.skeleton_name}, which has one size")
    family = plane(architecture.skeleton)
    depth = cells or family.depth

    def at(width: float) -> Architecture:
        return replace(architecture, skeleton=family.make(depth, width))

    @cache
    def model(width: float) -> float:
        return stopwatch.sum_of_pieces(at(width))

    factor, of_pieces = stopwatch.factor(architecture), isinstance(architecture.skeleton, OF_PIECES)
    width = solve_width(family, model, target.value / factor, family.width)
    found: dict[float, float] = {}
    if of_pieces and not 1 / SCREEN <= factor * model(width) / target.value <= SCREEN:
        found[width] = factor * model(width)
    while width not in found and len(found) < ROUNDS:
        found[width] = stopwatch.seconds(at(width))
        if abs(found[width] / target.value - 1) <= tolerance / 2:
            break
        points = [(model(width), seconds) for width, seconds in found.items()]
        aim = target.value / statistics.median(seconds / sum_ for sum_, seconds in points) if of_pieces else _aim(points, target.value)
        width = solve_width(family, model, aim, width)
    best = min(found, key=lambda width: (abs(found[width] - target.value), width))
    cost = at(best).cost()
    return Scaled(at(best), target, cost.parameters, cost.macs, found[best])


def _aim(points: list[tuple[float, float]], target: float) -> float:
    """Where the model stands when the measurement is the target, from pairs of both: on the line through the two nearest."""
    nearest = sorted(points, key=lambda point: abs(math.log(point[1] / target)))
    model, seconds = nearest[0]
    if len(nearest) > 1 and nearest[1][0] != model:
        slope = (nearest[1][1] - seconds) / (nearest[1][0] - model)
        if slope > 0:  # noise may turn it round
            return max(model / 2, min(2 * model, model + (target - seconds) / slope))
    return model * target / seconds
