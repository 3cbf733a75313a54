"""What a search space is, and the cell space that NASNet and spaces declared in YAML are made of. No torch; anyone may import it."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from search_spaces.canonical import canonical_key
from search_spaces.errors import GenotypeError
from search_spaces.genotype import CellGenotype, Edge, Genotype, Node
from search_spaces.vocabulary import NASNET_OPERATIONS

Actions = tuple[int, ...]
"""One chosen index for every decision, in order."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One categorical choice. ``choices`` are for people; a controller sees their number."""

    name: str
    choices: tuple[str, ...]


class SearchSpace(Protocol):
    """The set of genotypes a search may produce: an ordered list of decisions and a decoder."""

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


def sample_actions(space: SearchSpace, rng: random.Random) -> Actions:
    """Every decision drawn uniformly: the paper's random search (Zoph et al. 2018, section 4.4)."""
    return tuple(rng.randrange(len(decision.choices)) for decision in space.decisions)


def size(space: SearchSpace) -> int:
    """Number of action sequences (isomorphic genotypes counted apart)."""
    return math.prod(len(decision.choices) for decision in space.decisions)


@dataclass(frozen=True)
class CellSpace:
    """Cells of ``nodes`` nodes with two edges each, the NASNet way (arXiv 1707.07012, section 3).

    A node takes its two inputs among PREVIOUS, CURRENT and the earlier nodes, an operation for each, and a way to
    combine them; a decision with one choice is left out. ``outputs`` is ``"loose_ends"`` (the nodes that no node consumes
    are concatenated) or ``"all"`` (every node). With ``cells=("normal",)`` one cell serves as both, as in PNASNet.
    """

    name: str
    operations: tuple[str, ...] = NASNET_OPERATIONS
    nodes: int = 5
    combine: tuple[str, ...] = ("add", "concat")
    cells: tuple[str, ...] = ("normal", "reduction")
    outputs: str = "loose_ends"

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """Five decisions a node in the paper's order: two inputs, two operations, the combination; normal cell first."""
        decisions = []
        for cell in self.cells:
            for i in range(self.nodes):
                where = f"{cell}.{i + 2}"
                inputs = ("previous", "current", *(str(s) for s in range(2, 2 + i)))
                decisions += [Decision(f"{where}.input_{side}", inputs) for side in (1, 2)]
                decisions += [Decision(f"{where}.operation_{side}", self.operations) for side in (1, 2)]
                decisions.append(Decision(f"{where}.combine", self.combine))
        return tuple(d for d in decisions if len(d.choices) > 1)

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
