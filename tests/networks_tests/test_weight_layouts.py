"""Weights in timm's and torchvision's own names come in and go out by the commands, say what they are, and compute the same there."""

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.image_trees import make_tree
from support.processes import run_nas
from support.random_weights import randomise
from torch import nn
from typer.testing import CliRunner

from nas.cli.main import app
from nas.data.batches import Resident, scoring_batches
from nas.data.prepared import prepare
from nas.data.registry import load_dataset
from nas.data.settings import DataSettings
from nas.errors import ConfigError
from nas.networks.description import skeleton_document
from nas.networks.weights.described import load_into
from nas.networks.weights.files import WeightsError, read_weights, write_weights
from nas.networks.weights.layouts import describe_weights, in_layout, recognise
from nas.training.config import TrainConfig
from nas.training.measure import _prepared, evaluate_weights
from nas.training.plan import describe_training
from nas.training.recipe import load_recipe
from nas.training.scoring import score
from nas.training.session import build_for_training
from search_spaces.networks.build import build_network
from search_spaces.reference import load_reference
from search_spaces.skeletons import SKELETONS, NASNetSkeleton, Skeleton

timm = pytest.importorskip("timm")
torchvision = pytest.importorskip("torchvision")


def nasnet_large(**options: int) -> nn.Module:
    """timm's NASNet with F = 8, which `--filters 8` makes of ours."""
    from timm.models.nasnet import NASNetALarge

    return NASNetALarge(num_features=24 * 8, **options)


def published(model: str, **options: int) -> nn.Module:
    if model == "nasnet":
        made = nasnet_large(**options)
    elif model.startswith("timm:"):
        made = timm.create_model(model.removeprefix("timm:"), **options)
    else:
        made = getattr(torchvision.models, model.removeprefix("torchvision:"))(**options)
    return randomise(made).eval()


def skeleton_named(name: str) -> Skeleton:
    skeleton = SKELETONS[name]
    return replace(skeleton, filters=8) if isinstance(skeleton, NASNetSkeleton) else skeleton


MODELS = [
    ("timm:resnext50_32x4d", "resnext-32x4d", "resnet-50", "ResNet and ResNeXt as torchvision and timm name them"),
    ("torchvision:resnext50_32x4d", "resnext-32x4d-form-b", "resnet-50", "ResNet and ResNeXt as torchvision and timm name them"),
    ("timm:convnext_tiny", "convnext", "convnext-t", "ConvNeXt as timm names it"),
    ("torchvision:convnext_tiny", "convnext", "convnext-t", "ConvNeXt as torchvision names it"),
    ("nasnet", "nasnet-a", "nasnet-large-timm", "NASNet-A as timm names it"),
]


