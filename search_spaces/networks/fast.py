"""The one place that decides whether a network runs on native kernels, and that tells them what a network's layers are.

Kernels compute float32 on a CPU, in training, while a network is scored and where it predicts. Everything else (evaluation for other
ends, other devices and types, autocast, exports, ``torch.compile``, shapes without data) runs the layers themselves, which are torch's:
nothing that traces a network ever meets a kernel, and a latency is that of a network without them. Layers that kernels do not know run
as they are, in between.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from search_spaces.networks.native import library
from search_spaces.networks.native.operators import Chain, Unit, Window, run_chain

RELU = nn.ReLU()
"""Stands for a ReLU among layers that have no module for theirs."""


_scoring: ContextVar[bool] = ContextVar("scoring", default=False)


@contextmanager
def scoring() -> Iterator[None]:
    """Networks are scored or asked in here, in this thread: kernels may compute what they do in evaluation, too."""
    token = _scoring.set(True)
    try:
        yield
    finally:
        _scoring.reset(token)


def usable(x: Tensor, training: bool = True) -> bool:
    """Whether kernels may compute what follows from this state, in training or in evaluation."""
    return plain(x) and training == torch.is_grad_enabled() and (training or _scoring.get()) and library.load() is not None


def plain(x: Tensor) -> bool:
    """Whether this is a state of numbers in a CPU's memory, in float32, that nothing traces, converts or watches."""
    return (
        not torch.compiler.is_compiling()  # first: nothing of what follows shall be traced
        and type(x) is Tensor
        and x.dtype is torch.float32
        and x.is_cpu
        and not torch._C._get_tracing_state()
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
        and x.dim() == 4
        and x.numel() > 0
    )


def apply(operation: nn.Module, x: Tensor, activated: Tensor | Callable[[], Tensor], addend: Tensor | None = None) -> Tensor:
    """An operation's result for the state x, plus ``addend``: by kernels, or by its ``forward`` on ``activated`` (x or its ReLU)."""
    if usable(x, operation.training):
        kernels = getattr(operation, "fast", None)  # operations from outside have none
        result: Tensor | None = None if kernels is None else kernels(x, addend)
        if result is not None:
            return result
    result = operation(activated if isinstance(activated, Tensor) else activated())
    return result if addend is None else addend + result


def run_sequence(layers: nn.Sequential, x: Tensor) -> Tensor:
    """Layers applied to x, by kernels where they can."""
    result = run_layers(layers, tuple(layers), x, False, None) if usable(x, layers.training) else None
    return layers(x) if result is None else result


def run_layers(owner: nn.Module, layers: tuple[nn.Module, ...], x: Tensor, relu: bool, addend: Tensor | None) -> Tensor | None:
    """Layers applied to x, or to its ReLU, plus ``addend``; None where kernels cannot. ``owner`` remembers what they amount to."""
    plan = _plan(owner, layers, relu, _read)
    return None if plan is None else plan.run(x, [conv.weight for conv in plan.convolutions], addend)


def run_factorized(owner: nn.Module, layers: tuple[nn.Module, ...], x: Tensor, relu: bool, addend: Tensor | None) -> Tensor | None:
    """A factorized reduction (1×1 convolutions of even and of odd pixels, norm) applied to x; None where kernels cannot."""
    plan = _plan(owner, layers, relu, _read_factorized)
    return None if plan is None else plan.run(x, [torch.cat([conv.weight for conv in plan.convolutions])], addend)


# ------------------------------------------------------------------------------------------------ from layers to units


@dataclass(slots=True)
class _Plan:
    """What layers amount to: a chain of units, and the layers that it takes its weights from."""

    layers: tuple[nn.Module, ...]
    relu: bool
    chain: Chain
    convolutions: list[nn.Conv2d]
    norms: list[nn.BatchNorm2d]
    order: list[int]
    """Where the convolutions' weights and the norms' come among all: 0 for the next convolution, 1 for the next norm."""

    @property
    def outdated(self) -> bool:
        """Whether a norm is no longer what it was: recipes set the momentum."""
        numbers = (unit.norm for unit in self.chain.units if unit.norm)
        return any((norm.eps, norm.momentum) != known for norm, known in zip(self.norms, numbers, strict=True))

    def run(self, x: Tensor, kernels: Sequence[Tensor], addend: Tensor | None) -> Tensor | None:
        """The chain's output; None where a norm is in another mode than all else, or has too little to normalise: torch complains of it."""
        training = torch.is_grad_enabled()
        if x.shape[1] != self.chain.units[0].channels[0] or any(norm.training != training for norm in self.norms):
            return None
        if self.chain.layout(x.shape).pixels < 2:
            return None
        convolutions, norms = iter(kernels), iter(self.norms)
        weights: list[Tensor] = []
        moving: list[Tensor | None] = []
        for kind in self.order:
            if kind == 0:
                weights.append(next(convolutions))
                continue
            norm = next(norms)
            weights += (norm.weight, norm.bias)
            moving += (norm.running_mean, norm.running_var, norm.num_batches_tracked if training else None)
        return run_chain(self.chain, x, addend, weights, moving)


