"""Search spaces: the paper's decisions in the paper's order, actions to genotypes and back, and spaces that a user declares."""

import random
from collections import Counter
from pathlib import Path
from statistics import median
from typing import get_args

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.errors import GenotypeError, SpaceError
from search_spaces.genotype import CellGenotype, Edge, Genotype, Node, validate
from search_spaces.nasbench201 import NASBENCH201
from search_spaces.nasnet import NASNET, NASNET_PAPER
from search_spaces.networks.pieces import network_cost
from search_spaces.reference import load_reference
from search_spaces.registry import SPACES, load_space, space_from_document
from search_spaces.skeletons import NASNetSkeleton
from search_spaces.space import CellSpace, Draws, SearchSpace, chances, favouring, sample_actions, size
from search_spaces.vocabulary import NASNET_OPERATIONS, NASNET_PAPER_OPERATIONS

SHARED = CellSpace(
    "shared", operations=("identity", "sep_conv_3x3", "max_pool_3x3"), nodes=3, combine=("add",), cells=("normal",), outputs="all"
)
CELL_SPACES = [NASNET, NASNET_PAPER, SHARED]


def test_the_nasnet_space_has_the_papers_decisions() -> None:
    """Five a node, five nodes, two cells; k + 2 inputs for node k (Zoph et al. 2018, section 3)."""
    choices = [len(decision.choices) for decision in NASNET.decisions]
    assert len(choices) == 50
    assert choices == [n for k in range(5) for n in (k + 2, k + 2, 14, 14, 2)] * 2
    assert [len(decision.choices) for decision in NASNET_PAPER.decisions] == [n for k in range(5) for n in (k + 2, k + 2, 13, 13, 2)] * 2
    assert [d.name for d in NASNET.decisions[:6]] == [
        "normal.2.input_1",
        "normal.2.input_2",
        "normal.2.operation_1",
        "normal.2.operation_2",
        "normal.2.combine",
        "normal.3.input_1",
    ]
    assert NASNET.decisions[25].name == "reduction.2.input_1"
    assert NASNET.decisions[5].choices == ("previous", "current", "2")
    assert NASNET.decisions[4].choices == ("add", "concat")


def test_sizes_are_the_published_ones() -> None:
    """(2·3·4·5·6)² · (operations² · 2)⁵ a cell, squared."""
    assert size(NASNET) == (720**2 * (14**2 * 2) ** 5) ** 2
    assert f"{size(NASNET):.3g}" == "2.3e+37"
    assert f"{size(NASNET_PAPER):.3g}" == "5.23e+36"
    assert set(NASNET_OPERATIONS) - set(NASNET_PAPER_OPERATIONS) == {"avg_pool_5x5"}


def test_actions_decode_in_the_papers_order() -> None:
    """Input, input, operation, operation, combination; node by node; normal cell first."""
    operations = NASNET.operations
    actions = [0] * 50
    actions[0:5] = [1, 0, operations.index("sep_conv_5x5"), operations.index("max_pool_7x7"), 1]
    actions[20:25] = [5, 2, operations.index("conv_1x7_7x1"), 0, 0]
    actions[25:30] = [0, 1, operations.index("avg_pool_5x5"), operations.index("dil_conv_3x3"), 0]
    genotype = NASNET.decode(actions)
    assert genotype.normal.nodes[0] == Node((Edge(1, "sep_conv_5x5"), Edge(0, "max_pool_7x7")), "concat")
    assert genotype.normal.nodes[4] == Node((Edge(5, "conv_1x7_7x1"), Edge(2, "identity")), "add")
    assert genotype.reduction is not None
    assert genotype.reduction.nodes[0] == Node((Edge(0, "avg_pool_5x5"), Edge(1, "dil_conv_3x3")), "add")
    assert genotype.normal.outputs == (3, 4, 6) and genotype.reduction.outputs == (2, 3, 4, 5, 6)
    assert genotype.space == "nasnet"


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(st.sampled_from(CELL_SPACES), st.integers(0, 10**9))
def test_actions_survive_decoding_and_encoding(space: CellSpace, seed: int) -> None:
    actions = sample_actions(space, random.Random(seed))
    genotype = validate(space.decode(actions))
    assert space.encode(genotype) == actions
    for _, cell in genotype.cells():
        assert cell.outputs == (cell.loose_ends() if space.outputs == "loose_ends" else tuple(range(2, 2 + space.nodes)))


