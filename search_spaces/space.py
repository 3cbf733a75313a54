"""What a search space is, and the cell space that NASNet and spaces declared in YAML are made of. No torch; anyone may import it."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, Protocol

from search_spaces.canonical import canonical_key
from search_spaces.errors import GenotypeError, SpaceError
from search_spaces.genotype import CellGenotype, Edge, Genotype, Node
from search_spaces.vocabulary import NASNET_OPERATIONS

if TYPE_CHECKING:
    from numpy.typing import NDArray

Draws = Literal["even", "cheap"]
"""How choices are drawn where nothing is known of them: all alike, or what costs little more often."""

Actions = tuple[int, ...]
"""One chosen index for every decision, in order."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One categorical choice. ``choices`` are for people; a controller sees their number.

    ``weights`` say how often each is drawn, relative to the others, where nothing is known yet: positive numbers, or none for evenly.
    """

    name: str
    choices: tuple[str, ...]
    weights: tuple[float, ...] = ()


class SearchSpace(Protocol):
    """The set of genotypes a search may produce: an ordered list of decisions and a decoder.

    A space may say what its genotypes are like, by a method ``features(genotype) -> Mapping[str, float]``: numbers under the same names for
    every genotype, equal for genotypes that are the same network. A surrogate learns from them (see ``feature_table``).
    """

    @property
    def name(self) -> str:
        """The name that selects the space."""
        ...

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """The decisions, in the order in which a controller takes them."""
        ...

    def decode(self, actions: Sequence[int]) -> Genotype:
        """The genotype that the actions stand for. Raises GenotypeError where they do not fit the decisions."""
        ...

    def encode(self, genotype: Genotype) -> Actions:
        """Actions that decode to the genotype. Raises GenotypeError where it lies outside the space."""
        ...

    def canonical(self, genotype: Genotype) -> str:
        """A key that is equal for genotypes that are the same network."""
        ...


def check_actions(decisions: Sequence[Decision], actions: Sequence[int]) -> None:
    """Raise GenotypeError unless ``actions`` has one valid index for every decision."""
    if len(actions) != len(decisions):
        raise GenotypeError(f"one action per decision must be given: {len(decisions)}, but got {len(actions)}")
    for decision, action in zip(decisions, actions, strict=True):
        if not 0 <= action < len(decision.choices):
            raise GenotypeError(f"{decision.name}: the action must be 0..{len(decision.choices) - 1}, but got {action}")


def sample_actions(space: SearchSpace, rng: random.Random, weighed: bool = True) -> Actions:
    """Every decision drawn by its weights; without any evenly, the paper's random search (Zoph et al. 2018, section 4.4).

    Unless ``weighed``, evenly whatever the weights: to find what is rarely drawn.
    """
    return tuple(drawn(range(len(decision.choices)), decision.weights if weighed else (), rng) for decision in space.decisions)


def drawn(choices: Sequence[int], weights: Sequence[float], rng: random.Random) -> int:
    """One of the choices, by their weights; without any evenly."""
    return rng.choices(choices, weights)[0] if weights else choices[rng.randrange(len(choices))]


def chances(decisions: Sequence[Decision]) -> "NDArray[Any]":
    """How likely ``sample_actions`` draws every choice: [D, K], K the largest number of choices, 0 where a decision has fewer."""
    import numpy as np

    table = np.zeros((len(decisions), max((len(decision.choices) for decision in decisions), default=0)))
    for row, decision in zip(table, decisions, strict=True):
        weights = np.array(decision.weights or [1.0] * len(decision.choices))
        row[: len(weights)] = weights / weights.sum()
    return table


def favouring(space: SearchSpace, draws: Draws) -> SearchSpace:
    """The space with other ``draws``; one that is no space of cells has no others and is left as it is."""
    return replace(space, draws=draws) if isinstance(space, CellSpace) else space


def size(space: SearchSpace) -> int:
    """Number of action sequences (isomorphic genotypes counted apart)."""
    return math.prod(len(decision.choices) for decision in space.decisions)


def feature_table(space: SearchSpace, actions: "NDArray[Any]") -> "NDArray[Any]":
    """The features of N action sequences [N, D] as rows [N, K], in the order of their names; K is 0 where the space has none.

    A space with a method ``feature_table(actions)`` has made a faster way of its own, for hundreds at once.

    Raises:
        SpaceError: the features of a genotype are no finite numbers, or have other names than those of the others.
    """
    import numpy as np

    rows: Any
    if hasattr(space, "feature_table"):
        rows = np.asarray(space.feature_table(actions), dtype=np.float64)
    elif hasattr(space, "features"):
        found = [_features(space, sequence) for sequence in actions.tolist()]
        if len({tuple(sorted(features)) for features in found}) > 1:
            raise SpaceError(f"space {space.name!r}: the features of all genotypes must have the same names")
        rows = np.array([[features[name] for name in sorted(features)] for features in found], dtype=np.float64)
    else:
        rows = np.zeros((len(actions), 0))
    return rows.reshape(len(actions), -1) if len(actions) else np.zeros((0, 0))


def _features(space: Any, actions: Sequence[int]) -> Mapping[str, float]:  # noqa: ANN401 - a space with one method more
    features = space.features(space.decode(actions))
    if not isinstance(features, Mapping):
        raise SpaceError(f"space {space.name!r}: features must be a mapping of names to numbers, but got {features!r:.200}")
    for name, value in features.items():
        if isinstance(value, bool | str) or not isinstance(value, int | float) or not math.isfinite(value):
            raise SpaceError(f"space {space.name!r}: feature {name!r} must be a finite number, but got {value!r:.80}")
    return features


@dataclass(frozen=True)
class CellSpace:
    """Cells of ``nodes`` nodes with two edges each, the NASNet way (arXiv 1707.07012, section 3).

    A node takes its two inputs among PREVIOUS, CURRENT and the earlier nodes, an operation for each, and a way to
    combine them; a decision with one choice is left out. ``outputs`` is ``"loose_ends"`` (the nodes that no node consumes
    are concatenated) or ``"all"`` (every node). With ``cells=("normal",)`` one cell serves as both, as in PNASNet.
    ``draws`` says how random cells are drawn.
    """

    name: str
    operations: tuple[str, ...] = NASNET_OPERATIONS
    nodes: int = 5
    combine: tuple[str, ...] = ("add", "concat")
    cells: tuple[str, ...] = ("normal", "reduction")
    outputs: str = "loose_ends"
    draws: Draws = "even"

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """Five decisions a node in the paper's order: two inputs, two operations, the combination; normal cell first."""
        return _decisions(self)

    def decode(self, actions: Sequence[int]) -> Genotype:
        """The genotype that the actions stand for. Raises GenotypeError where they do not fit the decisions."""
        check_actions(self.decisions, actions)
        left = iter(actions)

        def take(choices: int) -> int:
            return next(left) if choices > 1 else 0

        cells = []
        for _ in self.cells:
            nodes = []
            for i in range(self.nodes):
                inputs = take(i + 2), take(i + 2)
                operations = take(len(self.operations)), take(len(self.operations))
                edges = tuple(Edge(s, self.operations[o]) for s, o in zip(inputs, operations, strict=True))
                nodes.append(Node(edges, self.combine[take(len(self.combine))]))
            cells.append(self._with_outputs(tuple(nodes)))
        return Genotype(normal=cells[0], reduction=cells[-1], space=self.name)

    def encode(self, genotype: Genotype) -> Actions:
        """Actions that decode to the genotype. Raises GenotypeError where it lies outside the space."""
        if genotype.reduction is None:
            raise GenotypeError(f"space {self.name!r} needs a reduction cell")
        if len(self.cells) == 1 and genotype.normal != genotype.reduction:
            raise GenotypeError(f"space {self.name!r} has one cell for both uses, but the genotype has two different ones")
        actions: list[int] = []
        for name in self.cells:
            actions += self._encode_cell(genotype.normal if name == "normal" else genotype.reduction, name)
        return tuple(actions)

    def canonical(self, genotype: Genotype) -> str:
        """A key that is equal for genotypes that are the same network."""
        return canonical_key(genotype)

    def features(self, genotype: Genotype) -> dict[str, float]:
        """What the genotype's cells are like, see ``search_spaces.features``. Raises GenotypeError where it lies outside the space."""
        import numpy as np

        from search_spaces.features import names_of

        names = [name for cell in self.cells for name in names_of(cell, self.operations)]
        return dict(zip(names, self.feature_table(np.array([self.encode(genotype)]))[0].tolist(), strict=True))

    def feature_table(self, actions: "NDArray[Any]") -> "NDArray[Any]":
        """The features of N action sequences [N, decisions] at once [N, K], in the order of ``features``."""
        import numpy as np

        from search_spaces.features import Cells, table_of

        column, zeros, left = 0, np.zeros(len(actions), dtype=np.int64), []
        for choices in (i + 2 if part < 2 else counted for _ in self.cells for i in range(self.nodes) for part, counted in self._parts()):
            left.append(actions[:, column] if choices > 1 else zeros)
            column += choices > 1
        taken = np.stack(left, axis=1).reshape(len(actions), len(self.cells), self.nodes, 5)
        concat = np.array([combine == "concat" for combine in self.combine])
        parts = [Cells(taken[:, c, :, :2], taken[:, c, :, 2:4], concat[taken[:, c, :, 4]]) for c in range(len(self.cells))]
        return np.concatenate([table_of(cells, self.operations) for cells in parts], axis=1)

    def _parts(self) -> tuple[tuple[int, int], ...]:
        """The five decisions of a node, and how many choices each has (an input has one more for every node before)."""
        operations = len(self.operations)
        return (0, 0), (1, 0), (2, operations), (3, operations), (4, len(self.combine))

    def _with_outputs(self, nodes: tuple[Node, ...]) -> CellGenotype:
        every = CellGenotype(nodes, tuple(range(2, 2 + len(nodes))))
        return every if self.outputs == "all" else CellGenotype(nodes, every.loose_ends())

    def _encode_cell(self, cell: CellGenotype, name: str) -> list[int]:
        if cell.inputs != 2 or len(cell.nodes) != self.nodes:
            raise GenotypeError(
                f"cell '{name}': space {self.name!r} has two inputs and {self.nodes} nodes, but got {cell.inputs} and {len(cell.nodes)}"
            )
        actions: list[int] = []
        for state, node in enumerate(cell.nodes, start=2):
            where = f"cell '{name}', node {state}"
            if len(node.edges) != 2 or any(edge.options for edge in node.edges):
                raise GenotypeError(f"{where}: space {self.name!r} has two edges a node, without options")
            for edge in node.edges:
                if edge.operation not in self.operations:
                    raise GenotypeError(
                        f"{where}: operation {edge.operation!r} is not searched in {self.name!r}; searched: {', '.join(self.operations)}"
                    )
            if node.combine not in self.combine:
                raise GenotypeError(
                    f"{where}: combine {node.combine!r} is not searched in {self.name!r}; searched: {', '.join(self.combine)}"
                )
            actions += [edge.source for edge in node.edges]
            if len(self.operations) > 1:
                actions += [self.operations.index(edge.operation) for edge in node.edges]
            if len(self.combine) > 1:
                actions.append(self.combine.index(node.combine))
        expected = self._with_outputs(cell.nodes).outputs
        if tuple(sorted(cell.outputs)) != expected:
            raise GenotypeError(
                f"cell '{name}': in space {self.name!r} the outputs are {list(expected)} ({self.outputs}), but got {list(cell.outputs)}"
            )
        return actions


@lru_cache(maxsize=64)
def _decisions(space: CellSpace) -> tuple[Decision, ...]:
    cells = []
    for cell in space.cells:
        for i in range(space.nodes):
            where = f"{cell}.{i + 2}"
            inputs = ("previous", "current", *(str(s) for s in range(2, 2 + i)))
            cells += [Decision(f"{where}.input_{side}", inputs) for side in (1, 2)]
            cells += [Decision(f"{where}.operation_{side}", space.operations) for side in (1, 2)]
            cells.append(Decision(f"{where}.combine", space.combine))
    decisions = tuple(decision for decision in cells if len(decision.choices) > 1)
    if space.draws == "even":
        return decisions
    from search_spaces.features import cheapness

    return tuple(replace(decision, weights=tuple(map(cheapness, decision.choices))) for decision in decisions)
