"""The module behind every operation name of a cell, with any stride and width: the table ``OPERATIONS``.

Sources: tensorflow/models research/slim/nets/nasnet (separable convolutions, pooling, identity), tensorflow/tpu amoeba_net
(the other convolutions), quark0/darts (where ``Conventions`` asks for its forms). Convolutions have no bias; the order is
ReLU, convolution, batch norm, except for NAS-Bench-101's convolutions, whose names say theirs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces import vocabulary
from search_spaces.errors import GenotypeError
from search_spaces.genotype import Edge
from search_spaces.networks import fast
from search_spaces.networks.blocks import BLOCKS, build_block
from search_spaces.networks.convolution import Conv2d
from search_spaces.networks.native.operators import Window, run_pool, same_padding
from search_spaces.skeletons import Conventions


class Convolution(Conv2d):
    """A convolution without bias whose output has ``ceil(side / stride)`` pixels a side, whatever the kernel (not if ``valid``).

    With stride 1, odd kernels and every padding rule agree, and the padding is the convolution's own. A strided one under
    TensorFlow's rule needs one more pixel at the bottom and right of an even side.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        *,
        dilation: int = 1,
        groups: int = 1,
        padding: Literal["same", "symmetric", "valid"] = "same",
    ) -> None:
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        symmetric = (0, 0) if padding == "valid" else (dilation * (height - 1) // 2, dilation * (width - 1) // 2)
        super().__init__(channels_in, channels_out, (height, width), stride, symmetric, dilation, groups, bias=False)
        self.same = padding == "same" and any(s > 1 and k > 1 for s, k in zip(self.stride, self.kernel_size, strict=True))

    def reset_parameters(self) -> None:
        """Variance scaling, fan-out mode, as NASNet's code; the fan-out of a depthwise kernel is its own area."""
        if self.weight.is_meta:  # nothing to fill, and slow to pretend
            return
        fan_out = self.kernel_size[0] * self.kernel_size[1] * self.out_channels // self.groups
        nn.init.normal_(self.weight, std=(2 / fan_out) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (batch, channels_in, height, width) to (batch, channels_out, ⌈height / stride⌉, ⌈width / stride⌉)."""
        if not self.same:
            return super().forward(x)
        top, bottom = same_padding(x.shape[2], self.kernel_size[0], self.stride[0], self.dilation[0])
        left, right = same_padding(x.shape[3], self.kernel_size[1], self.stride[1], self.dilation[1])
        if (top, left) != (bottom, right):
            x = F.pad(x, (0, right - left, 0, bottom - top))
        return self.convolve(x, (top, left))


@dataclass(frozen=True, slots=True)
class Layers:
    """Makes the layers that operations are made of, by the conventions and batch-norm settings of a skeleton."""

    conventions: Conventions
    norm_eps: float = 1e-5
    norm_momentum: float = 0.1

    def norm(self, channels: int) -> nn.BatchNorm2d:
        """Batch normalisation."""
        return nn.BatchNorm2d(channels, eps=self.norm_eps, momentum=self.norm_momentum)

    def conv(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        *,
        dilation: int = 1,
        groups: int = 1,
    ) -> Convolution:
        """A convolution without bias, padded by the conventions."""
        padding = self.conventions.padding
        return Convolution(channels_in, channels_out, kernel, stride, dilation=dilation, groups=groups, padding=padding)


class Operation(nn.Module):
    """Maps a hidden state (batch, channels_in, h, w) to (batch, channels_out, ⌈h / stride⌉, ⌈w / stride⌉).

    ``activated`` says that ``forward`` takes the ReLU of the state. The cell computes it once for all its consumers, so no
    operation may change its input in place. ``droppable`` says that drop path may zero the result.
    """

    activated = True
    droppable = True

    def fast(self, x: Tensor, addend: Tensor | None) -> Tensor | None:
        """The result for the state itself, plus ``addend``, by native kernels (see ``fast``); None where they cannot."""
        return None


class Sequential(Operation):
    """Layers one after the other on the activated state."""

    def __init__(self, *layers: nn.Module, activated: bool = True) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.activated = activated

    def forward(self, x: Tensor) -> Tensor:
        """See ``Operation``."""
        for layer in self.layers:
            x = layer(x)
        return x

    def fast(self, x: Tensor, addend: Tensor | None) -> Tensor | None:
        """See ``Operation``."""
        return fast.run_layers(self, tuple(self.layers), x, self.activated, addend)


class FreshReLU(nn.ReLU):
    """A ReLU inside an operation, in place: its input is the batch norm's own output, which no one else needs."""

    def __init__(self) -> None:
        super().__init__(inplace=True)


class Identity(Operation):
    """Passes a state of the right shape on."""

    activated = False
    droppable = False

    def forward(self, x: Tensor) -> Tensor:
        """See ``Operation``."""
        return x


class Zero(Operation):
    """Zeros of the shape of the result."""

    activated = False
    droppable = False

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.channels, self.stride = channels, stride

    def forward(self, x: Tensor) -> Tensor:
        """See ``Operation``."""
        height, width = (-(-side // self.stride) for side in x.shape[2:])
        return x.new_zeros(x.shape[0], self.channels, height, width)


class FactorizedReduction(Operation):
    """Halves the resolution by two 1×1 convolutions, one on the even pixels, the other on the odd ones; then batch norm.

    Pixels beyond an odd side count as zero. An odd width gives the first path the smaller half.
    """

    def __init__(self, channels_in: int, channels_out: int, layers: Layers, *, activated: bool = True) -> None:
        super().__init__()
        self.activated = activated
        self.even = layers.conv(channels_in, channels_out // 2, 1) if channels_out > 1 else None
        self.odd = layers.conv(channels_in, channels_out - channels_out // 2, 1)
        self.norm = layers.norm(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """See ``Operation``."""
        odd = x[:, :, 1::2, 1::2]
        if x.shape[2] % 2 or x.shape[3] % 2:
            odd = F.pad(odd, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
        odd = self.odd(odd)
        return self.norm(odd if self.even is None else torch.cat([self.even(x[:, :, ::2, ::2]), odd], 1))  # type: ignore[no-any-return]

    def fast(self, x: Tensor, addend: Tensor | None) -> Tensor | None:
        """See ``Operation``."""
        return None if self.even is None else fast.run_factorized(self, (self.even, self.odd, self.norm), x, self.activated, addend)


class Pooling(Operation):
    """Average or maximum over a window; the padding takes no part. Another width is reached by a 1×1 convolution after it.

    A window of even side has no middle: whatever the conventions, it is padded as TensorFlow does, after the last pixel.
    """

    activated = False

    def __init__(self, kind: str, kernel: int, channels_in: int, channels_out: int, stride: int, layers: Layers) -> None:
        super().__init__()
        self.kind, self.kernel, self.stride = kind, kernel, stride
        self.same = kernel % 2 == 0 or (layers.conventions.padding == "same" and stride > 1)
        self.counts_padding = layers.conventions.average_counts_padding and self.same
        self.project = None if channels_in == channels_out else project(channels_in, channels_out, 1, layers)

    def forward(self, x: Tensor) -> Tensor:
        """See ``Operation``."""
        pads = [same_padding(side, self.kernel, self.stride) for side in x.shape[2:]] if self.same else [(self.kernel // 2,) * 2] * 2
        before = (pads[0][0], pads[1][0])
        if self.stride == 1 and self.kernel % 2 == 0:  # no window ends outside where each pixel begins one
            x = F.pad(x, (0, 1, 0, 1), value=-torch.inf)
        # A window that starts inside may end outside under ceil_mode: that is the odd pixel after, without a padded copy.
        if self.kind == "max":
            x = F.max_pool2d(x, self.kernel, self.stride, before, ceil_mode=self.same)
        elif self.counts_padding:
            x = F.avg_pool2d(F.pad(x, (*pads[1], *pads[0])), self.kernel, self.stride)
        else:
            x = F.avg_pool2d(x, self.kernel, self.stride, before, ceil_mode=self.same, count_include_pad=False)
        return x if self.project is None else self.project(x)

    def fast(self, x: Tensor, addend: Tensor | None) -> Tensor | None:
        """See ``Operation``."""
        if self.kind == "avg" and self.kernel % 2 == 0:
            return None
        window = Window((self.kernel,) * 2, (self.stride,) * 2, None if self.same else (self.kernel // 2,) * 2)
        x = run_pool(window, x, maximum=self.kind == "max", counts_padding=self.counts_padding)
        if self.project is None:
            return x if addend is None else addend + x
        result = fast.run_layers(self.project, tuple(self.project.layers), x, False, addend)
        if result is not None:
            return result
        x = self.project(x)
        return x if addend is None else addend + x


class SeparableConvolution(Operation):
    """Depthwise and pointwise convolution and batch norm, twice; the first half carries stride and width, the second the same kernel."""

    def __init__(self, kernel: int, channels_in: int, channels_out: int, stride: int, layers: Layers) -> None:
        super().__init__()
        self.depthwise_1 = layers.conv(channels_in, channels_in, kernel, stride, groups=channels_in)
        self.pointwise_1 = layers.conv(channels_in, channels_out, 1)
        self.norm_1 = layers.norm(channels_out)
        self.depthwise_2 = layers.conv(channels_out, channels_out, kernel, groups=channels_out)
        self.pointwise_2 = layers.conv(channels_out, channels_out, 1)
        self.norm_2 = layers.norm(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """See ``Operation``."""
        x = self.norm_1(self.pointwise_1(self.depthwise_1(x)))
        return self.norm_2(self.pointwise_2(self.depthwise_2(F.relu_(x))))  # type: ignore[no-any-return]

    def fast(self, x: Tensor, addend: Tensor | None) -> Tensor | None:
        """See ``Operation``."""
        return fast.run_layers(self, self.in_order(), x, self.activated, addend)

    def in_order(self) -> tuple[nn.Module, ...]:
        """The layers as they follow each other, with the ReLU between the halves."""
        first = (self.depthwise_1, self.pointwise_1, self.norm_1)
        return *first, fast.RELU, self.depthwise_2, self.pointwise_2, self.norm_2


# ---------------------------------------------------------------------------------------------------- the table

Factory = Callable[[int, int, int, Layers], Operation]
"""Makes an operation from channels in, channels out, stride (1 or 2) and the layers to build it of."""


def project(channels_in: int, channels_out: int, stride: int, layers: Layers, *, activated: bool = True) -> Sequential:
    """1×1 convolution and batch norm: what brings a state to another width."""
    return Sequential(layers.conv(channels_in, channels_out, 1, stride), layers.norm(channels_out), activated=activated)


def _identity(channels_in: int, channels_out: int, stride: int, layers: Layers) -> Operation:
    if stride == 1 and channels_in == channels_out:
        return Identity()
    if stride > 1 and layers.conventions.strided_identity == "factorized":
        operation: Operation = FactorizedReduction(channels_in, channels_out, layers)
    else:
        operation = project(channels_in, channels_out, stride, layers)
    operation.droppable = layers.conventions.drop_strided_identity
    return operation


def _convolution(
    kernels: tuple[tuple[int, int], ...],
    share: float,
    channels_in: int,
    channels_out: int,
    stride: int,
    layers: Layers,
    dilation: int = 1,
) -> Operation:
    """Convolutions of the kernels in turn, in a bottleneck of that share of the filters if the conventions ask for one.

    A pair strides along the side that each kernel covers.
    """
    bottleneck = layers.conventions.bottleneck
    inner = int(channels_out * share) if bottleneck else 0
    narrow = inner or channels_out  # a bottleneck of less than one filter is left out
    pair = len(kernels) > 1
    parts: list[nn.Module] = [layers.conv(channels_in, inner, 1), layers.norm(inner), FreshReLU()] if inner else []
    width = inner or channels_in
    for i, (height, breadth) in enumerate(kernels):
        if i > 0 and bottleneck:
            parts += [layers.norm(narrow), FreshReLU()]
        step = (stride if height > 1 or not pair else 1, stride if breadth > 1 or not pair else 1)
        parts.append(layers.conv(width, narrow, (height, breadth), step, dilation=dilation))
        width = narrow
    if inner:
        parts += [layers.norm(inner), FreshReLU(), layers.conv(inner, channels_out, 1)]
    return Sequential(*parts, layers.norm(channels_out))


def _dilated(kernel: int, channels_in: int, channels_out: int, stride: int, layers: Layers) -> Operation:
    if layers.conventions.dilated == "plain":
        return _convolution(((kernel, kernel),), 1 / 4, channels_in, channels_out, stride, layers, dilation=2)
    depthwise = layers.conv(channels_in, channels_in, kernel, stride, dilation=2, groups=channels_in)
    return Sequential(depthwise, layers.conv(channels_in, channels_out, 1), layers.norm(channels_out))


def _relu_last(kernel: int, channels_in: int, channels_out: int, stride: int, layers: Layers) -> Operation:
    """NAS-Bench-101's order: convolution, batch norm, ReLU (Ying et al. 2019, arXiv 1902.09635, section 2.1)."""
    return Sequential(layers.conv(channels_in, channels_out, kernel, stride), layers.norm(channels_out), FreshReLU(), activated=False)


def _zero(channels_in: int, channels_out: int, stride: int, layers: Layers) -> Operation:
    return Zero(channels_out, stride)


OPERATIONS: Mapping[str, Factory] = {
    "identity": _identity,
    "conv_1x3_3x1": partial(_convolution, ((1, 3), (3, 1)), 3 / 8),
    "conv_1x7_7x1": partial(_convolution, ((1, 7), (7, 1)), 1 / 4),
    "dil_conv_3x3": partial(_dilated, 3),
    "dil_conv_5x5": partial(_dilated, 5),
    "avg_pool_3x3": partial(Pooling, "avg", 3),
    "avg_pool_5x5": partial(Pooling, "avg", 5),
    "max_pool_2x2": partial(Pooling, "max", 2),
    "max_pool_3x3": partial(Pooling, "max", 3),
    "max_pool_5x5": partial(Pooling, "max", 5),
    "max_pool_7x7": partial(Pooling, "max", 7),
    "conv_1x1": project,
    "conv_3x3": partial(_convolution, ((3, 3),), 1 / 4),
    "conv_5x5": partial(_convolution, ((5, 5),), 1 / 4),
    "conv_1x1_bn_relu": partial(_relu_last, 1),
    "conv_3x3_bn_relu": partial(_relu_last, 3),
    "sep_conv_3x3": partial(SeparableConvolution, 3),
    "sep_conv_5x5": partial(SeparableConvolution, 5),
    "sep_conv_7x7": partial(SeparableConvolution, 7),
    "zero": _zero,
}
"""Every operation that a cell network can build."""


class BlockOperation(Operation):
    """A residual block in a cell. It takes the state itself, for its shortcut; an odd side of a strided one is padded with a zero."""

    activated = False

    def __init__(self, edge: Edge, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.block = build_block(edge.operation, channels_in, channels_out, stride, dict(edge.options))

    def forward(self, x: Tensor) -> Tensor:
        """See ``Operation``."""
        bottom, right = (side % self.stride for side in x.shape[2:])
        return self.block(F.pad(x, (0, right, 0, bottom)) if bottom or right else x)  # type: ignore[no-any-return]


def build_operation(edge: Edge, channels_in: int, channels_out: int, stride: int, layers: Layers) -> Operation:
    """The operation of an edge: one of ``OPERATIONS``, a residual block, or one from outside.

    Raises:
        GenotypeError: there is no such operation, or an option breaks its rule.
    """
    if edge.operation in BLOCKS:
        return BlockOperation(edge, channels_in, channels_out, stride)
    if edge.operation in OPERATIONS:
        return OPERATIONS[edge.operation](channels_in, channels_out, stride, layers)
    module = vocabulary.OPERATIONS[edge.operation].module
    if module is None:
        raise GenotypeError(f"{edge.operation!r} is not an operation of cells; those are: {', '.join((*OPERATIONS, *BLOCKS))}")
    return from_outside(module, edge, channels_in, channels_out, stride)


def from_outside(module: Callable[..., nn.Module], edge: Edge, channels_in: int, channels_out: int, stride: int) -> Operation:
    """An operation of somebody else's, which knows nothing of ``Operation``: its parameters keep their own names, for exports."""
    rules = vocabulary.OPERATIONS[edge.operation].options
    made = module(channels_in, channels_out, stride, **{key: rule.default for key, rule in rules.items()} | dict(edge.options))
    if not isinstance(made, nn.Module):
        raise GenotypeError(f"operation {edge.operation!r} must be a torch.nn.Module, but got {type(made).__name__}")
    operation = cast(Operation, made)
    operation.activated, operation.droppable = False, True
    return operation
