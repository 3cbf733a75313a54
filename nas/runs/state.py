"""What the records of a ledger add up to: trials and their outcomes. Replaying them is how a run is resumed."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controllers.controller import FAILURE_REASONS, Earlier, Failed, Proposal
from nas.errors import RunError
from nas.evaluators.evaluator import Evaluation, Report
from nas.evaluators.settings import RungSettings
from nas.runs.halving import Halving
from nas.runs.ladder import Ladder
from nas.runs.noise import Yardstick
from nas.runs.records import SCHEMA, Record, _count, _finite, _outcome, _size
from nas.runs.trials import Chosen, Size, Trial, Trials
from search_spaces.genotype import Genotype, from_document


@dataclass
class RunState:
    """The run as the records add up: trials by number, the order in which they ended, the policy's telemetry."""

    trials: Trials = field(default_factory=Trials)
    told: list[int] = field(default_factory=list)
    updates: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    kept: tuple[int, str] | None = None
    """The last state of the controller that is in the ledger, see ``nas.runs.records.kept``: after how many outcomes, and its text."""
    sessions: list[tuple[float, float]] = field(default_factory=list)
    pending: dict[int, Trial] = field(default_factory=dict)
    """Trials asked and not ended, in order of their numbers."""
    halving: Halving = field(default_factory=Halving)
    data: str | None = None
    """Checksum of what the children are trained on, where it was recorded."""
    yardsticks: list[Yardstick] = field(default_factory=list)
    """What the rewards are measured on at every rung of the ladder, where it was recorded."""
    ladder: Ladder = field(default_factory=Ladder)
    wanted: list[tuple[int, tuple[RungSettings, ...]]] = field(default_factory=list)
    """How many children and which rungs the search was to have, and then each time that it had ended and was given more of them."""
    cards: dict[str, Genotype] = field(default_factory=dict)
    """The control cards that have been trained, by name."""
    warm: dict[str, int] = field(default_factory=dict)
    """The trials of the genotypes that a person began the search with, by name."""
    earlier: list[Earlier] = field(default_factory=list)
    """What the controller learnt from before its first proposal."""
    budget: int = 0
    spent: int = 0
    """How much of the budget is used up: by children of the search, not by the ladder's trainings and control cards."""
    ended: int = 0
    """How many children of the search were really trained, to whatever end."""
    failures: Counter[str] = field(default_factory=Counter)
    """How many of them failed, by reason; proposals answered by an earlier child's failure are not counted again."""
    repeats: int = 0
    """Proposals that were answered by an earlier trial of the same cells, without training."""
    setbacks: Counter[str] = field(default_factory=Counter)
    """Attempts that came to nothing and were followed by another, by reason."""
    workers: int = 0
    """Children that the runner last had room for, where it was recorded; before that, as many as the plan expected."""
    planned_workers: int = 0
    """Children that a session began with room for, by its plan or the session before: the runner's own workers come one after another."""
    expected: tuple[float, ...] = ()
    """Seconds of a training at every rung that the plan expected, where it was recorded."""
    redrawn: Counter[str] = field(default_factory=Counter)
    """How many proposals were drawn again, free of budget, since the search may not train them: by reason."""
    decided: dict[str, Size | str] = field(default_factory=dict)
    """The sizes of cells by their key, or why they may not be trained, where that took a measurement (``nas.runs.sizing``)."""
    closed: str | None = None

    @property
    def yardstick(self) -> Yardstick | None:
        """What the rewards of the search's own children are measured on."""
        return self.yardsticks[0] if self.yardsticks else None

    def ranked(self) -> Chosen:
        """Completed children of the search that were really trained, best reward first; the earlier one where rewards are equal.

        Rewards are noisy: what a run hands on is in ``nas.runs.standings.best_known``.
        """
        rewards = ((trial.reward, trial.number) for trial in self.trials.values() if trial.repeats is None and trial.searched)
        best_first = sorted((-reward, number) for reward, number in rewards if reward is not None)
        return Chosen(self.trials, [number for _, number in best_first])

    def losses(self) -> str | None:
        """What to tell a person of a search of whose children fewer than half survived; None where more did."""
        survived = self.ended - self.failures.total()
        if 2 * survived >= self.ended:
            return None
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.failures.most_common())
        return f"only {survived} of {self.ended} children survived (failed: {reasons}): the ranking is one of what is left"

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
    if found := record.get("yardstick"):
        yardsticks = [found, *record.get("yardsticks", ())]
        state.yardsticks = [Yardstick(_count(found["images"]), _finite(found["chance"])) for found in yardsticks]
    if "ladder" in record:
        state.ladder.rungs = [RungSettings.model_validate(rung) for rung in record["ladder"]]
        state.ladder.said += [(rung.children, state.budget) for rung in state.ladder.rungs[len(state.ladder.said) :]]
    _want(state)
    if "earlier" in record:
        state.earlier = [Earlier(str(one["source"]), tuple(_trained(cell) for cell in one["trained"])) for one in record["earlier"]]
    state.expected = tuple(map(_finite, record.get("expected", state.expected)))
    state.planned_workers = state.workers = _count(record.get("workers", state.workers))
    time = _finite(record["time"])
    state.sessions.append((time, time))
    state.closed = None


