"""The NAS-Bench-201 search space (Dong and Yang 2020, arXiv 2001.00326): one of five operations on every edge of a DAG. No torch."""

import itertools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from search_spaces.errors import GenotypeError
from search_spaces.genotype import CellGenotype, Edge, Genotype, Node
from search_spaces.space import Actions, Decision, check_actions

if TYPE_CHECKING:
    from numpy.typing import NDArray

OPERATIONS = {
    "none": "zero",
    "skip_connect": "identity",
    "nor_conv_1x1": "conv_1x1",
    "nor_conv_3x3": "conv_3x3",
    "avg_pool_3x3": "avg_pool_3x3",
}
"""The benchmark's names of the operations, in its order, and ours. Convolutions are ReLU, convolution, batch norm in both."""

EDGES = tuple((source, node) for node in (1, 2, 3) for source in range(node))
"""(from, to) of every decision, in the benchmark's order: 0-1, 0-2, 1-2, 0-3, 1-3, 2-3. Node 0 is the cell's input."""

_THEIRS = tuple(OPERATIONS)
_OURS = tuple(OPERATIONS.values())


_PATHS = ((3,), (0, 4), (1, 5), (0, 2, 5))
"""The ways from the input to the output, as places in ``EDGES``."""
_FEATURES = (
    "paths",
    "paths.conv_1x1",
    "paths.conv_3x3",
    "paths.avg_pool_3x3",
    "paths_without_convolution",
    "convolution_chain",
    "shortest_chain",
    "depth",
    "field",
    "macs",
)
"""Paths, operations on all of them together, most and fewest convolutions of one, its length and window, multiplications over F²."""


class NASBench201Space:
    """6 decisions of 5 operations: 15,625 cells, 6,466 of them different by the benchmark's own count.

    A node is the sum of its incoming edges and the last node is the cell's output; the cell has CURRENT alone as input.
    The skeleton's residual block takes the place of a reduction cell.
    """

    name = "nasbench201"
    decisions = tuple(Decision(f"edge.{source}-{node}", _THEIRS) for source, node in EDGES)

    def decode(self, actions: Sequence[int]) -> Genotype:
        """The genotype that the actions stand for. Raises GenotypeError where they do not fit the decisions."""
        check_actions(self.decisions, actions)
        edges: dict[int, list[Edge]] = {1: [], 2: [], 3: []}
        for (source, node), action in zip(EDGES, actions, strict=True):
            edges[node].append(Edge(source, _OURS[action]))
        nodes = tuple(Node(tuple(edges[node])) for node in (1, 2, 3))
        return Genotype(normal=CellGenotype(nodes, outputs=(3,), inputs=1), space=self.name)

    def encode(self, genotype: Genotype) -> Actions:
        """Actions that decode to the genotype. Raises GenotypeError where it lies outside the space."""
        cell = genotype.normal
        if genotype.reduction is not None or cell.inputs != 1 or len(cell.nodes) != 3 or cell.outputs != (3,):
            raise GenotypeError(f"space {self.name!r} has one cell of three nodes, `inputs: [current]` and `outputs: [3]`")
        chosen: dict[tuple[int, int], int] = {}
        for number, node in enumerate(cell.nodes, start=1):
            if sorted(edge.source for edge in node.edges) != list(range(number)) or node.combine != "add":
                raise GenotypeError(f"cell 'normal', node {number}: space {self.name!r} adds one edge from every earlier hidden state")
            for edge in node.edges:
                if edge.operation not in _OURS or edge.options:
                    where = f"cell 'normal', node {number}"
                    raise GenotypeError(f"{where}: operation {edge.operation!r} is not searched here; searched: {', '.join(_OURS)}")
                chosen[edge.source, number] = _OURS.index(edge.operation)
        return tuple(chosen[edge] for edge in EDGES)

    def canonical(self, genotype: Genotype) -> str:
        """The benchmark's own key: equal for cells of the same isomorphism class (``Structure.to_unique_str`` of its code).

        A skipped edge stands for its source and a zero edge for ``#``. The benchmark does not reorder sums across nodes, and
        neither does this key: it keeps apart some cells that are equal on paper, and never puts together two whose
        function differs up to the sharing of weights.
        """
        written = {0: "0"}
        for node in (1, 2, 3):
            terms = []
            for (source, target), action in zip(EDGES, self.encode(genotype), strict=True):
                if target == node:
                    inner, operation = written[source], _THEIRS[action]
                    empty = operation == "none" or inner == "#"
                    terms.append("#" if empty else inner if operation == "skip_connect" else f"({inner})@{operation}")
            written[node] = "+".join(sorted(terms))
        return written[3]

    def features(self, genotype: Genotype) -> dict[str, float]:
        """What the cell is like, see ``feature_table``. Raises GenotypeError where it lies outside the space."""
        import numpy as np

        return dict(zip(_FEATURES, self.feature_table(np.array([self.encode(genotype)]))[0].tolist(), strict=True))

    def feature_table(self, actions: "NDArray[Any]") -> "NDArray[Any]":
        """The features of N cells at once [N, K], by their paths from the input to the output: the same for cells of the same key.

        A path with a zero edge is none, and a skipped edge has no length.
        """
        import numpy as np

        kept = actions != _THEIRS.index("none")
        alive = np.stack([kept[:, list(path)].all(1) for path in _PATHS], axis=1)  # [N, paths]
        counts = [
            alive * np.stack([(actions[:, list(path)] == _THEIRS.index(name)).sum(1) for path in _PATHS], axis=1) for name in _THEIRS[2:]
        ]
        convolutions, field = counts[0] + counts[1], 2 * (counts[1] + counts[2])
        columns = [
            alive.sum(1),
            *(count.sum(1) for count in counts),
            (alive & (convolutions == 0)).sum(1),
            convolutions.max(1),
            np.where(alive, convolutions, len(EDGES)).min(1),
            sum(counts).max(1),
            field.max(1),
            (counts[0] + 9 * counts[1]).sum(1),
        ]
        return np.stack(columns, axis=1).astype(np.float64)

    def read_text(self, text: str) -> Actions:
        """Actions of a cell in the benchmark's notation, ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``.

        Raises:
            GenotypeError: the text breaks the notation.
        """
        nodes = text.strip().split("+")
        terms = [node.strip("|").split("|") for node in nodes]
        if [len(term) for term in terms] != [1, 2, 3] or not all(node[:1] == node[-1:] == "|" for node in nodes):
            raise GenotypeError(f"a cell must look like |op~0|+|op~0|op~1|+|op~0|op~1|op~2|, but got {text[:200]!r}")
        actions = []
        for (source, node), term in zip(EDGES, itertools.chain(*terms), strict=True):
            match = re.fullmatch(r"(\w+)~(\d)", term)
            if not match or match[1] not in OPERATIONS or int(match[2]) != source:
                rule = f"an edge must be op~{source} with op one of {', '.join(OPERATIONS)}"
                raise GenotypeError(f"node {node}: {rule}, but got {term[:80]!r} in {text[:200]!r}")
            actions.append(_THEIRS.index(match[1]))
        return tuple(actions)

    def write_text(self, actions: Sequence[int]) -> str:
        """The cell in the benchmark's notation. Raises GenotypeError where the actions do not fit the decisions."""
        check_actions(self.decisions, actions)
        terms: dict[int, str] = {1: "|", 2: "|", 3: "|"}
        for (source, node), action in zip(EDGES, actions, strict=True):
            terms[node] += f"{_THEIRS[action]}~{source}|"
        return "+".join(terms.values())


NASBENCH201 = NASBench201Space()
"""The space itself; it has no settings."""
