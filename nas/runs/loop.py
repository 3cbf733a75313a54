"""The search loop: ask → ledger → runner → ledger → tell. It decides on budget, repeats, retries and stopping; it does no training."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path

from controllers.controller import Failed, Proposal, Stopped, random_for
from controllers.deduplicated import Deduplicated
from controllers.pending import Pending
from nas.evaluators.evaluator import Evaluation, Report
from nas.evaluators.settings import Fidelity
from nas.runners.runner import Ended, Event, Job, Lost, Reported, Runner
from nas.runs import records
from nas.runs.checkpoints import Checkpoints
from nas.runs.config import SearchConfig
from nas.runs.ladder import Task
from nas.runs.ledger import Ledger
from nas.runs.objective import Scalarised
from nas.runs.sizing import Sizing
from nas.runs.standings import Knowledge, Standings
from nas.runs.state import RunState
from nas.runs.trials import Size, Trial
from search_spaces.genotype import Genotype
from search_spaces.space import Actions, SearchSpace

MAX_REPEATS_IN_A_ROW = 200
"""Proposals answered from the ledger one after the other before the space counts as exhausted."""
KEPT_EVERY = 100
"""Updates of a policy after which its state (2.3 MB) goes into the ledger: to replay so many takes 3 to 7 s; no resume replays more."""


class Ending(Enum):
    """Why a search stopped. All but FINISHED can be resumed with more to do."""

    FINISHED = "finished"
    INTERRUPTED = "interrupted"
    EXHAUSTED = "exhausted"
    FAILING = "failing"


@dataclass(frozen=True)
class Watcher:
    """Who is told what while a search goes on; every call is made after the ledger has the record.

    ``during`` is entered, with the run's state and its budget, around the time in which children are trained. ``stop`` is asked
    all the time: True makes the search stop in order as INTERRUPTED, children in training being given up until it goes on; ``finish``
    too: True makes it begin no child more, and end so when those in training have. ``on_warning`` takes a line for a person, ``on_note``
    one on the images, once they are read. ``on_begin`` is given the run's folder and configuration when a session begins,
    ``on_standings`` the order of the cells when the search begins and whenever its head may have changed.
    """

    during: Callable[[RunState, int], AbstractContextManager[object]] = lambda state, budget: nullcontext()
    on_report: Callable[[Trial, Report], None] = lambda trial, report: None
    on_end: Callable[[Trial], None] = lambda trial: None
    on_lost: Callable[[Trial, str, str], None] = lambda trial, reason, detail: None
    on_standings: Callable[[Standings], None] = lambda standings: None
    on_warning: Callable[[str], None] = lambda message: None
    on_note: Callable[[str], None] = lambda message: None
    on_begin: Callable[[Path, SearchConfig], None] = lambda folder, config: None
    stop: Callable[[], bool] = lambda: False
    finish: Callable[[], bool] = lambda: False

    def leaving(self) -> bool:
        """Whether no child is to be begun any more."""
        return self.stop() or self.finish()


QUIET = Watcher()
"""Nobody is told anything."""


@dataclass(frozen=True)
class SearchLimits:
    """When to stop, and when to give a child up; ``looks`` is how many cells may be looked at a second time."""

    budget: int
    max_attempts: int = 3
    failures_in_a_row: int = 20
    looks: int = 0

    def may_retry(self, reason: str, setbacks: int) -> bool:
        """Whether a child is tried again after that many attempts that ended for this reason, the last one counted.

        A lost worker says nothing about the architecture: ``max_attempts`` attempts. Hanging and too little memory may come
        from the machine: one more attempt, elsewhere or at half the batch. All else is the architecture's doing: none.
        """
        allowed = {"worker_lost": self.max_attempts - 1, "hung": 1, "out_of_memory": 1}
        return setbacks <= allowed.get(reason, 0)


@dataclass(frozen=True)
class Beside:
    """What is trained beside what the controller proposes.

    Attributes:
        fidelities: of every rung of the ladder, from 1.
        cards: control cards by name: trained at every rung, outside the budget, seen by nobody who decides.
        warm: the search's first children by name, within the budget.
    """

    fidelities: Sequence[Fidelity] = ()
    cards: Mapping[str, Genotype] = field(default_factory=dict)
    warm: Mapping[str, Actions] = field(default_factory=dict)


NOTHING = Beside()
"""The controller's proposals and nothing else."""


