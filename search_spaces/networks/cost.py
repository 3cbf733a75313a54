"""What a network costs: parameters and multiply-accumulates to the unit without running data, and the memory a training step takes."""

import copy
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry


@dataclass(frozen=True, slots=True)
class Cost:
    """What is known of a network without training it.

    ``parameters`` counts trainable scalars (BatchNorm's moving statistics are not among them); ``macs`` counts the
    multiply-accumulates of all convolutions and linear layers for one image: what the papers print as "Mult-Adds" or
    "FLOPs". BatchNorm, pooling, activations, additions and biases are not counted.
    """

    parameters: int
    macs: int


def count_parameters(module: nn.Module) -> int:
    """Number of trainable scalars."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def count_macs(network: nn.Module, *, channels: int = 3, image_size: int) -> int:
    """Multiply-accumulates of convolutions and linear layers for one image (1, channels, image_size, image_size).

    Runs on the meta device, where shapes are computed and no data: the network's own weights, on whatever device, are
    neither read nor copied. Counted by PyTorch's own formulas, which take two operations for one multiply-accumulate, in
    evaluation mode; the network's own mode is put back.
    """
    state = dict(network.named_parameters()) | dict(network.named_buffers())
    shapes = {name: torch.empty_like(tensor, device="meta") for name, tensor in state.items()}
    images = torch.empty(1, channels, image_size, image_size, device="meta", dtype=_dtype(network))
    counted = _Operations()
    with evaluation_mode(network), torch.no_grad(), counted:
        functional_call(network, shapes, (images,))
    return counted.total // 2


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sums PyTorch's formulas for what runs inside.

    As its ``FlopCounterMode`` does; but that takes every other operation apart, to count what is in it, and follows batch norms
    in Python: together most of its time, on networks whose every convolution has a batch norm behind it.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(  # a hook of PyTorch, called for every operation
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None  # noqa: ANN401
    ) -> object:
        kwargs = kwargs or {}
        if func.overloadpacket in _BATCH_NORMS:
            return torch.empty_like(args[0]), args[0].new_empty(0), args[0].new_empty(0)
        made = func(*args, **kwargs)
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.total += int(formula(*args, **kwargs, out_val=made))
        return made


_BATCH_NORMS = (torch.ops.aten._native_batch_norm_legit_no_training, torch.ops.aten.native_batch_norm)
"""Of evaluation: the first of three results has the shape of what comes in."""


# ------------------------------------------------------------------------------------------------ memory of a step


def training_memory(network: nn.Module, *, batch_size: int, channels: int = 3, image_size: int, device: str | torch.device = "cpu") -> int:
    """Peak bytes of one training step: forward, cross-entropy, backward and an SGD-with-momentum update.

    Weights, gradients, momenta, activations and the batch itself are all included. On a GPU it is
    ``torch.cuda.max_memory_allocated``. Elsewhere every tensor that an operation makes is followed until its storage is
    freed, and the largest sum of live bytes is returned; a kernel's own scratch space (im2col buffers, oneDNN
    workspaces) is invisible to PyTorch there and not counted. With ``device="meta"`` the same sum is found from shapes
    alone, without computing anything. The step is done on a copy of the network.

    Args:
        network: any network that maps images to logits (batch, classes).
        batch_size: number of images.
        channels: of an image.
        image_size: side in pixels.
        device: where to run.
    """
    return _peak_memory(copy.deepcopy(network).train(), _training_step, batch_size, channels, image_size, torch.device(device))


def inference_memory(network: nn.Module, *, batch_size: int, channels: int = 3, image_size: int, device: str | torch.device = "cpu") -> int:
    """Peak bytes of one pass without gradients in evaluation mode, weights and batch included; arguments as of ``training_memory``."""
    return _peak_memory(copy.deepcopy(network).eval(), _inference, batch_size, channels, image_size, torch.device(device))


def _peak_memory(
    twin: nn.Module,
    run: Callable[[nn.Module, int, int, int, torch.device], None],
    batch_size: int,
    channels: int,
    image_size: int,
    place: torch.device,
) -> int:
    twin = twin.to(place)
    if place.type == "cuda":
        torch.cuda.synchronize(place)
        torch.cuda.reset_peak_memory_stats(place)
        run(twin, batch_size, channels, image_size, place)
        torch.cuda.synchronize(place)
        return int(torch.cuda.max_memory_allocated(place))
    live = _LiveBytes(tensor for tensor in (*twin.parameters(), *twin.buffers()))
    with live:
        run(twin, batch_size, channels, image_size, place)
    return live.peak


@torch.no_grad()
def _inference(network: nn.Module, batch_size: int, channels: int, image_size: int, device: torch.device) -> None:
    network(torch.randn(batch_size, channels, image_size, image_size, device=device, dtype=_dtype(network)))


def _training_step(network: nn.Module, batch_size: int, channels: int, image_size: int, device: torch.device) -> None:
    images = torch.randn(batch_size, channels, image_size, image_size, device=device, dtype=_dtype(network))
    labels = torch.zeros(batch_size, dtype=torch.long, device=device)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    F.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
    optimizer.step()


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sums the bytes of all storages alive, and remembers the largest sum."""

    def __init__(self, tensors: Iterator[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.peak = 0
        self._seen: set[int] = set()
        for tensor in tensors:
            self._follow(tensor)

    def _follow(self, tensor: Tensor) -> None:
        if tensor.is_mkldnn:  # weights laid out for oneDNN's kernels, which stay
            self.now += tensor.numel() * tensor.element_size()
            self.peak = max(self.peak, self.now)
            return
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._seen:
            return
        self._seen.add(key)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size

    def __torch_dispatch__(  # a hook of PyTorch, called for every operation
        self, func: Callable[..., object], types: object, args: tuple[object, ...] = (), kwargs: dict[str, object] | None = None
    ) -> object:
        result = func(*args, **(kwargs or {}))
        for value in tree_iter(result):
            if isinstance(value, Tensor):
                self._follow(value)
        return result


# ------------------------------------------------------------------------------------------------ small helpers


def _dtype(network: nn.Module) -> torch.dtype:
    return next((p.dtype for p in network.parameters()), torch.float32)


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Put every module into evaluation mode, and back into its own mode afterwards."""
    before = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training
