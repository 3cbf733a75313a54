"""Residual blocks: ResNeXt's three forms are one function, the published blocks compute what their papers say, stochastic depth."""

import copy

import pytest
import torch
import torch.nn.functional as F
from support.random_weights import randomise
from torch import nn

from search_spaces.errors import GenotypeError
from search_spaces.networks.blocks import (
    BLOCKS,
    ConvNeXtBlock,
    Downsample,
    StochasticDepth,
    build_block,
    merge_paths,
    path_width,
    split_paths,
    stochastic_depth_rates,
)
from search_spaces.vocabulary import BLOCK_OPTIONS, ChoiceOption


def test_every_block_of_the_vocabulary_can_be_built():
    assert set(BLOCKS) == set(BLOCK_OPTIONS)


def every_option():
    for name, options in BLOCK_OPTIONS.items():
        yield name, {}
        for key, rule in options.items():
            if isinstance(rule, ChoiceOption):
                yield from ((name, {key: choice}) for choice in rule.choices if choice != rule.default)
            else:
                yield name, {key: max(rule.low, min(rule.high, 5))}


@pytest.mark.parametrize("name,options", list(every_option()))
@pytest.mark.parametrize("channels_in,channels_out,stride", [(16, 16, 1), (8, 16, 1), (8, 16, 2), (16, 16, 2)])
def test_every_block_has_every_stride_and_width(name, options, channels_in, channels_out, stride):
    torch.manual_seed(0)
    block = build_block(name, channels_in, channels_out, stride, options)
    x = torch.randn(2, channels_in, 8, 8, requires_grad=True)
    y = block(x)
    assert y.shape == (2, channels_out, 8 // stride, 8 // stride)
    y.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in block.parameters())
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize("name", BLOCKS)
def test_no_block_changes_its_input(name):
    x = torch.randn(2, 16, 8, 8)
    before = x.clone()
    build_block(name, 16, 16, 1)(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", BLOCKS)
def test_channels_last_stays_channels_last_and_computes_the_same(name):
    torch.manual_seed(0)
    block = build_block(name, 16, 16, 1).double()
    x = torch.randn(2, 16, 8, 8, dtype=torch.float64)
    expected = copy.deepcopy(block)(x)
    result = block.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    assert result.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize(
    "name,stride,options,message",
    [
        ("resnet_block", 1, {}, "unknown block 'resnet_block'"),
        ("convnext_block", 1, {"kernel": 4}, "`kernel` of convnext_block must be odd, but got 4"),
        ("convnext_block", 3, {}, "stride of a block must be 1 or 2, but got 3"),
    ],
)
def test_bad_blocks_are_refused(name, stride, options, message):
    with pytest.raises(GenotypeError, match=message):
        build_block(name, 8, 8, stride, options)


# ------------------------------------------------------------------------------------------------ ResNeXt's three forms


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("form", ["a", "b"])
@pytest.mark.parametrize("channels_in,stride", [(64, 1), (32, 2)])
def test_three_forms_are_one_function(form, training, channels_in, stride):
    cardinality, channels_out = 8, 64
    options = {"cardinality": cardinality, "width": 16}
    torch.manual_seed(1)
    grouped = randomise(build_block("resnext_block", channels_in, channels_out, stride, options)).double().train(training)
    paths = build_block("resnext_block", channels_in, channels_out, stride, {**options, "form": form}).double().train(training)
    paths.load_state_dict(split_paths(grouped.state_dict(), cardinality, form))

    x = torch.randn(4, channels_in, 8, 8, dtype=torch.float64)
    inputs = x.clone().requires_grad_(), x.clone().requires_grad_()
    outputs = grouped(inputs[0]), paths(inputs[1])
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-11, atol=1e-12)

    weight = torch.randn_like(outputs[0])
    for output in outputs:
        (output * weight).sum().backward()
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad, rtol=1e-10, atol=1e-11)
    gradients = merge_paths({name: p.grad for name, p in paths.named_parameters()})
    expected = {name: p.grad for name, p in grouped.named_parameters()}
    assert gradients.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(gradients[name], value, rtol=1e-9, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}")
    merged = merge_paths(paths.state_dict())  # moving statistics move alike
    for name, value in grouped.state_dict().items():
        torch.testing.assert_close(merged[name], value, rtol=1e-9, atol=1e-10)


def test_splitting_and_merging_paths_are_inverse():
    block = randomise(build_block("resnext_block", 64, 64, 1, {"cardinality": 4, "width": 16}))
    state = block.state_dict()
    for form in "ab":
        back = merge_paths(split_paths(state, 4, form))
        assert back.keys() == state.keys()
        assert all(torch.equal(back[key], value) for key, value in state.items())


