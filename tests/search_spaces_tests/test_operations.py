"""Every operation at every stride and width; TensorFlow's padding against a plain reference; sizes and forms of the literature."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.networks.cost import count_macs, count_parameters
from search_spaces.networks.operations import (
    OPERATIONS,
    Convolution,
    FactorizedReduction,
    Identity,
    Layers,
    Operation,
    Pooling,
    same_padding,
)
from search_spaces.skeletons import DARTS_CONVENTIONS, NASNET_CONVENTIONS, TIMM_CONVENTIONS, Conventions
from search_spaces.vocabulary import BLOCK_OPTIONS, NASNET_OPERATIONS, OPERATION_OPTIONS

NASNET, DARTS = Layers(NASNET_CONVENTIONS), Layers(DARTS_CONVENTIONS)


def make(name: str, channels_in: int, channels_out: int, stride: int, layers: Layers = NASNET) -> Operation:
    torch.manual_seed(0)
    return OPERATIONS[name](channels_in, channels_out, stride, layers)


def state(channels: int, height: int, width: int, batch: int = 3) -> Tensor:
    return torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(height * 100 + width))


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_table_and_the_vocabulary_name_the_same_operations() -> None:
    assert set(OPERATIONS) | set(BLOCK_OPTIONS) == set(OPERATION_OPTIONS)
    assert len(NASNET_OPERATIONS) == 14
    assert set(NASNET_OPERATIONS) < set(OPERATIONS)


@pytest.mark.parametrize("layers", [NASNET, DARTS], ids=["nasnet", "darts"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", OPERATIONS)
def test_shape_gradient_and_untouched_input(name: str, stride: int, layers: Layers) -> None:
    for (channels_in, channels_out), (height, width) in itertools.product(((8, 8), (6, 8), (16, 8)), ((8, 8), (7, 9), (2, 2), (1, 1))):
        operation = make(name, channels_in, channels_out, stride, layers)
        x = state(channels_in, height, width).requires_grad_()
        before = x.detach().clone()
        result = operation(x)
        assert result.shape == (3, channels_out, -(-height // stride), -(-width // stride))
        assert torch.isfinite(result).all()
        assert torch.equal(x.detach(), before), "a shared state was changed in place"
        if name != "zero":
            result.square().sum().backward()
            assert x.grad is not None and torch.isfinite(x.grad).all()


def test_zero_gives_zeros_of_the_inputs_type() -> None:
    result = make("zero", 4, 8, 2)(torch.ones(2, 4, 5, 5, dtype=torch.float64))
    assert result.dtype == torch.float64 and result.abs().sum() == 0


# ------------------------------------------------------------------------------------------------ padding


def padded(x: Tensor, kernel: int, stride: int, dilation: int, value: float) -> Tensor:
    """TensorFlow's SAME padding, written from its documentation."""
    amounts = []
    for side in (x.shape[3], x.shape[2]):
        out = (side + stride - 1) // stride
        total = max((out - 1) * stride + (kernel - 1) * dilation + 1 - side, 0)
        amounts += [total // 2, total - total // 2]
    return F.pad(x, amounts, value=value)


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(1, 2, 1), (3, 1, 1), (3, 2, 1), (5, 2, 1), (7, 1, 1), (7, 2, 1), (3, 2, 2)])
@pytest.mark.parametrize("sides", [(8, 8), (7, 7), (9, 6), (2, 3), (1, 1)])
def test_convolution_pads_as_tensorflow(kernel: int, stride: int, dilation: int, sides: tuple[int, int]) -> None:
    convolution = Convolution(4, 6, kernel, stride, dilation=dilation)
    x = state(4, *sides)
    expected = F.conv2d(padded(x, kernel, stride, dilation, 0), convolution.weight, stride=stride, dilation=dilation)
    torch.testing.assert_close(convolution(x), expected)


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("sides", [(8, 8), (7, 7), (9, 6), (2, 3), (1, 1)])
def test_pooling_pads_as_tensorflow_and_leaves_the_padding_out(kernel: int, stride: int, sides: tuple[int, int]) -> None:
    x = state(4, *sides)
    largest = F.max_pool2d(padded(x, kernel, stride, 1, -torch.inf), kernel, stride)
    torch.testing.assert_close(Pooling("max", kernel, 4, 4, stride, NASNET)(x), largest)
    total = F.avg_pool2d(padded(x, kernel, stride, 1, 0), kernel, stride)
    share = F.avg_pool2d(padded(torch.ones_like(x), kernel, stride, 1, 0), kernel, stride)
    torch.testing.assert_close(Pooling("avg", kernel, 4, 4, stride, NASNET)(x), total / share)


