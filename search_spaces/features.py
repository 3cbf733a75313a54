"""What a cell is like, in numbers: operations, depth, chains, loose ends, field, cost. No torch.

Reward follows such features closely: with them a regression on 50 trained DARTS cells ranks the others at a Spearman correlation of
0.92, with the decisions alone at 0.50. All of them are sums, counts and longest paths, so cells that are the same network have the same.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from search_spaces.vocabulary import COMBINES, OPERATIONS

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

INPUTS = 2


@dataclass(frozen=True, slots=True)
class Weight:
    """One operation as the features see it.

    ``field`` are the pixels by which its window exceeds one. ``square`` and ``linear`` make its multiplications a pixel: from w·F
    channels to F they are w · square · F² + w · linear · F, by the conventions of the NASNet skeleton (bottlenecks).
    """

    convolutions: int = 0
    poolings: int = 0
    identities: int = 0
    field: int = 0
    square: float = 0.0
    linear: float = 0.0


def _bottleneck(share: float, taps: int, layers: int = 1) -> float:
    """Multiplications a pixel over F²: into a share of the filters, layers of so many taps each there, and back."""
    return 2 * share + layers * taps * share * share


@lru_cache(maxsize=1024)
def weight_of(operation: str) -> Weight:
    """What an operation weighs, by its name; one from outside counts as a 1×1 convolution unless its row says that it pools."""
    row = OPERATIONS.get(operation)
    kind = row.kind if row is not None else ""
    sides = [int(side) for side in re.findall(r"\d+", operation)]
    side = max(sides, default=1)
    if operation in ("identity", "zero"):
        return Weight(identities=int(operation == "identity"))
    if kind == "pool" or (not kind and "pool" in operation):
        return Weight(poolings=1, field=side - 1)
    if operation.startswith("sep_conv"):  # depthwise and pointwise, twice
        return Weight(convolutions=1, field=2 * (side - 1), square=2, linear=2 * side * side)
    if operation.startswith("dil_conv"):
        return Weight(convolutions=1, field=2 * (side - 1), square=_bottleneck(1 / 4, side * side))
    if operation in ("conv_1x3_3x1", "conv_1x7_7x1"):
        return Weight(convolutions=1, field=side - 1, square=_bottleneck(3 / 8 if side == 3 else 1 / 4, side, 2))
    if operation.startswith("conv_") and side > 1:
        return Weight(convolutions=1, field=side - 1, square=_bottleneck(1 / 4, side * side))
    return Weight(convolutions=1, square=1)


def cheapness(choice: str) -> float:
    """How often a choice is drawn, relative to the others of its decision, where cheap ones are favoured.

    The identity counts 1; a convolution 1 / (3 + 9 · square), see ``Weight``: where all networks cost the same, what costs F² is paid
    for by all other edges, which get narrower; a pooling 3 / side² of its window: wide ones see little but padding in the small images
    of the last cells. The cell's inputs come six times as often as a node before, which makes cells shallow and parallel; a sum nine
    times as often as a concatenation, which makes its consumers dearer. What such draws are worth is measured in benchmarks/README.md.
    """
    if choice.isdigit():
        return 1.0
    if choice in ("previous", "current"):
        return 6.0
    if choice in COMBINES:
        return 9.0 if choice == "add" else 1.0
    weight = weight_of(choice)
    if weight.convolutions:
        return 1 / (3 + 9 * weight.square)
    return 3 / (weight.field + 1) ** 2 if weight.poolings else 1.0


@dataclass(frozen=True)
class Cells:
    """N cells of two inputs and M nodes of two edges, as arrays.

    Attributes:
        sources: the edges' hidden states [N, M, 2]; 0 and 1 are PREVIOUS and CURRENT.
        operations: the edges' operations [N, M, 2], as places in a list of names.
        concat: whether a node concatenates [N, M].
    """

    sources: Integers
    operations: Integers
    concat: NDArray[np.bool_]


def names_of(cell: str, operations: Sequence[str]) -> list[str]:
    """The names of the columns of ``table_of``."""
    counts = [f"operations.{name}" for name in operations]
    return [f"{cell}.{name}" for name in (*counts, *FEATURES)]


FEATURES = (
    "convolutions",
    "poolings",
    "identities",
    "concats",
    "from_previous",
    "from_current",
    "loose_ends",
    "width",
    "depth",
    "convolution_chain",
    "shortest_chain",
    "field",
    "macs",
    "depthwise_macs",
)
"""Beside the count of every operation: shares of the edges that are convolutions, poolings and identities; nodes that concatenate; edges
from PREVIOUS and from CURRENT; nodes that none consumes, and their channels in multiples of F; nodes on the longest path; convolutions on
the path with most and, of what ends in a loose end, on that with fewest; the largest window in pixels (logarithm to base 2); and the
multiplications a pixel in multiples of F² and of F (which is also how many parameters there are)."""


def table_of(cells: Cells, operations: Sequence[str]) -> Floats:
    """The features of N cells [N, columns of ``names_of``]."""
    count, nodes = cells.sources.shape[:2]
    weights = [weight_of(name) for name in operations]

    def of_edges(values: Sequence[float]) -> Floats:
        return np.array(values, dtype=np.float64)[cells.operations]  # [N, M, 2]

    counts = np.stack([(cells.operations == place).sum((1, 2)) for place in range(len(operations))], axis=1)
    kinds = [of_edges([getattr(weight, kind) for weight in weights]) for kind in ("convolutions", "poolings", "identities")]
    convolutions, field = kinds[0], of_edges([weight.field for weight in weights])
    every = np.arange(count)[:, None]
    consumed = np.zeros((count, INPUTS + nodes), dtype=bool)
    depth, most, fewest, window = (np.zeros((count, INPUTS + nodes)) for _ in range(4))
    width = np.ones((count, INPUTS + nodes))
    for node in range(nodes):
        source, state = cells.sources[:, node], INPUTS + node
        consumed[every, source] = True
        depth[:, state] = 1 + depth[every, source].max(1)
        most[:, state] = (most[every, source] + convolutions[:, node]).max(1)
        fewest[:, state] = (fewest[every, source] + convolutions[:, node]).min(1)
        window[:, state] = (window[every, source] + field[:, node]).max(1)
        width[:, state] += cells.concat[:, node]
    loose = ~consumed
    loose[:, :INPUTS] = False
    widths = width[every[:, :, None], cells.sources]
    columns = [
        *(kind.mean((1, 2)) for kind in kinds),
        cells.concat.sum(1),
        *((cells.sources == state).sum((1, 2)) for state in range(INPUTS)),
        loose.sum(1),
        (loose * width).sum(1),
        depth.max(1),
        most.max(1),
        np.where(loose, fewest, np.inf).min(1),
        np.log2(1 + window.max(1)),
        (widths * of_edges([weight.square for weight in weights])).sum((1, 2)),
        (widths * of_edges([weight.linear for weight in weights])).sum((1, 2)),
    ]
    return np.concatenate([counts, np.stack(columns, axis=1)], axis=1).astype(np.float64)
