"""Residual networks through the one builder: golden counts, shapes, features, names, and that they train."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from search_spaces.errors import GenotypeError, SkeletonError
from search_spaces.genotype import CellGenotype, Edge, Genotype, Node
from search_spaces.networks.blocks import BLOCKS, StochasticDepth
from search_spaces.networks.build import build_network
from search_spaces.networks.network import FeatureInfo
from search_spaces.networks.pieces import network_cost
from search_spaces.reference import load_reference, reference_names
from search_spaces.residual_skeletons import (
    CONVNEXT_ROADMAP,
    RESIDUAL_SKELETONS,
    ResidualSkeleton,
    block_genotype,
    convnext_skeleton,
    literature_name,
    resnext_genotype,
)
from search_spaces.skeletons import NASNetSkeleton

CONVNEXT = load_reference("convnext")
CIFAR = RESIDUAL_SKELETONS["resnet-29-cifar"]
ROADMAP = {step.name.removeprefix("convnext-roadmap-"): step for step in CONVNEXT_ROADMAP}

SMALL = {
    "resnext": (resnext_genotype(4, 16), ResidualSkeleton((1, 1, 1), (32, 64, 128), "cifar", 16)),
    "resnext-imagenet": (resnext_genotype(4, 16), ResidualSkeleton((1, 1, 1, 1), (32, 64, 128, 256), "imagenet", 16)),
    "convnext": (CONVNEXT, convnext_skeleton((1, 1, 2), 16, patch=2)),
    "convnext-patch-4": (CONVNEXT, convnext_skeleton((1, 1, 1, 1), 8)),
}


def small(name, classes=10, channels=3, image_size=32):
    genotype, skeleton = SMALL[name]
    torch.manual_seed(0)
    return build_network(genotype, skeleton, classes=classes, channels=channels, image_size=image_size)


# ------------------------------------------------------------------------------------------------ golden counts

# The published rows are in test_counts.py; here is what they leave out.


@pytest.mark.parametrize("form", ["a", "b", "c"])
def test_form_does_not_change_the_counts(form):
    cost = network_cost(resnext_genotype(8, 64, form), CIFAR, classes=10, image_size=32)
    assert (cost.parameters, cost.macs) == (34_426_698, 5_387_266_048)


@pytest.mark.parametrize("step,like", [("8", "7"), ("9", "7"), ("11", "10")])
def test_roadmap_steps_that_change_no_shape_cost_the_same(step, like):
    costs = [network_cost(ROADMAP[s].genotype, ROADMAP[s].skeleton, classes=1000, image_size=224) for s in (step, like)]
    assert costs[0] == costs[1]


def test_roadmap_ends_in_convnext_t():
    last = CONVNEXT_ROADMAP[-1]
    cost = network_cost(last.genotype, last.skeleton, classes=1000, image_size=224)
    assert (cost.parameters, cost.macs) == (28_589_128, 4_455_531_264)
    assert literature_name(last.genotype, last.skeleton) == "ConvNeXt-T"


@pytest.mark.parametrize("step", ROADMAP)
def test_every_roadmap_step_trains(step):
    """A narrow, shallow copy of every step: forward, backward, finite gradients everywhere."""
    chosen = ROADMAP[step]
    widths = tuple(width // 16 for width in chosen.skeleton.widths)
    skeleton = replace(chosen.skeleton, depths=(1, 1, 1, 1), widths=widths, stem_filters=8)
    torch.manual_seed(0)
    network = build_network(chosen.genotype, skeleton, classes=10, image_size=64)
    F.cross_entropy(network(torch.randn(4, 3, 64, 64)), torch.arange(4)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


# ------------------------------------------------------------------------------------------------ shapes


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("channels,image_size", [(1, 8), (3, 9), (4, 17), (3, 32)])
def test_any_size_from_8_pixels_and_any_channels(name, channels, image_size):
    network = small(name, classes=7, channels=channels, image_size=image_size)
    assert network(torch.randn(2, channels, image_size, image_size)).shape == (2, 7)


def test_isotropic_network_takes_images_smaller_than_its_patch():
    skeleton = replace(RESIDUAL_SKELETONS["convnext-isotropic-s"], depths=(2,), widths=(16,))
    assert build_network(CONVNEXT, skeleton, classes=3, image_size=8)(torch.randn(2, 3, 8, 8)).shape == (2, 3)


@pytest.mark.parametrize("name", SMALL)
def test_feature_maps_have_the_stated_strides_and_channels(name):
    network = small(name)
    maps = network.features(torch.randn(2, 3, 64, 64))
    assert len(maps) == len(network.feature_info)
    for features, info in zip(maps, network.feature_info, strict=True):
        assert features.shape == (2, info.channels, 64 // info.stride, 64 // info.stride)


def test_strides_of_the_published_backbones():
    with torch.device("meta"):
        resnext = build_network(resnext_genotype(32, 4), RESIDUAL_SKELETONS["resnet-50"], classes=1000, image_size=224)
        convnext = build_network(CONVNEXT, RESIDUAL_SKELETONS["convnext-t"], classes=1000, image_size=224)
    assert resnext.feature_info == tuple(FeatureInfo(s, c) for s, c in ((4, 256), (8, 512), (16, 1024), (32, 2048)))
    assert convnext.feature_info == tuple(FeatureInfo(s, c) for s, c in ((4, 96), (8, 192), (16, 384), (32, 768)))


def test_logits_are_the_head_of_the_last_feature_map():
    network = small("convnext").eval()
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(network(images), network.head(network.features(images)[-1]))


def test_no_classes_leaves_the_pooled_features():
    assert small("resnext", classes=0)(torch.randn(2, 3, 32, 32)).shape == (2, 128)


def test_reduction_cell_starts_the_stages():
    genotype = Genotype(CONVNEXT.normal, block_genotype("", "inverted_block").normal)
    network = build_network(genotype, convnext_skeleton((2, 2), 8), classes=2, image_size=32)
    kinds = [[type(block).__name__ for block in stage] for stage in network.stages]
    assert kinds == [["InvertedBlock", "ConvNeXtBlock"]] * 2


# ------------------------------------------------------------------------------------------------ stochastic depth


def test_stochastic_depth_is_linear_over_all_blocks_of_the_network():
    skeleton = replace(convnext_skeleton((1, 2, 2), 8), drop_path_keep=0.6)
    network = build_network(CONVNEXT, skeleton, classes=2, image_size=32)
    rates = [module.rate for module in network.modules() if isinstance(module, StochasticDepth)]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


def test_evaluation_is_deterministic_and_training_with_stochastic_depth_is_not():
    genotype, skeleton = SMALL["convnext"]
    torch.manual_seed(0)
    network = build_network(genotype, replace(skeleton, drop_path_keep=0.5), classes=10, image_size=32)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("scale"):
                parameter.fill_(1.0)  # at its initial 1e-6 the blocks would be invisible
    images = torch.randn(8, 3, 32, 32)
    assert not torch.equal(network.train()(images), network(images))
    assert torch.equal(network.eval()(images), network(images))


# ------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    "cell",
    [
        CellGenotype((Node((Edge(0, "conv_3x3"),)),), (1,), inputs=1),
        CellGenotype((Node((Edge(0, "convnext_block"), Edge(0, "convnext_block"))),), (1,), inputs=1),
        CellGenotype((Node((Edge(0, "convnext_block"),)), Node((Edge(1, "convnext_block"),))), (2,), inputs=1),
        CellGenotype((Node((Edge(1, "convnext_block"),)),), (2,), inputs=2),
        CellGenotype((Node((Edge(0, "convnext_block"),)),), (0, 1), inputs=1),
    ],
)
def test_a_cell_that_is_not_one_block_is_refused_with_its_name(cell):
    with pytest.raises(GenotypeError, match=r"cell 'reduction': a residual skeleton needs .* valid blocks: resnext_block"):
        build_network(Genotype(CONVNEXT.normal, cell), convnext_skeleton((1,), 8), classes=2, image_size=32)


@pytest.mark.parametrize(
    "values,message",
    [
        ({"depths": (3, 0)}, "every one of `depths` must be 1..200, but got"),
        ({"widths": (8,)}, "`widths` must have one width for each of `depths`"),
        ({"stem": "vgg"}, "`stem` must be imagenet, cifar or patch, but got 'vgg'"),
        ({"patch": 0}, "`patch` must be 1..64, but got 0"),
        ({"drop_path_keep": 0.0}, "`drop_path_keep` must be above 0"),
        ({"stem_norm": "group"}, "`stem_norm` must be batch, layer or none"),
    ],
)
def test_bad_skeletons_are_refused(values, message):
    with pytest.raises(SkeletonError, match=message):
        replace(convnext_skeleton((1, 1), 8), **values)


# ------------------------------------------------------------------------------------------------ names and files


@pytest.mark.parametrize(
    "cardinality,width,skeleton,name",
    [
        (1, 64, "resnet-50", "ResNet-50"),
        (32, 4, "resnet-50", "ResNeXt-50 (32×4d)"),
        (64, 4, "resnet-101", "ResNeXt-101 (64×4d)"),
        (1, 100, "resnet-101", "ResNet-101 (1×100d)"),
        (1, 64, "resnet-152", "ResNet-152"),
        (8, 64, "resnet-29-cifar", "ResNeXt-29 (8×64d)"),
        (32, 4, "convnext-t", "resnext-32x4d (3-3-9-3 @ 96-192-384-768)"),
    ],
)
def test_names_of_resnexts(cardinality, width, skeleton, name):
    assert literature_name(resnext_genotype(cardinality, width), RESIDUAL_SKELETONS[skeleton]) == name


@pytest.mark.parametrize("size", ["T", "S", "B", "L", "XL"])
def test_names_of_convnexts(size):
    assert literature_name(CONVNEXT, RESIDUAL_SKELETONS[f"convnext-{size.lower()}"]) == f"ConvNeXt-{size}"


@pytest.mark.parametrize("name", [n for n in reference_names() if n.startswith(("resnext-", "convnext"))])
def test_reference_genotypes_fit_every_residual_skeleton(name):
    genotype = load_reference(name)
    skeleton = RESIDUAL_SKELETONS.get(name, RESIDUAL_SKELETONS["convnext-cifar"])
    with torch.device("meta"):
        assert build_network(genotype, skeleton, classes=10, image_size=32).feature_info


# ------------------------------------------------------------------------------------------------ training


@pytest.mark.parametrize("name", ["resnext", "convnext"])
@pytest.mark.parametrize("image_size,channels", [(32, 3), (8, 1)])
def test_small_networks_learn(name, image_size, channels):
    """Two classes of noisy images that differ by a pattern: loss falls well under chance in a few steps."""
    network = small(name, classes=2, channels=channels, image_size=image_size)
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(32) % 2
    pattern = torch.randn(1, channels, image_size, image_size, generator=generator)
    images = torch.randn(32, channels, image_size, image_size, generator=generator) + labels[:, None, None, None] * pattern
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 < 0.5 < losses[0]


# ------------------------------------------------------------------------------------------------ blocks in cells


@pytest.mark.parametrize("operation", BLOCKS)
@pytest.mark.parametrize("image_size", [16, 9])
def test_blocks_are_operations_of_cells(operation, image_size):
    """In a NASNet skeleton, strided and not, on odd maps too, beside an operation that shapes its result otherwise."""
    cell = CellGenotype((Node((Edge(1, operation), Edge(0, "max_pool_3x3"))), Node((Edge(2, operation), Edge(1, "identity")))), (2, 3))
    torch.manual_seed(0)
    network = build_network(Genotype(cell, cell), NASNetSkeleton(1, 8, drop_path_keep=0.7), classes=4, image_size=image_size)
    network.set_progress(0.5)
    F.cross_entropy(network(torch.randn(4, 3, image_size, image_size)), torch.arange(4)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_a_bad_option_of_a_block_in_a_cell_names_the_node():
    cell = CellGenotype((Node((Edge(1, "convnext_block", (("kernel", 4),)),)),), (2,))
    with pytest.raises(GenotypeError, match=r"cell 'normal', node 2: `kernel` of convnext_block must be odd, but got 4"):
        build_network(Genotype(cell, cell), NASNetSkeleton(1, 8), classes=4, image_size=16)