def _want(state: RunState) -> None:
    """Take in what a session is to come to: more than the one before, if that had ended, or else another end of the same."""
    wanted, last = (state.budget, tuple(state.ladder.rungs)), state.wanted[-1] if state.wanted else None
    if last is not None and len(last[1]) == len(wanted[1]) and (last == wanted or state.closed not in ("finished", "exhausted")):
        state.wanted[-1] = wanted
    else:
        state.wanted.append(wanted)


def _trained(cell: Sequence[Any]) -> tuple[tuple[int, ...], float]:
    reward, *actions = cell
    return tuple(map(_count, actions)), _finite(reward)


def _apply_asked(state: RunState, record: Record) -> None:
    number = _count(record["trial"])
    if number != len(state.trials):
        raise ValueError(f"the next trial is {len(state.trials)}, but it asks {number}")
    actions = tuple(_count(action) for action in record["actions"])
    log_probs = tuple(_finite(p) for p in record.get("log_probs", ()))
    key = record.get("key")
    if not isinstance(key, str | None):
        raise ValueError(f"the key of a cell must be a text, but is {key!r}")
    rung = _count(record.get("rung", 0))
    trial = Trial(Proposal(number, actions, log_probs, _count(record.get("policy_version", 0)), rung), key)
    trial.size = _size(record.get("size"))
    state.redrawn.update({str(reason): _count(count) for reason, count in record.get("redrawn", {}).items()})
    _place(state, trial, record)
    state.trials.open(trial)
    state.pending[number] = trial
    state.ladder.asked(trial)


def _place(state: RunState, trial: Trial, record: Record) -> None:
    """Say where a trial comes from that no controller proposed."""
    trial.replicate = _count(record.get("replicate", 0))
    if "card" in record:
        trial.card = str(record["card"])
        state.cards[trial.card] = from_document(record["genotype"])
    elif trial.rung or "of" in record:
        trial.origin = _count(record["of"])
        if trial.origin >= len(state.trials) or trial.origin in state.pending or trial.rung > len(state.ladder.rungs):
            raise ValueError(f"trial {trial.number} trains the cells of trial {trial.origin} at rung {trial.rung}: one is not there")
    if "warm" in record:
        trial.warm = str(record["warm"])
        state.warm[trial.warm] = trial.number


def _running(state: RunState, record: Record) -> Trial:
    number = _count(record["trial"])
    if number not in state.pending:
        raise ValueError(f"trial {number} {'had ended' if number < len(state.trials) else 'was never asked'}")
    return state.pending[number]


