"""The search space ``mobile``: a kernel and an expansion for each of eight inverted-residual layers. No torch."""

from collections.abc import Sequence

from search_spaces.canonical import canonical_key
from search_spaces.errors import GenotypeError
from search_spaces.genotype import CellGenotype, Edge, Genotype, Node
from search_spaces.space import Actions, Decision, check_actions

LAYERS = 8
CHOICES = {"k3e2": (3, 2), "k5e2": (5, 2), "k3e4": (3, 4)}
"""Kernel and expansion of each choice."""


class MobileSpace:
    """The nodes of the genotype's normal cell are the layers, one after the other; its skeleton stacks them."""

    name = "mobile"
    decisions = tuple(Decision(f"layer_{i}", tuple(CHOICES)) for i in range(LAYERS))

    def decode(self, actions: Sequence[int]) -> Genotype:
        """The genotype that the actions stand for. Raises GenotypeError where they do not fit."""
        check_actions(self.decisions, actions)
        chosen = [list(CHOICES.values())[action] for action in actions]
        edges = [Edge(i, "mbconv", (("expansion", e), ("kernel", k))) for i, (k, e) in enumerate(chosen)]
        chain = CellGenotype(tuple(Node((edge,)) for edge in edges), outputs=(LAYERS,), inputs=1)
        return Genotype(chain, space=self.name, skeleton="mobile-tiny")

    def encode(self, genotype: Genotype) -> Actions:
        """Actions that decode to the genotype. Raises GenotypeError where it lies outside the space."""
        known = list(CHOICES.values())
        options = [dict(node.edges[0].options) for node in genotype.normal.nodes]
        pairs = [(option.get("kernel"), option.get("expansion")) for option in options]
        if any(pair not in known for pair in pairs) or len(pairs) != LAYERS:
            raise GenotypeError(f"space 'mobile' has {LAYERS} layers of {', '.join(CHOICES)}, but got {pairs}")
        actions = tuple(known.index(pair) for pair in pairs)
        if self.decode(actions) != genotype:
            raise GenotypeError("space 'mobile' has layers in a chain, but the genotype has another form")
        return actions

    def canonical(self, genotype: Genotype) -> str:
        """Equal for equal layers: no two choices make the same network."""
        return canonical_key(genotype)


MOBILE = MobileSpace()
