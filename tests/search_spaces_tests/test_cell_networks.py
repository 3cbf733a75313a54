"""Networks of cells: the literature's shapes and wiring, any genotype at any size, auxiliary head, features, and what is not computed."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nas.networks.drawing.networks import network_parts
from search_spaces.errors import GenotypeError, SkeletonError
from search_spaces.genotype import CellGenotype, Edge, Genotype, Node
from search_spaces.nasnet import NASNET
from search_spaces.networks.build import build_network
from search_spaces.networks.cell import Cell, State, StateShape
from search_spaces.networks.cell_network import CellNetwork
from search_spaces.networks.cost import count_parameters
from search_spaces.networks.network import Network
from search_spaces.networks.operations import FactorizedReduction, Layers
from search_spaces.reference import load_reference
from search_spaces.skeletons import (
    DARTS_CONVENTIONS,
    NASNET_CONVENTIONS,
    SKELETONS,
    NASNetSkeleton,
    auxiliary_position,
    load_skeleton,
    network_name,
    plan_cells,
)
from search_spaces.space import sample_actions

NASNET_A = load_reference("nasnet-a")


def cell_skeleton(name: str) -> NASNetSkeleton:
    skeleton = load_skeleton(name)
    assert isinstance(skeleton, NASNetSkeleton)
    return skeleton


def meta(genotype: Genotype, skeleton: NASNetSkeleton, image_size: int, classes: int = 10) -> CellNetwork:
    with torch.device("meta"):
        network = build_network(genotype, skeleton, classes=classes, image_size=image_size)
    assert isinstance(network, CellNetwork)
    return network


def output_shapes(network: CellNetwork, image_size: int) -> dict[str, tuple[int, ...]]:
    """Channels and side of every cell's output."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, cell in network.cells.items():
        cell.register_forward_hook(lambda _m, _i, out, name=name: shapes.update({name: (out.raw.shape[1], out.raw.shape[2])}))
    network.eval()(torch.empty(1, 3, image_size, image_size, device="meta"))
    return shapes


def random_genotype(seed: int) -> Genotype:
    return NASNET.decode(sample_actions(NASNET, random.Random(seed)))


# ------------------------------------------------------------------------------------------------ the literature's shapes


@pytest.mark.parametrize(
    ("skeleton", "size", "expected"),
    [
        (
            "nasnet-cifar",
            32,
            {"cell_5": (192, 32), "reduction_0": (256, 16), "cell_6": (384, 16), "reduction_1": (512, 8), "cell_17": (768, 8)},
        ),
        (
            "nasnet-mobile",
            224,
            {
                "stem_1": (88, 28),
                "cell_3": (264, 28),
                "reduction_0": (352, 14),
                "cell_7": (528, 14),
                "reduction_1": (704, 7),
                "cell_11": (1056, 7),
            },
        ),
        (
            "nasnet-large",
            331,
            {
                "stem_0": (168, 83),
                "stem_1": (336, 42),
                "cell_5": (1008, 42),
                "reduction_0": (1344, 21),
                "cell_11": (2016, 21),
                "reduction_1": (2688, 11),
                "cell_17": (4032, 11),
            },
        ),
    ],
)
def test_shapes_are_those_of_the_released_code(skeleton: str, size: int, expected: dict[str, tuple[int, int]]) -> None:
    shapes = output_shapes(meta(NASNET_A, cell_skeleton(skeleton), size), size)
    assert {name: shapes[name] for name in expected} == expected


def test_mobile_network_has_the_published_parameters_in_every_cell() -> None:
    network = meta(NASNET_A, cell_skeleton("nasnet-mobile"), 224)
    sizes = {name: count_parameters(cell) for name, cell in network.cells.items()}
    assert count_parameters(network.stem) + sizes.pop("stem_0") + sizes.pop("stem_1") == 23_410
    stages = [33_000, 42_680, 50_424, 50_424], [147_312, 170_544, 186_032, 186_032], [557_920, 650_848, 712_800, 712_800]
    assert list(sizes.values()) == [*stages[0], 153_648, *stages[1], 555_104, *stages[2]]


