"""Folded networks compute what the networks compute: every operation, skeleton and block, at any size; and leave them as they were."""

import copy
import random
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from support.random_weights import randomise
from torch import Tensor, nn

from search_spaces import vocabulary
from search_spaces.genotype import CellGenotype, Edge, Genotype, Node
from search_spaces.nasbench201 import NASBENCH201
from search_spaces.nasnet import NASNET
from search_spaces.networks import fused
from search_spaces.networks.blocks import BLOCKS
from search_spaces.networks.build import build_network
from search_spaces.networks.cell_network import CellNetwork
from search_spaces.networks.cost import inference_memory
from search_spaces.networks.folding import fold
from search_spaces.networks.network import Network
from search_spaces.networks.operations import OPERATIONS
from search_spaces.reference import load_reference
from search_spaces.residual_skeletons import CONVNEXT_ROADMAP, RESIDUAL_SKELETONS, ResidualSkeleton, block_genotype, resnext_genotype
from search_spaces.skeletons import (
    AMOEBANET_CONVENTIONS,
    DARTS_CONVENTIONS,
    NASNET_CONVENTIONS,
    SKELETONS,
    TIMM_CONVENTIONS,
    NASBench201Skeleton,
    NASNetSkeleton,
)
from search_spaces.space import sample_actions

NASNET_A = load_reference("nasnet-a")
SMALL = NASNetSkeleton(1, 4)


def built(genotype: Genotype, skeleton: object, size: int = 16, channels: int = 3) -> Network:
    """With statistics of its own in every norm."""
    network = build_network(genotype, skeleton, classes=5, channels=channels, image_size=size)  # type: ignore[arg-type]
    randomise(network)
    network.set_progress(0.5)
    return network.eval()


def images_of(size: int, channels: int = 3, batch: int = 2) -> Tensor:
    return torch.randn(batch, channels, size, size, generator=torch.Generator().manual_seed(size))


