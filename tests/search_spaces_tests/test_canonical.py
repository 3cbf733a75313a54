"""The canonical key is equal exactly for cells that are the same network; networkx' graph isomorphism is the independent reference."""

import itertools
import random
import time

import networkx as nx
import pytest
from networkx.algorithms.isomorphism import categorical_node_match

from search_spaces.canonical import canonical_cell, canonical_key, live_nodes
from search_spaces.genotype import CellGenotype, Edge, Genotype, Node
from search_spaces.nasnet import NASNET
from search_spaces.reference import load_reference
from search_spaces.space import CellSpace, sample_actions
from search_spaces.vocabulary import OPERATION_OPTIONS


def graph_of(cell: CellGenotype) -> nx.DiGraph:
    """The live part of a cell as a labelled graph, an edge's operation being a node of its own (edges may be parallel)."""
    graph = nx.DiGraph()
    live = live_nodes(cell)
    for state in range(cell.inputs):
        graph.add_node(state, label=("input", state, state in cell.outputs))
    for state in live:
        node = cell.nodes[state - cell.inputs]
        graph.add_node(state, label=("node", node.combine, state in cell.outputs))
        for i, edge in enumerate(node.edges):
            graph.add_node((state, i), label=("edge", edge.operation, edge.options))
            graph.add_edge(edge.source, (state, i))
            graph.add_edge((state, i), state)
    return graph


def isomorphic(one: CellGenotype, other: CellGenotype) -> bool:
    return bool(nx.is_isomorphic(graph_of(one), graph_of(other), node_match=categorical_node_match("label", None)))


def random_cell(rng: random.Random, nodes: int, operations: tuple[str, ...], combines: tuple[str, ...] = ("add",)) -> CellGenotype:
    """Any edges, one to three a node; any outputs, so that some nodes are dead."""
    made = tuple(
        Node(tuple(Edge(rng.randrange(2 + i), rng.choice(operations)) for _ in range(rng.choice((1, 2, 2, 2, 3)))), rng.choice(combines))
        for i in range(nodes)
    )
    states = range(2 + nodes)
    return CellGenotype(made, tuple(sorted(rng.sample(states, rng.randint(1, min(4, 2 + nodes))))))


def renumbered(cell: CellGenotype, rng: random.Random) -> CellGenotype:
    """The same cell with its nodes in another valid order, its edges and outputs shuffled."""
    number = {state: state for state in range(cell.inputs)}
    waiting = list(range(cell.inputs, cell.inputs + len(cell.nodes)))
    nodes = []
    while waiting:
        state = rng.choice([s for s in waiting if all(e.source in number for e in cell.nodes[s - cell.inputs].edges)])
        waiting.remove(state)
        edges = [Edge(number[e.source], e.operation, e.options) for e in cell.nodes[state - cell.inputs].edges]
        rng.shuffle(edges)
        number[state] = cell.inputs + len(nodes)
        nodes.append(Node(tuple(edges), cell.nodes[state - cell.inputs].combine))
    outputs = [number[state] for state in cell.outputs]
    rng.shuffle(outputs)
    return CellGenotype(tuple(nodes), tuple(outputs), cell.inputs)


def with_dead_node(cell: CellGenotype, rng: random.Random) -> CellGenotype:
    source = rng.randrange(cell.inputs + len(cell.nodes))
    return CellGenotype((*cell.nodes, Node((Edge(source, "conv_7x7_dead"), Edge(0, "identity")))), cell.outputs, cell.inputs)


@pytest.mark.parametrize("seed", range(60))
def test_renumbering_swapping_and_dead_nodes_change_nothing(seed: int) -> None:
    rng = random.Random(seed)
    cell = random_cell(rng, rng.randint(1, 8), ("identity", "conv_1x1", "conv_3x3"), ("add", "concat"))
    for _ in range(4):
        other = with_dead_node(renumbered(cell, rng), rng)
        assert isomorphic(cell, other)
        assert canonical_cell(other) == canonical_cell(cell)


@pytest.mark.parametrize(
    ("nodes", "operations", "combines"), [(3, ("a",), ("add",)), (3, ("a", "b"), ("add", "concat")), (5, ("a",), ("add",))]
)
def test_keys_are_equal_exactly_for_isomorphic_cells(nodes: int, operations: tuple[str, ...], combines: tuple[str, ...]) -> None:
    """Few operations, so that many of the pairs are isomorphic and many of the rest almost are."""
    rng = random.Random(nodes)
    cells = [random_cell(rng, nodes, operations, combines) for _ in range(120)]
    cells += [renumbered(rng.choice(cells), rng) for _ in range(40)]
    keys = [canonical_cell(cell) for cell in cells]
    equal = different = 0
    for (one, key_1), (other, key_2) in itertools.combinations(zip(cells, keys, strict=True), 2):
        same = isomorphic(one, other)
        assert (key_1 == key_2) == same, (one, other)
        equal, different = equal + same, different + (not same)
    assert equal > 40 and different > 1000


def test_every_three_node_cell_of_one_operation_falls_into_its_isomorphism_class() -> None:
    """Exhaustive: (2·2) · (3·3) · (4·4) = 576 cells with loose ends concatenated."""
    space = CellSpace("tiny", operations=("a",), nodes=3, combine=("add",), cells=("normal",))
    cells = [space.decode(actions).normal for actions in itertools.product(*(range(len(d.choices)) for d in space.decisions))]
    assert len(cells) == 576
    classes: dict[str, list[CellGenotype]] = {}
    for cell in cells:
        classes.setdefault(canonical_cell(cell), []).append(cell)
    for members in classes.values():
        assert all(isomorphic(members[0], other) for other in members[1:])
    for one, other in itertools.combinations([members[0] for members in classes.values()], 2):
        assert not isomorphic(one, other)


