"""Weight files: safetensors in and out, PyTorch checkpoints in, nothing that a file could execute."""

import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from nas.tools.words import first_line
from search_spaces.errors import UserError

CHECKPOINT_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt")
_WRAPPERS = ("state_dict", "model", "model_state_dict", "model_ema", "state_dict_ema")
"""Keys under which published checkpoints keep the weights among other things."""


class WeightsError(UserError):
    """A weight file cannot be read, or does not fit the network. Choose another file or network."""


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The named tensors in a ``.safetensors`` file or a PyTorch checkpoint, on the CPU.

    A checkpoint is read with PyTorch's ``weights_only`` unpickler, which makes tensors and plain containers alone; a dictionary
    of weights inside it (``state_dict``, ``model``, …) is found.

    Raises:
        WeightsError: the file cannot be read or holds something else.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix != ".safetensors" and suffix not in CHECKPOINT_SUFFIXES:
        raise WeightsError(f"{path}: a weight file must end in .safetensors, {', '.join(CHECKPOINT_SUFFIXES)}, but got {path.suffix!r}")
    try:
        if suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as problem:
        raise WeightsError(f"{path}: cannot be read: {problem.strerror or problem}") from None
    except SafetensorError as problem:
        raise WeightsError(f"{path}: not a whole safetensors file: {problem}") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError, TypeError, zipfile.BadZipFile) as problem:
        reason = first_line(problem)
        raise WeightsError(f"{path}: not a PyTorch checkpoint of plain tensors: {reason}") from None
    return _find_weights(content, path)


def _find_weights(content: object, path: Path) -> dict[str, Tensor]:
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) and isinstance(k, str) for k, v in content.items()):
        raise WeightsError(f"{path}: must hold a dictionary of named tensors, by itself or under one of {', '.join(_WRAPPERS)}")
    return {key.removeprefix("module."): value.detach() for key, value in content.items()}


def with_counters(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights with BatchNorm's counters of batches, which old checkpoints lack, as the network's ``own`` weights have them."""
    return {key: own[key] for key in own if key.endswith("num_batches_tracked")} | dict(weights)


def read_metadata(path: str | Path) -> dict[str, str]:
    """The texts that ``write_weights`` put into a safetensors file.

    Raises:
        WeightsError: the file cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as problem:
        raise WeightsError(f"{path}: cannot be read as safetensors: {problem}") from None


def write_weights(path: str | Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write named tensors to a ``.safetensors`` file, all or nothing: a reader never sees half a file.

    Raises:
        WeightsError: the name ends otherwise, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".safetensors":
        raise WeightsError(f"{path}: weights are written to a file that ends in .safetensors, but got {path.suffix!r}")
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}  # safetensors shares no memory
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.touch()
        mode = partial.stat().st_mode  # as the user's umask says; safetensors makes files that only their owner can read
        save_file(plain, partial, dict(metadata or {}))
        partial.chmod(mode)
        partial.replace(path)
    except OSError as problem:
        raise WeightsError(f"{path}: cannot be written: {problem.strerror or problem}") from None
    except SafetensorError as problem:
        raise WeightsError(f"{path}: cannot be written: {problem}") from None
    finally:
        partial.unlink(missing_ok=True)