@pytest.mark.parametrize("layers", [NASNET, DARTS], ids=["nasnet", "darts"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("sides", [(8, 8), (7, 7), (9, 6), (2, 3), (1, 1)])
def test_an_even_window_pads_as_tensorflow_in_every_tradition(stride: int, sides: tuple[int, int], layers: Layers) -> None:
    x = state(4, *sides)
    torch.testing.assert_close(Pooling("max", 2, 4, 4, stride, layers)(x), F.max_pool2d(padded(x, 2, stride, 1, -torch.inf), 2, stride))


def test_the_average_of_ones_is_one_except_under_timms_convention() -> None:
    ones = torch.ones(1, 4, 8, 8)
    assert torch.equal(Pooling("avg", 3, 4, 4, 2, NASNET)(ones), torch.ones(1, 4, 4, 4))
    timm = Pooling("avg", 3, 4, 4, 2, Layers(TIMM_CONVENTIONS))(ones)
    assert timm[0, 0, -1, -1] == pytest.approx(4 / 9)


def test_symmetric_padding_is_pytorchs() -> None:
    x = state(4, 8, 8)
    convolution = Convolution(4, 4, 5, 2, padding="symmetric")
    torch.testing.assert_close(convolution(x), F.conv2d(x, convolution.weight, stride=2, padding=2))
    expected = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
    torch.testing.assert_close(Pooling("avg", 3, 4, 4, 2, DARTS)(x), expected)
    torch.testing.assert_close(Pooling("max", 3, 4, 4, 2, DARTS)(x), F.max_pool2d(x, 3, 2, 1))


def test_valid_padding_is_none() -> None:
    assert Convolution(3, 4, 3, 2, padding="valid")(torch.zeros(1, 3, 224, 224)).shape == (1, 4, 111, 111)


def test_same_padding_puts_the_odd_pixel_after() -> None:
    assert same_padding(224, 3, 2) == (0, 1)
    assert same_padding(83, 3, 2) == (1, 1)
    assert same_padding(42, 7, 2) == (2, 3)
    assert same_padding(11, 5, 1) == (2, 2)


# ------------------------------------------------------------------------------------------------ forms


@pytest.mark.parametrize(("channels_in", "filters"), [(8, 8), (24, 8)])
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_separable_convolution_has_the_published_size(kernel: int, channels_in: int, filters: int) -> None:
    k, c, f = kernel, channels_in, filters
    expected = k * k * c + c * f + 2 * f + k * k * f + f * f + 2 * f
    assert parameters(make(f"sep_conv_{k}x{k}", c, f, 2)) == expected


def test_separable_convolution_is_two_relu_depthwise_pointwise_norms() -> None:
    operation = make("sep_conv_5x5", 6, 8, 2).eval()
    x = state(6, 8, 8).relu()
    weights = operation.state_dict()
    for half, (stride, padding) in enumerate(((2, (1, 2, 1, 2)), (1, (2, 2, 2, 2))), start=1):
        x = F.conv2d(F.pad(x, padding), weights[f"depthwise_{half}.weight"], stride=stride, groups=x.shape[1])
        x = F.conv2d(x, weights[f"pointwise_{half}.weight"]) / (1 + 1e-5) ** 0.5
        if half == 1:
            x = x.relu()
    torch.testing.assert_close(operation(state(6, 8, 8).relu()), x)


@pytest.mark.parametrize("channels_out", [8, 7, 1])
@pytest.mark.parametrize("sides", [(8, 8), (7, 7), (6, 9), (1, 1)])
def test_factorized_reduction_is_slims(sides: tuple[int, int], channels_out: int) -> None:
    """Path A: every second pixel from the first. Path B: pad one row and column after, drop the first ones, every second pixel."""
    reduction = FactorizedReduction(6, channels_out, NASNET).eval()
    x = state(6, *sides)
    shifted = F.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
    paths = [F.conv2d(shifted[:, :, ::2, ::2], reduction.odd.weight)]
    if reduction.even is not None:
        paths.insert(0, F.conv2d(x[:, :, ::2, ::2], reduction.even.weight))
    torch.testing.assert_close(reduction(x), torch.cat(paths, 1) / (1 + 1e-5) ** 0.5)
    assert parameters(reduction) == 6 * channels_out + 2 * channels_out  # as many as a 1×1 convolution and its norm


def test_identity_passes_on_or_projects() -> None:
    x = state(8, 8, 8)
    assert make("identity", 8, 8, 1)(x) is x
    for layers, kind in ((NASNET, Convolution), (DARTS, FactorizedReduction)):
        strided = make("identity", 8, 8, 2, layers)
        assert strided.activated and any(isinstance(part, kind) for part in strided.modules())
        assert not isinstance(strided, Identity) and parameters(strided) == 8 * 8 + 16
    assert parameters(make("identity", 16, 8, 1)) == 16 * 8 + 16


def test_pooling_projects_another_width_after_pooling_without_relu() -> None:
    operation = make("avg_pool_3x3", 6, 8, 1).eval()
    assert not operation.activated
    x = -state(6, 5, 5).abs()
    weight = operation.state_dict()["project.layers.0.weight"]
    expected = F.conv2d(F.avg_pool2d(x, 3, 1, 1, count_include_pad=False), weight) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(operation(x), expected)
    assert parameters(make("avg_pool_3x3", 8, 8, 2)) == 0


def kernels(operation: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(part.weight.shape) for part in operation.modules() if isinstance(part, nn.Conv2d)]


@pytest.mark.parametrize(
    ("name", "nasnet", "darts"),
    [
        ("conv_1x1", [(16, 12, 1, 1)], [(16, 12, 1, 1)]),
        ("conv_3x3", [(4, 12, 1, 1), (4, 4, 3, 3), (16, 4, 1, 1)], [(16, 12, 3, 3)]),
        ("dil_conv_3x3", [(4, 12, 1, 1), (4, 4, 3, 3), (16, 4, 1, 1)], [(12, 1, 3, 3), (16, 12, 1, 1)]),
        ("dil_conv_5x5", [(4, 12, 1, 1), (4, 4, 5, 5), (16, 4, 1, 1)], [(12, 1, 5, 5), (16, 12, 1, 1)]),
        ("conv_5x5", [(4, 12, 1, 1), (4, 4, 5, 5), (16, 4, 1, 1)], [(16, 12, 5, 5)]),
        ("conv_1x1_bn_relu", [(16, 12, 1, 1)], [(16, 12, 1, 1)]),
        ("conv_3x3_bn_relu", [(16, 12, 3, 3)], [(16, 12, 3, 3)]),
        ("conv_1x3_3x1", [(6, 12, 1, 1), (6, 6, 1, 3), (6, 6, 3, 1), (16, 6, 1, 1)], [(16, 12, 1, 3), (16, 16, 3, 1)]),
        ("conv_1x7_7x1", [(4, 12, 1, 1), (4, 4, 1, 7), (4, 4, 7, 1), (16, 4, 1, 1)], [(16, 12, 1, 7), (16, 16, 7, 1)]),
    ],
)
def test_convolutions_have_the_form_of_their_conventions(name: str, nasnet: list[tuple[int, ...]], darts: list[tuple[int, ...]]) -> None:
    assert kernels(make(name, 12, 16, 2, NASNET)) == nasnet
    assert kernels(make(name, 12, 16, 2, DARTS)) == darts


def test_a_pair_has_a_norm_in_between_by_nasnets_conventions() -> None:
    def norms(name: str, filters: int, layers: Layers) -> int:
        return sum(isinstance(part, nn.BatchNorm2d) for part in make(name, 8, filters, 1, layers).modules())

    assert [norms("conv_1x7_7x1", filters, NASNET) for filters in (16, 3)] == [4, 2]
    assert norms("conv_1x7_7x1", 16, DARTS) == 1
    assert norms("conv_3x3", 16, NASNET) == 3


def test_a_bottleneck_narrower_than_one_filter_is_left_out() -> None:
    assert kernels(make("conv_3x3", 8, 3, 1)) == [(3, 8, 3, 3)]
    assert kernels(make("conv_1x3_3x1", 8, 2, 1)) == [(2, 8, 1, 3), (2, 2, 3, 1)]


def test_a_pair_strides_along_the_sides_that_its_kernels_cover() -> None:
    strides = [part.stride for part in make("conv_1x7_7x1", 8, 8, 2).modules() if isinstance(part, nn.Conv2d)]
    assert strides == [(1, 1), (1, 2), (2, 1), (1, 1)]


@pytest.mark.parametrize("kernel", [3, 5])
def test_dilated_convolution_has_rate_two(kernel: int) -> None:
    for layers in (NASNET, DARTS):
        wide = [part for part in make(f"dil_conv_{kernel}x{kernel}", 8, 8, 1, layers).modules() if isinstance(part, nn.Conv2d)]
        assert [part.dilation for part in wide if part.kernel_size == (kernel, kernel)] == [(2, 2)]


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_darts_dilated_convolution_is_its_own(kernel: int, stride: int) -> None:
    """ReLU, depthwise convolution of rate 2 padded by kernel − 1, 1×1 convolution, batch norm: quark0/darts' ``DilConv``."""
    operation = make(f"dil_conv_{kernel}x{kernel}", 6, 8, stride, DARTS).eval()
    depthwise, pointwise = (part.weight for part in operation.modules() if isinstance(part, nn.Conv2d))
    x = state(6, 9, 8).relu()
    expected = F.conv2d(F.conv2d(x, depthwise, stride=stride, padding=kernel - 1, dilation=2, groups=6), pointwise)
    torch.testing.assert_close(operation(x), expected / (1 + 1e-5) ** 0.5)
    assert parameters(operation) == kernel * kernel * 6 + 6 * 8 + 2 * 8


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dil_conv_5x5", (25 * 8 + 8 * 8 + 16, (25 * 8 + 8 * 8) * 16)),
        ("conv_5x5", (25 * 64 + 16, 25 * 64 * 16)),
        ("max_pool_2x2", (0, 0)),
        ("conv_1x1_bn_relu", (64 + 16, 64 * 16)),
        ("conv_3x3_bn_relu", (9 * 64 + 16, 9 * 64 * 16)),
    ],
)
def test_parameters_and_macs_of_other_spaces_operations(name: str, expected: tuple[int, int]) -> None:
    """Of 8 channels at 4×4 pixels by DARTS' conventions, from the formulas: k²c for a depthwise, k²cf for a full convolution."""
    operation = make(name, 8, 8, 1, DARTS)
    assert (count_parameters(operation), count_macs(operation, channels=8, image_size=4)) == expected