def test_plans_count_name_and_wire_cells_as_the_released_code() -> None:
    plans = plan_cells(NASNetSkeleton(2, 32))
    assert [p.name for p in plans] == ["cell_0", "cell_1", "reduction_0", "cell_2", "cell_3", "reduction_1", "cell_4", "cell_5"]
    assert [p.filters for p in plans] == [32, 32, 64, 64, 64, 128, 128, 128]
    assert [p.stride for p in plans] == [1, 1, 2, 1, 1, 2, 1, 1]
    assert [p.previous for p in plans] == [None, 0, 1, 2, 3, 4, 5, 6]
    assert [p.current for p in plans] == list(range(8))
    skipping = plan_cells(NASNetSkeleton(2, 32, skip_reduction_input=True))
    assert [p.previous for p in skipping] == [None, 0, 1, 1, 3, 4, 4, 6]
    large = plan_cells(cell_skeleton("nasnet-large"))
    assert len(large) == 3 * 6 + 4 and [p.filters for p in large[:3]] == [42, 84, 168]


def test_pnasnet_strides_in_place() -> None:
    plans = plan_cells(cell_skeleton("pnasnet-large"))
    assert len(plans) == 12 + 2
    assert [p.name for p in plans if p.stride == 2] == ["stem_0", "stem_1", "cell_4", "cell_8"]
    assert [p.filters for p in plans] == [54, 108, *[216] * 4, *[432] * 4, *[864] * 4]


def test_darts_reduces_at_cells_6_and_13_of_20() -> None:
    plans = plan_cells(cell_skeleton("darts-cifar"))
    assert len(plans) == 20 and [i for i, p in enumerate(plans) if p.stride == 2] == [6, 13]
    imagenet = plan_cells(cell_skeleton("darts-imagenet"))
    assert len(imagenet) == 14 and [i for i, p in enumerate(imagenet) if p.stride == 2] == [4, 9]
    assert (imagenet[0].previous, imagenet[0].current) == (0, 1)


def test_auxiliary_head_reads_the_last_cell_before_the_second_reduction_or_darts_second_reduction() -> None:
    for name, cell in (
        ("nasnet-cifar", "cell_11"),
        ("nasnet-mobile", "cell_7"),
        ("pnasnet-large", "cell_7"),
        ("darts-cifar", "reduction_1"),
    ):
        skeleton = cell_skeleton(name)
        assert plan_cells(skeleton)[auxiliary_position(skeleton)].name == cell


@pytest.mark.parametrize(("skeleton", "size", "kernel"), [("nasnet-cifar", 32, 4), ("nasnet-mobile", 224, 4), ("nasnet-large", 331, 6)])
def test_auxiliary_heads_last_convolution_covers_the_published_map(skeleton: str, size: int, kernel: int) -> None:
    network = meta(NASNET_A, replace(cell_skeleton(skeleton), auxiliary=True), size)
    assert network.auxiliary is not None and network.auxiliary.conv_2.kernel_size == (kernel, kernel)


def test_names_are_the_literatures() -> None:
    for genotype, skeleton, name in (
        ("nasnet-a", "nasnet-cifar", "NASNet-A (6 @ 768)"),
        ("nasnet-a", "nasnet-mobile", "NASNet-A (4 @ 1056)"),
        ("nasnet-a", "nasnet-large", "NASNet-A (6 @ 4032)"),
        ("pnasnet-5", "pnasnet-large", "PNASNet-5 (N=4, F=216)"),
        ("amoebanet-a", "amoebanet-cifar", "AmoebaNet-A (N=6, F=36)"),
        ("darts-v2", "darts-cifar", "DARTS-V2 (20 cells, C=36)"),
        ("resnext-32x4d", "resnet-50", "ResNeXt-50 (32×4d)"),
    ):
        assert network_name(load_reference(genotype), load_skeleton(skeleton)) == name


# ------------------------------------------------------------------------------------------------ any genotype, any size


@pytest.mark.parametrize("seed", range(12))
def test_random_genotypes_train_on_digits(seed: int) -> None:
    """8×8 images of one channel, N=1, F=4: down to maps of 2×2; every parameter takes part."""
    torch.manual_seed(seed)
    skeleton = NASNetSkeleton(1, 4, auxiliary=True, drop_path_keep=0.7)
    network = build_network(random_genotype(seed), skeleton, classes=10, channels=1, image_size=8)
    network.to(memory_format=torch.channels_last).train().set_progress(0.5)
    images = torch.randn(16, 1, 8, 8).to(memory_format=torch.channels_last)
    logits, auxiliary = network.forward_with_auxiliary(images)
    assert logits.shape == (16, 10) and auxiliary is not None and auxiliary.shape == (16, 10)
    (F.cross_entropy(logits, torch.arange(16) % 10) + 0.4 * F.cross_entropy(auxiliary, torch.arange(16) % 10)).backward()
    idle = [name for name, p in network.named_parameters() if p.grad is None]
    assert idle == []
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