def _plan(
    owner: nn.Module, layers: tuple[nn.Module, ...], relu: bool, read: Callable[[tuple[nn.Module, ...], bool], _Plan | None]
) -> _Plan | None:
    """The owner's plan, made anew where its layers are no longer those that it was made of."""
    found: tuple[tuple[nn.Module, ...], bool, _Plan | None] | None = owner.__dict__.get("_fast_plan")
    if found is None or found[:2] != (layers, relu) or (found[2] is not None and found[2].outdated):  # modules are equal if the same
        found = owner.__dict__["_fast_plan"] = (layers, relu, read(layers, relu))
    return found[2]


def _read(layers: tuple[nn.Module, ...], relu: bool) -> _Plan | None:
    """The units of [ReLU] [depthwise] dense [norm] that the layers are, if they are, the last one with a norm."""
    units: list[Unit] = []
    convolutions: list[nn.Conv2d] = []
    norms: list[nn.BatchNorm2d] = []
    order: list[int] = []
    at = 0
    while at < len(layers) - 1 or (at < len(layers) and not isinstance(layers[at], nn.ReLU)):
        while isinstance(layers[at], nn.ReLU):
            relu, at = True, at + 1
        found = _read_unit(layers[at:], relu)
        if found is None:
            return None
        unit, taken = found
        for layer in layers[at : at + taken]:
            order.append(int(isinstance(layer, nn.BatchNorm2d)))
            (norms if isinstance(layer, nn.BatchNorm2d) else convolutions).append(layer)  # type: ignore[arg-type]
        units.append(unit)
        at, relu = at + taken, False
    if not units or units[-1].norm is None:
        return None
    return _Plan(layers, relu, Chain(tuple(units), at < len(layers)), convolutions, norms, order)


def _read_unit(layers: tuple[nn.Module, ...], relu: bool) -> tuple[Unit, int] | None:
    """The unit that the layers begin with, and how many of them it is."""
    first, *others = layers
    if not isinstance(first, nn.Conv2d):
        return None
    dense, window = first, _window(first)
    depthwise = first.groups > 1
    if depthwise:
        if first.groups != first.in_channels or first.out_channels != first.in_channels or first.bias is not None or not others:
            return None
        second = others.pop(0)
        if not isinstance(second, nn.Conv2d) or second.kernel_size != (1, 1) or second.stride != (1, 1) or any(second.padding):
            return None
        dense = second
    if dense.groups > 1 or dense.bias is not None or window is None:
        return None
    norm = others[0] if others and isinstance(others[0], nn.BatchNorm2d) else None
    numbers = None if norm is None else _norm(norm)
    if norm is not None and numbers is None:
        return None
    unit = Unit((dense.in_channels, dense.out_channels), window, depthwise, relu=relu, norm=numbers)
    return unit, 1 + depthwise + (norm is not None)


def _read_factorized(layers: tuple[nn.Module, ...], relu: bool) -> _Plan | None:
    even, odd, norm = layers
    assert isinstance(even, nn.Conv2d) and isinstance(odd, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    numbers = _norm(norm)
    if numbers is None:
        return None
    channels = (even.in_channels, even.out_channels + odd.out_channels)
    unit = Unit(channels, Window((2, 2), (2, 2), None), split=even.out_channels, relu=relu, norm=numbers)
    return _Plan(layers, relu, Chain((unit,)), [even, odd], [norm], [0, 1])


def _window(conv: nn.Conv2d) -> Window | None:
    """How a convolution's window slides; None where kernels cannot."""
    height, width = conv.dilation
    if height != width or not isinstance(conv.padding, tuple) or conv.padding_mode != "zeros":
        return None
    same = getattr(conv, "same", False)  # search_spaces.networks.operations.Convolution
    window = Window((conv.kernel_size[0], conv.kernel_size[1]), (conv.stride[0], conv.stride[1]), None if same else conv.padding, height)  # type: ignore[arg-type]
    return window if window.known else None


def _norm(norm: nn.BatchNorm2d) -> tuple[float, float] | None:
    """A norm's epsilon and momentum; None where it is not one with weights and moving statistics."""
    plain = norm.affine and norm.track_running_stats and norm.momentum is not None
    return (norm.eps, norm.momentum) if plain and norm.momentum is not None else None
