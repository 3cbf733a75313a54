"""A run as an object: what it has found, and asking and telling for people with a training loop of their own. No torch at import."""

import html
from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from controllers.controller import Completed, Controller, Failed, Outcome, RewardError, Stopped, as_number
from nas.api.shown import html_table
from nas.errors import ConfigError, RunError
from nas.evaluators.evaluator import Evaluation, Report, finite
from nas.evaluators.settings import RungSettings
from nas.runs.config import SearchConfig, finalists_rung
from nas.runs.folder import RunFolder, found_genotype
from nas.runs.loop import QUIET, AskTell, Watcher
from nas.runs.state import RunState
from nas.runs.trials import Trial
from nas.settings.reading import validated
from search_spaces.genotype import Genotype
from search_spaces.space import SearchSpace

if TYPE_CHECKING:
    import pandas as pd

    from nas.runs.standings import Standings

SHOWN = 10
"""Trials in a run's table."""


@dataclass(frozen=True)
class TrialRecord:
    """What became of one trial. ``reward`` is in [0, 1] and None where there is none; ``seconds`` are of the child's training.

    ``why`` says why a trial failed; ``repeats`` is the earlier trial of the same cells that answered this one, free. ``rung`` is above 0
    where the cells of the trial ``origin`` were trained again, on the ladder.
    """

    trial: int
    genotype: Genotype = field(repr=False)
    outcome: Literal["completed", "stopped", "failed", "pending"]
    reward: float | None
    epochs: int
    attempts: int
    seconds: float | None = None
    repeats: int | None = None
    rung: int = 0
    origin: int | None = None
    why: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict, repr=False)

    def _repr_html_(self) -> str:
        return html_table(_COLUMNS, [_row(self)]) + _cells_svg(self.genotype)


@dataclass(frozen=True)
class Asked:
    """A child to train: build the network of ``genotype``, draw what is random from ``seed``, and tell the reward.

    ``filters`` is the width F at which its network has the cost that all are matched to, in a search with ``match``.
    """

    trial: int
    genotype: Genotype = field(repr=False)
    seed: int
    attempt: int = 1
    filters: float | None = None

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(repr(self))}</p>{_cells_svg(self.genotype)}"


