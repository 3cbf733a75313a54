"""The convolution that networks are made of: PyTorch's, kept away from what oneDNN computes wrongly."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

VECTOR = 16
"""Channels in a vector register of AVX-512. From so many on, a strided 1×1 convolution is safe, and computed as it always was."""


class Conv2d(nn.Conv2d):
    """PyTorch's convolution, except for two kinds that oneDNN gets wrong on channels-last states; the function is the same.

    A strided 1×1 convolution of few channels first takes the pixels that it reads and then convolves them with stride 1: its own
    weight gradient writes beyond its buffer where there are fewer channels in than a vector holds (16 with AVX-512, 8 with AVX2),
    so that the process dies, hangs, or goes on with wrong gradients (uxlfoundation/oneDNN#6035).

    One channel in with a larger stride along the width than along the height is computed channels-first: with AVX-512 the result
    is wrong where it has one column. ``benchmarks/gradients.py`` checks every kind of layer for the like.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Maps (batch, in_channels, height, width) as ``torch.nn.Conv2d`` does."""
        assert isinstance(self.padding, tuple)
        return self.convolve(x, self.padding)

    def convolve(self, x: Tensor, padding: tuple[int, ...]) -> Tensor:
        """The convolution of a state padded by so many zeros before and after, (vertically, horizontally)."""
        if self.in_channels < VECTOR and self.kernel_size == (1, 1) and self.stride != (1, 1):  # unpadded, as every 1×1 here
            return F.conv2d(x[:, :, :: self.stride[0], :: self.stride[1]], self.weight, self.bias, groups=self.groups)
        if self.in_channels > 1 or self.stride[0] >= self.stride[1]:
            return F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)
        x, weight = (tensor.clone(memory_format=torch.contiguous_format) for tensor in (x, self.weight))  # one channel is both formats
        y = F.conv2d(x, weight, self.bias, self.stride, padding, self.dilation, self.groups)
        return y.contiguous(memory_format=torch.channels_last)
