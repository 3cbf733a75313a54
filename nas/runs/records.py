"""The records of a ledger: one JSON object a line, numbered and checksummed; how they are made and read."""

import base64
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from controllers.controller import FAILURE_REASONS, Completed, Earlier, Failed, Outcome, Proposal, Stopped
from nas.evaluators.evaluator import Evaluation, Report, finite
from nas.evaluators.settings import RungSettings
from nas.runs.noise import Yardstick
from nas.runs.trials import Size
from search_spaces.genotype import Genotype, to_document

SCHEMA = "nas.ledger/1"

Record = dict[str, Any]

MAX_DETAIL = 2000
"""Characters kept of what is said about a failure."""


def encode_line(number: int, record: Mapping[str, Any]) -> str:
    """One line: the record, its number ``n`` and the CRC-32 of everything before the ``crc`` key."""
    body = json.dumps({"n": number, **record}, allow_nan=False, separators=(",", ":"))[:-1]
    return f'{body},"crc":"{zlib.crc32(body.encode()):08x}"}}'


def decode_line(line: str, number: int) -> Record:
    """Check one line and return its record. Raises ValueError with what is wrong."""
    body, mark, rest = line.rpartition(',"crc":"')
    if not mark or rest[8:] != '"}' or rest[:8] != f"{zlib.crc32(body.encode()):08x}":
        raise ValueError("its checksum does not match")
    try:
        record = json.loads(body + "}")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON ({error})") from None
    if not isinstance(record, dict) or record.pop("n", None) != number:
        raise ValueError(f"it should be line number {number}")
    return record


def opened(
    time: float,
    budget: int,
    rungs: Sequence[int] = (),
    reduction: int = 0,
    data: str | None = None,
    yardsticks: Sequence[Yardstick] = (),
    ladder: Sequence[RungSettings] = (),
    expected: Sequence[float] = (),
    workers: int | None = None,
    earlier: Sequence[Earlier] = (),
) -> Record:
    """A driver starts or resumes.

    ``rungs`` are epochs at which children are compared; ``data`` is the data's checksum, ``yardsticks`` what rewards are measured on: the
    search's own and those of every rung of the ``ladder``. ``expected`` are the seconds of a training at each of them, as the plan has it,
    with so many ``workers``. ``earlier`` is what the controller has learnt from before its first proposal.
    """
    record: Record = {"event": "opened", "schema": SCHEMA, "time": round(time, 3), "budget": budget}
    if rungs:
        record |= {"rungs": list(rungs), "reduction": reduction}
    if data is not None:
        record["data"] = data
    if yardsticks:
        record["yardstick"] = yardsticks[0].document()
    if ladder:
        record["ladder"] = [rung.model_dump(mode="json") for rung in ladder]
        record["yardsticks"] = [yardstick.document() for yardstick in yardsticks[1:]]
    if earlier:
        record["earlier"] = [{"source": one.source, "trained": [[reward, *actions] for actions, reward in one.trained]} for one in earlier]
    if expected:
        record["expected"] = [round(seconds, 3) for seconds in expected]
    return record if workers is None else record | {"workers": workers}


def asked(
    proposal: Proposal,
    key: str | None = None,
    warm: str | None = None,
    size: Size | None = None,
    redrawn: Mapping[str, int] | None = None,
) -> Record:
    """The controller proposed a trial. ``key`` is what all proposals of the same cells have in common: to find it again is not quick.

    ``warm`` names the genotype that a person put in the controller's place. ``size`` is what the search decided before training,
    ``redrawn`` how many proposals were drawn again before this one, by reason.
    """
    record: Record = {"event": "asked", "trial": proposal.trial, "actions": list(proposal.actions)}
    if proposal.log_probs:
        record["log_probs"] = list(proposal.log_probs)
        record["policy_version"] = proposal.policy_version
    said = {"key": key, "warm": warm, "size": _size_document(size), "redrawn": dict(redrawn) if redrawn else None}
    return record | {name: value for name, value in said.items() if value is not None}


def _size_document(size: Size | None) -> Record | None:
    if size is None:
        return None
    return {"costs": finite(size.costs)} | ({} if size.filters is None else {"filters": size.filters})


def raised(proposal: Proposal, origin: int, replicate: int) -> Record:
    """The cell of the trial ``origin`` is trained at the proposal's rung, for the ``replicate``-th time (from 0)."""
    record: Record = {"event": "asked", "trial": proposal.trial, "actions": list(proposal.actions)}
    return record | {"rung": proposal.rung, "of": origin, "replicate": replicate}


