"""The search loop: ask → ledger → runner → ledger → tell. It decides on budget, repeats, retries and stopping; it does no training."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from controllers.controller import Completed, Failed, random_for
from controllers.wrappers import Deduplicated
from nas import ledger as records
from nas.evaluation import Evaluation, Report
from nas.ledger import Ledger, RunState, Trial
from nas.runners.runner import Ended, Event, Job, Lost, Reported, Runner
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
    on_lost: Callable[[Trial, str], None] = lambda trial, detail: None


@dataclass(frozen=True)
class SearchLimits:
    """When to stop, and when to give a child up."""

    budget: int
    max_attempts: int = 3
    failures_in_a_row: int = 20


class Search:
    """Drives one session of a run, from a ledger that may hold earlier sessions.

    The controller must have been told the ledger's outcomes already (``nas.snapshot.restore``).
    """

    def __init__(
        self, space: SearchSpace, controller: Deduplicated, runner: Runner, ledger: Ledger, seed: int, limits: SearchLimits
    ) -> None:
        self.space, self.controller = space, controller
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
        for trial in list(self.state.pending.values()):
            self._submit(trial)
        ending = self._loop()
        self.ledger.append(records.closed(ending.value, time.time()))
        return ending

    def _loop(self) -> Ending:
        while True:
            if self.interrupted:
                return Ending.INTERRUPTED
            if self._failures >= self.limits.failures_in_a_row:
                return Ending.FAILING
            with self.ledger.together():
                self._fill()
            if not self.state.pending:
                return Ending.FINISHED if self.state.spent >= self.limits.budget else Ending.EXHAUSTED
            events = self.runner.poll(timeout=1.0)
            with self.ledger.together():
                for event in events:
                    self._handle(event)

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
        self.ledger.append(records.started(trial.number, attempt, time.time()))
        seed = random_for(self.seed, "child", trial.number).getrandbits(31)
        self.runner.submit(Job(trial.number, attempt, self.space.decode(trial.proposal.actions), seed))

    def _handle(self, event: Event) -> None:
        trial = self.state.trials[event.trial]
        if trial.evaluation is not None or event.attempt != trial.attempts:
            return  # a late word from an attempt that was given up
        match event:
            case Reported(_, attempt, report):
                self.ledger.append(records.reported(trial.number, attempt, report))
                self.watcher.on_report(trial, report)
            case Ended(_, _, evaluation):
                self._finish(trial, evaluation)
            case Lost(_, attempt, detail):
                self.ledger.append(records.lost(trial.number, attempt, detail))
                self.watcher.on_lost(trial, detail)
                if trial.lost < self.limits.max_attempts:
                    self._submit(trial)
                else:
                    self._finish(trial, Evaluation(Failed("worker_lost", f"lost {trial.lost} times; last: {detail}")))

    def _finish(self, trial: Trial, evaluation: Evaluation, repeats: int | None = None) -> None:
        self.ledger.append(records.finished(trial.number, evaluation, time.time(), repeats))
        telemetry = self.controller.tell(trial.proposal, evaluation.outcome)
        if telemetry is not None:
            self.ledger.append(records.updated(trial.number, telemetry))
        if isinstance(evaluation.outcome, Failed):
            self._failures += 1
        elif isinstance(evaluation.outcome, Completed) and repeats is None:
            self._failures = 0
        self.watcher.on_end(trial)
