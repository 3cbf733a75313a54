"""A training in the middle as one document: tensors by name, the rest as JSON in the header. Of children, and of whole trainings."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas.errors import RunError
from nas.tools.files import write_atomically
from nas.tools.tensor_file import pack, unpack

SCHEMA = "nas.checkpoint/1"


def checkpoint_bytes(tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> bytes:
    """The document; ``parse_checkpoint`` reads it."""
    return pack(tensors, {"schema": SCHEMA, "state": json.dumps(state)})


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write the file so that a reader, or a kill, sees the old one or the new one, whole and on disk."""
    write_atomically(path, checkpoint_bytes(tensors, state))


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors (on the CPU) and state of a file.

    Raises:
        RunError: the file cannot be read, or is no checkpoint.
    """
    try:
        raw = path.read_bytes()
    except OSError as problem:
        raise RunError(f"{path}: the checkpoint cannot be read ({problem.strerror}); remove it to start this training anew") from None
    return parse_checkpoint(raw, path)


def parse_checkpoint(raw: bytes, name: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors (on the CPU) and state of a document; ``name`` is for messages. Raises RunError."""
    try:
        tensors, header = unpack(raw)
        if header.get("schema") != SCHEMA:
            raise ValueError(f"a checkpoint must have the schema {SCHEMA!r}, but has {header.get('schema')!r}")
        state = json.loads(header["state"])
        if not isinstance(state, dict):
            raise ValueError("a checkpoint's state must be a mapping")
    except (KeyError, ValueError, RecursionError) as problem:
        raise RunError(f"{name}: the checkpoint cannot be read ({problem}); remove it to start this training anew") from None
    return tensors, state


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as named tensors: ``optimizer.<number of the parameter>.<name>``."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{number}.{name}": value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
        for number, values in state.items()
        for name, value in values.items()
        if value is not None
    }


def optimizer_state(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> list[tuple[Tensor, str, Tensor]]:
    """The optimiser's state among the tensors: parameter, name, and value on the device and in the memory layout of its parameter.

    Fused kernels rely on both, of the count of steps too. Nothing is changed: ``optimizer.state[parameter][name] = value`` puts it back.

    Raises:
        ValueError: a name or a shape does not fit.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    found = []
    for name, value in tensors.items():
        if not name.startswith("optimizer."):
            continue
        _, number, key = name.split(".", 2)
        if not number.isdecimal() or int(number) >= len(parameters):
            raise ValueError(f"there is no parameter {number}")
        parameter = parameters[int(number)]
        if value.shape == parameter.shape:
            value = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
        elif value.ndim:
            raise ValueError(f"{name} has the shape {tuple(value.shape)}")
        elif optimizer.param_groups[0].get("fused"):
            value = value.to(parameter.device)
        found.append((parameter, key, value))
    return found