class Run:
    """A search in its folder: its trials, its best cells. Everything is read from the ledger, so it is as new as the ledger.

    Example::

        run = nas.open_run("last")
        run.best                                   # the incumbent's genotype
        [t.reward for t in run.trials if t.outcome == "completed"]

    A training loop of one's own asks for children and tells their rewards; the ledger, free answers for repeats, and going on
    after a kill are those of a search::

        with nas.new_run("nasnet", budget=50, run="runs/mine") as run:
            while (child := run.ask()) is not None:
                run.tell(child, my_training(child.genotype, child.seed))
    """

    def __init__(self, folder: RunFolder, controller: Controller | None = None) -> None:
        self._folder, self._controller = folder, controller
        self._held = ExitStack()
        self._children: AskTell | None = None
        self._out: set[int] = set()  # trials handed out and not told
        self._orphans: deque[Trial] = deque()  # trials asked for in an earlier session, not told and not handed out

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self._folder.path

    @property
    def config(self) -> SearchConfig:
        """The effective configuration."""
        return self._folder.config()

    @property
    def space(self) -> SearchSpace:
        """The search space."""
        return self._folder.space(self.config)

    @property
    def state(self) -> RunState:
        """What the ledger's records add up to."""
        return self._folder.state() if self._folder.ledger_file.is_file() else RunState(budget=self.config.budget)

    @property
    def ending(self) -> str | None:
        """How the last session ended: finished, interrupted, exhausted, failing; None while one is at work, or was killed."""
        return self.state.closed

    @property
    def trials(self) -> list[TrialRecord]:
        """Every trial, in the order of asking."""
        space, name = self.space, self.path.name
        return [_record(trial, space, name) for trial in self.state.trials.values() if trial.card is None]

    @property
    def ranked(self) -> list[TrialRecord]:
        """The completed trials of the search, best known first (``standings``)."""
        from nas.runs.standings import best_known

        space, name = self.space, self.path.name
        return [_record(trial, space, name) for trial in best_known(space, self.state).trials]

    @property
    def incumbent(self) -> TrialRecord | None:
        """The best known trial; None before the first is completed."""
        return next(iter(self.ranked), None)

    @property
    def best(self) -> Genotype:
        """The incumbent's genotype, which every function here takes. Raises RunError before the first trial was completed."""
        return self.genotype()

    def genotype(self, rank: int = 1) -> Genotype:
        """The genotype that is ``rank``-th, 1 being the best. Raises RunError where there are not so many."""
        from nas.runs.genotypes import resolve_genotype

        return resolve_genotype(str(self.path), rank)

    @property
    def standings(self) -> "Standings":
        """The cells in the order of what is believed of them at the highest rung, each with its interval; and the control cards."""
        from nas.runs.standings import standings_of

        return standings_of(self.space, self.state)

    def finalists(self, top: int = 25, seeds: int = 3, watcher: Watcher = QUIET, **training: float | str | None) -> "Standings":
        """Add a rung to a finished run: its best cells trained again, at a higher fidelity; the same call goes on where it was stopped.

        Args:
            top: cells trained again.
            seeds: times that each is trained.
            watcher: told what happens.
            training: ``epochs``, ``cells``, ``filters``, ``image_size``, ``train_examples``, ``recipe``; what is left out is as at the
                last rung, or else in the search, but twice the last rung's epochs are trained, and on all images.

        Raises:
            UserError: the run is not finished, has nothing to train again, or cannot be used.
        """
        from nas.runs.finalists import add_rung, crown
        from nas.runs.session import check_failing
        from nas.training.numerics import own_threads

        rung = validated(RungSettings, finalists_rung(top, seeds, **training))
        with own_threads():
            check_failing(add_rung(self._folder, rung, watcher))
            crown(self._folder, watcher.stop)
        return self.standings

    def to_pandas(self) -> "pd.DataFrame":
        """The trials as a table, one row each (``nas.runs.trial_table``). Raises ConfigError where pandas is not installed."""
        try:
            import pandas as pd
        except ImportError:
            raise ConfigError("to_pandas needs pandas, which is not installed: pip install pandas") from None
        from nas.runs.trial_table import trial_rows

        return pd.DataFrame(trial_rows(self._folder) if self._folder.ledger_file.is_file() else [])

    # ------------------------------------------------------------------------------------------------ asking and telling

    def ask(self) -> Asked | None:
        """The next child to train. The first call takes hold of the run's folder, until ``close`` or the end of a ``with``.

        Children that were asked for and not told when a process ended are handed out first. Several may be asked for before one is
        told. A proposal that repeats a trained cell is answered from the ledger and never handed out.

        Returns:
            The child; None where the budget is spent or promised to the children in training, or no new cell is left.

        Raises:
            UserError: the run's children are trained by its own evaluator, its folder is damaged, or another process has it.
        """
        children = self._ask_tell()
        trial = self._orphans.popleft() if self._orphans else children.ask()
        if trial is None:
            return None
        job = children.begin(trial)
        self._out.add(trial.number)
        return Asked(
            trial.number, job.genotype, job.seed, job.attempt, None if job.fidelity is None else job.fidelity.filters
        )

    def tell(self, child: Asked | int, result: float | Outcome, metrics: Mapping[str, float] | None = None) -> TrialRecord:
        """Record how a child ended, and let the controller learn from it.

        Args:
            child: what ``ask`` returned, or its trial's number.
            result: the reward in [0, 1], higher is better; not a number counts as diverged; or ``Failed(reason, detail)``.
            metrics: what else was measured, kept in the ledger: finite numbers by name.

        Raises:
            UserError: the child is not one that was asked for and not yet told, or the reward is no share in [0, 1].
        """
        children, trial = self._running(child)
        try:
            outcome = result if isinstance(result, Completed | Stopped | Failed) else Completed(as_number(result))
        except RewardError as problem:
            if problem.reason != "diverged":
                raise ConfigError(f"trial {trial.number}: {problem}") from None
            outcome = Failed("diverged", str(problem))
        with children.ledger.together():
            children.tell(trial, Evaluation(outcome, finite(metrics or {})))
        self._out.discard(trial.number)
        return _record(trial, children.space, self.path.name)

    def report(self, child: Asked | int, epoch: int, reward: float) -> bool:
        """Record what a child has reached after an epoch; False where early stopping (``halving``) ends it: it is told already.

        Raises:
            UserError: the child is not one that was asked for and not yet told, or the reward is no share in [0, 1].
        """
        children, trial = self._running(child)
        if not 0 <= reward <= 1:
            raise ConfigError(f"a reward must be a share in [0, 1], but trial {trial.number} reported {reward:g}")
        with children.ledger.together():
            children.report(trial, Report(epoch, float(reward)))
            evaluation = children.stopped(trial)
            if evaluation is None:
                return True
            children.tell(trial, evaluation)
        self._out.discard(trial.number)
        return False

    def close(self) -> None:
        """Let go of the run's folder, and record that the session ended. Children asked for and not told are handed out again later."""
        self._children = None
        self._held.close()

    def _ask_tell(self) -> AskTell:
        if self._children is None:
            from nas.runs.session import asking

            self._children = self._held.enter_context(asking(self._folder, controller=self._controller))
            self._orphans = deque(trial for trial in self._children.state.pending.values() if trial.number not in self._out)
        return self._children

    def _running(self, child: Asked | int) -> tuple[AskTell, Trial]:
        children, number = self._ask_tell(), child.trial if isinstance(child, Asked) else child
        if number not in self._out:
            raise RunError(f"{self.path}: only a child that was asked for, and not told yet, can be told, but got trial {number}")
        return children, children.state.trials[number]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._children = None
        self._held.__exit__(kind, error, trace)

    # ------------------------------------------------------------------------------------------------ showing

    def __repr__(self) -> str:
        state, config = self.state, self.config
        best = self.standings.ranked[:1]
        found = f", best {best[0].belief.mean:.4f} (trial {best[0].trial})" if best else ""
        how = f"{state.spent} of {config.budget} trained{found}, {self._folder.condition(state)}"
        return f"<Run {self.path}: {config.controller.name} on {config.space}, {how}>"

    def _repr_html_(self) -> str:
        ranked = self.ranked
        cells = _cells_svg(ranked[0].genotype) if ranked else ""
        return f"<p>{html.escape(repr(self)[1:-1])}</p>{html_table(_COLUMNS, [_row(trial) for trial in ranked[:SHOWN]])}{cells}"


