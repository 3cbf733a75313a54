"""Convolutions for inference that do in one pass what follows them: the bias of a folded norm, a node's other edges, the ReLU.

On a CPU, in float32 and without gradients, oneDNN computes them at once, channels-last, from weights that are laid out for its kernels
once; elsewhere (other devices and types, autocast, exports, shapes without data) torch's own convolution and in-place operations do.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from search_spaces.networks import fast
from search_spaces.networks.native.operators import same_padding
from search_spaces.networks.operations import Convolution, Operation

SMALL_STATES = 1 << 18
SMALL_WORK = 1 << 24
"""Numbers read and written, and multiply-accumulates, up to which a 1×1 convolution is faster as a plain product of matrices (measured)."""


class Constant(nn.Module):
    """A layer whose weights are constants, so that they can be laid out once as oneDNN's kernels read them, in place of the plain ones."""

    def __init__(self, layer: nn.Conv2d | nn.Linear) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self._laid_out: Tensor | None = None

    def _can_at_once(self, x: Tensor) -> bool:
        if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
            return False
        return fast.plain(x) and not (torch.is_grad_enabled() and x.requires_grad)

    def _lay_out(self, lay_out: Callable[[Tensor], Tensor]) -> Tensor:
        if self._laid_out is None:
            with torch.inference_mode(False):
                self._laid_out = lay_out(self.layer.weight)
                self.layer.weight = nn.Parameter(self.layer.weight.new_empty(0), requires_grad=False)
        return self._laid_out

    def _lay_open(self) -> None:
        """Put the plain weights back, for whoever reads or moves them."""
        if self._laid_out is not None:
            with torch.inference_mode(False):
                plain = self._laid_out.to_dense()
                plain = plain.contiguous(memory_format=torch.channels_last) if plain.dim() == 4 else plain
            self.layer.weight, self._laid_out = nn.Parameter(plain, requires_grad=False), None

    def _apply(self, *arguments: Any, **named: Any) -> nn.Module:  # noqa: ANN401 - as torch has it
        self._lay_open()
        return cast(nn.Module, super()._apply(*arguments, **named))  # type: ignore[no-untyped-call]

    def _save_to_state_dict(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401
        self._lay_open()
        super()._save_to_state_dict(*arguments, **named)

    def _load_from_state_dict(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401
        self._lay_open()
        super()._load_from_state_dict(*arguments, **named)

    def __getstate__(self) -> dict[str, Any]:
        """Copies lay out their own."""
        self._lay_open()
        return self.__dict__


class FusedConvolution(Constant):
    """A convolution, plus another tensor of the result's shape where one is given, then perhaps a ReLU.

    Args:
        conv: the convolution; it becomes this module's, and its weights constants.
        relu: whether the convolution's own result passes a ReLU, before anything is added to it.
    """

    layer: nn.Conv2d

    def __init__(self, conv: nn.Conv2d, relu: bool = False) -> None:
        super().__init__(conv)
        self.relu = relu

    def forward(self, x: Tensor, addend: Tensor | None = None, relu_after: bool = False) -> Tensor:
        """Maps (batch, channels, height, width) as the convolution does; ``relu_after`` is the ReLU of the sum. Changes no input."""
        if self.relu and addend is not None:
            y = self(x) + addend  # not in place: gradients of a ReLU need its result
            return F.relu_(y) if relu_after else cast(Tensor, y)
        relu = self.relu or relu_after
        if self._is_small_product(x):
            y = F.linear(x.permute(0, 2, 3, 1), self.layer.weight.flatten(1), self.layer.bias).permute(0, 3, 1, 2)
            return _added(y, addend, relu)
        # oneDNN computes one channel in wrongly where the stride is larger along the width: see `search_spaces.networks.convolution`.
        padding = self._padding(x) if self.layer.in_channels > 1 and self._can_at_once(x) else None
        if padding is not None:
            return self._at_once(x, padding, addend, "relu" if relu else None)
        self._lay_open()
        return _added(self.layer(x), addend, relu)

    def _is_small_product(self, x: Tensor) -> bool:
        """Whether it is a product of so small matrices that finding oneDNN's kernel (30 µs) costs more than what is saved after it."""
        conv = self.layer
        if self._laid_out is not None or conv.kernel_size != (1, 1) or conv.stride != (1, 1) or conv.groups > 1 or not fast.plain(x):
            return False
        pixels = x.shape[0] * x.shape[2] * x.shape[3]
        small = pixels * (conv.in_channels + conv.out_channels) <= SMALL_STATES
        return small and pixels * conv.in_channels * conv.out_channels <= SMALL_WORK

    def _padding(self, x: Tensor) -> tuple[int, ...] | None:
        """Zeros before and after each side, where they are as many and this is a convolution that is known."""
        conv = self.layer
        if conv.padding_mode != "zeros" or not isinstance(conv.padding, tuple):
            return None
        if isinstance(conv, Convolution) and conv.same:
            sides = [same_padding(x.shape[2 + i], conv.kernel_size[i], conv.stride[i], conv.dilation[i]) for i in range(2)]
            return None if any(before != after for before, after in sides) else (sides[0][0], sides[1][0])
        return conv.padding

    def _at_once(self, x: Tensor, padding: tuple[int, ...], addend: Tensor | None, unary: str | None) -> Tensor:
        conv, x = self.layer, x.contiguous(memory_format=torch.channels_last)
        window: tuple[Any, ...] = (padding, conv.stride, conv.dilation, conv.groups)
        weight = self._lay_out(lambda plain: torch.ops.mkldnn._reorder_convolution_weight(plain, *window, list(x.shape)))
        if addend is None:
            return cast(Tensor, torch.ops.mkldnn._convolution_pointwise(x, weight, conv.bias, *window, unary or "none", [], ""))
        addend = addend.contiguous(memory_format=torch.channels_last)
        binary = torch.ops.mkldnn._convolution_pointwise.binary
        return cast(Tensor, binary(x, addend, weight, conv.bias, *window, "add", None, unary, [], None))


def _added(y: Tensor, addend: Tensor | None, relu: bool) -> Tensor:
    """The sum, and its ReLU, in place of y."""
    y = y if addend is None else y.add_(addend)
    return F.relu_(y) if relu else y


class FusedLinear(Constant):
    """A linear layer of states (batch, height, width, channels), then the exact GELU if ``gelu``, plus another tensor if one is given."""

    def __init__(self, linear: nn.Linear, gelu: bool = False) -> None:
        super().__init__(linear)
        self.gelu = gelu

    def forward(self, x: Tensor, addend: Tensor | None = None) -> Tensor:
        """Maps (batch, height, width, channels) as the layer does. Changes no input."""
        if self._can_at_once(x) and (addend is None or not self.gelu):
            rows = x.numel() // x.shape[-1]
            weight = self._lay_out(lambda plain: torch.ops.mkldnn._reorder_linear_weight(plain, rows))
            if addend is not None:
                return cast(Tensor, torch.ops.mkldnn._linear_pointwise.binary(x, addend.contiguous(), weight, self.layer.bias, "add"))
            activation: tuple[str, list[float], str] = ("gelu", [], "none") if self.gelu else ("none", [], "")
            return cast(Tensor, torch.ops.mkldnn._linear_pointwise(x, weight, self.layer.bias, *activation))
        self._lay_open()
        y: Tensor = self.layer(x)
        y = F.gelu(y) if self.gelu else y
        return y if addend is None else y + addend


class Fused(Operation):
    """Fused layers one after the other, as an operation of a cell; the last one adds the node's other edges where it can."""

    def __init__(self, layers: Iterable[nn.Module], *, activated: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.activated = activated

    def forward(self, x: Tensor, addend: Tensor | None = None, relu_after: bool = False) -> Tensor:
        """See ``FusedConvolution``."""
        *first, last = self.layers
        for layer in first:
            x = layer(x)
        if isinstance(last, FusedConvolution):
            return cast(Tensor, last(x, addend, relu_after))
        x = last(x)
        x = x if addend is None else x + addend
        return F.relu(x) if relu_after else x


def fuse_layers(layers: Iterable[nn.Module]) -> list[nn.Module]:
    """The layers with every convolution, the batch norm and the ReLU that follow it made one; the others as they are."""
    fused: list[nn.Module] = []
    rest = list(layers)
    while rest:
        layer = rest.pop(0)
        if not isinstance(layer, nn.Conv2d):
            fused.append(layer)
            continue
        if rest and isinstance(rest[0], nn.BatchNorm2d):
            layer = fuse(layer, rest.pop(0))
        relu = bool(rest) and isinstance(rest[0], nn.ReLU)
        if relu:
            rest.pop(0)
        fused.append(FusedConvolution(layer, relu))
    return fused


def fuse(conv: nn.Conv2d, norm: nn.Module) -> nn.Conv2d:
    """The convolution whose result is the norm's of this one's (in evaluation mode). Neither is changed."""
    if not isinstance(norm, nn.BatchNorm2d):
        return conv
    return fuse_conv_bn_eval(conv, norm)


def fuse_parts(convolutions: Sequence[nn.Conv2d], norm: nn.BatchNorm2d) -> list[nn.Conv2d]:
    """Likewise of convolutions whose results are concatenated before the norm."""
    found, start = [], 0
    for conv in convolutions:
        part = nn.BatchNorm2d(conv.out_channels, eps=norm.eps, device=conv.weight.device).eval()
        own = slice(start, start := start + conv.out_channels)
        part.load_state_dict({name: value[own] if value.dim() else value for name, value in norm.state_dict().items()}, strict=False)
        found.append(fuse(conv, part))
    return found
