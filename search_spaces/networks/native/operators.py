"""The kernels as differentiable functions of tensors: a chain of convolutions and batch norms, and a pooling. Float32 on a CPU.

They are plain ``torch.autograd.Function``s over ctypes, which cost a few microseconds a call: narrow networks make thousands of calls a
second, and Python operators of ``torch.library`` cost several times as much. Nothing that traces a network sees them: see
``search_spaces.networks.fast``.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from search_spaces.networks.native import library

_UNIT = struct.Struct("19q2d15q")
"""As ``unit`` in kernels.c."""
_POOLING = struct.Struct("21q")
"""As ``pooling`` in kernels.c."""

MOST_TAPS = 128
MOST_STRIDE = 2


def same_padding(side: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """TensorFlow's SAME padding of a side: pixels before and after, the odd one after.

    Written by the remainder, so that it is plain numbers where an exporter knows of a free side only that.
    """
    total = max(dilation * (kernel - 1) + 1 - (side % stride or stride), 0)
    return total // 2, total - total // 2


@dataclass(frozen=True, slots=True)
class Window:
    """How a window slides, (vertically, horizontally): padded by so many pixels, or as TensorFlow's SAME rule has it (None)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] | None
    dilation: int = 1

    @property
    def known(self) -> bool:
        """Whether the kernels can do it."""
        return self.kernel[0] * self.kernel[1] <= MOST_TAPS and max(self.stride) <= MOST_STRIDE

    def place(self, height: int, width: int) -> tuple[int, int, int, int]:
        """The padding above and to the left of a state, and the height and width of what comes out."""
        before, sides = [], []
        for i, side in enumerate((height, width)):
            kernel, stride = self.kernel[i], self.stride[i]
            if self.padding is None:
                before.append(same_padding(side, kernel, stride, self.dilation)[0])
                sides.append(-(-side // stride))
            else:
                before.append(self.padding[i])
                sides.append((side + 2 * self.padding[i] - self.dilation * (kernel - 1) - 1) // stride + 1)
        return before[0], before[1], sides[0], sides[1]


@dataclass(frozen=True, slots=True)
class Unit:
    """ReLU, depthwise convolution, dense convolution, batch norm: all but the dense one may be missing.

    Attributes:
        channels: in and out.
        window: of the depthwise convolution, which a 1×1 one then follows; without it, of the dense convolution.
        depthwise: whether there is a depthwise convolution.
        split: if not 0, a factorized reduction: the 2×2 window's first pixel makes so many channels, its last one the others.
        relu: before everything.
        norm: batch norm's epsilon and momentum, or None.
    """

    channels: tuple[int, int]
    window: Window
    depthwise: bool = False
    split: int = 0
    relu: bool = False
    norm: tuple[float, float] | None = None


@dataclass(slots=True)
class Chain:
    """Units one after the other, the last one with a norm and perhaps a ReLU; laid out once for each shape of input."""

    units: tuple[Unit, ...]
    relu_after: bool = False
    _layouts: dict[torch.Size, "Layout"] = field(default_factory=dict)

    def layout(self, shape: torch.Size) -> "Layout":
        """For inputs (batch, channels, height, width)."""
        found = self._layouts.get(shape)
        if found is None:
            if len(self._layouts) > 16:  # growing images, say: a few sizes are in use at a time
                self._layouts.clear()
            found = self._layouts[shape] = _lay_out(self, shape)
        return found


@dataclass(frozen=True, slots=True)
class Placed:
    """A unit for inputs of one shape.

    Attributes:
        numbers: what kernels.c wants to know first.
        places: in floats from the workspace's beginning: what the depthwise convolution made, what the dense one made, the norm's numbers.
        grad_place: likewise of the gradient of what the unit reads.
        depthwise: whether there is a depthwise kernel.
        normed: whether there is a norm.
    """

    numbers: tuple[float, ...]
    places: tuple[int, int, int]
    grad_place: int
    depthwise: bool
    normed: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """A chain for inputs of one shape: its units, the output's shape, its workspaces in floats, the fewest pixels that a norm sees."""

    units: tuple[Placed, ...]
    out: tuple[int, int, int, int]
    workspace: int
    grad_workspace: int
    pixels: int


def _lay_out(chain: Chain, shape: torch.Size) -> Layout:
    batch, _, height, width = shape
    placed: list[Placed] = []
    end, grad_end, pixels = 0, 0, 2
    for i, unit in enumerate(chain.units):
        channels_in, channels_out = unit.channels
        top, left, out_height, out_width = unit.window.place(height, width)
        sizes = (batch, channels_in, height, width, channels_out, out_height, out_width)
        window = (*unit.window.kernel, *unit.window.stride, unit.window.dilation, top, left)
        relu_after = chain.relu_after and i == len(chain.units) - 1
        flags = (int(unit.depthwise), unit.split, int(unit.relu), int(unit.norm is not None), int(relu_after))
        area = batch * out_height * out_width
        between, made = end, end + _aligned(unit.depthwise * channels_in * area)
        norms = made + _aligned(channels_out * area)
        end = norms + _aligned(5 * channels_out)
        placed.append(
            Placed(
                (*sizes, *window, *flags, *(unit.norm or (0.0, 0.0))),
                (between, made, norms),
                grad_end,
                unit.depthwise,
                unit.norm is not None,
            )
        )
        if i < len(chain.units) - 1:  # the gradient that the next unit writes; the first one's is a tensor of its own
            grad_end += _aligned(channels_out * area)
        pixels = min(pixels, area)
        height, width = out_height, out_width
    placed = [replace(unit, grad_place=placed[i - 1].grad_place if i else 0) for i, unit in enumerate(placed)]
    return Layout(tuple(placed), (batch, chain.units[-1].channels[1], height, width), end, grad_end, pixels)


def _aligned(floats: int) -> int:
    return -(-floats // 16) * 16


Moving = Sequence[Tensor | None]


def run_chain(chain: Chain, x: Tensor, addend: Tensor | None, weights: list[Tensor], moving: Moving) -> Tensor:
    """The chain's output (batch, channels, height, width), plus ``addend``; moving statistics are updated as batch norm does in training.

    Args:
        chain: what to compute.
        x: (batch, channels, height, width), of at least one image; float32 on the CPU, as all tensors.
        addend: of the output's shape, or None.
        weights: for each unit the depthwise kernels, the dense ones, the norm's scale and shift, as far as it has them.
        moving: for each norm the moving mean and variance, and the number of batches; with None for that, it normalises by those,
            as in evaluation, and they stay as they are. Nothing is differentiated then.
    """
    return _Chained.apply(x, addend, chain, moving, *weights)  # type: ignore[no-any-return]


def planes(x: Tensor) -> tuple[Tensor, int]:
    """The tensor with dense rows, columns and channels, copied if need be, and the numbers from one image to the next."""
    _, channels, height, width = x.shape
    whole = channels * height * width
    if x.is_contiguous():
        return x, whole
    strides = x.stride()
    if strides[1:] == (height * width, width, 1):
        return x, strides[0]
    return x.contiguous(), whole


class _Chained(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, addend: Tensor | None, chain: Chain, moving: Moving, *weights: Tensor) -> Tensor:  # noqa: ANN401
        kernels = library.load()
        assert kernels is not None
        layout = chain.layout(x.shape)
        x, step = planes(x)
        other, other_step = (None, 0) if addend is None else planes(addend)
        kept = [weight.contiguous() for weight in weights]
        workspace, out = torch.empty(layout.workspace), torch.empty(layout.out)
        kernels.nas_chain_forward(
            _pack(layout, workspace, kept, moving),
            len(layout.units),
            x.data_ptr(),
            step,
            None if other is None else other.data_ptr(),
            other_step,
            out.data_ptr(),
            torch.get_num_threads(),
        )
        ctx.save_for_backward(x, workspace, *kept)
        ctx.layout, ctx.step = layout, step
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        kernels = library.load()
        assert kernels is not None
        layout: Layout = ctx.layout
        x, workspace, *weights = ctx.saved_tensors
        dense, step = planes(grad)
        grads = [torch.empty(weight.shape) for weight in weights]
        grad_in = torch.empty(x.shape) if ctx.needs_input_grad[0] else None
        inner = torch.empty(layout.grad_workspace)
        kernels.nas_chain_backward(
            _pack(layout, workspace, weights, (), grads, grad_in, inner),
            len(layout.units),
            x.data_ptr(),
            ctx.step,
            dense.data_ptr(),
            step,
            torch.get_num_threads(),
        )
        return grad_in, grad if ctx.needs_input_grad[1] else None, None, None, *grads


def _pack(
    layout: Layout,
    workspace: Tensor,
    weights: Sequence[Tensor],
    moving: Moving,
    grads: Sequence[Tensor] = (),
    grad_in: Tensor | None = None,
    inner: Tensor | None = None,
) -> bytes:
    """The units as kernels.c reads them: numbers and addresses."""
    start = workspace.data_ptr()
    given = iter([weight.data_ptr() for weight in weights])
    moved = iter([0 if tensor is None else tensor.data_ptr() for tensor in moving])
    goals = iter([grad.data_ptr() for grad in grads])
    target = 0 if grad_in is None else grad_in.data_ptr()
    inner_start = 0 if inner is None else inner.data_ptr()
    packed: list[bytes] = []
    for unit in layout.units:
        between, made, norms = unit.places
        packed.append(
            _UNIT.pack(
                *unit.numbers,
                next(given) if unit.depthwise else 0,
                next(given),
                *((next(given), next(given)) if unit.normed else (0, 0)),
                *((next(moved), next(moved), next(moved)) if unit.normed and moving else (0, 0, 0)),
                start + 4 * between,
                start + 4 * made,
                start + 4 * norms,
                next(goals) if unit.depthwise and grads else 0,
                next(goals, 0),
                *((next(goals), next(goals)) if unit.normed and grads else (0, 0)),
                inner_start + 4 * unit.grad_place if packed else target,
            )
        )
    return b"".join(packed)


# ------------------------------------------------------------------------------------------------ pooling


def run_pool(window: Window, x: Tensor, *, maximum: bool, counts_padding: bool = False) -> Tensor:
    """The maximum or the average (of the real pixels, or of the padding's zeros too) over a window of (batch, channels, height, width)."""
    return _Pooled.apply(x, window, maximum, counts_padding)  # type: ignore[no-any-return]


class _Pooled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, window: Window, maximum: bool, counts_padding: bool) -> Tensor:  # noqa: ANN401
        kernels = library.load()
        assert kernels is not None
        top, left, out_height, out_width = window.place(*x.shape[2:])
        numbers = (
            *x.shape,
            out_height,
            out_width,
            *window.kernel,
            *window.stride,
            window.dilation,
            top,
            left,
            int(maximum),
            int(counts_padding),
        )
        x, step = planes(x)
        out = torch.empty(*x.shape[:2], out_height, out_width)
        kernels.nas_pool_forward(_POOLING.pack(*numbers, x.data_ptr(), step, out.data_ptr(), 0, 0, 0), torch.get_num_threads())
        ctx.numbers, ctx.step, ctx.shape = numbers, step, x.shape
        ctx.save_for_backward(x if maximum else None)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        kernels = library.load()
        assert kernels is not None
        (x,) = ctx.saved_tensors
        grad, step = planes(grad)
        grad_in = torch.empty(ctx.shape)
        pointers = (0 if x is None else x.data_ptr(), ctx.step, 0, grad.data_ptr(), step, grad_in.data_ptr())
        kernels.nas_pool_backward(_POOLING.pack(*ctx.numbers, *pointers), torch.get_num_threads())
        return grad_in, None, None, None