def dealt(trial: int, rung: int, replicate: int, card: str, genotype: Genotype, size: Size | None = None) -> Record:
    """A control card is trained at a rung: a genotype of no trial, and maybe of no action sequence of the space."""
    record: Record = {"event": "asked", "trial": trial, "actions": [], "rung": rung, "replicate": replicate, "card": card}
    return record | {"genotype": to_document(genotype)} | ({} if size is None else {"size": _size_document(size)})


def started(trial: int, attempt: int, time: float, after_epoch: int = 0, workers: int | None = None) -> Record:
    """An attempt at training the trial's child was handed to the runner, to go on after an epoch where a checkpoint lets it.

    ``workers`` is how many children the runner has room for; None: as many as before.
    """
    record: Record = {"event": "started", "trial": trial, "attempt": attempt, "time": round(time, 3)}
    record |= {"after_epoch": after_epoch} if after_epoch else {}
    return record if workers is None else record | {"workers": workers}


def reported(trial: int, attempt: int, report: Report, checkpoint: str | None = None) -> Record:
    """The child finished an epoch; ``checkpoint`` is the checksum of its state then, where that was kept."""
    record: Record = {"event": "report", "trial": trial, "attempt": attempt, "epoch": report.epoch, "reward": report.reward}
    record["metrics"] = finite(report.metrics)
    if checkpoint is not None:
        record["checkpoint"] = checkpoint
    return record


def lost(trial: int, attempt: int, detail: str, reason: str = "worker_lost") -> Record:
    """The attempt came to nothing for a reason that may not be the architecture's: its worker died, hung or had too little memory."""
    return {"event": "lost", "trial": trial, "attempt": attempt, "reason": reason, "detail": detail[:MAX_DETAIL]}


def finished(trial: int, evaluation: Evaluation, time: float, repeats: int | None = None) -> Record:
    """The trial ended and the controller is told, in this order among all trials.

    ``repeats`` names the earlier trial of the same cells whose outcome answered this one without training.
    """
    record: Record = {"event": "finished", "trial": trial, "time": round(time, 3), **outcome_document(evaluation.outcome)}
    if evaluation.metrics:
        record["metrics"] = finite(evaluation.metrics)
    if repeats is not None:
        record["repeats"] = repeats
    return record


def updated(trial: int, telemetry: Mapping[str, float]) -> Record:
    """Telling this trial's outcome completed an update of the policy."""
    return {"event": "updated", "trial": trial, "telemetry": finite(telemetry)}


def kept(told: int, state: bytes) -> Record:
    """The controller's own state after so many outcomes: to replay a policy's updates takes long, to read what they came to does not."""
    return {"event": "kept", "told": told, "state": base64.b85encode(state).decode()}


def decided(cell: str, what: Size | str) -> Record:
    """The size of a cell, or why it may not be trained, where that took a measurement: it is made once, and a resume goes by it."""
    return {"event": "decided", "cell": cell} | ({"refused": what} if isinstance(what, str) else {"size": _size_document(what)})


def closed(reason: str, time: float) -> Record:
    """The driver stopped in order: ``finished``, ``interrupted`` or ``failing``."""
    return {"event": "closed", "reason": reason, "time": round(time, 3)}


def outcome_document(outcome: Outcome) -> Record:
    """An outcome as plain data."""
    match outcome:
        case Completed(reward):
            return {"outcome": "completed", "reward": reward}
        case Stopped(rung, reward):
            return {"outcome": "stopped", "rung": rung, "reward": reward}
        case Failed(reason, detail):
            return {"outcome": "failed", "reason": reason, "detail": detail[:MAX_DETAIL]}


def _outcome(record: Record) -> Outcome:
    kind = record["outcome"]
    if kind == "completed":
        return Completed(_finite(record["reward"]))
    if kind == "stopped":
        return Stopped(_count(record["rung"]), _finite(record["reward"]))
    if kind == "failed" and record["reason"] in FAILURE_REASONS:
        return Failed(record["reason"], str(record["detail"]))
    raise ValueError(f"unknown outcome {kind!r}")


def _finite(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"a finite number is needed, but got {value!r}")
    return float(value)


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"an integer of at least 0 is needed, but got {value!r}")
    return value


def _size(found: object) -> Size | None:
    if found is None:
        return None
    if not isinstance(found, dict):
        raise ValueError(f"a size must be a mapping, but is {found!r}")
    filters = found.get("filters")
    return Size(None if filters is None else _finite(filters), {str(key): _finite(value) for key, value in found["costs"].items()})