def test_every_action_sequence_of_a_small_space_is_a_genotype_of_its_own() -> None:
    small = CellSpace("small", operations=("identity", "conv_1x1"), nodes=2, combine=("add",), cells=("normal",))
    counts = [len(decision.choices) for decision in small.decisions]
    everything = [()]
    for count in counts:
        everything = [(*actions, a) for actions in everything for a in range(count)]
    assert len(everything) == size(small) == 576
    assert len({small.decode(actions) for actions in everything}) == 576


@pytest.mark.parametrize("draws", get_args(Draws))
def test_every_decision_is_drawn_as_often_as_its_weights_say(draws: Draws) -> None:
    space, rng = favouring(NASNET, draws), random.Random(0)
    counts = [Counter[int]() for _ in space.decisions]
    for _ in range(2800):
        for counter, action in zip(counts, sample_actions(space, rng), strict=True):
            counter[action] += 1
    for counter, decision, odds in zip(counts, space.decisions, chances(space.decisions).tolist(), strict=True):
        n = len(decision.choices)
        assert set(counter) == set(range(n)) and sum(odds[:n]) == pytest.approx(1) and not any(odds[n:])
        assert draws != "even" or set(odds[:n]) == {1 / n}
        # Six standard deviations: a false alarm once in 10⁶ runs over the 50 decisions; the seed is fixed besides.
        assert all(abs(counter[a] - 2800 * p) < 6 * (2800 * p * (1 - p)) ** 0.5 for a, p in enumerate(odds[:n])), decision.name


def test_cheap_draws_cost_a_third_less_than_even_ones_at_the_same_width() -> None:
    def cost(space: SearchSpace) -> float:
        rng = random.Random(1)
        cells = [space.decode(sample_actions(space, rng)) for _ in range(40)]
        return median(network_cost(cell, NASNetSkeleton(1, 8), classes=10, channels=3, image_size=32).macs for cell in cells)

    cheap = favouring(NASNET, "cheap")
    assert cost(cheap) < cost(NASNET) * 2 / 3
    assert cheap.name == NASNET.name and [d.choices for d in cheap.decisions] == [d.choices for d in NASNET.decisions]
    assert favouring(NASBENCH201, "cheap") is NASBENCH201  # no cells of which it would be known what they cost


def test_a_space_of_one_cell_uses_it_twice() -> None:
    genotype = SHARED.decode(sample_actions(SHARED, random.Random(3)))
    assert genotype.normal == genotype.reduction
    assert len(SHARED.decisions) == 3 * 4  # one way to combine is no decision


def test_published_cells_encode_where_they_lie_in_the_space() -> None:
    figure = load_reference("nasnet-a-figure")
    assert NASNET.decode(NASNET.encode(figure)) == figure
    enas = load_reference("enas-micro")
    assert NASNET_PAPER.decode(NASNET_PAPER.encode(enas)) == enas


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nasnet-a", "cell 'normal': in space 'nasnet' the outputs are [2, 3, 4, 5, 6] (loose_ends), but got [0, 2, 3, 4, 5, 6]"),
        ("darts-v2", "cell 'normal': space 'nasnet' has two inputs and 5 nodes, but got 2 and 4"),
        ("pnasnet-5", "space 'nasnet' needs a reduction cell"),
        ("resnext-8x64d", "space 'nasnet' needs a reduction cell"),
    ],
)
def test_genotypes_outside_the_space_are_refused(name: str, message: str) -> None:
    with pytest.raises(GenotypeError) as caught:
        NASNET.encode(load_reference(name))
    assert str(caught.value) == message


def test_operations_and_combinations_outside_the_space_are_refused() -> None:
    inside = SHARED.decode(sample_actions(SHARED, random.Random(0)))
    first = inside.normal.nodes[0]
    for node, message in (
        (Node((Edge(0, "conv_1x1"), first.edges[1])), "operation 'conv_1x1' is not searched in 'shared'; searched: identity, "),
        (Node(first.edges, "concat"), "combine 'concat' is not searched in 'shared'; searched: add"),
        (Node(first.edges[:1]), "space 'shared' has two edges a node, without options"),
    ):
        cell = CellGenotype((node, *inside.normal.nodes[1:]), inside.normal.outputs)
        with pytest.raises(GenotypeError) as caught:
            SHARED.encode(Genotype(cell, cell))
        assert message in str(caught.value)
    with pytest.raises(GenotypeError, match="has one cell for both uses"):
        SHARED.encode(Genotype(inside.normal, SHARED.decode(sample_actions(SHARED, random.Random(1))).normal))


