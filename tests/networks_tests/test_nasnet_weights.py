"""NASNet-A and PNASNet-5 compute what timm's ports compute with the same weights, and weights go both ways."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nas.networks.weights.described import CLASSIFIERS, load_into
from nas.networks.weights.files import WeightsError
from nas.networks.weights.nasnet import in_our_names, to_timm
from search_spaces.networks.build import build_network
from search_spaces.networks.network import Network
from search_spaces.reference import load_reference
from search_spaces.skeletons import SKELETONS, NASNetSkeleton

timm = pytest.importorskip("timm")
nasnet = pytest.importorskip("timm.models.nasnet")

TIMM_LARGE, PNASNET_LARGE = SKELETONS["nasnet-large-timm"], SKELETONS["pnasnet-large"]
assert isinstance(TIMM_LARGE, NASNetSkeleton)
SMALL = replace(TIMM_LARGE, filters=8, stem_filters=12)


def randomised(module: nn.Module) -> nn.Module:
    """Every batch norm with scales, shifts and statistics of its own: with fresh ones, a swapped pair would go unseen."""
    generator = torch.Generator().manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            ranges = ((part.weight, 0.5, 1.5), (part.bias, -0.3, 0.3), (part.running_mean, -0.4, 0.4), (part.running_var, 0.5, 1.5))
            for tensor, low, high in ranges:
                tensor.data.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)
    return module.eval()


def take(network: Network, weights: Mapping[str, Tensor], without: tuple[str, ...] = ("progress",)) -> None:
    """As the commands take them: by the names that they have."""
    load_into(network, weights, Path("weights.safetensors"), without=without)


def small_timm() -> nn.Module:
    return randomised(nasnet.NASNetALarge(num_classes=10, stem_size=12, num_features=24 * 8, pad_type="same"))


def small_ours(skeleton: NASNetSkeleton = SMALL) -> Network:
    return build_network(load_reference("nasnet-a"), skeleton, classes=10, image_size=64).eval()


def large_pair(name: str) -> tuple[nn.Module, Network]:
    theirs = randomised(timm.create_model(name))
    genotype, skeleton = {"nasnetalarge": ("nasnet-a", TIMM_LARGE), "pnasnet5large": ("pnasnet-5", PNASNET_LARGE)}[name]
    ours = build_network(load_reference(genotype), skeleton, classes=1000, image_size=331).eval()
    take(ours, theirs.state_dict())
    return theirs, ours


def relative_difference(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).detach().abs().max() / theirs.detach().abs().max())


@pytest.mark.parametrize("size", [64, 75])
def test_small_nasnet_gives_timms_logits_and_gradients(size: int) -> None:
    theirs, ours = small_timm(), small_ours()
    take(ours, theirs.state_dict())
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(size))
    logits, expected = ours(images), theirs(images)
    assert expected.std() > 0.05
    assert relative_difference(logits, expected) <= 1e-5
    logits.square().sum().backward()
    expected.square().sum().backward()
    assert_same_gradients(ours, theirs)


def assert_same_gradients(ours: Network, theirs: nn.Module) -> None:
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    assert all(gradient is not None for gradient in expected.values())
    assert sum(bool(gradient.abs().max() > 0) for gradient in expected.values()) > 0.9 * len(expected)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.copy_(parameter.grad)
    found = to_timm(ours)
    for name, gradient in expected.items():
        assert (found[name] - gradient).abs().max() <= 1e-4 * gradient.abs().max(), name


def test_small_round_trip_is_strict_and_exact() -> None:
    theirs, ours = small_timm(), small_ours()
    randomised(ours)
    theirs.load_state_dict(to_timm(ours), strict=True)
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    assert relative_difference(ours(images), theirs(images)) <= 1e-5


def test_the_released_networks_average_differs_from_timms() -> None:
    """TensorFlow's strided average leaves the padding out of its mean; so does ours, except under the skeleton made for timm."""
    theirs = small_timm()
    large = SKELETONS["nasnet-large"]
    assert isinstance(large, NASNetSkeleton)
    ours = small_ours(replace(large, filters=8, stem_filters=12))
    ours.load_state_dict(in_our_names(ours, theirs.state_dict(), "nasnet"), strict=False)
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    assert relative_difference(ours(images), theirs(images)) > 1e-3


def test_pnasnet_gives_timms_logits_on_a_small_image() -> None:
    theirs, ours = large_pair("pnasnet5large")
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = theirs(images)
        assert expected.std() > 0.05
        assert relative_difference(ours(images), expected) <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nasnetalarge", "pnasnet5large"])
def test_large_networks_give_timms_logits_and_go_back(name: str) -> None:
    theirs, ours = large_pair(name)
    images = torch.randn(1, 3, 331, 331, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        expected = theirs(images)
        assert relative_difference(ours(images), expected) <= 1e-4
        other = timm.create_model(name).eval()
        other.load_state_dict(to_timm(ours), strict=True)
        assert relative_difference(other(images), expected) <= 1e-4


@pytest.mark.slow
def test_pnasnet_gives_timms_gradients() -> None:
    theirs, ours = large_pair("pnasnet5large")
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    for network in (ours, theirs):
        network(images).square().sum().backward()
    assert_same_gradients(ours, theirs)


def test_the_background_class_of_released_weights_is_dropped() -> None:
    weights = dict(small_timm().state_dict())
    skeleton = replace(SMALL)
    weights["last_linear.weight"], weights["last_linear.bias"] = torch.randn(1001, 192), torch.randn(1001)
    ours = build_network(load_reference("nasnet-a"), skeleton, classes=1000, image_size=64)
    take(ours, weights)
    assert torch.equal(to_timm(ours)["last_linear.bias"], weights["last_linear.bias"][1:])


def _without(key: str) -> Callable[[dict[str, Tensor]], None]:
    def spoil(weights: dict[str, Tensor]) -> None:
        del weights[key]

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without("cell_3.conv_1x1.bn.weight"), r"1 missing \(such as cells\.cell_3\.adjust\.1\.layers\.1\.weight\)"),
        (lambda weights: weights.update(surplus=torch.ones(1)), r"1 unknown \(such as surplus\)"),
        (lambda weights: weights.update({"conv0.conv.weight": torch.ones(12, 3, 5, 5)}), "1 of another shape"),
    ],
)
def test_weights_that_do_not_fit_change_nothing(spoil: Callable[[dict[str, Tensor]], None], message: str) -> None:
    ours = small_ours()
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    weights = dict(small_timm().state_dict())
    spoil(weights)
    with pytest.raises(WeightsError, match=message):
        take(ours, weights)
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


def test_networks_that_timm_has_not_are_refused() -> None:
    cifar = build_network(load_reference("nasnet-a"), NASNetSkeleton(1, 4), classes=10, image_size=32)
    other_cells = build_network(load_reference("amoebanet-a"), SMALL, classes=10, image_size=64)
    for network in (cifar, other_cells):
        with pytest.raises(WeightsError, match="timm has"):
            to_timm(network)


def test_a_network_without_classifier_takes_the_rest() -> None:
    theirs = small_timm()
    ours = build_network(load_reference("nasnet-a"), SMALL, classes=0, image_size=64).eval()
    take(ours, theirs.state_dict(), (*CLASSIFIERS, "progress"))
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        assert relative_difference(ours(images), theirs.forward_head(theirs.forward_features(images), pre_logits=True)) <= 1e-5
