"""Tensors by name and a header of words as one safetensors document: the only codec of states. Nothing is ever unpickled."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def pack(tensors: "Mapping[str, Tensor]", header: Mapping[str, str]) -> bytes:
    """One document. Tensors come to the CPU; those that share memory are copied apart."""
    import torch
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    # The format needs at least one tensor.
    return save(plain or {"empty": torch.zeros(1)}, metadata=dict(header))


def unpack(raw: bytes) -> "tuple[dict[str, Tensor], dict[str, str]]":
    """Tensors (on the CPU) and header.

    Raises:
        ValueError: the bytes are no such document, or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(raw)  # checks the document, its header's length first
        header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")]).get("__metadata__", {})
    except (SafetensorError, RecursionError) as problem:
        raise ValueError(str(problem)) from None
    return tensors, {str(name): str(value) for name, value in header.items()}
