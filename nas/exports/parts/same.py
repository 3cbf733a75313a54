"""Layers of standalone files that are padded as TensorFlow does ("SAME"): the odd pixel goes to the bottom and right."""

import torch.nn.functional as F
from torch import Tensor, nn


def same_padding(side: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """TensorFlow's SAME padding of a side: pixels before and after, the odd one after."""
    total = max(dilation * (kernel - 1) + 1 - (side % stride or stride), 0)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):
    """A strided convolution with TensorFlow's SAME padding, which depends on the size of the input."""

    def forward(self, x: Tensor) -> Tensor:
        top, bottom = same_padding(x.shape[2], self.kernel_size[0], self.stride[0], self.dilation[0])
        left, right = same_padding(x.shape[3], self.kernel_size[1], self.stride[1], self.dilation[1])
        return super().forward(F.pad(x, (left, right, top, bottom)))


def conv(
    channels_in: int,
    channels_out: int,
    kernel: int | tuple[int, int],
    stride: int | tuple[int, int] = 1,
    dilation: int = 1,
    groups: int = 1,
) -> nn.Conv2d:
    """A convolution without bias whose output has ceil(side / stride) pixels a side."""
    if stride not in (1, (1, 1)):
        return SameConv2d(channels_in, channels_out, kernel, stride, dilation=dilation, groups=groups, bias=False)
    return nn.Conv2d(channels_in, channels_out, kernel, padding="same", dilation=dilation, groups=groups, bias=False)


class SameMaxPool2d(nn.Module):
    """Maximum over a window with stride 2; the padding takes no part."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, x: Tensor) -> Tensor:
        # A window that starts inside may end outside under ceil_mode: that is the odd pixel after.
        before = [same_padding(side, self.kernel, 2)[0] for side in x.shape[2:]]
        return F.max_pool2d(x, self.kernel, 2, before, ceil_mode=True)


class SameAvgPool2d(nn.Module):
    """Average over a window with stride 2; the padding takes no part."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, x: Tensor) -> Tensor:
        # A window that starts inside may end outside under ceil_mode: that is the odd pixel after.
        before = [same_padding(side, self.kernel, 2)[0] for side in x.shape[2:]]
        return F.avg_pool2d(x, self.kernel, 2, before, ceil_mode=True, count_include_pad=False)


class SameAvgPool2dWithZeros(nn.Module):
    """Average over a window with stride 2; the padding's zeros are part of it, as in timm's port of NASNet."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, x: Tensor) -> Tensor:
        (top, bottom), (left, right) = (same_padding(side, self.kernel, 2) for side in x.shape[2:])
        return F.avg_pool2d(F.pad(x, (left, right, top, bottom)), self.kernel, 2)