@pytest.mark.parametrize("size", [8, 9, 11, 15, 31, 33])
@pytest.mark.parametrize("skeleton", ["nasnet-cifar", "nasnet-mobile", "nasnet-large", "pnasnet-large", "darts-cifar", "darts-imagenet"])
def test_any_image_size_builds_and_runs(skeleton: str, size: int) -> None:
    genotype = random_genotype(3) if skeleton != "pnasnet-large" else load_reference("pnasnet-5")
    small = replace(cell_skeleton(skeleton), cells=1, filters=5, stem_filters=6, auxiliary=True)
    network = build_network(genotype, small, classes=3, channels=2, image_size=size).train()
    logits, auxiliary = network.forward_with_auxiliary(torch.randn(4, 2, size, size))
    assert logits.shape == (4, 3) and auxiliary is not None and auxiliary.shape == (4, 3)
    assert network.eval().forward_with_auxiliary(torch.randn(1, 2, size, size))[1] is None


def test_images_larger_than_built_for_run_with_the_auxiliary_head() -> None:
    network = build_network(NASNET_A, NASNetSkeleton(1, 4, auxiliary=True), classes=5, image_size=32).train()
    logits, auxiliary = network.forward_with_auxiliary(torch.randn(2, 3, 64, 48))
    assert logits.shape == (2, 5) and auxiliary is not None and auxiliary.shape == (2, 5)


def test_a_single_normal_cell_serves_as_reduction_where_the_genotype_has_none() -> None:
    pnasnet = load_reference("pnasnet-5")
    assert pnasnet.reduction is None
    twice = Genotype(pnasnet.normal, pnasnet.normal)
    sizes = [count_parameters(meta(genotype, NASNetSkeleton(1, 8), 32)) for genotype in (pnasnet, twice)]
    assert sizes[0] == sizes[1]


def test_a_cell_with_one_input_takes_current_only() -> None:
    cell = CellGenotype((Node((Edge(0, "sep_conv_3x3"), Edge(0, "identity"))), Node((Edge(1, "max_pool_3x3"),))), (1, 2), inputs=1)
    network = build_network(Genotype(cell, cell), NASNetSkeleton(1, 4), classes=3, image_size=16).train()
    network(torch.randn(4, 3, 16, 16)).sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_the_same_seed_builds_the_same_network_and_layouts_agree() -> None:
    networks = []
    for _ in range(2):
        torch.manual_seed(7)
        networks.append(build_network(random_genotype(5), NASNetSkeleton(1, 8), classes=10, image_size=16).eval())
    images = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        first = networks[0](images)
        assert torch.equal(first, networks[1](images))
        last = networks[1].to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(first, last, rtol=1e-4, atol=1e-5)


def test_canonically_equal_genotypes_build_networks_of_equal_size() -> None:
    normal = NASNET_A.normal
    swapped = CellGenotype(tuple(Node(node.edges[::-1]) for node in normal.nodes), normal.outputs)
    dead = CellGenotype((*normal.nodes, Node((Edge(6, "sep_conv_7x7"), Edge(2, "conv_3x3")))), normal.outputs)
    sizes = {count_parameters(meta(replace(NASNET_A, normal=cell), NASNetSkeleton(1, 8), 32)) for cell in (normal, swapped, dead)}
    assert sizes == {72_370}


# ------------------------------------------------------------------------------------------------ shape matching in a cell


def build_cell(genotype: CellGenotype, previous: StateShape | None, current: StateShape, stride: int = 1) -> Cell:
    torch.manual_seed(0)
    return Cell(genotype, filters=8, stride=stride, previous=previous, current=current, layers=Layers(NASNET_CONVENTIONS)).eval()


BOTH = CellGenotype((Node((Edge(0, "identity"), Edge(1, "identity"))),), (2,))