def _apply_started(state: RunState, record: Record) -> None:
    trial = _running(state, record)
    trial.attempts = _count(record["attempt"])
    trial.started = _finite(record["time"])
    after = _count(record.get("after_epoch", 0))
    trial.reports = [report for report in trial.reports if report.epoch <= after]
    if after == 0:
        trial.checkpoint = None
    state.workers = _count(record.get("workers", state.workers))
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
    if trial.searched:
        state.halving.judge(trial.number, report.epoch, report.reward)


def _apply_lost(state: RunState, record: Record) -> None:
    trial = _running(state, record)
    reason = record.get("reason", "worker_lost")
    if reason not in FAILURE_REASONS:
        raise ValueError(f"unknown reason {reason!r}")
    trial.setbacks[reason] += 1
    state.setbacks[reason] += 1
    if reason == "out_of_memory":
        trial.checkpoint = None  # the next attempt has another batch size: another training


def _apply_finished(state: RunState, record: Record) -> None:
    trial = _running(state, record)
    trial.evaluation = Evaluation(_outcome(record), {str(key): _finite(value) for key, value in record.get("metrics", {}).items()})
    if "repeats" in record:
        trial.repeats = _count(record["repeats"])
        if trial.repeats >= len(state.trials) or trial.repeats in state.pending:
            raise ValueError(f"trial {trial.number} repeats trial {trial.repeats}, which had not ended")
    trial.ended = _finite(record["time"])
    trial.checkpoint = None
    state.told.append(trial.number)
    state.spent += trial.spends_budget
    _tally(state, trial)
    del state.pending[trial.number]
    state.ladder.ended(trial)
    state.trials.end(trial.number)
    state.halving.forget(trial.number)
    _touch(state, trial.ended)


def _tally(state: RunState, trial: Trial) -> None:
    """Count a child of the search that has ended."""
    if trial.repeats is not None:
        state.repeats += 1
    elif trial.searched and trial.evaluation is not None:
        state.ended += 1
        if isinstance(trial.evaluation.outcome, Failed):
            state.failures[trial.evaluation.outcome.reason] += 1


def _apply_updated(state: RunState, record: Record) -> None:
    state.updates.append((_count(record["trial"]), {str(key): _finite(value) for key, value in record["telemetry"].items()}))


def _apply_kept(state: RunState, record: Record) -> None:
    told, text = _count(record["told"]), record["state"]
    if told != len(state.told) or not isinstance(text, str):
        raise ValueError(f"a state of the controller after {told} outcomes comes after {len(state.told)}")
    state.kept = told, text


def _apply_decided(state: RunState, record: Record) -> None:
    size = _size(record.get("size"))
    state.decided[str(record["cell"])] = str(record["refused"]) if size is None else size


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
    "kept": _apply_kept,
    "decided": _apply_decided,
    "closed": _apply_closed,
}


def replay(records: Iterable[Record], path: Path, state: RunState | None = None, read: int = 0) -> RunState:
    """The state that the records add up to, after the ``read`` ones of ``state``; ``path`` names the ledger in messages.

    Raises:
        RunError: a record does not fit what came before.
    """
    state = RunState() if state is None else state
    for number, record in enumerate(records, start=read + 1):
        try:
            state.apply(record)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            what = f"{error} is missing or unknown" if isinstance(error, KeyError) else str(error)
            raise RunError(f"{path}, line {number}: the record does not fit the ones before: {what}") from None
    return state


def redrawn_words(redrawn: Mapping[str, int]) -> str:
    """Why cells were drawn again, the most frequent reason first: ``12 with no width within 5% of 5M MACs``."""
    return ", ".join(f"{count} with {reason}" for reason, count in Counter(redrawn).most_common())


def rewards_over_time(state: RunState) -> Iterator[tuple[int, float]]:
    """(trials ended so far, reward) of every completed, really trained trial in the order of their ends."""
    count = 0
    for number in state.told:
        trial = state.trials[number]
        if trial.spends_budget:
            count += 1
            if trial.reward is not None:
                yield count, trial.reward
