"""Layers of standalone files whose convolutions are padded as PyTorch does: as much before as after."""

from torch import nn


def conv(
    channels_in: int,
    channels_out: int,
    kernel: int | tuple[int, int],
    stride: int | tuple[int, int] = 1,
    dilation: int = 1,
    groups: int = 1,
) -> nn.Conv2d:
    """A convolution without bias whose output has ceil(side / stride) pixels a side."""
    height, width = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    padding = (dilation * (height - 1) // 2, dilation * (width - 1) // 2)
    return nn.Conv2d(channels_in, channels_out, kernel, stride, padding, dilation, groups, bias=False)
