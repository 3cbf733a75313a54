"""Published weights in and out: the same numbers as torchvision and timm, forwards and backwards; errors for what does not fit."""

import pickle
from pathlib import Path

import pytest
import torch
from support.random_weights import randomise

from nas.networks.weights.described import CLASSIFIERS, load_into
from nas.networks.weights.files import WeightsError, read_metadata, read_weights, write_weights
from nas.networks.weights.residual import export_weights
from search_spaces.networks.build import build_network
from search_spaces.residual_skeletons import RESIDUAL_SKELETONS, ResidualSkeleton, block_genotype, convnext_skeleton, resnext_genotype

CONVNEXT = block_genotype("convnext", "convnext_block")


def ours(name, classes=1000, form="c"):
    """Our network of the name that torchvision and timm use."""
    if name.startswith("convnext"):
        size = {"tiny": "t", "small": "s", "base": "b", "large": "l", "xlarge": "xl"}[name.removeprefix("convnext_")]
        genotype, skeleton = CONVNEXT, RESIDUAL_SKELETONS[f"convnext-{size}"]
    else:
        genotype = {"resnet50": resnext_genotype(1, 64, form), "resnet101": resnext_genotype(1, 64, form)}.get(name)
        if genotype is None:
            genotype = resnext_genotype(*(int(part) for part in name.split("_")[1].rstrip("d").split("x")), form)
        skeleton = RESIDUAL_SKELETONS["resnet-101" if "101" in name else "resnet-50"]
    return build_network(genotype, skeleton, classes=classes, image_size=224)


def theirs(library, name, **options):
    if library == "torchvision":
        return getattr(pytest.importorskip("torchvision").models, name)(**options)
    return pytest.importorskip("timm").create_model(name, **options)


def take(network, weights, **options):
    """As the commands take them: by the names that they have."""
    load_into(network, weights, Path("weights.safetensors"), **options)