def test_twins_are_two_networks_not_one() -> None:
    """Two equal nodes have weights of their own: a cell with both is not the cell with one."""
    twin = Node((Edge(0, "conv_3x3"), Edge(1, "conv_3x3")))
    both = CellGenotype((twin, twin, Node((Edge(2, "identity"), Edge(3, "identity")))), (4,))
    one = CellGenotype((twin, Node((Edge(2, "identity"), Edge(2, "identity")))), (3,))
    assert canonical_cell(both) != canonical_cell(one) and not isomorphic(both, one)
    crossed = CellGenotype((twin, twin, Node((Edge(3, "identity"), Edge(2, "identity")))), (4,))
    assert canonical_cell(both) == canonical_cell(crossed)


def test_twins_that_are_consumed_differently_are_told_apart() -> None:
    twin = Node((Edge(0, "a"), Edge(1, "a")))
    same = CellGenotype((twin, twin, Node((Edge(2, "b"), Edge(2, "c")))), (3, 4))
    split = CellGenotype((twin, twin, Node((Edge(2, "b"), Edge(3, "c")))), (3, 4))
    assert canonical_cell(same) != canonical_cell(split)
    other = CellGenotype((twin, twin, Node((Edge(3, "b"), Edge(3, "c")))), (2, 4))
    assert canonical_cell(same) == canonical_cell(other) and isomorphic(same, other)


def test_everything_that_makes_a_network_another_makes_the_key_another() -> None:
    base = load_reference("nasnet-a").normal
    changes = [
        CellGenotype(base.nodes, base.outputs[1:]),
        CellGenotype((Node(base.nodes[0].edges, "concat"), *base.nodes[1:]), base.outputs),
        CellGenotype((Node((Edge(1, "sep_conv_7x7"), base.nodes[0].edges[1])), *base.nodes[1:]), base.outputs),
        CellGenotype((Node((Edge(0, "sep_conv_5x5"), base.nodes[0].edges[1])), *base.nodes[1:]), base.outputs),
        CellGenotype((Node((Edge(1, "sep_conv_5x5", (("k", 1),)), base.nodes[0].edges[1])), *base.nodes[1:]), base.outputs),
        CellGenotype((Node((*base.nodes[0].edges, base.nodes[0].edges[0])), *base.nodes[1:]), base.outputs),
    ]
    keys = {canonical_cell(cell) for cell in (base, *changes)}
    assert len(keys) == len(changes) + 1
    genotype = load_reference("nasnet-a")
    assert genotype.reduction is not None
    assert canonical_key(genotype) != canonical_key(Genotype(genotype.reduction, genotype.normal))


def test_the_published_encodings_of_nasnet_a_differ_by_outputs_alone() -> None:
    released, figure = load_reference("nasnet-a"), load_reference("nasnet-a-figure")
    assert canonical_key(released) != canonical_key(figure)
    assert figure.reduction is not None
    relabelled = Genotype(
        CellGenotype(figure.normal.nodes, (0, *figure.normal.outputs)), CellGenotype(figure.reduction.nodes, (3, 4, 5, 6))
    )
    assert canonical_key(relabelled) == canonical_key(released)


def test_cells_of_one_input_have_keys_too() -> None:
    cell = CellGenotype((Node((Edge(0, "a"),)), Node((Edge(0, "b"), Edge(1, "a")))), (2,), inputs=1)
    swapped = CellGenotype((cell.nodes[0], Node(cell.nodes[1].edges[::-1])), (2,), inputs=1)
    assert canonical_cell(cell) == canonical_cell(swapped)


def symmetric_cell(pairs: int) -> CellGenotype:
    """Pairs of nodes that no refinement tells apart, though no two nodes are twins: the worst case of the search."""
    first = [Node((Edge(0, "a"), Edge(1, "a")))] * pairs
    second = [Node((Edge(2 + i, "a"), Edge(2 + i, "a"))) for i in range(pairs)]
    return CellGenotype((*first, *second), tuple(range(2 + pairs, 2 + 2 * pairs)))


def test_symmetric_cells_stay_cheap() -> None:
    """Without pruning, 20 nodes in 10 pairs would take 10! branches."""
    start = time.process_time()
    keys = {canonical_cell(renumbered(symmetric_cell(10), random.Random(seed))) for seed in range(3)}
    assert len(keys) == 1
    assert time.process_time() - start < 20


def test_a_nasnet_key_takes_little_time() -> None:
    genotypes = [NASNET.decode(sample_actions(NASNET, random.Random(seed))) for seed in range(50)]
    start = time.process_time()
    keys = {canonical_key(genotype) for genotype in genotypes}
    assert len(keys) == 50
    assert (time.process_time() - start) / 50 < 0.02


def test_an_option_left_out_is_its_default() -> None:
    bare = CellGenotype((Node((Edge(0, "resnext_block"),)),), (1,), inputs=1)
    options = tuple(sorted((key, rule.default) for key, rule in OPERATION_OPTIONS["resnext_block"].items()))
    written = CellGenotype((Node((Edge(0, "resnext_block", options),)),), (1,), inputs=1)
    assert canonical_cell(bare) == canonical_cell(written)
    other = CellGenotype((Node((Edge(0, "resnext_block", (("cardinality", 8),)),)),), (1,), inputs=1)
    assert canonical_cell(bare) != canonical_cell(other)
