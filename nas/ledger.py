"""The append-only record of a run: one checked JSON object a line, one writer. The only source of resume and reports.

Every line carries its number and a checksum, so a lost or altered line is noticed, never believed. A last line that
was cut off by a kill is dropped when the ledger is opened for writing.
"""

import json
import math
import os
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout

from controllers.controller import FAILURE_REASONS, Completed, Failed, Outcome, Proposal, Stopped
from nas.errors import RunError
from nas.evaluation import Evaluation, Report
from nas.halving import Halving

SCHEMA = "nas.ledger/1"
Record = dict[str, Any]
MAX_DETAIL = 2000
"""Characters kept of what is said about a failure."""

# ---------------------------------------------------------------------------------------------------- lines


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


def read_records(path: Path) -> tuple[list[Record], int]:
    """All whole records of a ledger, and the bytes they take; a cut-off last line is left out.

    Raises:
        RunError: the file cannot be read, or a line other than the last is damaged.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path}: the ledger cannot be read: {error.strerror or error}") from None
    lines = raw.split(b"\n")
    tail = lines.pop()  # empty where the file ends with a whole line
    records: list[Record] = []
    size = 0
    for number, line in enumerate(lines):
        try:
            records.append(decode_line(line.decode("utf-8"), number))
        except ValueError as error:
            if number == len(lines) - 1 and not tail:
                break  # a torn write can end in what looks like a whole line
            raise RunError(f"{path}, line {number + 1}: a ledger line must be as it was written, but {error}") from None
        size += len(line) + 1
    return records, size


# ---------------------------------------------------------------------------------------------------- records


def opened(time: float, budget: int, rungs: Sequence[int] = (), reduction: int = 0, data: str | None = None) -> Record:
    """A driver starts or resumes. ``rungs`` are epochs at which children are compared; ``data`` is the data's checksum."""
    record: Record = {"event": "opened", "schema": SCHEMA, "time": round(time, 3), "budget": budget}
    if rungs:
        record |= {"rungs": list(rungs), "reduction": reduction}
    if data is not None:
        record["data"] = data
    return record


def asked(proposal: Proposal) -> Record:
    """The controller proposed a trial."""
    record: Record = {"event": "asked", "trial": proposal.trial, "actions": list(proposal.actions)}
    if proposal.log_probs:
        record["log_probs"] = list(proposal.log_probs)
        record["policy_version"] = proposal.policy_version
    return record


def started(trial: int, attempt: int, time: float, after_epoch: int = 0) -> Record:
    """An attempt at training the trial's child was handed to the runner, to go on after an epoch where a checkpoint lets it."""
    record: Record = {"event": "started", "trial": trial, "attempt": attempt, "time": round(time, 3)}
    return record | {"after_epoch": after_epoch} if after_epoch else record


def reported(trial: int, attempt: int, report: Report, checkpoint: str | None = None) -> Record:
    """The child finished an epoch; ``checkpoint`` is the checksum of its state then, where that was kept."""
    record: Record = {"event": "report", "trial": trial, "attempt": attempt, "epoch": report.epoch, "reward": report.reward}
    record["metrics"] = dict(report.metrics)
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
        record["metrics"] = dict(evaluation.metrics)
    if repeats is not None:
        record["repeats"] = repeats
    return record


def updated(trial: int, telemetry: Mapping[str, float]) -> Record:
    """Telling this trial's outcome completed an update of the policy."""
    return {"event": "updated", "trial": trial, "telemetry": {key: value for key, value in telemetry.items() if math.isfinite(value)}}


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
        return Completed(_share(record["reward"]))
    if kind == "stopped":
        return Stopped(_count(record["rung"]), _share(record["reward"]))
    if kind == "failed" and record["reason"] in FAILURE_REASONS:
        return Failed(record["reason"], str(record["detail"]))
    raise ValueError(f"unknown outcome {kind!r}")


def _finite(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"a finite number is needed, but got {value!r}")
    return float(value)


def _share(value: object) -> float:
    number = _finite(value)
    if not 0 <= number <= 1:
        raise ValueError(f"a reward in [0, 1] is needed, but got {value!r}")
    return number


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"an integer of at least 0 is needed, but got {value!r}")
    return value


# ---------------------------------------------------------------------------------------------------- the state they add up to


