"""A training in the middle as one file: tensors by name, the rest as JSON in the header. Replaced all at once, never unpickled."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from nas.errors import RunError

SCHEMA = "nas.checkpoint/1"


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write the file so that a reader, or a kill, sees the old one or the new one, whole and on disk."""
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save_file(plain, partial, {"schema": SCHEMA, "state": json.dumps(state)})
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except SafetensorError as problem:
        # safetensors reports a full disk as text; the command line knows it as an OSError.
        raise OSError(getattr(problem, "errno", None) or 28, f"the checkpoint cannot be written: {problem}", str(path)) from None
    finally:
        partial.unlink(missing_ok=True)


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors (on the CPU) and state.

    Raises:
        RunError: the file cannot be read, or is no checkpoint.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("schema") != SCHEMA:
                raise RunError(f"{path}: a checkpoint must have the schema {SCHEMA!r}, but has {header.get('schema')!r}")
            state = json.loads(header["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
    except (OSError, SafetensorError, KeyError, ValueError, RecursionError) as problem:
        if isinstance(problem, RunError):
            raise
        raise RunError(f"{path}: the checkpoint cannot be read ({problem}); remove it to start this training anew") from None
    if not isinstance(state, dict):
        raise RunError(f"{path}: a checkpoint's state must be a mapping")
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


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Put the optimiser's state back, every tensor in the memory layout of its parameter (which fused kernels rely on).

    Raises:
        RunError: a name or a shape does not fit.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    try:
        for name, value in tensors.items():
            if not name.startswith("optimizer."):
                continue
            _, number, key = name.split(".", 2)
            parameter = parameters[int(number)]
            if value.shape == parameter.shape:
                placed: Tensor = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
            elif value.ndim == 0:
                placed = value
            else:
                raise ValueError(f"{name} has the shape {tuple(value.shape)}")
            optimizer.state[parameter][key] = placed
    except (ValueError, IndexError) as problem:
        raise RunError(f"{path}: the checkpoint does not fit this training: {problem}") from None
