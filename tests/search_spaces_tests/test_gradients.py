"""Layers compute right gradients without writing where they must not: `benchmarks/gradients.py` in small, in processes that may die."""

import json
import os
import subprocess
import sys

import pytest
import torch
from support.paths import ROOT
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from nas.exports.parts import blocks, layers, same
from search_spaces.genotype import Edge
from search_spaces.networks.blocks import BLOCKS, build_block
from search_spaces.networks.convolution import Conv2d
from search_spaces.networks.operations import OPERATIONS, Convolution, Layers, build_operation
from search_spaces.skeletons import DARTS_CONVENTIONS, NASNET_CONVENTIONS, Conventions

GRADIENTS = ROOT / "benchmarks" / "gradients.py"
WRONG_IN_TORCH = ["conv 1x1 stride [24] same", "conv 1x3 stride (1, 2) same"]


def sweep(*arguments: str) -> list[dict[str, object]]:
    """The findings of the benchmark; the run itself must have worked."""
    environment = {**os.environ, "PYTHONPATH": str(GRADIENTS.parent.parent)}
    command = [sys.executable, str(GRADIENTS), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr[-3000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[-1]["cases"] > 0
    assert lines[-1]["unfinished"] == 0
    return [line for line in lines if "found" in line]


@pytest.mark.parametrize("isa", ["DEFAULT", pytest.param("AVX2", marks=pytest.mark.slow)])
def test_what_torch_computes_wrongly_is_right_in_our_layers(isa: str) -> None:
    assert sweep("--isa", isa, "--threads", "2", "--every", "32", "--kinds", *WRONG_IN_TORCH) == []


@pytest.mark.slow
def test_every_kind_of_layer_is_right() -> None:
    assert sweep("--every", "96") == []


class Convolutions(TorchDispatchMode):
    """Remembers kernel, stride, and channels of every convolution that reaches torch."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[tuple[int, ...], tuple[int, ...], int]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func is torch.ops.aten.convolution.default:
            self.seen.append((tuple(args[1].shape[2:]), tuple(args[3]), args[0].shape[1]))
        return func(*args, **(kwargs or {}))


def strided_pointwise(module: nn.Module, channels: int) -> bool:
    """Whether a module hands a strided 1×1 convolution to torch."""
    with Convolutions() as convolutions:
        module(torch.randn(2, channels, 7, 7))
    return any(kernel == (1, 1) and stride != (1, 1) for kernel, stride, _ in convolutions.seen)


@pytest.mark.parametrize("conventions", [NASNET_CONVENTIONS, DARTS_CONVENTIONS], ids=["nasnet", "darts"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_no_operation_hands_a_strided_pointwise_convolution_to_torch(name: str, conventions: Conventions) -> None:
    assert not strided_pointwise(build_operation(Edge(0, name), 4, 6, 2, Layers(conventions)), 4)


@pytest.mark.parametrize("name", BLOCKS)
def test_no_block_does_either(name: str) -> None:
    assert not strided_pointwise(build_block(name, 4, 8, 2), 4)


def test_no_exported_layer_does_either() -> None:
    for module in (
        layers.Projection(4, 6, 2),
        blocks.shortcut(4, 6, 2),
        blocks.channel_norm_shortcut(4, 6, 2),
        layers.SeparableConvolution(4, 6, 3, 2),
        layers.ReductionBlock(4, 6),
        same.conv(4, 6, 3, 2),
    ):
        assert not strided_pointwise(module, 4)


@pytest.mark.parametrize("stride", [2, 4, (1, 2), (2, 1)])
@pytest.mark.parametrize("side", [1, 2, 7, 8])
def test_a_strided_pointwise_convolution_is_pytorchs(stride: int | tuple[int, int], side: int) -> None:
    ours, torchs = Conv2d(5, 6, 1, stride), nn.Conv2d(5, 6, 1, stride)
    torchs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 5, side, side)
    torch.testing.assert_close(ours(x), torchs(x))


@pytest.mark.parametrize("channels", [1, 2])
def test_unequal_strides_are_pytorchs(channels: int) -> None:
    ours = Convolution(channels, 16, (1, 3), (1, 2), padding="symmetric").to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for side in (1, 2, 5):
        x = torch.randn(3, channels, side, side).to(memory_format=torch.channels_last)
        exact = nn.functional.conv2d(x.double(), ours.weight.double(), None, (1, 2), (0, 1))
        result = ours(x)
        torch.testing.assert_close(result.double(), exact, rtol=1e-5, atol=1e-5)
        assert result.is_contiguous(memory_format=torch.channels_last)
