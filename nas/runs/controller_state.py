"""Brings a controller to the state a ledger describes: from a snapshot where there is a fitting one, by replay for the rest.

A snapshot is only an optimisation. It is one safetensors file (tensors, and the rest as JSON in its header), replaced
atomically, and it names the outcomes it contains: how many, and a checksum of their order. One that does not fit is ignored.
"""

import json
import zlib
from collections.abc import Mapping
from typing import Any

import torch

from controllers.controller import Controller
from nas.runs.folder import RunFolder
from nas.runs.state import RunState
from nas.tools.files import write_atomically
from nas.tools.tensor_file import pack, unpack

_TENSOR = "__tensor__"


def write(run: RunFolder, controller: Controller, state: RunState) -> None:
    """Record the controller's state, which must be the one after the last outcome of ``state``."""
    header = {"told": str(len(state.told)), "order": _order(state.told)}
    write_atomically(run.snapshot_file, to_bytes(controller.state_dict(), header))


def to_bytes(state: Mapping[str, Any], header: Mapping[str, str]) -> bytes:
    """Nested dictionaries and lists of strings, numbers, None and tensors as one document, with a header of words."""
    tensors: dict[str, torch.Tensor] = {}
    document = _extract(state, tensors)
    return pack(tensors, {**header, "state": json.dumps(document)})


def from_bytes(raw: bytes) -> tuple[dict[str, str], dict[str, Any]]:
    """The header and the state that ``to_bytes`` was given. Raises ValueError, KeyError or TypeError."""
    tensors, header = unpack(raw)
    return header, _insert(json.loads(header.pop("state")), tensors)


def restore(run: RunFolder, controller: Controller, state: RunState) -> str:
    """Bring a fresh controller to the state after every outcome in ``state``. Returns what was done, for the log."""
    done = 0
    note = "no snapshot"
    if run.snapshot_file.is_file():
        try:
            done = _load(run, controller, state)
            note = f"snapshot of {done} outcomes"
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, RecursionError) as error:
            note = f"snapshot ignored ({error})"
    for number in state.told[done:]:
        trial = state.trials[number]
        assert trial.evaluation is not None
        controller.tell(trial.proposal, trial.evaluation.outcome)
    return f"{note}, {len(state.told) - done} outcomes replayed"


def _load(run: RunFolder, controller: Controller, state: RunState) -> int:
    header, saved = from_bytes(run.snapshot_file.read_bytes())
    told = int(header["told"])
    if told > len(state.told) or header["order"] != _order(state.told[:told]):
        raise ValueError("it belongs to another ledger")
    controller.load_state_dict(saved)
    return told


def _order(told: list[int]) -> str:
    return f"{zlib.crc32(','.join(map(str, told)).encode()):08x}"


def _extract(value: object, tensors: dict[str, torch.Tensor]) -> object:
    """The state with every tensor moved to ``tensors`` and a reference in its place."""
    if isinstance(value, torch.Tensor):
        name = f"t{len(tensors)}"
        tensors[name] = value
        return {_TENSOR: name}
    if isinstance(value, Mapping):
        return {str(key): _extract(inner, tensors) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_extract(inner, tensors) for inner in value]
    return value


def _insert(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:  # noqa: ANN401 - JSON in, JSON with tensors out
    if isinstance(value, dict):
        return tensors[value[_TENSOR]] if _TENSOR in value else {key: _insert(inner, tensors) for key, inner in value.items()}
    if isinstance(value, list):
        return [_insert(inner, tensors) for inner in value]
    return value