def test_nasbench101s_convolution_ends_with_the_relu() -> None:
    operation = make("conv_3x3_bn_relu", 4, 4, 1).eval()
    x = state(4, 5, 5)
    weight = operation.state_dict()["layers.0.weight"]
    torch.testing.assert_close(operation(x), F.relu(F.conv2d(x, weight, padding=1) / (1 + 1e-5) ** 0.5))


def test_who_may_be_dropped_and_who_takes_the_relu() -> None:
    for name in OPERATIONS:
        operation = make(name, 8, 8, 1)
        assert operation.droppable == (name not in ("identity", "zero"))
        assert operation.activated == ("conv" in name and not name.endswith("_bn_relu"))
    assert not make("identity", 8, 8, 2).droppable  # NASNet never drops an identity, even one that became a convolution
    assert make("identity", 8, 8, 2, DARTS).droppable


@pytest.mark.parametrize("name", OPERATIONS)
def test_channels_last_goes_in_and_comes_out(name: str) -> None:
    for stride, channels_in in ((1, 8), (2, 8), (2, 12)):
        operation = make(name, channels_in, 8, stride).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        x = state(channels_in, 8, 8)
        result = operation(x.to(memory_format=torch.channels_last))
        assert name == "zero" or result.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(result, operation(x))


def test_initial_weights_have_the_variance_of_their_own_fan_out() -> None:
    torch.manual_seed(0)
    full, depthwise = Convolution(64, 128, 3), Convolution(512, 512, 3, groups=512)
    assert float(full.weight.detach().std()) == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.02)
    assert float(depthwise.weight.detach().std()) == pytest.approx((2 / 9) ** 0.5, rel=0.05)


def test_norms_take_the_skeletons_settings() -> None:
    norm = Layers(Conventions(), norm_eps=1e-3, norm_momentum=0.01).norm(4)
    assert (norm.eps, norm.momentum) == (1e-3, 0.01)