def test_previous_is_adjusted_only_where_its_shape_differs() -> None:
    current = StateShape(12, 2)
    assert count_parameters(build_cell(BOTH, StateShape(8, 2), current)) == 12 * 8 + 16
    assert count_parameters(build_cell(BOTH, StateShape(10, 2), current)) == (12 + 10) * 8 + 32
    larger = build_cell(BOTH, StateShape(8, 1), current)
    assert isinstance(larger.adjust["0"], FactorizedReduction) and count_parameters(larger) == (12 + 8) * 8 + 32
    raw = build_cell(BOTH, None, current)  # PREVIOUS is the raw 12-channel state: the identity itself projects it
    assert "layers" not in dict(raw.adjust["0"].named_children()) and count_parameters(raw) == 2 * (12 * 8 + 16)


def test_an_untouched_previous_reaches_the_nodes_as_it_is() -> None:
    genotype = CellGenotype((Node((Edge(0, "identity"),)),), (2,))
    previous = torch.randn(2, 8, 4, 4)
    result = build_cell(genotype, StateShape(8, 2), StateShape(12, 2))(State(previous), State(torch.randn(2, 12, 4, 4)))
    assert torch.equal(result.raw, previous)


def test_outputs_are_concatenated_in_the_order_given() -> None:
    cell = replace(NASNET_A.normal, outputs=(0, 2, 3, 4, 5, 6))
    turned = replace(NASNET_A.normal, outputs=(6, 5, 4, 3, 2, 0))
    shapes = StateShape(8, 1), StateShape(8, 1)
    inputs = [torch.randn(2, 8, 6, 6) for _ in range(2)]
    with torch.no_grad():
        results = [build_cell(g, *shapes)(State(inputs[0]), State(inputs[1])).raw for g in (cell, turned)]
    assert torch.equal(results[0], torch.cat(results[1].split(8, 1)[::-1], 1))


def test_an_input_among_a_reductions_outputs_is_reduced_without_relu() -> None:
    genotype = CellGenotype((Node((Edge(1, "max_pool_3x3"), Edge(1, "max_pool_3x3"))),), (0, 2))
    cell = build_cell(genotype, StateShape(8, 1), StateShape(8, 1), stride=2)
    previous = torch.randn(2, 8, 6, 6)
    with torch.no_grad():
        result = cell(State(previous), State(torch.randn(2, 8, 6, 6))).raw
        assert torch.equal(result[:, :8], cell.match["0"](previous))
    assert result.shape == (2, 16, 3, 3)


def test_a_concat_combined_state_is_wide_and_its_consumers_bring_it_back() -> None:
    genotype = CellGenotype(
        (
            Node((Edge(0, "identity"), Edge(1, "max_pool_3x3")), "concat"),
            Node((Edge(2, "identity"), Edge(2, "avg_pool_3x3"))),
            Node((Edge(2, "sep_conv_3x3"), Edge(3, "identity"))),
        ),
        (2, 4),
    )
    cell = build_cell(genotype, StateShape(8, 1), StateShape(8, 1))
    result = cell(State(torch.randn(2, 8, 6, 6)), State(torch.randn(2, 8, 6, 6))).raw
    assert cell.channels == 16 + 8 and result.shape == (2, 24, 6, 6)


def test_dead_nodes_and_unread_inputs_are_not_built() -> None:
    dead = CellGenotype((Node((Edge(1, "sep_conv_3x3"), Edge(1, "identity"))), Node((Edge(0, "conv_3x3"), Edge(2, "conv_3x3")))), (2,))
    live = CellGenotype(dead.nodes[:1], (2,))
    sizes = [count_parameters(build_cell(g, StateShape(16, 1), StateShape(16, 1))) for g in (dead, live)]
    assert sizes[0] == sizes[1]
    assert set(build_cell(dead, StateShape(16, 1), StateShape(16, 1)).adjust) == {"1"}


def test_darts_adjusts_previous_always() -> None:
    layers = Layers(DARTS_CONVENTIONS)
    cell = Cell(BOTH, filters=8, stride=1, previous=StateShape(8, 1), current=StateShape(8, 1), layers=layers)
    assert count_parameters(cell) == 2 * (8 * 8 + 16)


# ------------------------------------------------------------------------------------------------ what is computed