def assert_equal(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= tolerance * float(expected.abs().max())


def assert_folds(network: Network, size: int, channels: int = 3) -> Network:
    """Its logits and features, with norms left only where nothing can take them."""
    folded = fold(network)
    with torch.no_grad():
        assert_equal(folded(images_of(size, channels)), network(images_of(size, channels)))
        for found, expected in zip(folded.features(images_of(size, channels)), network.features(images_of(size, channels)), strict=True):
            assert_equal(found, expected)
    return folded


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def one_of(operation: str) -> Genotype:
    """A cell that reads both inputs and a node through the operation, with what else reads them."""
    options = {key: rule.default for key, rule in vocabulary.BLOCK_OPTIONS.get(operation, {}).items()}
    edge = tuple(Edge(source, operation, tuple(options.items())) for source in (0, 1, 2))
    nodes = (
        Node((edge[0], Edge(1, "identity"))),
        Node((edge[1], edge[2])),
        Node((Edge(2, "avg_pool_3x3"), edge[0]), "concat"),
        Node((Edge(4, "sep_conv_3x3"),)),
    )
    cell = CellGenotype(nodes, (2, 3, 4, 5))
    return Genotype(cell, cell)


@pytest.mark.parametrize("operation", [*OPERATIONS, *BLOCKS])
@pytest.mark.parametrize("conventions", [NASNET_CONVENTIONS, DARTS_CONVENTIONS])
def test_every_operation_at_both_strides_and_odd_sides(operation: str, conventions: object) -> None:
    for size in (16, 13):
        folded = assert_folds(built(one_of(operation), replace(SMALL, conventions=conventions), size), size)
        assert norms(folded) == 0


@pytest.mark.parametrize("name", [name for name, skeleton in SKELETONS.items() if isinstance(skeleton, NASNetSkeleton)])
def test_every_skeleton_of_cells(name: str) -> None:
    skeleton = replace(SKELETONS[name], cells=1, filters=5, stem_filters=6, auxiliary=True)
    for genotype in (NASNET_A, load_reference("darts-v2"), load_reference("pnasnet-5")):
        network = built(genotype, skeleton, 33)
        folded = assert_folds(network, 33)
        assert norms(folded) == 0 and isinstance(folded, CellNetwork) and folded.auxiliary is None


@pytest.mark.parametrize("seed", range(8))
def test_random_cells(seed: int) -> None:
    genotype = NASNET.decode(sample_actions(NASNET, random.Random(seed)))
    conventions = (NASNET_CONVENTIONS, TIMM_CONVENTIONS, AMOEBANET_CONVENTIONS, DARTS_CONVENTIONS)[seed % 4]
    assert_folds(built(genotype, NASNetSkeleton(2, 4, conventions=conventions), 16, channels=1), 16, channels=1)


def test_inputs_among_the_outputs_and_one_input_only() -> None:
    shown = CellGenotype((Node((Edge(1, "sep_conv_3x3"), Edge(0, "identity"))), Node((Edge(2, "max_pool_3x3"),))), (0, 1, 2, 3))
    single = CellGenotype((Node((Edge(0, "sep_conv_3x3"), Edge(0, "identity"))), Node((Edge(1, "conv_3x3"),))), (0, 2), inputs=1)
    passed_on = CellGenotype((Node((Edge(0, "identity"),)), Node((Edge(1, "conv_1x1"), Edge(2, "identity")))), (2, 3))
    for cell in (shown, single, passed_on):
        for cells in (1, 3):
            assert_folds(built(Genotype(cell, cell), NASNetSkeleton(cells, 4)), 16)


@pytest.mark.parametrize("seed", range(3))
def test_nas_bench_201(seed: int) -> None:
    genotype = NASBENCH201.decode(sample_actions(NASBENCH201, random.Random(seed)))
    folded = assert_folds(built(genotype, NASBench201Skeleton(2, 4)), 16)
    assert norms(folded) == 1  # the head's, of a state that others read


RESIDUAL = {
    **{f"resnext-{form}": (resnext_genotype(2, 8, form), RESIDUAL_SKELETONS["resnet-50"]) for form in "abc"},
    "resnext-cifar": (resnext_genotype(2, 64), RESIDUAL_SKELETONS["resnet-29-cifar"]),
    "convnext": (block_genotype("convnext", "convnext_block"), RESIDUAL_SKELETONS["convnext-t"]),
    **{step.name: (step.genotype, step.skeleton) for step in CONVNEXT_ROADMAP},
}


@pytest.mark.parametrize("name", RESIDUAL)
def test_every_residual_network(name: str) -> None:
    genotype, skeleton = RESIDUAL[name]
    widths = tuple(8 * 2**i for i in range(len(skeleton.widths)))
    small: ResidualSkeleton = replace(skeleton, depths=(1,) * len(widths), widths=widths)
    if skeleton.stem_filters:
        small = replace(small, stem_filters=8)
    folded = assert_folds(built(genotype, small, 40), 40)
    assert norms(folded) == (len(small.depths) if name == "resnext-a" else 0)  # form (a)'s norm follows a sum of convolutions


# ------------------------------------------------------------------------------------------------ what it leaves alone


def test_the_network_itself_is_not_changed() -> None:
    network = build_network(NASNET_A, replace(SMALL, auxiliary=True), classes=5, image_size=16).train()
    state, parts = copy.deepcopy(network.state_dict()), [type(module) for module in network.modules()]
    fold(network)(images_of(16))
    assert [type(module) for module in network.modules()] == parts and network.training
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert all(parameter.requires_grad for parameter in network.parameters())
    logits, auxiliary = network.forward_with_auxiliary(images_of(16))
    assert auxiliary is not None
    F.cross_entropy(logits, torch.tensor([0, 1])).backward()


class Stateful(nn.Module):
    """An operation from outside that reads between a convolution and the norm after it."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, stride), nn.BatchNorm2d(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        made = self.layers[0](x)
        return self.layers[1](made) * made.sigmoid()  # type: ignore[no-any-return]


def test_operations_from_outside_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    from search_spaces.networks import operations

    edge = Edge(0, "conv_1x1")
    monkeypatch.setitem(operations.OPERATIONS, "conv_1x1", lambda i, o, s, _: operations.from_outside(Stateful, edge, i, o, s))  # type: ignore[index]
    folded = assert_folds(built(one_of("conv_1x1"), SMALL), 16)
    assert norms(folded) == sum(isinstance(module, Stateful) for module in folded.modules()) > 0


def test_a_network_from_outside_is_copied() -> None:
    network = nn.ModuleList([Stateful(3, 4, 1)])[0].eval()
    folded = fold(network)
    assert folded is not network
    weights = folded.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in network.state_dict().items())
    with torch.no_grad():
        assert_equal(folded(images_of(8)), network(images_of(8)))  # to the bit only where both lie alike in memory


# ------------------------------------------------------------------------------------------------ how it computes


def test_other_ways_to_run_it_use_torchs_layers() -> None:
    network = built(NASNET_A, SMALL)
    folded, images = fold(network), images_of(16)
    expected = network(images).detach()
    assert_equal(folded.double()(images.double()).float(), expected)
    folded = fold(network)
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            assert_equal(folded(images).float(), expected, 0.1)
        assert_equal(torch.func.vmap(folded)(images[:, None])[:, 0], expected)
    seen = images.clone().requires_grad_()
    folded(seen).sum().backward()
    gradient, again = seen.grad, images.clone().requires_grad_()
    network(again).sum().backward()
    assert gradient is not None and again.grad is not None
    assert_equal(gradient, again.grad)


def test_weights_changed_afterwards_and_copies_are_taken_as_they_are() -> None:
    folded, images = fold(built(NASNET_A, SMALL)), images_of(16)
    with torch.inference_mode():
        first = folded(images)
        assert torch.equal(copy.deepcopy(folded)(images), first)
        assert torch.equal(folded(images), first)
    other = fold(randomise(built(NASNET_A, SMALL), seed=1))
    folded.load_state_dict(other.state_dict())
    with torch.inference_mode():
        assert torch.equal(folded(images), other(images))
        assert_equal(folded.double()(images.double()).float(), other(images))
    assert_equal(folded.float()(images), other(images))


def test_weights_are_held_once() -> None:
    network = built(NASNET_A, NASNetSkeleton(2, 16), 8)
    as_it_is, folded = (inference_memory(one, batch_size=1, image_size=8) for one in (network, fold(network)))
    assert folded < 1.1 * as_it_is


def test_additions_and_relus_are_done_by_the_convolution_before(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, bool]] = []
    at_once = fused.FusedConvolution._at_once
    monkeypatch.setattr(
        fused.FusedConvolution,
        "_at_once",
        lambda self, x, padding, addend, unary: seen.append((addend is not None, bool(unary))) or at_once(self, x, padding, addend, unary),
    )
    monkeypatch.setattr(fused, "SMALL_WORK", 0)  # no plain products of matrices
    network = built(NASNET_A, NASNetSkeleton(2, 4))
    with torch.inference_mode():
        assert_equal(fold(network)(images_of(16)), network(images_of(16)))
    assert len(seen) > 100 and (True, True) in seen and (True, False) in seen and (False, True) in seen