@dataclass
class Trial:
    """Everything the ledger says of one trial."""

    proposal: Proposal
    attempts: int = 0
    setbacks: Counter[str] = field(default_factory=Counter)
    """Attempts that came to nothing, by reason."""
    reports: list[Report] = field(default_factory=list)
    checkpoint: tuple[int, str] | None = None
    """Epoch and checksum of the last state kept, where an attempt can go on from it."""
    evaluation: Evaluation | None = None
    repeats: int | None = None
    started: float | None = None
    ended: float | None = None

    @property
    def number(self) -> int:
        """The trial's number, from 0 in the order of asking."""
        return self.proposal.trial

    @property
    def lost(self) -> int:
        """Attempts that ended with their worker's death."""
        return self.setbacks["worker_lost"]

    @property
    def spends_budget(self) -> bool:
        """Whether the trial counts as one of the budget: ended, really trained, and not lost to a failing machine."""
        if self.evaluation is None or self.repeats is not None:
            return False
        outcome = self.evaluation.outcome
        return not (isinstance(outcome, Failed) and outcome.reason == "worker_lost")

    @property
    def reward(self) -> float | None:
        """The reward of a completed trial, else None."""
        outcome = self.evaluation.outcome if self.evaluation else None
        return outcome.reward if isinstance(outcome, Completed) else None


@dataclass
class RunState:
    """The run as the records add up: trials by number, the order in which they ended, the policy's telemetry."""

    trials: dict[int, Trial] = field(default_factory=dict)
    told: list[int] = field(default_factory=list)
    updates: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    sessions: list[tuple[float, float]] = field(default_factory=list)
    pending: dict[int, Trial] = field(default_factory=dict)
    """Trials asked and not ended, in order of their numbers."""
    halving: Halving = field(default_factory=Halving)
    data: str | None = None
    """Checksum of what the children are trained on, where it was recorded."""
    budget: int = 0
    spent: int = 0
    """How much of the budget is used up."""
    closed: str | None = None

    def ranked(self) -> list[Trial]:
        """Completed trials that were really trained, best reward first; the earlier one where rewards are equal."""
        done = [trial for trial in self.trials.values() if trial.reward is not None and trial.repeats is None]
        return sorted(done, key=lambda trial: (-(trial.reward or 0.0), trial.number))

    def elapsed(self) -> float:
        """Seconds during which a driver was at work, over all sessions."""
        return sum(end - start for start, end in self.sessions)

    def apply(self, record: Record) -> None:
        """Take one record in. Raises ValueError, KeyError or TypeError where it does not fit what came before."""
        _APPLY[record["event"]](self, record)


def _touch(state: RunState, time: float) -> None:
    if state.sessions:
        state.sessions[-1] = (state.sessions[-1][0], max(time, state.sessions[-1][1]))


def _apply_opened(state: RunState, record: Record) -> None:
    if record["schema"] != SCHEMA:
        raise ValueError(f"the schema must be {SCHEMA!r}, but is {record['schema']!r}")
    state.budget = _count(record["budget"])
    rungs = [_count(epoch) for epoch in record.get("rungs", ())]
    if rungs and _count(record["reduction"]) < 2:
        raise ValueError(f"the reduction must be at least 2, but is {record['reduction']!r}")
    state.halving.open(rungs, record.get("reduction", 0))
    state.data = str(record["data"]) if "data" in record else state.data
    time = _finite(record["time"])
    state.sessions.append((time, time))
    state.closed = None


def _apply_asked(state: RunState, record: Record) -> None:
    number = _count(record["trial"])
    if number != len(state.trials):
        raise ValueError(f"the next trial is {len(state.trials)}, but it asks {number}")
    actions = tuple(_count(action) for action in record["actions"])
    log_probs = tuple(_finite(p) for p in record.get("log_probs", ()))
    trial = Trial(Proposal(number, actions, log_probs, _count(record.get("policy_version", 0))))
    state.trials[number] = state.pending[number] = trial


def _running(state: RunState, record: Record) -> Trial:
    trial = state.trials[_count(record["trial"])]
    if trial.evaluation is not None:
        raise ValueError(f"trial {trial.number} had ended")
    return trial


def _apply_started(state: RunState, record: Record) -> None:
    trial = _running(state, record)
    trial.attempts = _count(record["attempt"])
    trial.started = _finite(record["time"])
    after = _count(record.get("after_epoch", 0))
    trial.reports = [report for report in trial.reports if report.epoch <= after]
    if after == 0:
        trial.checkpoint = None
    _touch(state, trial.started)


def _apply_report(state: RunState, record: Record) -> None:
    trial = _running(state, record)
    metrics = {str(key): _finite(value) for key, value in record["metrics"].items()}
    report = Report(_count(record["epoch"]), _finite(record["reward"]), metrics)
    if trial.reports and trial.reports[-1].epoch >= report.epoch:  # it started anew: its checkpoint did not fit
        trial.reports = [earlier for earlier in trial.reports if earlier.epoch < report.epoch]
    trial.reports.append(report)
    if "checkpoint" in record:
        trial.checkpoint = report.epoch, str(record["checkpoint"])
    state.halving.judge(trial.number, report.epoch, report.reward)