def relative_difference(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


@pytest.mark.parametrize("library", ["torchvision", "timm"])
@pytest.mark.parametrize("name", ["resnext50_32x4d", "convnext_tiny"])
def test_logits_and_gradients_equal_the_reference_with_the_same_random_weights(library, name):
    reference = randomise(theirs(library, name))
    network = ours(name)
    take(network, reference.state_dict())
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, result = reference.eval()(images), network.eval()(images)
    assert expected.std() > 0.01  # a constant would prove nothing
    assert relative_difference(result, expected) <= 1e-5

    small = images[:, :, :64, :64].clone()
    gradients = []
    for model in (reference, network):
        inputs = small.clone().requires_grad_()
        model(inputs).square().sum().backward()
        gradients.append(inputs.grad)
    assert relative_difference(gradients[1], gradients[0]) <= 1e-5
    named = {key: p.grad for key, p in reference.named_parameters()}
    for tensor in network.parameters():
        tensor.data = tensor.grad  # so that the export carries the gradients under the reference's names
    exported = export_weights(network, library)
    for key, value in named.items():
        assert relative_difference(exported[key], value) <= 1e-3, key


@pytest.mark.parametrize("library", ["torchvision", "timm"])
@pytest.mark.parametrize("name", ["resnet50", "resnext50_32x4d", "convnext_tiny"])
def test_exported_weights_load_strictly_and_give_the_same_output(library, name):
    network = randomise(ours(name)).eval()
    reference = theirs(library, name)
    reference.load_state_dict(export_weights(network, library), strict=True)
    images = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert relative_difference(reference.eval()(images), network(images)) <= 1e-5


def names_and_shapes(state):
    return {key: tuple(value.shape) for key, value in state.items()}


@pytest.mark.parametrize(
    "library,name",
    [
        *(("torchvision", f"resnext101_{d}") for d in ("32x8d", "64x4d")),
        *(("timm", f"resnext101_{d}") for d in ("32x4d", "64x4d", "32x8d")),
        *(("torchvision", f"convnext_{size}") for size in ("small", "base", "large")),
        *(("timm", f"convnext_{size}") for size in ("small", "base", "large", "xlarge")),
        ("torchvision", "resnet101"),
    ],
)
def test_every_published_size_has_the_references_names_and_shapes(library, name):
    with torch.device("meta"):
        network, reference = ours(name), theirs(library, name)
    assert names_and_shapes(export_weights(network, library)) == names_and_shapes(reference.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("library", ["torchvision", "timm"])
@pytest.mark.parametrize("name", ["resnext101_64x4d", "convnext_small", "convnext_base", "convnext_large"])
def test_large_networks_equal_the_reference(library, name):
    reference = randomise(theirs(library, name)).eval()
    network = ours(name).eval()
    take(network, reference.state_dict())
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert relative_difference(network(images), reference(images)) <= 1e-5


def test_the_released_convnext_code_names():
    """Names as in the state dicts published with the paper."""
    exported = export_weights(build_network(CONVNEXT, convnext_skeleton((1, 2), 8), classes=5, image_size=32), "facebook")
    assert exported["downsample_layers.1.1.weight"].shape == (16, 8, 2, 2)
    assert {
        "downsample_layers.0.0.weight",
        "stages.1.1.dwconv.weight",
        "stages.1.0.pwconv2.bias",
        "stages.0.0.gamma",
        "norm.weight",
        "head.bias",
    } <= set(exported)
    again = build_network(CONVNEXT, convnext_skeleton((1, 2), 8), classes=5, image_size=32)
    take(again, exported)
    assert names_and_shapes(export_weights(again, "facebook")) == names_and_shapes(exported)


# ------------------------------------------------------------------------------------------------ forms

SMALL = ResidualSkeleton((2, 1), (64, 128), "imagenet", 16)


@pytest.mark.parametrize("form", ["a", "b"])
def test_a_network_in_another_form_takes_and_gives_the_same_weights(form):
    grouped = randomise(build_network(resnext_genotype(4, 16), SMALL, classes=5, image_size=32)).double().eval()
    paths = build_network(resnext_genotype(4, 16, form), SMALL, classes=5, image_size=32).double().eval()
    take(paths, export_weights(grouped, "torchvision"))
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(paths(images), grouped(images), rtol=1e-10, atol=1e-12)
    exported = export_weights(paths, "torchvision")
    assert all(torch.equal(exported[key], value) for key, value in export_weights(grouped, "torchvision").items())
    take(grouped, exported)


# ------------------------------------------------------------------------------------------------ what does not fit


def small_convnext(classes=5):
    return build_network(CONVNEXT, convnext_skeleton((1, 1), 8), classes=classes, image_size=32)


def test_a_network_without_classifier_takes_the_rest():
    source, target = randomise(small_convnext()), small_convnext(classes=0)
    take(target, export_weights(source, "timm"), without=(*CLASSIFIERS, "progress"))
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(source.head.classifier(target.eval()(images)), source.eval()(images))


def test_old_checkpoints_without_batch_counters_are_taken():
    network = build_network(resnext_genotype(4, 16), SMALL, classes=5, image_size=32)
    weights = {key: value for key, value in export_weights(network, "torchvision").items() if not key.endswith("num_batches_tracked")}
    take(network, weights)


def test_what_does_not_fit_is_refused_and_changes_nothing():
    network = small_convnext()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    good = export_weights(randomise(small_convnext()), "timm")
    for change, message in (
        ({"head.fc.weight": torch.zeros(3, 16)}, r"1 of another shape \(such as head\.classifier\.weight\)"),
        ({"stem.0.weight": torch.zeros(8, 3, 2, 2)}, r"1 of another shape \(such as stem\.conv\.weight\)"),
        ({"extra": torch.zeros(1)}, r"1 unknown \(such as extra\)"),
    ):
        with pytest.raises(WeightsError, match=message):
            take(network, good | change)
    with pytest.raises(WeightsError, match=r"\d+ missing \(such as stem\.conv\.weight\)"):
        take(network, {})
    with pytest.raises(WeightsError, match="must be one of torchvision, timm, facebook, but got 'keras'"):
        export_weights(network, "keras")
    with pytest.raises(WeightsError, match="but the network is neither"):
        export_weights(build_network(block_genotype("", "inverted_block"), SMALL, classes=2, image_size=32), "timm")
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


# ------------------------------------------------------------------------------------------------ files


def test_weights_survive_a_file(tmp_path):
    network = randomise(small_convnext())
    path = tmp_path / "convnext.safetensors"
    write_weights(path, export_weights(network, "timm"), {"genotype": "convnext"})
    assert [p.name for p in tmp_path.iterdir()] == ["convnext.safetensors"]
    assert read_metadata(path) == {"genotype": "convnext"}
    again = small_convnext()
    take(again, read_weights(path))
    assert all(torch.equal(value, export_weights(network, "timm")[key]) for key, value in export_weights(again, "timm").items())


def test_tensors_that_share_memory_or_have_another_layout_are_written(tmp_path):
    base = torch.randn(4, 3, 2, 2)
    weights = {"a": base, "b": base.view(-1)[:5], "c": base.to(memory_format=torch.channels_last)}
    write_weights(tmp_path / "w.safetensors", weights)
    read = read_weights(tmp_path / "w.safetensors")
    assert all(torch.equal(read[key], value) for key, value in weights.items())


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_checkpoints_are_read_with_their_wrapper(tmp_path, wrapper):
    weights = {"module.a": torch.arange(3.0)}
    torch.save(weights if wrapper is None else {wrapper: weights, "epoch": 3}, tmp_path / "w.pth")
    assert torch.equal(read_weights(tmp_path / "w.pth")["a"], torch.arange(3.0))


class Exploit:
    def __reduce__(self):
        import os

        return os.mkdir, (self.path,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_checkpoint_cannot_run_code(tmp_path):
    exploit = Exploit()
    exploit.path = str(tmp_path / "ran")
    torch.save({"state_dict": exploit}, tmp_path / "evil.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(exploit))
    for name in ("evil.pth", "plain.pth"):
        with pytest.raises(WeightsError, match="not a PyTorch checkpoint of plain tensors"):
            read_weights(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name,content,message",
    [
        ("w.npz", b"", r"must end in \.safetensors"),
        ("w.safetensors", b"\x00" * 40, "not a whole safetensors file"),
        ("w.safetensors", b"", "not a whole safetensors file"),
        ("w.pth", b"", "not a PyTorch checkpoint"),
        ("w.pth", b"noise" * 100, "not a PyTorch checkpoint"),
        ("w.pth", b"PK\x03\x04" + b"\x00" * 100, "not a PyTorch checkpoint"),
        ("w.safetensors", None, "cannot be read"),
        ("w.pth", None, "cannot be read"),
    ],
)
def test_broken_files_are_refused(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        read_weights(tmp_path / name)


def test_truncated_files_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    write_weights(path, {"a": torch.randn(100)})
    for size in (4, 20, path.stat().st_size - 1):
        (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:size])
        with pytest.raises(WeightsError, match="not a whole safetensors file"):
            read_weights(tmp_path / "cut.safetensors")


@pytest.mark.parametrize("content", [torch.zeros(3), {"epoch": 3}, {}, {"state_dict": {"a": "text"}}])
def test_a_checkpoint_without_weights_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="must hold a dictionary of named tensors"):
        read_weights(tmp_path / "w.pth")


def test_writing_elsewhere_is_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"ends in \.safetensors"):
        write_weights(tmp_path / "w.pth", {})
    with pytest.raises(WeightsError, match="cannot be written"):
        write_weights(tmp_path / "none" / "w.safetensors", {"a": torch.zeros(1)})
