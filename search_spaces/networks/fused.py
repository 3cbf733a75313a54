"""Convolutions for inference that do in one pass what follows them: the bias of a folded norm, a node's other edges, the ReLU.

On a CPU, in float32 and without gradients, oneDNN computes them at once, channels-last, from weights that are laid out for its kernels
once; elsewhere (other devices and types, autocast, exports, shapes without data) torch's own convolution and in-place operations do.
"""

from collections.abc import Iterable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from search_spaces.networks import fast
from search_spaces.networks.native.operators import same_padding
from search_spaces.networks.operations import Convolution, Operation


class FusedConvolution(nn.Module):
    """A convolution, plus another tensor of the result's shape where one is given, then perhaps a ReLU.

    Args:
        conv: the convolution; it is kept, and its parameters are this module's.
        relu: whether the convolution's own result passes a ReLU, before anything is added to it.
    """

    def __init__(self, conv: nn.Conv2d, relu: bool = False) -> None:
        super().__init__()
        self.conv, self.relu = conv, relu
        self._laid_out: tuple[int, int | None, Tensor] | None = None

    def forward(self, x: Tensor, addend: Tensor | None = None, relu_after: bool = False) -> Tensor:
        """Maps (batch, channels, height, width) as the convolution does; ``relu_after`` is the ReLU of the sum. Changes no input."""
        if self.relu and addend is not None:
            return self._added(self(x), addend, relu_after)
        relu = self.relu or relu_after
        padding = self._padding(x) if self._can_at_once(x) else None
        if padding is not None:
            return self._at_once(x, padding, addend, "relu" if relu else None)
        y: Tensor = self.conv(x)
        return self._added(y, addend, relu) if addend is not None else F.relu_(y) if relu else y

    def _can_at_once(self, x: Tensor) -> bool:
        # oneDNN computes one channel in wrongly where the stride is larger along the width: see `search_spaces.networks.convolution`.
        if self.conv.in_channels == 1 or not torch.backends.mkldnn.is_available() or not fast.plain(x):
            return False
        return not torch.is_grad_enabled() or not (x.requires_grad or self.conv.weight.requires_grad)

    @staticmethod
    def _added(y: Tensor, addend: Tensor, relu: bool) -> Tensor:
        y = y.add_(addend)
        return F.relu_(y) if relu else y

    def _padding(self, x: Tensor) -> tuple[int, ...] | None:
        """Zeros before and after each side, where they are as many and this is a convolution that is known."""
        conv = self.conv
        if conv.padding_mode != "zeros" or not isinstance(conv.padding, tuple):
            return None
        if isinstance(conv, Convolution) and conv.same:
            sides = [same_padding(x.shape[2 + i], conv.kernel_size[i], conv.stride[i], conv.dilation[i]) for i in range(2)]
            return None if any(before != after for before, after in sides) else (sides[0][0], sides[1][0])
        return conv.padding

    def _at_once(self, x: Tensor, padding: tuple[int, ...], addend: Tensor | None, unary: str | None) -> Tensor:
        conv, x = self.conv, x.contiguous(memory_format=torch.channels_last)
        window: tuple[Any, ...] = (padding, conv.stride, conv.dilation, conv.groups)
        weight = self._weight(x, window)
        if addend is None:
            return cast(Tensor, torch.ops.mkldnn._convolution_pointwise(x, weight, conv.bias, *window, unary or "none", [], ""))
        addend = addend.contiguous(memory_format=torch.channels_last)
        binary = torch.ops.mkldnn._convolution_pointwise.binary
        return cast(Tensor, binary(x, addend, weight, conv.bias, *window, "add", None, unary, [], None))

    def _weight(self, x: Tensor, window: tuple[Any, ...]) -> Tensor:
        """The weights as oneDNN's kernels read them; laid out anew where they are others than before."""
        weight = self.conv.weight
        version = None if weight.is_inference() else weight._version
        if self._laid_out is None or self._laid_out[:2] != (weight.data_ptr(), version):
            laid_out = torch.ops.mkldnn._reorder_convolution_weight(weight.detach(), *window, list(x.shape))
            self._laid_out = weight.data_ptr(), version, laid_out
        return self._laid_out[2]

    def __getstate__(self) -> dict[str, Any]:
        """Copies lay out their own."""
        return self.__dict__ | {"_laid_out": None}


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
            return last(x, addend, relu_after)
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
    return fuse_conv_bn_eval(conv, norm)  # type: ignore[type-var]


def fuse_parts(convolutions: list[nn.Conv2d], norm: nn.BatchNorm2d) -> list[nn.Conv2d]:
    """Likewise of convolutions whose results are concatenated before the norm."""
    found, start = [], 0
    for conv in convolutions:
        part = nn.BatchNorm2d(conv.out_channels, eps=norm.eps, device=conv.weight.device).eval()
        own = slice(start, start := start + conv.out_channels)
        part.load_state_dict({name: value[own] if value.dim() else value for name, value in norm.state_dict().items()}, strict=False)
        found.append(fuse(conv, part))
    return found