def child_seed(seed: int, trial: Trial) -> int:
    """The seed of a child in the search of that seed: above the search, and of control cards, it does not depend on when it was trained."""
    if trial.searched:
        return random_for(seed, "child", trial.number).getrandbits(31)
    who = trial.origin if trial.card is None else trial.card
    return random_for(seed, "rung", trial.rung, who, trial.replicate).getrandbits(31)


class AskTell:
    """Says which child is trained next, and records what becomes of it; who trains it is somebody else's business.

    A search with a runner and a person's own training loop both ask and tell here. The controller must have been told the
    ledger's outcomes already (``nas.runs.controller_state.restore``).
    """

    def __init__(
        self,
        space: SearchSpace,
        controller: Deduplicated,
        ledger: Ledger,
        seed: int,
        limits: SearchLimits,
        checkpoints: Checkpoints | None = None,
        watcher: Watcher = QUIET,
        beside: Beside = NOTHING,
        sizing: Sizing | None = None,
        aim: Scalarised | None = None,
    ) -> None:
        self.aim = aim
        self.space, self.controller, self.ledger, self.beside, self.sizing = space, controller, ledger, beside, sizing
        self.seed, self.limits, self.checkpoints, self.watcher = seed, limits, checkpoints, watcher
        self.failures = 0
        """Children that failed one after the other, up to now."""
        self._repeats = 0
        self._pending = Pending(trial.proposal for trial in ledger.state.pending.values() if trial.searched)
        self.knowledge = Knowledge(space, ledger.state)

    @property
    def state(self) -> RunState:
        """What the ledger says."""
        return self.ledger.state

    @property
    def ending(self) -> Ending:
        """Why there is nothing more to ask for, once nothing is being trained."""
        if self.failures >= self.limits.failures_in_a_row:
            return Ending.FAILING
        if self.state.spent >= self.limits.budget:
            return Ending.FINISHED
        return Ending.EXHAUSTED if self._repeats >= MAX_REPEATS_IN_A_ROW else Ending.INTERRUPTED

    def ask(self) -> Trial | None:
        """The next child to train, recorded: what is due on the ladder or of the control cards, else a child of the search.

        None where the budget is spent or promised to children in training and nobody may go up, where the space is exhausted, where
        every proposal left is being trained, or where somebody stops.
        """
        if self.watcher.leaving():
            return None
        return self._due() or self._new() or self._due()  # that there is nothing new may open the last places

    def _due(self) -> Trial | None:
        """The next training above the search's own children, or of a control card."""
        state = self.state
        over = not self._pending and (state.spent >= self.limits.budget or self._repeats >= MAX_REPEATS_IN_A_ROW)
        task = state.ladder.next(state.spent, self.limits.budget, over, self.beside.cards, self.knowledge.best, self.limits.looks)
        if task is None:
            return None
        self.ledger.append(self._record(task))
        return state.trials[len(state.trials) - 1]

    def _record(self, task: Task) -> records.Record:
        number = len(self.state.trials)
        if task.card is not None:
            genotype = self.beside.cards[task.card]
            size = None if self.sizing is None else self.sizing.nearest(genotype)
            return records.dealt(number, task.rung, task.replicate, task.card, genotype, size)
        assert task.origin is not None
        actions = self.state.trials[task.origin].proposal.actions
        return records.raised(Proposal(number, actions, rung=task.rung), task.origin, task.replicate)

    def _new(self) -> Trial | None:
        """The search's next child. Proposals that repeat a trained cell are answered on the way, free."""
        while (
            not self.watcher.leaving()
            and self.state.spent + len(self._pending) < self.limits.budget
            and self._repeats < MAX_REPEATS_IN_A_ROW
        ):
            number = len(self.state.trials)
            warm = next((name for name in self.beside.warm if name not in self.state.warm), None)
            proposal = self.controller.ask(number, self._pending) if warm is None else Proposal(number, self.beside.warm[warm])
            earlier = self.controller.recall(proposal)
            if earlier is None and warm is None and self.controller.refusal(proposal.actions) is not None:
                self._repeats = MAX_REPEATS_IN_A_ROW  # hundreds of draws found nothing that may be trained
                return None
            if earlier is None and self.controller.is_pending(proposal, self._pending):
                return None
            size = self._size(proposal, warm)
            redrawn = self.controller.redrawn if warm is None else None
            self.ledger.append(records.asked(proposal, self.controller.key(proposal), warm, size, redrawn))
            self._pending.add(proposal)
            trial = self.state.trials[proposal.trial]
            if earlier is None:
                self._repeats = 0
                return trial
            self._repeats += 1
            self.tell(trial, Evaluation(earlier[1]), repeats=earlier[0])
        return None

    def begin(self, trial: Trial, workers: int | None = None) -> Job:
        """Record another attempt at training a child, by one of so many workers; returns what is to be done."""
        attempt = trial.attempts + 1
        checkpoint = self.checkpoints.find(trial) if self.checkpoints is not None else None
        after_epoch = trial.checkpoint[0] if checkpoint is not None and trial.checkpoint is not None else 0
        news = None if workers == self.state.workers else workers
        self.ledger.append(records.started(trial.number, attempt, time.time(), after_epoch, news))
        divisor, rung = 2 ** trial.setbacks["out_of_memory"], trial.rung
        genotype = self.space.decode(trial.proposal.actions) if trial.card is None else self.state.cards[trial.card]
        fidelity = self.beside.fidelities[rung - 1] if rung else None
        if self.sizing is not None:
            fidelity = self.sizing.fidelity(self._size_of(trial), fidelity)
        return Job(trial.number, attempt, genotype, child_seed(self.seed, trial), divisor, checkpoint, fidelity, rung)

    def _size(self, proposal: Proposal, warm: str | None) -> Size | None:
        """What the rules of the search say of a child; of one that a person names, the nearest to them."""
        if self.sizing is None:
            return None
        return self.sizing.of(proposal.actions) if warm is None else self.sizing.nearest(self.space.decode(proposal.actions))

    def _size_of(self, trial: Trial) -> Size | None:
        """A cell has one size at all rungs."""
        return trial.size if trial.origin is None else self.state.trials[trial.origin].size

    def report(self, trial: Trial, report: Report) -> None:
        """Write a report to the ledger, and the child's state before it: the ledger never names a state that is not there."""
        checksum = None
        if self.checkpoints is not None and report.checkpoint is not None:
            checksum = self.checkpoints.write(trial.number, report.epoch, report.checkpoint)
        self.ledger.append(records.reported(trial.number, trial.attempts, replace(report, checkpoint=None), checksum))
        if self.checkpoints is not None and checksum is not None:
            self.checkpoints.drop(trial.number, keep=report.epoch)

    def stopped(self, trial: Trial) -> Evaluation | None:
        """How a child that was not among the best at a rung ends, which is to be told; None where it may go on."""
        rung = self.state.halving.stopped_at(trial.number)
        if rung is None:
            return None
        report = next(report for report in trial.reports if report.epoch == rung)
        seconds = {"train_seconds": report.metrics["seconds"]} if "seconds" in report.metrics else {}
        return Evaluation(Stopped(rung, report.reward), seconds)

    def tell(self, trial: Trial, evaluation: Evaluation, repeats: int | None = None) -> None:
        """Record how a child ended, and let the controller learn from it."""
        self.ledger.append(records.finished(trial.number, evaluation, time.time(), repeats))
        self._pending.discard(trial.number)
        telemetry = None if trial.card is not None or trial.second_look else self._teach(trial, evaluation)
        if telemetry is not None:
            self.ledger.append(records.updated(trial.number, telemetry))
            self._keep()
        if self.checkpoints is not None:
            self.checkpoints.drop(trial.number)
        if trial.card is not None:
            pass  # says nothing about the search
        elif isinstance(evaluation.outcome, Failed):
            self.failures += 1
        elif repeats is None:
            self.failures = 0
        self.watcher.on_end(trial)

    def _teach(self, trial: Trial, evaluation: Evaluation) -> Mapping[str, float] | None:
        """The cell's outcome is remembered as it is; the controller is told what the search is after."""
        if self.aim is None:
            return self.controller.tell(trial.proposal, evaluation.outcome)
        self.controller.remember(trial.proposal, self.controller.key(trial.proposal), evaluation.outcome)
        return self.controller.pass_on(trial.proposal, self.aim.outcome(trial))

    def _keep(self) -> None:
        """Now and then put the controller's own state into the ledger, so that a resume never replays more updates than that."""
        if len(self.state.updates) % KEPT_EVERY == 0:
            from nas.runs import controller_state  # brings torch, which whoever returns telemetry has

            state = controller_state.to_bytes(self.controller.controller.state_dict(), {})
            self.ledger.append(records.kept(len(self.state.told), state))