def _apply_lost(state: RunState, record: Record) -> None:
    trial = _running(state, record)
    reason = record.get("reason", "worker_lost")
    if reason not in FAILURE_REASONS:
        raise ValueError(f"unknown reason {reason!r}")
    trial.setbacks[reason] += 1
    if reason == "out_of_memory":
        trial.checkpoint = None  # the next attempt has another batch size: another training


def _apply_finished(state: RunState, record: Record) -> None:
    trial = _running(state, record)
    trial.evaluation = Evaluation(_outcome(record), {str(key): _finite(value) for key, value in record.get("metrics", {}).items()})
    if "repeats" in record:
        trial.repeats = _count(record["repeats"])
        if trial.repeats == trial.number or state.trials[trial.repeats].evaluation is None:
            raise ValueError(f"trial {trial.number} repeats trial {trial.repeats}, which had not ended")
    trial.ended = _finite(record["time"])
    state.told.append(trial.number)
    state.spent += trial.spends_budget
    del state.pending[trial.number]
    _touch(state, trial.ended)


def _apply_updated(state: RunState, record: Record) -> None:
    state.updates.append((_count(record["trial"]), {str(key): _finite(value) for key, value in record["telemetry"].items()}))


def _apply_closed(state: RunState, record: Record) -> None:
    state.closed = str(record["reason"])
    _touch(state, _finite(record["time"]))


_APPLY = {
    "opened": _apply_opened,
    "asked": _apply_asked,
    "started": _apply_started,
    "report": _apply_report,
    "lost": _apply_lost,
    "finished": _apply_finished,
    "updated": _apply_updated,
    "closed": _apply_closed,
}


def replay(records: Iterable[Record], path: Path) -> RunState:
    """The state that the records add up to; ``path`` names the ledger in messages.

    Raises:
        RunError: a record does not fit what came before.
    """
    state = RunState()
    for number, record in enumerate(records, start=1):
        try:
            state.apply(record)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            what = f"{error} is missing or unknown" if isinstance(error, KeyError) else str(error)
            raise RunError(f"{path}, line {number}: the record does not fit the ones before: {what}") from None
    return state


def rewards_over_time(state: RunState) -> Iterator[tuple[int, float]]:
    """(trials ended so far, reward) of every completed, really trained trial in the order of their ends."""
    count = 0
    for number in state.told:
        trial = state.trials[number]
        if trial.spends_budget:
            count += 1
            if trial.reward is not None:
                yield count, trial.reward


# ---------------------------------------------------------------------------------------------------- writing


class Ledger:
    """Appends records to a run's ledger and keeps the state they add up to. A second writer is refused by a lock.

    Raises:
        RunError: another process writes to this run, or the ledger is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._grouped = 0
        self._unforced = False
        self._lock = FileLock(path.with_suffix(".lock"), blocking=False)
        try:
            self._lock.acquire()
        except Timeout:
            message = f"{path.parent}: another process is running this search; stop it first, or watch it with `nas show {path.parent}`"
            raise RunError(message) from None
        try:
            records, size = read_records(path) if path.exists() else ([], 0)
            self.state = replay(records, path)
            self._lines = len(records)
            if path.exists():
                os.truncate(path, size)
            self._size = size
            self._file = path.open("ab", buffering=0)
        except BaseException:
            self._lock.release()
            raise

    @contextmanager
    def together(self) -> Iterator[None]:
        """Group commit: what is appended inside is written at once, as always, and forced to the disk once, at the end.

        A kill of the process loses nothing either way. A power cut inside the group may lose its end, whole records from
        some point on; what was done about them (children handed out, a snapshot) is then done again or ignored.
        """
        self._grouped += 1
        try:
            yield
        finally:
            self._grouped -= 1
            if not self._grouped and self._unforced:
                self._force()

    def append(self, *records: Record) -> None:
        """Write the records and wait until they are on disk (see ``together``): only then may anybody act on them.

        Raises:
            OSError: the disk is full or gone; what was recorded before stays whole.
        """
        content = "".join(encode_line(self._lines + i, record) + "\n" for i, record in enumerate(records)).encode()
        try:
            written = 0
            while written < len(content):  # a disk that fills up takes a part first
                written += self._file.write(content[written:]) or 0
            self._unforced = True
            if not self._grouped:
                self._force()
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(self._size)
            raise OSError(error.errno, error.strerror, str(self.path)) from None
        self._size += len(content)
        self._lines += len(records)
        for record in records:
            self.state.apply(record)

    def _force(self) -> None:
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from None
        self._unforced = False

    def close(self) -> None:
        """Release the file and the lock."""
        self._file.close()
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