@pytest.mark.parametrize(("model", "genotype", "skeleton", "title"), MODELS)
def test_a_published_file_is_recognised_and_computes_the_same(model: str, genotype: str, skeleton: str, title: str) -> None:
    theirs = published(model, num_classes=7)
    weights = {key: value for key, value in theirs.state_dict().items() if not key.endswith("num_batches_tracked")}  # as old files
    layout = recognise(weights)
    assert layout is not None
    assert layout.title == title
    assert layout.classes(weights) == 7
    ours = build_network(load_reference(genotype), skeleton_named(skeleton), classes=7, image_size=64)
    assert recognise(ours.state_dict()) is None
    load_into(ours, weights, Path("x.safetensors"))
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs(images)
        assert expected.std() > 1e-3
        torch.testing.assert_close(ours.eval()(images), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_the_released_convnext_names_are_recognised_too() -> None:
    ours = randomise(build_network(load_reference("convnext"), SKELETONS["convnext-t"], classes=3, image_size=32))
    weights = in_layout(ours, SKELETONS["convnext-t"], "facebook")
    layout = recognise(weights)
    assert layout is not None
    assert layout.library == "facebook"
    again = build_network(load_reference("convnext"), SKELETONS["convnext-t"], classes=3, image_size=32)
    load_into(again, weights, Path("x.safetensors"))
    assert all(torch.equal(value, ours.state_dict()[name]) for name, value in again.state_dict().items() if name != "progress")


# ---------------------------------------------------------------------------------------------------- evaluate


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images of three classes, and a timm ConvNeXt-T of as many."""
    folder = tmp_path_factory.mktemp("layouts")
    make_tree(folder / "images", damaged=False)
    write_weights(folder / "timm.safetensors", published("timm:convnext_tiny", num_classes=3).state_dict())
    return folder


def test_evaluate_scores_a_timm_file_as_timm_would(place: Path) -> None:
    data = {"name": "folder", "root": str(place / "images")}
    measured = evaluate_weights(
        place / "timm.safetensors", data=data, genotype=load_reference("convnext"), skeleton="convnext-t", image_size=32, threads=1
    )
    weights = read_weights(place / "timm.safetensors")
    description = describe_weights(weights, load_reference("convnext"), {"skeleton": "convnext-t", "image_size": 32})
    dataset = load_dataset(DataSettings(**data))  # type: ignore[arg-type]
    assert dataset.test is not None
    loaded = _prepared(dataset, dataset.test, description, 32)
    assert loaded.mean == (0.485, 0.456, 0.406) and loaded.test is not None
    theirs = timm.create_model("convnext_tiny", num_classes=3).eval()
    theirs.load_state_dict(weights, strict=True)
    expected = score(theirs, scoring_batches(loaded, loaded.test, Resident(torch.device("cpu"))))
    assert measured.scores.loss == pytest.approx(expected.loss, rel=1e-4)
    assert measured.scores.top1 == expected.top1
    said = "\n".join(measured.lines())
    assert "weights of ConvNeXt as timm names it; images prepared by mean 0.485 0.456 0.406" in said
    assert "87.5% of the shorter side, bicubic" in said


def run(arguments: list[str], cwd: Path) -> str:
    """What a command prints; its error, which the program turns into one message and exit code 2, is raised."""
    with contextlib.chdir(cwd):
        result = CliRunner().invoke(app, arguments, env={"COLUMNS": "300"})
    if result.exception is not None:
        raise result.exception
    return result.output


CONVNEXT = ["--genotype", "convnext", "--skeleton", "convnext-t", "--data", "images", "--image-size", "32"]


def test_the_command_says_what_it_converted(place: Path) -> None:
    said = run(["evaluate", "timm.safetensors", *CONVNEXT], place)
    assert "ConvNeXt-T, weights timm.safetensors" in said
    assert "converted:  weights of ConvNeXt as timm names it" in said
    assert "top-1" in said


def test_nasnet_large_given_timms_weights_says_which_skeleton_is_meant(place: Path) -> None:
    write_weights(place / "nasnet.safetensors", published("nasnet", num_classes=3).state_dict())
    arguments = ["evaluate", "nasnet.safetensors", "--genotype", "nasnet-a", "--filters", "8", "--data", "images", "--image-size", "32"]
    refused = run_nas([*arguments, "--skeleton", "nasnet-large"], place)
    assert refused.returncode == 2
    assert "the skeleton nasnet-large-timm is meant" in refused.stderr
    assert "Traceback" not in refused.stderr
    said = run([*arguments, "--skeleton", "nasnet-large-timm"], place)
    assert "NASNet-A as timm names it; images prepared by mean 0.5 0.5 0.5" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--genotype", "resnext-32x4d", "--skeleton", "resnet-50"], "weights of ConvNeXt as timm names it, but the genotype and skeleton"),
        (["--genotype", "nasnet-a"], "weights of ConvNeXt as timm names it, but the genotype and skeleton named make another kind"),
        (["--genotype", "convnext", "--skeleton", "convnext-s"], "its weights must be the network's, but there are"),
        ([], "it does not say which network it belongs to: `nas evaluate` is told by --genotype and --skeleton"),
    ],
)
def test_another_network_than_the_files_is_one_message(place: Path, options: list[str], message: str) -> None:
    with pytest.raises(WeightsError) as caught:
        run(["evaluate", "timm.safetensors", "--data", "images", "--image-size", "32", *options], place)
    assert message in str(caught.value)


def test_other_classes_than_the_datas_are_refused(place: Path) -> None:
    write_weights(place / "thousand.safetensors", published("timm:convnext_tiny", num_classes=1000).state_dict())
    with pytest.raises(ConfigError, match="the network knows 1000 classes, but images has 3"):
        run(["evaluate", "thousand.safetensors", *CONVNEXT], place)


# ---------------------------------------------------------------------------------------------------- train


def test_a_training_starts_from_a_timm_file_of_other_classes(place: Path) -> None:
    recipe, genotype = load_recipe("fast", {}), load_reference("convnext")
    write_weights(place / "other.safetensors", published("timm:convnext_tiny", num_classes=5).state_dict())
    config = TrainConfig(
        skeleton=skeleton_document(SKELETONS["convnext-t"], "convnext-t"),
        recipe=recipe,
        data=DataSettings(name="folder", root=str(place / "images")),
        image_size=32,
        weights=str(place / "other.safetensors"),
    )
    said = "\n".join(describe_training(genotype, config, place / "trained", (), timed=False))
    assert "other.safetensors (weights of ConvNeXt as timm names it, converted)" in said
    network = build_for_training(genotype, config, prepare(config.data, recipe.preparation(image_size=32)))
    theirs = read_weights(place / "other.safetensors")
    assert torch.equal(network.state_dict()["stem.conv.weight"], theirs["stem.0.weight"])
    assert network.state_dict()["head.classifier.weight"].shape == (3, 768)


# ---------------------------------------------------------------------------------------------------- export


def test_weights_go_from_timm_to_torchvision_by_commands(place: Path) -> None:
    arguments = ["export", "convnext", "--skeleton", "convnext-t", "--weights", "timm.safetensors", "--image-size", "32"]
    said = run([*arguments, "--format", "torchvision-weights", "-o", "tv.safetensors"], place)
    assert "from weights of ConvNeXt as timm names it, converted" in said
    assert "and the same by torchvision.models.convnext_tiny()" in said
    theirs = torchvision.models.convnext_tiny(num_classes=3).eval()
    theirs.load_state_dict(read_weights(place / "tv.safetensors"), strict=True)
    original = timm.create_model("convnext_tiny", num_classes=3).eval()
    original.load_state_dict(read_weights(place / "timm.safetensors"), strict=True)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(theirs(images), original(images), rtol=1e-3, atol=1e-4)
    # The file also says which network it is, so that no name is needed here; and back again it is the same file.
    said = run(["export", "tv.safetensors", "--format", "timm-weights", "-o", "back.safetensors"], place)
    assert "and the same by timm.create_model('convnext_tiny')" in said
    before, after = read_weights(place / "timm.safetensors"), read_weights(place / "back.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert "top-1" in run(["evaluate", "back.safetensors", "--data", "images"], place)


@pytest.mark.parametrize(
    ("genotype", "skeleton", "library", "message"),
    [
        ("nasnet-a", "nasnet-large", "timm", "the skeleton nasnet-large-timm is meant"),
        ("nasnet-a", "nasnet-cifar", "timm", "timm has NASNet-A and PNASNet-5 with the ImageNet stem; this network is neither"),
        ("amoebanet-a", "nasnet-large-timm", "timm", "timm has nasnet-a in such a skeleton, but the network's cells are others"),
        ("nasnet-a", "nasnet-large-timm", "torchvision", "torchvision has no network of cells"),
        ("resnext-2x64d", "resnet-29-cifar", "timm", "timm has networks of 4 stages after a stem for ImageNet, but this has 3 stages"),
        ("convnext", "convnext-cifar", "torchvision", "torchvision has networks of 4 stages"),
        ("resnext-2x64d", "resnet-50", "facebook", "there are facebook weights of ResNet and ResNeXt (not facebook)"),
        ("convnext-roadmap-9", "convnext-roadmap-9", "timm", "but the network is neither"),
    ],
)
def test_what_a_library_has_not_is_refused(genotype: str, skeleton: str, library: str, message: str) -> None:
    with torch.device("meta"):
        network = build_network(load_reference(genotype), skeleton_named(skeleton), classes=3, image_size=64)
    with pytest.raises(WeightsError) as caught:
        in_layout(network, skeleton_named(skeleton), library)
    assert message in str(caught.value)


def test_untrained_weights_are_not_handed_over(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--format timm-weights hands weights over, and nothing trained was named"):
        run(["export", "convnext", "--skeleton", "convnext-t", "--format", "timm-weights", "-o", "x.safetensors"], tmp_path)
    assert list(tmp_path.iterdir()) == []
