"""Brings a controller to the state a ledger describes: from a state kept where there is a fitting one, by replay for the rest.

What was trained comes from the ledger alone. The controller's own state is kept in two places, both only an optimisation: in the ledger
after every so many updates of a policy (``records.kept``), and in the snapshot, a file that is replaced every minute and names the
outcomes it contains: how many, and a checksum of their order. Either is one safetensors document (tensors, and the rest as JSON in its
header). One that does not fit is ignored.
"""

import base64
import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import torch

from controllers.controller import Controller, Outcome
from controllers.deduplicated import Deduplicated
from nas.runs.folder import RunFolder
from nas.runs.state import RunState
from nas.runs.trials import Trial
from nas.tools.files import write_atomically
from nas.tools.tensor_file import pack, unpack

SCHEMA = "nas.snapshot/2"
_TENSOR = "__tensor__"


def write(run: RunFolder, controller: Deduplicated, state: RunState) -> None:
    """Record the state of the controller inside the cache, which must be the one after the last outcome of ``state``."""
    header = {"schema": SCHEMA, "told": str(len(state.told)), "order": _order(state.told)}
    write_atomically(run.snapshot_file, to_bytes(controller.controller.state_dict(), header))


def to_bytes(state: Mapping[str, Any], header: Mapping[str, str]) -> bytes:
    """Nested dictionaries and lists of strings, numbers, None and tensors as one document, with a header of words."""
    tensors: dict[str, torch.Tensor] = {}
    document = _extract(state, tensors)
    return pack(tensors, {**header, "state": json.dumps(document)})


def from_bytes(raw: bytes) -> tuple[dict[str, str], dict[str, Any]]:
    """The header and the state that ``to_bytes`` was given. Raises ValueError, KeyError or TypeError."""
    tensors, header = unpack(raw)
    return header, _insert(json.loads(header.pop("state")), tensors)


def _as_it_is(trial: Trial) -> Outcome:
    assert trial.evaluation is not None
    return trial.evaluation.outcome


def restore(run: RunFolder, controller: Deduplicated, state: RunState, told: Callable[[Trial], Outcome] = _as_it_is) -> str:
    """Bring a fresh controller to the state after every outcome in ``state``. Returns what was done, for the log.

    ``told`` is what a controller is told of a trial; it is asked of all in order.
    """
    done, note = _load_latest(run, controller.controller, state)
    for place, number in enumerate(state.told):
        trial = state.trials[number]
        assert trial.evaluation is not None
        if trial.card is not None or trial.second_look:
            continue
        if trial.searched:
            controller.remember(trial.proposal, trial.key or controller.key(trial.proposal), trial.evaluation.outcome)
        learned = told(trial)
        if place >= done:
            controller.pass_on(trial.proposal, learned)
    return f"{note}, {len(state.told) - done} outcomes replayed"


def _load_latest(run: RunFolder, inner: Controller, state: RunState) -> tuple[int, str]:
    """Load the latest kept state that fits; returns how many outcomes it contains, and what was done."""
    found: list[tuple[int, str, dict[str, Any]]] = []
    notes = []
    for what, read in (("snapshot", _in_snapshot), ("state in the ledger", _in_ledger)):
        try:
            if (kept := read(run, state)) is not None:
                found.append((kept[0], what, kept[1]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            notes.append(f"{what} ignored ({error})")
    fresh = inner.state_dict() if found else {}
    for told, what, saved in sorted(found, key=lambda one: -one[0]):
        try:
            inner.load_state_dict(saved)
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            notes.append(f"{what} ignored ({error})")
            inner.load_state_dict(fresh)  # what does not fit may have been taken in by half
        else:
            return told, ", ".join([*notes, f"{what} of {told} outcomes"])
    return 0, ", ".join(notes) or "no snapshot"


def _in_snapshot(run: RunFolder, state: RunState) -> tuple[int, dict[str, Any]] | None:
    """The state in the snapshot and how many outcomes it contains; None where there is none."""
    if not run.snapshot_file.is_file():
        return None
    header, saved = from_bytes(run.snapshot_file.read_bytes())
    told = int(header["told"])
    if header.get("schema") != SCHEMA or told > len(state.told) or header["order"] != _order(state.told[:told]):
        raise ValueError("it belongs to another ledger or version")
    return told, saved


def _in_ledger(run: RunFolder, state: RunState) -> tuple[int, dict[str, Any]] | None:
    """The same of the ledger's last state."""
    return None if state.kept is None else (state.kept[0], from_bytes(base64.b85decode(state.kept[1]))[1])


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