@contextmanager
def counted_relus(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Tensor]]:
    seen: list[Tensor] = []
    relu = F.relu

    def counting(x: Tensor, inplace: bool = False) -> Tensor:
        seen.append(x)
        return relu(x, inplace)

    with monkeypatch.context() as patch:
        patch.setattr(F, "relu", counting)
        yield seen


def test_one_relu_per_hidden_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five convolutions read CURRENT, and three cells read each cell's output: its ReLU is computed once."""
    reader = tuple(Node((Edge(1, "sep_conv_3x3"), Edge(1, "conv_1x1"))) for _ in range(5))
    genotype = Genotype(CellGenotype(reader, (2, 3, 4, 5, 6)))
    network = build_network(genotype, NASNetSkeleton(1, 4), classes=3, image_size=8).eval()
    with counted_relus(monkeypatch) as seen, torch.no_grad():
        network(torch.randn(1, 3, 8, 8))
    # For each of 5 cells: its input state and its adjusted CURRENT; then the head's.
    assert len(seen) == 2 * 5 + 1
    assert len({id(x) for x in seen}) == len(seen)


def test_inference_lets_go_of_states_that_no_later_cell_reads() -> None:
    network = build_network(NASNET_A, NASNetSkeleton(3, 4, skip_reduction_input=True), classes=3, image_size=16).eval()
    assert isinstance(network, CellNetwork)
    with torch.no_grad():
        assert set(network._run(torch.randn(1, 3, 16, 16), (11,))) == {11}


def test_cells_that_feed_nothing_are_not_built() -> None:
    """Normal cells that read PREVIOUS alone: of N=1's five cells the last reads cell 1, which reads cell 0, which reads the stem."""
    previous = CellGenotype((Node((Edge(0, "sep_conv_3x3"), Edge(0, "identity"))),), (2,))
    genotype = Genotype(previous, NASNET_A.reduction)
    network = build_network(genotype, NASNetSkeleton(1, 4), classes=3, image_size=16).train()
    assert isinstance(network, CellNetwork)
    assert list(network.cells) == ["cell_0", "cell_1", "cell_2"]
    network(torch.randn(4, 3, 16, 16)).sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    assert [info.stride for info in network.feature_info] == [1, 2, 4]
    parts = network_parts(genotype, NASNetSkeleton(1, 4), classes=3, channels=3, image_size=16)
    assert [part.shape for part in parts if "cell" in part.text] == ["4 × 16 × 16", "8 × 8 × 8", "16 × 4 × 4"]
    with_auxiliary = build_network(genotype, NASNetSkeleton(2, 4, auxiliary=True), classes=3, image_size=16).train()
    logits, auxiliary = with_auxiliary.forward_with_auxiliary(torch.randn(4, 3, 16, 16))
    assert auxiliary is not None
    (logits.sum() + auxiliary.sum()).backward()
    assert all(p.grad is not None for p in with_auxiliary.parameters())


# ------------------------------------------------------------------------------------------------ features


@pytest.mark.parametrize(
    ("skeleton", "strides"),
    [
        ("nasnet-cifar", [1, 2, 4]),
        ("nasnet-mobile", [2, 4, 8, 16, 32]),
        ("pnasnet-large", [2, 4, 8, 16, 32]),
        ("darts-imagenet", [4, 8, 16, 32]),
    ],
)
def test_features_are_one_map_per_resolution(skeleton: str, strides: list[int]) -> None:
    small = replace(cell_skeleton(skeleton), cells=2, filters=8, stem_filters=8)
    genotype = load_reference({"pnasnet-large": "pnasnet-5", "darts-imagenet": "darts-v2"}.get(skeleton, "nasnet-a"))
    network = build_network(genotype, small, classes=7, image_size=64).eval()
    with torch.no_grad():
        maps = network.features(torch.randn(2, 3, 96, 64))
        assert [info.stride for info in network.feature_info] == strides
        # A stem without padding makes each map one pixel smaller than the image divided by its stride, at most.
        for info, feature in zip(network.feature_info, maps, strict=True):
            assert feature.shape[:2] == (2, info.channels)
            assert all(abs(side - pixels / info.stride) <= 1 for side, pixels in zip(feature.shape[2:], (96, 64), strict=True))


