"""The search loop: ask → ledger → runner → ledger → tell. It decides on budget, repeats, retries and stopping; it does no training."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from controllers.controller import Failed, Stopped, random_for
from controllers.deduplicated import Deduplicated
from nas.evaluators.evaluator import Evaluation, Report
from nas.runners.runner import Ended, Event, Job, Lost, Reported, Runner
from nas.runs import records
from nas.runs.checkpoints import Checkpoints
from nas.runs.ledger import Ledger
from nas.runs.state import RunState, Trial
from search_spaces.space import SearchSpace

MAX_REPEATS_IN_A_ROW = 200
"""Proposals answered from the ledger one after the other before the space counts as exhausted."""


class Ending(Enum):
    """Why a search stopped. All but FINISHED can be resumed with more to do."""

    FINISHED = "finished"
    INTERRUPTED = "interrupted"
    EXHAUSTED = "exhausted"
    FAILING = "failing"


@dataclass(frozen=True)
class Watcher:
    """What the search tells a person (or a snapshot writer) while it runs. Every call is made after the ledger has the record."""

    on_report: Callable[[Trial, Report], None] = lambda trial, report: None
    on_end: Callable[[Trial], None] = lambda trial: None
    on_lost: Callable[[Trial, str, str], None] = lambda trial, reason, detail: None


@dataclass(frozen=True)
class SearchLimits:
    """When to stop, and when to give a child up."""

    budget: int
    max_attempts: int = 3
    failures_in_a_row: int = 20

    def may_retry(self, reason: str, setbacks: int) -> bool:
        """Whether a child is tried again after that many attempts that ended for this reason, the last one counted.

        A lost worker says nothing about the architecture: ``max_attempts`` attempts. Hanging and too little memory may come
        from the machine: one more attempt, elsewhere or at half the batch. All else is the architecture's doing: none.
        """
        allowed = {"worker_lost": self.max_attempts - 1, "hung": 1, "out_of_memory": 1}
        return setbacks <= allowed.get(reason, 0)


class Search:
    """Drives one session of a run, from a ledger that may hold earlier sessions.

    The controller must have been told the ledger's outcomes already (``nas.runs.controller_state.restore``).
    """

    def __init__(
        self,
        space: SearchSpace,
        controller: Deduplicated,
        runner: Runner,
        ledger: Ledger,
        seed: int,
        limits: SearchLimits,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self.space, self.controller, self.checkpoints = space, controller, checkpoints
        self.runner, self.ledger, self.limits, self.seed = runner, ledger, limits, seed
        self.watcher = Watcher()
        self.interrupted = False
        self._repeats = 0
        self._failures = 0

    @property
    def state(self) -> RunState:
        """What the ledger says."""
        return self.ledger.state

    def interrupt(self) -> None:
        """Ask the loop to stop at the next opportunity (safe to call from a signal handler)."""
        self.interrupted = True

    def run(self, watcher: Watcher | None = None) -> Ending:
        """Train children until the budget is spent, the space is exhausted, too many fail in a row, or somebody interrupts."""
        self.watcher = watcher or self.watcher
        if self.checkpoints is not None:
            self.checkpoints.drop_others(set(self.state.pending))
        for trial in list(self.state.pending.values()):
            if not self._stop_at_rung(trial):  # the kill may have come between a rung's report and its consequence
                self._submit(trial)
        ending = self._loop()
        self.ledger.append(records.closed(ending.value, time.time()))
        return ending

    def _loop(self) -> Ending:
        events: list[Event] = []
        while True:
            with self.ledger.together():  # what happened and what follows from it goes to the disk at once
                for event in events:
                    self._handle(event)
                if self.interrupted:
                    return Ending.INTERRUPTED
                if self._failures >= self.limits.failures_in_a_row:
                    return Ending.FAILING
                self._fill()
            if not self.state.pending:
                return Ending.FINISHED if self.state.spent >= self.limits.budget else Ending.EXHAUSTED
            events = self.runner.poll(timeout=1.0)

    def _fill(self) -> None:
        """Ask for children while the runner has room and the budget is not promised away."""
        while (
            not self.interrupted
            and len(self.state.pending) < self.runner.capacity
            and self.state.spent + len(self.state.pending) < self.limits.budget
            and self._repeats < MAX_REPEATS_IN_A_ROW
        ):
            pending = [trial.proposal for trial in self.state.pending.values()]
            proposal = self.controller.ask(len(self.state.trials), pending)
            earlier = self.controller.recall(proposal)
            if earlier is None and self.controller.is_pending(proposal, pending):
                return
            self.ledger.append(records.asked(proposal))
            trial = self.state.trials[proposal.trial]
            if earlier is None:
                self._repeats = 0
                self._submit(trial)
            else:
                self._repeats += 1
                self._finish(trial, Evaluation(earlier[1]), repeats=earlier[0])

    def _submit(self, trial: Trial) -> None:
        attempt = trial.attempts + 1
        checkpoint = self.checkpoints.find(trial) if self.checkpoints is not None else None
        after_epoch = trial.checkpoint[0] if checkpoint is not None and trial.checkpoint is not None else 0
        self.ledger.append(records.started(trial.number, attempt, time.time(), after_epoch))
        seed = random_for(self.seed, "child", trial.number).getrandbits(31)
        divisor = 2 ** trial.setbacks["out_of_memory"]
        self.runner.submit(Job(trial.number, attempt, self.space.decode(trial.proposal.actions), seed, divisor, checkpoint))

    def _handle(self, event: Event) -> None:
        trial = self.state.trials[event.trial]
        if trial.evaluation is not None or event.attempt != trial.attempts:
            return  # a late word from an attempt that was given up
        match event:
            case Reported(_, attempt, report):
                self._record(trial, attempt, report)
                if not self._stop_at_rung(trial):
                    self.watcher.on_report(trial, report)
            case Ended(_, _, Evaluation(Failed("out_of_memory", detail)) as evaluation):
                self._try_again(trial, "out_of_memory", detail, evaluation)
            case Ended(_, _, evaluation):
                self._finish(trial, evaluation)
            case Lost(_, _, detail, reason):
                self._try_again(trial, reason, detail, Evaluation(Failed(reason, detail)))

    def _record(self, trial: Trial, attempt: int, report: Report) -> None:
        """Write a report to the ledger, and the child's state before it: the ledger never names a state that is not there."""
        checksum = None
        if self.checkpoints is not None and report.checkpoint is not None:
            checksum = self.checkpoints.write(trial.number, report.epoch, report.checkpoint)
        self.ledger.append(records.reported(trial.number, attempt, replace(report, checkpoint=None), checksum))
        if self.checkpoints is not None and checksum is not None:
            self.checkpoints.drop(trial.number, keep=report.epoch)

    def _stop_at_rung(self, trial: Trial) -> bool:
        """End a child that was not among the best at a rung; whether it was ended."""
        rung = self.state.halving.stopped_at(trial.number)
        if rung is None:
            return False
        self.runner.stop(trial.number)
        report = next(report for report in trial.reports if report.epoch == rung)
        seconds = {"train_seconds": report.metrics["seconds"]} if "seconds" in report.metrics else {}
        self._finish(trial, Evaluation(Stopped(rung, report.reward), seconds))
        return True

    def _try_again(self, trial: Trial, reason: str, detail: str, evaluation: Evaluation) -> None:
        """Record an attempt that came to nothing; start another, or end the trial with this evaluation where there were enough."""
        if self.limits.may_retry(reason, trial.setbacks[reason] + 1):
            self.ledger.append(records.lost(trial.number, trial.attempts, detail, reason))
            self.watcher.on_lost(trial, reason, detail)
            self._submit(trial)
            return
        if trial.setbacks[reason]:
            told = f"{trial.setbacks[reason] + 1} attempts; last: {detail}"
            evaluation = replace(evaluation, outcome=Failed(reason, told))
        self._finish(trial, evaluation)

    def _finish(self, trial: Trial, evaluation: Evaluation, repeats: int | None = None) -> None:
        self.ledger.append(records.finished(trial.number, evaluation, time.time(), repeats))
        telemetry = self.controller.tell(trial.proposal, evaluation.outcome)
        if telemetry is not None:
            self.ledger.append(records.updated(trial.number, telemetry))
        if self.checkpoints is not None:
            self.checkpoints.drop(trial.number)
        if isinstance(evaluation.outcome, Failed):
            self._failures += 1
        elif repeats is None:
            self._failures = 0
        self.watcher.on_end(trial)
