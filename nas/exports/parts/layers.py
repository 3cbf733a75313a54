"""Operations of cells as standalone files have them: written to be read there, copied as text, each only where it is used.

Attribute names are those of ``search_spaces.networks.operations``, so that weights fit without renaming. Every operation applies its own
ReLU; drop path, which only training uses, is left out.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.exports.parts.strided import Strided
from nas.exports.parts.symmetric import conv

NORM_EPS = 1e-5


def norm(channels: int) -> nn.BatchNorm2d:
    """Batch normalisation."""
    return nn.BatchNorm2d(channels, eps=NORM_EPS)


class Projection(nn.Module):
    """ReLU (if wanted), 1×1 convolution, batch norm: brings a state to another width."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1, relu: bool = True) -> None:
        super().__init__()
        self.relu = relu
        layers = conv(channels_in, channels_out, 1), norm(channels_out)
        self.layers = Strided(stride, *layers) if stride > 1 else nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(F.relu(x) if self.relu else x)


class FactorizedReduction(nn.Module):
    """Halves the resolution: 1×1 convolutions of the even pixels and of the odd ones, side by side; then batch norm."""

    def __init__(self, channels_in: int, channels_out: int, relu: bool = True) -> None:
        super().__init__()
        self.relu = relu
        self.even = conv(channels_in, channels_out // 2, 1)
        self.odd = conv(channels_in, channels_out - channels_out // 2, 1)
        self.norm = norm(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x) if self.relu else x
        odd = F.pad(x[:, :, 1::2, 1::2], (0, x.shape[3] % 2, 0, x.shape[2] % 2))  # beyond an odd side there are zeros
        return self.norm(torch.cat([self.even(x[:, :, ::2, ::2]), self.odd(odd)], 1))


class OneFilterReduction(nn.Module):
    """Halves the resolution to one filter: 1×1 convolution of the odd pixels; then batch norm."""

    def __init__(self, channels_in: int, relu: bool = True) -> None:
        super().__init__()
        self.relu = relu
        self.odd = conv(channels_in, 1, 1)
        self.norm = norm(1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x) if self.relu else x
        odd = F.pad(x[:, :, 1::2, 1::2], (0, x.shape[3] % 2, 0, x.shape[2] % 2))  # beyond an odd side there are zeros
        return self.norm(self.odd(odd))


class SeparableConvolution(nn.Module):
    """ReLU, depthwise and 1×1 convolution, batch norm: twice. The first half carries stride and width."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise_1 = conv(channels_in, channels_in, kernel, stride, groups=channels_in)
        self.pointwise_1 = conv(channels_in, channels_out, 1)
        self.norm_1 = norm(channels_out)
        self.depthwise_2 = conv(channels_out, channels_out, kernel, groups=channels_out)
        self.pointwise_2 = conv(channels_out, channels_out, 1)
        self.norm_2 = norm(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm_1(self.pointwise_1(self.depthwise_1(F.relu(x))))
        return self.norm_2(self.pointwise_2(self.depthwise_2(F.relu(x))))


class DilatedSeparableConvolution(nn.Module):
    """ReLU, depthwise k×k convolution of rate 2, 1×1 convolution, batch norm."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        depthwise = conv(channels_in, channels_in, kernel, stride, dilation=2, groups=channels_in)
        self.layers = nn.Sequential(depthwise, conv(channels_in, channels_out, 1), norm(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(F.relu(x))


class Convolution(nn.Module):
    """ReLU, k×k convolution, batch norm."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(conv(channels_in, channels_out, kernel, stride, dilation), norm(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(F.relu(x))


class ConvolutionNormReLU(nn.Module):
    """k×k convolution, batch norm, ReLU."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(conv(channels_in, channels_out, kernel, stride), norm(channels_out), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class ConvolutionPair(nn.Module):
    """ReLU, 1×k and k×1 convolution, batch norm."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv(channels_in, channels_out, (1, kernel), (1, stride)),
            conv(channels_out, channels_out, (kernel, 1), (stride, 1)),
            norm(channels_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(F.relu(x))


class NormedConvolutionPair(nn.Module):
    """1×k and k×1 convolution, a ReLU before and a batch norm after each."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv(channels_in, channels_out, (1, kernel), (1, stride)),
            norm(channels_out),
            nn.ReLU(),
            conv(channels_out, channels_out, (kernel, 1), (stride, 1)),
            norm(channels_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(F.relu(x))


class BottleneckConvolution(nn.Module):
    """1×1, k×k (in fewer channels) and 1×1 convolution, a ReLU before and a batch norm after each."""

    def __init__(self, channels_in: int, inner: int, channels_out: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv(channels_in, inner, 1),
            norm(inner),
            nn.ReLU(),
            conv(inner, inner, kernel, stride, dilation),
            norm(inner),
            nn.ReLU(),
            conv(inner, channels_out, 1),
            norm(channels_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(F.relu(x))


class BottleneckConvolutionPair(nn.Module):
    """1×1, 1×k, k×1 (in fewer channels) and 1×1 convolution, a ReLU before and a batch norm after each."""

    def __init__(self, channels_in: int, inner: int, channels_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv(channels_in, inner, 1),
            norm(inner),
            nn.ReLU(),
            conv(inner, inner, (1, kernel), (1, stride)),
            norm(inner),
            nn.ReLU(),
            conv(inner, inner, (kernel, 1), (stride, 1)),
            norm(inner),
            nn.ReLU(),
            conv(inner, channels_out, 1),
            norm(channels_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(F.relu(x))


class MaxPool2x2(nn.Module):
    """Maximum over a pixel, the one after it and the two below; beyond the last ones there is nothing."""

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, 1, 0, 1), value=float("-inf")) if self.stride == 1 else x
        return F.max_pool2d(x, 2, self.stride, ceil_mode=True)


class PoolAndProject(nn.Module):
    """A pooling, then 1×1 convolution and batch norm to another width."""

    def __init__(self, pool: nn.Module, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.pool = pool
        self.project = Projection(channels_in, channels_out, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.pool(x))


def pool_and_maybe_project(pool: nn.Module, channels_in: int, channels_out: int) -> nn.Module:
    """A pooling, with a projection after it where the width changes."""
    return pool if channels_in == channels_out else PoolAndProject(pool, channels_in, channels_out)


def identity_or_projection(channels_in: int, channels_out: int, relu: bool = True) -> nn.Module:
    """The identity, or a projection where the width changes."""
    return nn.Identity() if channels_in == channels_out else Projection(channels_in, channels_out, relu=relu)


class Zero(nn.Module):
    """Zeros of the shape that an operation's result would have."""

    def __init__(self, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        self.channels_out, self.stride = channels_out, stride

    def forward(self, x: Tensor) -> Tensor:
        height, width = (-(-side // self.stride) for side in x.shape[2:])
        return x.new_zeros(x.shape[0], self.channels_out, height, width)


class BlockOperation(nn.Module):
    """A residual block in a cell; an odd side of a strided one is padded with a zero."""

    def __init__(self, block: nn.Module, stride: int = 1) -> None:
        super().__init__()
        self.block, self.stride = block, stride

    def forward(self, x: Tensor) -> Tensor:
        return self.block(F.pad(x, (0, x.shape[3] % self.stride, 0, x.shape[2] % self.stride)))


class Add(nn.Module):
    """A node that applies each operation to its hidden state and adds the results."""

    def __init__(self, *operations: nn.Module) -> None:
        super().__init__()
        self.operations = nn.ModuleList(operations)

    def forward(self, *states: Tensor) -> Tensor:
        return sum(operation(state) for operation, state in zip(self.operations, states, strict=True))


class Concat(nn.Module):
    """A node that applies each operation to its hidden state and concatenates the results."""

    def __init__(self, *operations: nn.Module) -> None:
        super().__init__()
        self.operations = nn.ModuleList(operations)

    def forward(self, *states: Tensor) -> Tensor:
        return torch.cat([operation(state) for operation, state in zip(self.operations, states, strict=True)], 1)


class ConvolutionNorm(nn.Module):
    """3×3 convolution and batch norm."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(conv(channels_in, channels_out, 3, stride), norm(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class ReductionBlock(nn.Module):
    """ReLU, 3×3 convolution and batch norm twice, added to 2×2 average pooling and a 1×1 convolution."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.first = ConvolutionNorm(channels_in, channels_out, stride=2)
        self.second = ConvolutionNorm(channels_out, channels_out)
        self.shortcut = conv(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.second(F.relu(self.first(F.relu(x))))
        return branch + self.shortcut(F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False))