class Search:
    """Drives one session of a run with a runner, from a ledger that may hold earlier sessions; see ``AskTell``."""

    def __init__(self, children: AskTell, runner: Runner) -> None:
        self.children, self.runner = children, runner

    @property
    def state(self) -> RunState:
        """What the ledger says."""
        return self.children.state

    def run(self) -> Ending:
        """Train children until the budget is spent, the space is exhausted, too many fail in a row, or somebody interrupts."""
        children = self.children
        if children.checkpoints is not None:
            children.checkpoints.drop_others(set(self.state.pending))
        leaving = children.watcher.leaving()
        for trial in [] if leaving else list(self.state.pending.values()):
            if not self._stop_at_rung(trial):  # the kill may have come between a rung's report and its consequence
                self._submit(trial)
        ending = Ending.INTERRUPTED if leaving else self._loop()
        children.ledger.append(records.closed(ending.value, time.time()))
        return ending

    def _loop(self) -> Ending:
        events: list[Event] = []
        while True:
            with self.children.ledger.together():  # what happened and what follows from it goes to the disk at once
                for event in events:
                    self._handle(event)
                if self.children.watcher.stop():
                    return Ending.INTERRUPTED
                if self.children.failures >= self.children.limits.failures_in_a_row:
                    return Ending.FAILING
                self._fill()
            if not self.state.pending:
                return Ending.INTERRUPTED if self.children.watcher.leaving() else self.children.ending
            events = self.runner.poll(timeout=1.0)

    def _fill(self) -> None:
        """Ask for children while the runner has room and the budget is not promised away."""
        while len(self.state.pending) < self.runner.capacity and (trial := self.children.ask()) is not None:
            self._submit(trial)

    def _submit(self, trial: Trial) -> None:
        self.runner.submit(self.children.begin(trial, self.runner.capacity))

    def _handle(self, event: Event) -> None:
        trial = self.state.pending.get(event.trial)
        if trial is None or event.attempt != trial.attempts:
            return  # a late word from an attempt that was given up
        match event:
            case Reported(_, _, report):
                self.children.report(trial, report)
                if not self._stop_at_rung(trial):
                    self.children.watcher.on_report(trial, report)
            case Ended(_, _, Evaluation(Failed("out_of_memory", detail)) as evaluation):
                self._try_again(trial, "out_of_memory", detail, evaluation)
            case Ended(_, _, evaluation):
                self.children.tell(trial, evaluation)
            case Lost(_, _, detail, reason):
                self._try_again(trial, reason, detail, Evaluation(Failed(reason, detail)))

    def _stop_at_rung(self, trial: Trial) -> bool:
        """End a child that was not among the best at a rung; whether it was ended."""
        evaluation = self.children.stopped(trial)
        if evaluation is None:
            return False
        self.runner.stop(trial.number)
        self.children.tell(trial, evaluation)
        return True

    def _try_again(self, trial: Trial, reason: str, detail: str, evaluation: Evaluation) -> None:
        """Record an attempt that came to nothing; start another, or end the trial with this evaluation where there were enough."""
        children = self.children
        if children.limits.may_retry(reason, trial.setbacks[reason] + 1):
            children.ledger.append(records.lost(trial.number, trial.attempts, detail, reason))
            children.watcher.on_lost(trial, reason, detail)
            self._submit(trial)
            return
        if trial.setbacks[reason]:
            told = f"{trial.setbacks[reason] + 1} attempts; last: {detail}"
            evaluation = replace(evaluation, outcome=Failed(reason, told))
        children.tell(trial, evaluation)
