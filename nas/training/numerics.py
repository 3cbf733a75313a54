"""How numbers are computed while a network is trained or scored: threads, precision, autocast, denormals."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch


@contextmanager
def own_threads(count: int | None = None) -> Iterator[None]:
    """So many CPU threads for PyTorch, as long as this lasts; None: what is called inside sets their number for itself."""
    before = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def flushed_denormals(device: torch.device) -> Iterator[None]:
    """Take numbers below 1e-38, as weights that decay to nothing have, for zero: on a CPU they cost a hundred times an ordinary one.

    A property of the calling thread, so it is put back for whatever else the thread does between two epochs.
    """
    if device.type == "cpu":
        torch.set_flush_denormal(True)
    try:
        yield
    finally:
        if device.type == "cpu":
            torch.set_flush_denormal(False)


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """The type of convolutions and products: ``auto`` is float32 on a CPU, on a GPU bfloat16 where it has it, else float16."""
    if name != "auto":
        chosen = getattr(torch, name)
        assert isinstance(chosen, torch.dtype)
        return chosen
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def autocast(device: torch.device, precision: torch.dtype) -> AbstractContextManager[object]:
    """Mixed precision where ``precision`` is not float32."""
    return torch.autocast(device.type, dtype=precision) if precision != torch.float32 else nullcontext()
