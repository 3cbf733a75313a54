"""A network counted piece by piece costs exactly what it costs built whole, in every family of cells, and a fault is named as there."""

import random
from dataclasses import replace

import pytest

from search_spaces.errors import GenotypeError
from search_spaces.genotype import CellGenotype, Edge, Genotype, Node
from search_spaces.networks.pieces import network_cost, network_pieces, whole_cost
from search_spaces.registry import load_space
from search_spaces.skeletons import (
    DARTS_CONVENTIONS,
    SKELETONS,
    TIMM_CONVENTIONS,
    NASBench201Skeleton,
    NASNetSkeleton,
    Skeleton,
)
from search_spaces.space import sample_actions
from search_spaces.vocabulary import BLOCK_OPTIONS, NASNET_OPERATIONS, OTHER_OPERATIONS

CELLS = [
    NASNetSkeleton(1, 5.125),
    NASNetSkeleton(2, 3, auxiliary=True),
    NASNetSkeleton(1, 6, reductions="in_place", skip_reduction_input=False),
    NASNetSkeleton(1, 4, skip_reduction_input=True, conventions=TIMM_CONVENTIONS),
    NASNetSkeleton(2, 4.5, conventions=DARTS_CONVENTIONS),
    replace(SKELETONS["nasnet-mobile"], cells=1, filters=8),
    replace(SKELETONS["darts-imagenet"], cells=1, filters=6, auxiliary=True),
    replace(SKELETONS["amoebanet-cifar"], cells=1, filters=4),
]


def random_cell(rng: random.Random, inputs: int) -> CellGenotype:
    """Any cell: loose ends, dead nodes, inputs that nobody reads, concatenations, one to three edges, every operation."""
    operations = [*NASNET_OPERATIONS, *OTHER_OPERATIONS, *BLOCK_OPTIONS]
    nodes = []
    for state in range(inputs, inputs + rng.randint(1, 4)):
        edges = tuple(Edge(rng.randrange(state), rng.choice(operations)) for _ in range(rng.randint(1, 3)))
        nodes.append(Node(edges, rng.choice(("add", "concat"))))
    states = range(inputs + len(nodes))
    return CellGenotype(tuple(nodes), tuple(sorted(rng.sample(states, rng.randint(1, len(states))))), inputs)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("skeleton", CELLS, ids=range(len(CELLS)))
def test_the_sum_of_the_pieces_is_the_network(skeleton: Skeleton, seed: int):
    rng = random.Random(f"{CELLS.index(skeleton)}/{seed}")
    genotype = Genotype(random_cell(rng, rng.choice((1, 2, 2))), random_cell(rng, 2) if rng.random() < 0.8 else None)
    side, classes = rng.choice((16, 31, 32, 45)), rng.choice((0, 7))
    wanted = whole_cost(genotype, skeleton, classes=classes, channels=1 + 2 * seed, image_size=side)
    assert network_cost(genotype, skeleton, classes=classes, channels=1 + 2 * seed, image_size=side) == wanted


@pytest.mark.parametrize("filters", [1, 3.375, 8])
def test_nasbench201_too(filters: float):
    space = load_space("nasbench201")
    genotype = space.decode(sample_actions(space, random.Random(filters)))
    skeleton = NASBench201Skeleton(2, filters)
    assert network_cost(genotype, skeleton, classes=10, image_size=25) == whole_cost(genotype, skeleton, classes=10, image_size=25)
    assert sum(1 for _ in network_pieces(genotype, skeleton, image_size=25)) == 3 * 2 * 6


def test_what_cannot_be_built_is_refused_as_by_the_network():
    cell = CellGenotype((Node((Edge(0, "inverted_block", (("kernel", 99),)),)),), (2,))
    with pytest.raises(GenotypeError, match=r"`kernel` of inverted_block must be an integer 1..31, but got 99"):
        network_cost(Genotype(cell, cell), NASNetSkeleton(1, 6), classes=10, image_size=32)
    with pytest.raises(GenotypeError, match="residual block in the place"):
        network_cost(Genotype(*[random_cell(random.Random(1), 2)] * 2), NASBench201Skeleton(1, 4), classes=10, image_size=32)