def test_actions_that_do_not_fit_are_refused() -> None:
    with pytest.raises(GenotypeError, match="one action per decision must be given: 50, but got 49"):
        NASNET.decode([0] * 49)
    with pytest.raises(GenotypeError, match=r"normal\.2\.operation_1: the action must be 0\.\.13, but got 14"):
        NASNET.decode([0, 0, 14, *[0] * 47])
    with pytest.raises(GenotypeError, match=r"normal\.2\.input_1: the action must be 0\.\.1, but got -1"):
        NASNET.decode([-1, *[0] * 49])


# ------------------------------------------------------------------------------------------------ declared by a user


def declaration(**changes: object) -> dict[str, object]:
    document: dict[str, object] = {"schema": "nas.space/1", "name": "mine", "operations": ["identity", "sep_conv_3x3"]}
    return {key: value for key, value in {**document, **changes}.items() if value is not ...}


def test_a_space_is_declared_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(declaration(nodes=4, combine=["add"], cells=["normal"], outputs="all")), encoding="utf-8")
    space = load_space(str(path))
    assert space == CellSpace("mine", ("identity", "sep_conv_3x3"), 4, ("add",), ("normal",), "all")
    actions = sample_actions(space, random.Random(0))
    assert space.encode(space.decode(actions)) == actions
    path.write_text(yaml.safe_dump(declaration()), encoding="utf-8")
    assert load_space(str(path)) == CellSpace("mine", ("identity", "sep_conv_3x3"), 5, ("add",), ("normal", "reduction"), "loose_ends")


def test_built_in_spaces_are_found_by_name() -> None:
    assert load_space("nasnet") is NASNET and load_space("nasnet-paper") is NASNET_PAPER
    assert all(space.name == name for name, space in SPACES.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": "nas.space/2"}, "a search space must be a mapping with `schema: nas.space/1`"),
        ({"colour": 1}, "a search space has an unknown key 'colour'; valid keys: schema, name, operations, nodes, combine, cells, outputs"),
        ({"name": ""}, "`name` must be a short text, but got ''"),
        ({"name": ...}, "`name` must be a short text, but got None"),
        ({"nodes": 0}, "`nodes` must be an integer 1..12, but got 0"),
        ({"nodes": True}, "`nodes` must be an integer 1..12, but got True"),
        ({"nodes": 13}, "`nodes` must be an integer 1..12, but got 13"),
        ({"operations": ...}, "`operations` must be a list of names, but got None"),
        ({"operations": []}, "`operations` must be a list of names, but got []"),
        ({"operations": ["conv_9x9"]}, "`operations`: unknown name 'conv_9x9'; valid names: identity, "),
        ({"operations": ["resnext_block"]}, "`operations`: unknown name 'resnext_block'; valid names: identity, "),
        ({"operations": ["identity", "identity"]}, "`operations` must not repeat a name, but got ['identity', 'identity']"),
        ({"operations": [["identity"]]}, "`operations`: unknown name ['identity']; valid names: "),
        ({"combine": ["mul"]}, "`combine`: unknown name 'mul'; valid names: add, concat"),
        ({"cells": ["reduction"]}, "`cells` must be [normal, reduction], or [normal] for one cell in both places, but got ['reduction']"),
        ({"outputs": "some"}, "`outputs` must be loose_ends or all, but got 'some'"),
        ({"outputs": ["all"]}, "`outputs` must be loose_ends or all, but got ['all']"),
    ],
)
def test_a_bad_declaration_says_which_rule_it_breaks(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SpaceError) as caught:
        space_from_document(declaration(**changes))
    assert str(caught.value).startswith(message)


def test_a_bad_file_is_named_once(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    for content, message in (("nodes: 3", "must be a mapping with `schema"), ("a: [", "not plain YAML"), ("!!set {a}", "tags")):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(SpaceError) as caught:
            load_space(str(path))
        assert message in str(caught.value) and str(caught.value).count(str(path)) == 1
    with pytest.raises(SpaceError, match="cannot be read"):
        load_space(str(tmp_path / "missing.yaml"))
    with pytest.raises(SpaceError, match=r"unknown search space 'nasnets' \(did you mean 'nasnet'\?\); choose one of nasnet, .*or give"):
        load_space("nasnets")
