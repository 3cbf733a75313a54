"""Built networks as backbones of torchvision's Faster R-CNN, forwards and backwards on random images."""

import random

import pytest
import torch
from support.random_weights import randomise
from typer.testing import CliRunner

from search_spaces.errors import SkeletonError
from search_spaces.nasnet import NASNET
from search_spaces.networks.build import build_network
from search_spaces.reference import load_reference
from search_spaces.residual_skeletons import ResidualSkeleton, convnext_skeleton
from search_spaces.skeletons import NASNetSkeleton
from search_spaces.space import sample_actions

pytest.importorskip("torchvision")

from nas.cli.main import app
from nas.networks.architecture import Architecture
from nas.networks.description import NetworkDescription
from nas.networks.detection import PyramidBackbone, faster_rcnn, load_detector
from nas.networks.weights.described import write_described
from nas.networks.weights.files import WeightsError

BACKBONES = {
    "resnext": (load_reference("resnext-32x4d"), ResidualSkeleton((1, 1, 1, 1), (64, 128, 256, 512), stem_filters=16)),
    "convnext": (load_reference("convnext"), convnext_skeleton((1, 1, 1, 1), 16)),
    "nasnet-a-imagenet": (load_reference("nasnet-a"), NASNetSkeleton(1, 8, "imagenet", 8)),
    "searched-cell": (NASNET.decode(sample_actions(NASNET, random.Random(0))), NASNetSkeleton(1, 16, "imagenet", 8, drop_path_keep=0.7)),
}


def backbone(name):
    genotype, skeleton = BACKBONES[name]
    torch.manual_seed(0)
    return build_network(genotype, skeleton, classes=0, image_size=128)


@pytest.mark.parametrize("name", BACKBONES)
def test_faster_rcnn_trains_and_detects(name):
    network = backbone(name)
    model = faster_rcnn(network, classes=3, out_channels=32, min_size=96, max_size=128, rpn_post_nms_top_n_train=50)
    images = [torch.rand(3, 96, 128), torch.rand(3, 100, 90)]  # two sizes, as detection data have
    targets = [
        {"boxes": torch.tensor([[10.0, 10.0, 60.0, 70.0]]), "labels": torch.tensor([1])},
        {"boxes": torch.tensor([[5.0, 20.0, 50.0, 80.0], [30.0, 30.0, 80.0, 90.0]]), "labels": torch.tensor([2, 1])},
    ]
    losses = model.train()(images, targets)
    assert set(losses) == {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
    total = sum(losses.values())
    assert total.isfinite()
    total.backward()
    used = [name for name, p in network.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert len(used) > 0.8 * len(list(network.parameters()))  # dead ReLUs may spare a few
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)

    with torch.no_grad():
        detections = model.eval()(images)
    for found, image in zip(detections, images, strict=True):
        assert found["boxes"].shape == (len(found["labels"]), 4)
        assert (found["boxes"] >= 0).all() and (found["boxes"][:, 2] <= image.shape[2]).all()


def test_pyramid_has_one_map_a_level_and_a_pooled_one():
    model = PyramidBackbone(backbone("resnext"), out_channels=8)
    maps = model(torch.randn(1, 3, 64, 96))
    assert model.strides == (4, 8, 16, 32)
    assert {name: tuple(m.shape) for name, m in maps.items()} == {
        "0": (1, 8, 16, 24),
        "1": (1, 8, 8, 12),
        "2": (1, 8, 4, 6),
        "3": (1, 8, 2, 3),
        "pool": (1, 8, 1, 2),
    }


# ---------------------------------------------------------------------------------------------------- the doors


def test_nas_cost_counts_a_detector() -> None:
    """As many parameters as torchvision's own Faster R-CNN on ResNet-50 has."""
    from torchvision.models.detection import fasterrcnn_resnet50_fpn

    result = CliRunner().invoke(app, ["cost", "resnext-1x64d", "--skeleton", "resnet-50", "--detection", "91"], env={"COLUMNS": "300"})
    assert result.exit_code == 0, result.output
    with torch.device("meta"):
        theirs = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91)
    expected = sum(p.numel() for p in theirs.parameters())
    assert f"detector:   {expected:,} parameters with Faster R-CNN for 91 classes" in result.output
    assert "strides 4, 8, 16, 32; 23,508,032 of them in the backbone" in result.output


def test_a_trained_network_becomes_a_detector_with_its_own_normalisation(tmp_path) -> None:
    genotype, skeleton = BACKBONES["resnext"]
    architecture = Architecture(genotype, skeleton, "custom", 7, 3, 128)
    trained = randomise(architecture.build())
    write_described(tmp_path / "net.safetensors", trained.state_dict(), NetworkDescription(architecture, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)))
    model = load_detector(tmp_path / "net.safetensors", classes=3, out_channels=16, min_size=64, max_size=96).eval()
    assert (model.transform.image_mean, model.transform.image_std) == ([0.4, 0.5, 0.6], [0.2, 0.3, 0.4])
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for ours, expected in zip(model.backbone.network.features(images), trained.eval().features(images), strict=True):
            torch.testing.assert_close(ours, expected)
        (found,) = model([images[0]])
    assert found["boxes"].shape == (len(found["labels"]), 4)
    with pytest.raises(WeightsError, match="there is no such file"):
        load_detector(tmp_path / "none.safetensors", classes=3)


def test_levels_finer_than_asked_are_left_out():
    assert PyramidBackbone(backbone("convnext"), finest_stride=8).strides == (8, 16, 32)


def test_a_backbone_without_a_coarse_map_is_refused():
    network = build_network(load_reference("convnext"), convnext_skeleton((1, 1), 8, patch=1), classes=0, image_size=32)
    with pytest.raises(SkeletonError, match="must have a map of stride 4 or more, but its strides are 1, 2"):
        PyramidBackbone(network)