_COLUMNS = ("trial", "outcome", "reward", "epochs", "attempts", "seconds", "repeats", "rung", "origin", "why")


def _values(trial: TrialRecord) -> list[Any]:
    return [getattr(trial, name) for name in _COLUMNS]


def _row(trial: TrialRecord) -> list[str]:
    return ["" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value) for value in _values(trial)]


def _cells_svg(genotype: Genotype) -> str:
    from nas.networks.drawing.draw import genotype_svg

    return genotype_svg(genotype)


def _record(trial: Trial, space: SearchSpace, run: str) -> TrialRecord:
    outcome = trial.evaluation.outcome if trial.evaluation is not None else None
    metrics = trial.evaluation.metrics if trial.evaluation is not None else {}
    why = f"{outcome.reason}: {outcome.detail}" if isinstance(outcome, Failed) else ""
    names: dict[type | None, Literal["completed", "stopped", "failed"]] = {Completed: "completed", Stopped: "stopped", Failed: "failed"}
    return TrialRecord(
        trial=trial.number,
        genotype=found_genotype(space, trial, run),
        outcome=names.get(type(outcome), "pending"),
        reward=outcome.reward if isinstance(outcome, Completed | Stopped) else None,
        epochs=trial.reports[-1].epoch if trial.reports else 0,
        attempts=trial.attempts,
        seconds=metrics.get("train_seconds"),
        repeats=trial.repeats,
        rung=trial.rung,
        origin=trial.origin,
        why=why,
        metrics=metrics,
    )
