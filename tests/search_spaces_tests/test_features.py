"""Features of a genotype: right by hand, the same for cells that are the same network, the same however many are asked for at once."""

import itertools
import random

import numpy as np
import pytest
from test_canonical import renumbered

from search_spaces.errors import SpaceError
from search_spaces.features import weight_of
from search_spaces.genotype import CellGenotype, Edge, Genotype, Node
from search_spaces.nasbench201 import NASBENCH201
from search_spaces.nasnet import NASNET
from search_spaces.space import CellSpace, Decision, feature_table, sample_actions

SPACE = CellSpace("three", operations=("identity", "max_pool_3x3", "conv_3x3", "sep_conv_5x5"), nodes=3, cells=("normal",))


def test_a_cell_counted_by_hand():
    """2 = pool(previous) + sep(current), concatenated; 3 = conv(2) + identity(2); 4 = sep(3) + conv(previous): one loose end."""
    nodes = (
        Node((Edge(0, "max_pool_3x3"), Edge(1, "sep_conv_5x5")), "concat"),
        Node((Edge(2, "conv_3x3"), Edge(2, "identity"))),
        Node((Edge(3, "sep_conv_5x5"), Edge(0, "conv_3x3"))),
    )
    cell = CellGenotype(nodes, (4,))
    conv = 0.5 + 9 / 16
    assert SPACE.features(Genotype(cell, cell)) == pytest.approx(
        {
            "normal.operations.identity": 1,
            "normal.operations.max_pool_3x3": 1,
            "normal.operations.conv_3x3": 2,
            "normal.operations.sep_conv_5x5": 2,
            "normal.convolutions": 4 / 6,
            "normal.poolings": 1 / 6,
            "normal.identities": 1 / 6,
            "normal.concats": 1,
            "normal.from_previous": 2,
            "normal.from_current": 1,
            "normal.loose_ends": 1,
            "normal.width": 1,
            "normal.depth": 3,
            "normal.convolution_chain": 3,
            "normal.shortest_chain": 1,
            "normal.field": np.log2(1 + 8 + 2 + 8),
            "normal.macs": 2 + 2 * conv + 2 + conv,
            "normal.depthwise_macs": 50 + 50,
        }
    )


def test_cost_by_the_formulas_of_the_operations():
    """Against multiplications of the modules themselves at 64 filters, in the NASNet skeleton's conventions."""
    from search_spaces.networks.operations import Layers, build_operation
    from search_spaces.skeletons import NASNET_CONVENTIONS

    layers = Layers(NASNET_CONVENTIONS)
    for name in NASNET.operations:
        operation = build_operation(Edge(1, name), 64, 64, 1, layers)
        weights = sum(p.numel() for p in operation.parameters() if p.dim() == 4)
        assert 64 * 64 * weight_of(name).square + 64 * weight_of(name).linear == pytest.approx(weights), name


@pytest.mark.parametrize("seed", range(30))
def test_the_same_network_has_the_same_features(seed: int):
    rng = random.Random(seed)
    genotype = NASNET.decode(sample_actions(NASNET, rng))
    other = Genotype(*(_in_order(renumbered(cell, rng)) for _, cell in genotype.cells()))
    assert NASNET.canonical(other) == NASNET.canonical(genotype)
    assert NASNET.features(other) == pytest.approx(NASNET.features(genotype))


def _in_order(cell: CellGenotype) -> CellGenotype:
    return CellGenotype(cell.nodes, tuple(sorted(cell.outputs)), cell.inputs)


def test_the_benchmarks_isomorphism_classes_have_the_same_features():
    every = np.array(list(itertools.product(range(5), repeat=6)))
    rows: dict[str, list[float]] = {}
    for actions, row in zip(every.tolist(), feature_table(NASBENCH201, every).tolist(), strict=True):
        assert rows.setdefault(NASBENCH201.canonical(NASBENCH201.decode(actions)), row) == row
    assert len({tuple(row) for row in rows.values()}) > 300


@pytest.mark.parametrize("space", [NASNET, NASBENCH201, SPACE], ids=lambda space: space.name)
def test_many_at_once_are_the_same_as_one_by_one(space):
    rng = random.Random(0)
    actions = [sample_actions(space, rng) for _ in range(20)]
    one_by_one = [list(space.features(space.decode(sequence)).values()) for sequence in actions]
    np.testing.assert_allclose(feature_table(space, np.array(actions)), one_by_one)


class Plain:
    """A space of two decisions, as another package may bring it."""

    name = "plain"
    decisions = (Decision("a", ("x", "y")), Decision("b", ("x", "y")))

    def decode(self, actions):
        return tuple(actions)


class Featured(Plain):
    def features(self, genotype):
        return {"sum": float(sum(genotype)), "first": genotype[0]}


def test_any_space_may_have_features_of_its_own_and_one_without_has_none():
    actions = np.array([[0, 1], [1, 1]])
    assert feature_table(Featured(), actions).tolist() == [[0, 1], [1, 2]]  # in the order of their names
    assert feature_table(Plain(), actions).shape == (2, 0)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (lambda genotype: {"a": float("nan")}, "must be a finite number"),
        (lambda genotype: {"a": "1"}, "must be a finite number"),
        (lambda genotype: [1.0], "must be a mapping"),
        (lambda genotype: {f"a{genotype[0]}": 1.0}, "the same names"),
    ],
)
def test_features_that_cannot_be_used_are_named(features, message):
    class Odd(Plain):
        pass

    Odd.features = staticmethod(features)
    with pytest.raises(SpaceError, match=message):
        feature_table(Odd(), np.array([[0, 1], [1, 1]]))