def test_the_head_on_the_last_feature_gives_the_logits() -> None:
    for conventions in (NASNET_CONVENTIONS, DARTS_CONVENTIONS):
        network = build_network(NASNET_A, NASNetSkeleton(1, 4, conventions=conventions), classes=7, image_size=16).eval()
        assert isinstance(network, CellNetwork)
        images = torch.randn(2, 3, 16, 16)
        with torch.no_grad():
            assert torch.equal(network.forward_head(network.features(images)[-1]), network(images))
            coarsest = network.features(images)[-1]
        assert bool((coarsest >= 0).all()) == conventions.head_relu


def test_without_classes_the_network_gives_pooled_features() -> None:
    network = build_network(NASNET_A, NASNetSkeleton(1, 4, auxiliary=True), classes=0, image_size=16).eval()
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(network(images), network.features(images)[-1].mean((2, 3)))


def test_dropout_comes_before_the_classifier_in_training_only() -> None:
    torch.manual_seed(0)
    network = build_network(NASNET_A, NASNetSkeleton(1, 4, dropout=0.5), classes=0, image_size=16)
    without = build_network(NASNET_A, NASNetSkeleton(1, 4), classes=0, image_size=16)
    without.load_state_dict(network.state_dict())
    images = torch.randn(8, 3, 16, 16)
    with torch.no_grad():
        dropped, whole = network.train()(images), without.train()(images)
        kept = dropped != 0
        assert 0.3 < float(kept.float().mean()) < 0.7
        torch.testing.assert_close(dropped[kept], 2 * whole[kept])
        assert torch.equal(network.eval()(images), without.eval()(images))


# ------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cells": 0}, "`cells` must be 1..50, but got 0"),
        ({"filters": 0}, "`filters` must be 1..4096 with the cifar stem, but got 0"),
        ({"filters": 3, "stem": "imagenet"}, "`filters` must be 4..4096 with the imagenet stem, but got 3"),
        ({"stem": "resnet"}, "`stem` must be cifar, imagenet or darts_imagenet, but got 'resnet'"),
        ({"reductions": "none"}, "`reductions` must be inserted or in_place, but got 'none'"),
        ({"drop_path_keep": 0.0}, "`drop_path_keep` must be above 0 and at most 1, but got 0.0"),
        ({"dropout": 1.0}, "`dropout` must be at least 0 and below 1, but got 1.0"),
    ],
)
def test_a_bad_skeleton_says_which_rule_it_breaks(change: dict[str, object], message: str) -> None:
    with pytest.raises(SkeletonError) as caught:
        replace(NASNetSkeleton(), **change)
    assert str(caught.value) == message


def test_unknown_skeletons_and_bad_sizes_are_refused() -> None:
    with pytest.raises(SkeletonError, match=r"'nasnet-huge' \(did you mean 'nasnet-large'\?\); choose one of nasnet-cifar, "):
        load_skeleton("nasnet-huge")
    with pytest.raises(SkeletonError, match="`image_size` at least 8, but got 10, 3, 7"):
        build_network(NASNET_A, NASNetSkeleton(), classes=10, image_size=7)


def test_an_unknown_operation_is_refused_by_cell_and_node() -> None:
    unknown = CellGenotype((Node((Edge(1, "conv_1x1"),)), Node((Edge(2, "conv_9x9"),))), (3,))
    said = r"cell 'reduction', node 3: unknown operation 'conv_9x9' \(did you mean 'conv_5x5'\?\); choose one of identity, "
    with pytest.raises(GenotypeError, match=said):
        build_network(Genotype(NASNET_A.normal, unknown), NASNetSkeleton(1, 4), classes=3, image_size=16)


def test_a_genotype_made_in_code_is_validated() -> None:
    cycle = CellGenotype((Node((Edge(3, "identity"),)), Node((Edge(2, "identity"),))), (3,))
    with pytest.raises(GenotypeError, match=r"cell 'normal', node 2: an input must be an earlier hidden state 0\.\.1, but got 3"):
        build_network(Genotype(cycle), NASNetSkeleton(), classes=3, image_size=16)


def test_every_named_cell_skeleton_builds_its_genotype() -> None:
    for name, skeleton in SKELETONS.items():
        if isinstance(skeleton, NASNetSkeleton):
            genotype = load_reference(
                {"pnasnet": "pnasnet-5", "amoebanet": "amoebanet-a", "darts": "darts-v2"}.get(name.split("-")[0], "nasnet-a")
            )
            network: Network = meta(genotype, skeleton, 64)
            assert count_parameters(network) > 2_000_000