@pytest.mark.parametrize("form", ["a", "b", "c"])
def test_forms_start_from_the_same_distribution(form):
    torch.manual_seed(0)
    block = build_block("resnext_block", 256, 256, 1, {"cardinality": 32, "width": 4, "form": form})
    state = block.state_dict() if form == "c" else merge_paths(block.state_dict())
    for name, fan_out in (("conv1", 128), ("conv2", 9 * 128), ("conv3", 256)):
        assert state[f"{name}.weight"].std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)


@pytest.mark.parametrize("cardinality,width,parameters", [(1, 64, 69632), (2, 40, 69760), (4, 24, 69888), (8, 14, 71456), (32, 4, 70144)])
@pytest.mark.parametrize("form", ["a", "b", "c"])
def test_templates_of_table_2_have_their_published_size(cardinality, width, parameters, form):
    block = build_block("resnext_block", 256, 256, 1, {"cardinality": cardinality, "width": width, "form": form})
    assert sum(m.weight.numel() for m in block.modules() if isinstance(m, nn.Conv2d)) == parameters


def test_width_of_a_path_doubles_from_stage_to_stage():
    assert [path_width(n, 4) for n in (256, 512, 1024, 2048)] == [4, 8, 16, 32]
    assert [path_width(n, 14) for n in (256, 512, 1024, 2048)] == [14, 28, 56, 112]
    assert path_width(16, 4) == 1


# ------------------------------------------------------------------------------------------------ ConvNeXt


def test_convnext_block_computes_the_papers_formula():
    """Against the formula in channels-first convolutions, written out anew."""
    block = randomise(ConvNeXtBlock(12, kernel=7, expansion=4, layer_scale="learned")).double()
    x = torch.randn(2, 12, 9, 9, dtype=torch.float64)
    y = F.conv2d(x, block.depthwise.weight, block.depthwise.bias, padding=3, groups=12)
    mean, variance = y.mean(1, keepdim=True), y.var(1, unbiased=False, keepdim=True)
    y = (y - mean) / (variance + 1e-6).sqrt() * block.norm.weight[:, None, None] + block.norm.bias[:, None, None]
    y = F.conv2d(y, block.expand.weight[..., None, None], block.expand.bias)
    y = 0.5 * y * (1 + torch.erf(y / 2**0.5))
    y = F.conv2d(y, block.project.weight[..., None, None], block.project.bias) * block.scale[:, None, None]
    torch.testing.assert_close(block(x), x + y)


def test_layer_scale_starts_at_one_millionth_and_can_be_left_out():
    assert torch.equal(build_block("convnext_block", 8, 8, 1).scale, torch.full((8,), 1e-6))
    assert build_block("convnext_block", 8, 8, 1, {"layer_scale": "none"}).scale is None


@pytest.mark.parametrize("side,result", [(8, 4), (7, 3), (1, 1)])
def test_downsampling_drops_an_odd_row_and_never_vanishes(side, result):
    assert Downsample(4, 8, 2)(torch.randn(1, 4, side, side)).shape == (1, 8, result, result)


# ------------------------------------------------------------------------------------------------ stochastic depth


def test_stochastic_depth_zeroes_whole_examples_and_rescales_the_rest():
    torch.manual_seed(0)
    layer = StochasticDepth(0.4).train()
    branch = torch.randn(4000, 3, 2, 2)
    result = layer(branch)
    kept = result.abs().sum((1, 2, 3)) > 0
    torch.testing.assert_close(result[kept], branch[kept] / 0.6)
    assert (result[~kept] == 0).all()
    # 4000 draws: five standard deviations are 0.039; one seed, so no false alarm
    assert kept.float().mean().item() == pytest.approx(0.6, abs=0.039)


def test_stochastic_depth_is_off_in_evaluation_and_at_rate_zero():
    branch = torch.randn(8, 3, 2, 2)
    assert StochasticDepth(0.9).eval()(branch) is branch
    assert StochasticDepth(0.0).train()(branch) is branch
    with pytest.raises(ValueError, match=r"below 1, but got 1\.0"):
        StochasticDepth(1.0)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_dropped_example_passes_by_the_shortcut(name):
    torch.manual_seed(0)
    block = build_block(name, 16, 16, 1, drop_rate=0.999).train()
    x = torch.rand(4, 16, 8, 8)  # not negative: the ReLU after some additions changes nothing
    assert torch.equal(block(x), x)


def test_stochastic_depth_grows_linearly_over_the_blocks():
    assert stochastic_depth_rates(0.4, 5) == pytest.approx((0.0, 0.1, 0.2, 0.3, 0.4))
    assert stochastic_depth_rates(0.4, 1) == (0.0,)
