"""A synthetic objective shaped like a cell search: interacting decisions, a known optimum, noise by seed. No torch, no ray.

It depends on the network alone, not on how it is written: swapped operands and renumbered nodes change nothing.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from controllers.controller import random_for
from search_spaces.genotype import CellGenotype, Edge, Genotype, Node
from search_spaces.vocabulary import NASNET_PAPER_OPERATIONS

INTERACTION = 0.6
"""Share of a node's value that depends on how its operations fit each other, their sources and the combination."""
DEPTH = 0.1
"""Share of a cell's value that rewards depth."""
GOOD_OPERATIONS = 4
"""Operations of full worth in a cell; which depends on the seed."""
NODES = 5


@dataclass(frozen=True)
class CellObjective:
    """The quality of one cell, in [0, 1], as a sum over its nodes; all constants are drawn from the seed.

    For a node with operations a, b and combination m::

        value   = (1 - I) · mean(worth[a], worth[b])
                + I · mean(synergy[{a, b}], merge[m, {a, b}], mean over edges of max over x in source of affinity[x, operation])
        quality = (1 - D) · mean value + D · longest path / number of nodes

    with I = INTERACTION, D = DEPTH and x the operations of the node that an edge starts from, or the name of the input.
    Every constant lies in [0, 1] and is 1 for what the ``optimum`` uses, so the optimum's quality is 1 and none is higher.
    """

    name: str
    optimum: CellGenotype
    draw: Callable[..., float]

    def quality(self, cell: CellGenotype) -> float:
        """The quality of a cell; nodes that reach no output count like the others."""
        inputs = ("previous", "current")[-cell.inputs :]
        depth = [0] * cell.inputs
        total = 0.0
        for node in cell.nodes:
            operations = sorted(edge.operation for edge in node.edges)
            worth = sum(self.draw("worth", name) for name in operations) / len(operations)
            fits = [max(self.draw("affinity", name, edge.operation) for name in _names(cell, inputs, edge.source)) for edge in node.edges]
            together = (self.draw("synergy", *operations) + self.draw("merge", node.combine, *operations) + sum(fits) / len(fits)) / 3
            total += (1 - INTERACTION) * worth + INTERACTION * together
            depth.append(1 + max(depth[edge.source] for edge in node.edges))
        return (1 - DEPTH) * total / len(cell.nodes) + DEPTH * max(depth) / len(cell.nodes)


def _names(cell: CellGenotype, inputs: tuple[str, ...], source: int) -> tuple[str, ...]:
    if source < cell.inputs:
        return (inputs[source],)
    return tuple(edge.operation for edge in cell.nodes[source - cell.inputs].edges)


@cache
def cell_objective(name: str, seed: int = 0) -> CellObjective:
    """The objective of the normal or the reduction cell."""
    rng = random_for(seed, "synthetic", name)
    good = rng.sample(NASNET_PAPER_OPERATIONS, GOOD_OPERATIONS)
    nodes = []
    for state in range(2, 2 + NODES):
        edges = (Edge(max(1, state - 1), rng.choice(good)), Edge(rng.randrange(state), rng.choice(good)))
        nodes.append(Node(edges, rng.choice(("add", "concat"))))
    chain = CellGenotype(tuple(nodes), ())
    optimum = CellGenotype(chain.nodes, chain.loose_ends())
    return CellObjective(name, optimum, _drawer(f"{seed}/{name}", good, optimum, rng))


def _drawer(label: str, good: list[str], optimum: CellGenotype, rng: random.Random) -> Callable[..., float]:
    """Constants by their names, drawn when first asked for: uniform in [0, 1], but 1 for what the optimum uses."""
    ones: set[tuple[str, ...]] = {("worth", name) for name in good}
    for node in optimum.nodes:
        operations = sorted(edge.operation for edge in node.edges)
        ones |= {("synergy", *operations), ("merge", node.combine, *operations)}
        for edge in node.edges:
            source = rng.choice(_names(optimum, ("previous", "current"), edge.source))
            ones.add(("affinity", source, edge.operation))

    @cache
    def draw(*names: str) -> float:
        return 1.0 if names in ones else random_for(0, label, *names).random()

    return draw


def synthetic_reward(genotype: Genotype, seed: int = 0) -> float:
    """The noise-free reward of a genotype, in [0, 1]: the mean quality of its cells. Uniform samples have about 0.5 ± 0.05."""
    cells = genotype.cells()
    return sum(cell_objective(name, seed).quality(cell) for name, cell in cells) / len(cells)


def noisy_reward(genotype: Genotype, seed: int, child_seed: int, noise: float) -> float:
    """The reward of one training: normal noise of standard deviation ``noise`` is added, and the sum kept in [0, 1]."""
    return min(1.0, max(0.0, synthetic_reward(genotype, seed) + noise * random_for(child_seed, "noise").gauss(0, 1)))


def synthetic_optimum(seed: int = 0) -> Genotype:
    """A genotype of the NASNet space (13 or 14 operations) with reward 1; no genotype of any space has more."""
    return Genotype(normal=cell_objective("normal", seed).optimum, reduction=cell_objective("reduction", seed).optimum, name="optimum")
