"""Residual blocks as standalone files have them; names as in ``search_spaces.networks.blocks``, without stochastic depth."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.exports.parts.strided import Strided


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels at each position of a (batch, channels, height, width) map."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class PatchConv(nn.Conv2d):
    """Convolution of non-overlapping patches; a map smaller than a patch is padded with zeros up to one."""

    def __init__(self, channels_in: int, channels_out: int, patch: int, bias: bool = True) -> None:
        super().__init__(channels_in, channels_out, patch, stride=patch, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        bottom, right = (max(0, kernel - side) for kernel, side in zip(self.kernel_size, x.shape[2:], strict=True))
        return super().forward(F.pad(x, (0, right, 0, bottom)))


def shortcut(channels_in: int, channels_out: int, stride: int) -> nn.Module:
    """Identity where shapes agree, else a strided 1×1 convolution and batch norm."""
    if stride == 1 and channels_in == channels_out:
        return nn.Identity()
    layers = nn.Conv2d(channels_in, channels_out, 1, bias=False), nn.BatchNorm2d(channels_out)
    return Strided(stride, *layers) if stride > 1 else nn.Sequential(*layers)


def channel_norm_shortcut(channels_in: int, channels_out: int, stride: int) -> nn.Module:
    """Identity where shapes agree, else a strided 1×1 convolution and LayerNorm."""
    if stride == 1 and channels_in == channels_out:
        return nn.Identity()
    layers = nn.Conv2d(channels_in, channels_out, 1, bias=False), ChannelNorm(channels_out, eps=1e-6)
    return Strided(stride, *layers) if stride > 1 else nn.Sequential(*layers)


class Bottleneck(nn.Module):
    """1×1, grouped 3×3 and 1×1 convolution, each with batch norm, added to the shortcut (He et al. 2016, Xie et al. 2017)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, hidden: int, groups: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, hidden, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, stride, padding=1, groups=groups, bias=False)
        self.norm2 = nn.BatchNorm2d(hidden)
        self.conv3 = nn.Conv2d(hidden, channels_out, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(channels_out)
        self.shortcut = shortcut(channels_in, channels_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        branch = F.relu(self.norm1(self.conv1(x)))
        branch = F.relu(self.norm2(self.conv2(branch)))
        return F.relu(self.norm3(self.conv3(branch)) + self.shortcut(x))


class BlockPath(nn.Module):
    """One of the parallel paths of a ResNeXt block: 1×1 and 3×3 convolution, each with batch norm and ReLU."""

    def __init__(self, channels_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, width, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(x)))


class FullPath(BlockPath):
    """A path with its own last 1×1 convolution."""

    def __init__(self, channels_in: int, width: int, channels_out: int, stride: int) -> None:
        super().__init__(channels_in, width, stride)
        self.conv3 = nn.Conv2d(width, channels_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(super().forward(x))


class SummedPaths(nn.Module):
    """ResNeXt's block in form (a): parallel paths, summed (Xie et al. 2017, figure 3)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, width: int, cardinality: int) -> None:
        super().__init__()
        self.paths = nn.ModuleList(FullPath(channels_in, width, channels_out, stride) for _ in range(cardinality))
        self.norm3 = nn.BatchNorm2d(channels_out)
        self.shortcut = shortcut(channels_in, channels_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        merged = torch.stack([path(x) for path in self.paths]).sum(0)
        return F.relu(self.norm3(merged) + self.shortcut(x))


class ConcatenatedPaths(nn.Module):
    """ResNeXt's block in form (b): parallel paths, concatenated, then one 1×1 convolution (Xie et al. 2017, figure 3)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, width: int, cardinality: int) -> None:
        super().__init__()
        self.paths = nn.ModuleList(BlockPath(channels_in, width, stride) for _ in range(cardinality))
        self.conv3 = nn.Conv2d(cardinality * width, channels_out, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(channels_out)
        self.shortcut = shortcut(channels_in, channels_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        merged = self.conv3(torch.cat([path(x) for path in self.paths], 1))
        return F.relu(self.norm3(merged) + self.shortcut(x))


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, LayerNorm, linear, GELU, linear, layer scale, addition (Liu et al. 2022, figure 4)."""

    def __init__(self, channels: int, kernel: int, expansion: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.expand = nn.Linear(channels, expansion * channels)
        self.project = nn.Linear(expansion * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        branch = self.norm(self.depthwise(x).permute(0, 2, 3, 1))  # channels last up to the way back
        branch = self.project(F.gelu(self.expand(branch))) * self.scale
        return x + branch.permute(0, 3, 1, 2)


class UnscaledConvNeXtBlock(nn.Module):
    """Depthwise convolution, LayerNorm, linear, GELU, linear, addition (Liu et al. 2022, figure 4, without layer scale)."""

    def __init__(self, channels: int, kernel: int, expansion: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.expand = nn.Linear(channels, expansion * channels)
        self.project = nn.Linear(expansion * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.norm(self.depthwise(x).permute(0, 2, 3, 1))  # channels last up to the way back
        branch = self.project(F.gelu(self.expand(branch)))
        return x + branch.permute(0, 3, 1, 2)


def downsample(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    """ConvNeXt's layer between stages: LayerNorm, then a convolution of kernel and stride 2 (1 where only the width changes)."""
    return nn.Sequential(ChannelNorm(channels_in, eps=1e-6), PatchConv(channels_in, channels_out, stride))
