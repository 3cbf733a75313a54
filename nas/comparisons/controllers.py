"""Compares controllers on a table or a synthetic objective: many seeds, one budget, the same accounting for all. No ray.

Importing it does not import torch; running a policy does.
"""

import heapq
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal

import numpy as np

from controllers.controller import Beginner, Completed, Controller, Earlier, Failed, Outcome, Proposal, random_for
from controllers.deduplicated import Deduplicated
from controllers.options import OptionValue
from controllers.registry import check_options, make_controller
from nas.comparisons.pictures import Line, draw_anytime
from nas.errors import DataError
from nas.evaluators.objective import noisy_reward, synthetic_reward
from nas.evaluators.table import Floats, Table
from nas.runs.posterior import Observation, crowned
from nas.tools.intervals import TWO_SIDED
from search_spaces.space import Actions, SearchSpace


@dataclass(frozen=True)
class Arm:
    """One line of a comparison.

    ``repeats`` says when two cells are the same and not trained twice: ``canonical`` form, the same ``actions``, or never,
    and repeats are ``paid`` for. ``crown`` says what makes an architecture the incumbent: the best ``reward`` it was told, or the
    best ``posterior`` mean once it has been looked at twice (``nas.runs.posterior``); the second training is paid from the budget.
    ``earlier`` is what the controller learns from before its first proposal.
    """

    label: str
    controller: str
    options: Mapping[str, OptionValue] = field(default_factory=dict)
    repeats: Literal["canonical", "actions", "paid"] = "canonical"
    crown: Literal["reward", "posterior"] = "reward"
    earlier: tuple[Earlier, ...] = ()


@dataclass(frozen=True)
class Terms:
    """What all arms are given.

    ``in_flight`` children train at once and end in the order of their (simulated) durations. ``noisy`` rewards are one
    training of each architecture, drawn once a run; else the mean over its trainings. ``fidelity`` searches on the reward
    after that many epochs; ``promote`` then trains the best so many of those fully and takes the best of them. Of the trainings, a
    share of ``failures`` ends with nothing, and one of ``false_highs`` claims a reward of 1.
    """

    budget: int
    in_flight: int = 1
    noisy: bool = False
    fidelity: int | None = None
    promote: int = 0
    failures: float = 0.0
    false_highs: float = 0.0


@dataclass(frozen=True)
class Problem:
    """What one run searches: functions of an architecture's actions."""

    space: SearchSpace
    reward: Callable[[Actions], float]
    """What the controller is told."""
    again: Callable[[Actions], float]
    """The reward of a second training."""
    report: Callable[[Actions], float]
    """What counts in the end, of the best architecture by reward."""
    seconds: Callable[[Actions], float] | None
    """Simulated duration of a training as the search does them; None where it is not known, and all take the same."""
    full_seconds: Callable[[Actions], float] | None
    """Simulated duration of a training after promotion."""
    full_reward: Callable[[Actions], float]
    """The reward after promotion; the reward itself where there is no lower fidelity."""
    best_reward: float
    """No architecture has more; infinite if unknown."""
    best_report: float


Task = Callable[[Terms, int], Problem]
"""Makes the problem of a run from the terms and the run's seed. It is sent to other processes, so it must be picklable."""


LARGEST_SPACE = 1_000_000
"""Action sequences of the largest space that a table is expected to list."""


def on_table(table: Table, epochs: int | None = None) -> Task:
    """The task of searching a table that lists its whole space, equivalent architectures at least once.

    Args:
        table: the architectures and what is known of them.
        epochs: of the full trainings, by which a search at a lower fidelity is shorter than ``table.seconds``.

    Raises:
        DataError: the table lacks an architecture of the space.
    """
    return partial(_table_problem, _completed(table), epochs)


def _completed(table: Table) -> Table:
    """The table with a row for every action sequence, that of an equivalent architecture where its own is missing."""
    sizes = [len(decision.choices) for decision in table.space.decisions]
    if len(table) == math.prod(sizes):
        return table
    if math.prod(sizes) > LARGEST_SPACE:
        raise DataError(
            f"a comparison needs a table that lists its whole space, but {table.space.name!r} has {math.prod(sizes):.3g} action sequences; "
            "compare there with the synthetic objective"
        )
    every = list(product(*map(range, sizes)))
    found = [(actions, table.row(actions)) for actions in every]
    missing = [actions for actions, row in found if row is None]
    if missing:
        raise DataError(
            f"a comparison needs a table that lists its whole space, but {len(missing)} of {len(every)} action sequences of "
            f"{table.space.name!r} and their equivalents are missing, for example {' '.join(map(str, missing[0]))}"
        )
    rows = np.array([row for _, row in found])
    return replace(
        table,
        actions=tuple(every),
        rewards=table.rewards[rows],
        report=None if table.report is None else table.report[rows],
        seconds=None if table.seconds is None else table.seconds[rows],
        fidelities={number: values[rows] for number, values in table.fidelities.items()},
    )


SECOND = 1_000_003
"""Added to a run's seed for what is drawn of second trainings."""


def _table_problem(table: Table, epochs: int | None, terms: Terms, seed: int) -> Problem:
    full = table.one_training(seed) if terms.noisy else table.mean_reward()
    rewards = full if terms.fidelity is None else table.fidelities[terms.fidelity]
    report = table.mean_reward() if table.report is None else table.report
    other = table.one_training(seed + SECOND) if terms.noisy and terms.fidelity is None else rewards
    share = 1.0 if terms.fidelity is None or epochs is None else terms.fidelity / epochs

    def look_up(values: Floats) -> Callable[[Actions], float]:
        return lambda actions: float(values[table.rows[actions]])

    return Problem(
        space=table.space,
        reward=look_up(rewards),
        again=look_up(other),
        report=look_up(report),
        seconds=None if table.seconds is None else look_up(table.seconds * share),
        full_seconds=None if table.seconds is None else look_up(table.seconds),
        full_reward=look_up(full),
        best_reward=float(rewards.max()),
        best_report=float(report.max()),
    )


def on_synthetic(space: SearchSpace, noise: float, objectives: int = 5) -> Task:
    """The task of maximising the reward of ``nas.evaluators.objective``; run s has objective s mod ``objectives``; reports have none."""
    return partial(_synthetic_problem, space, noise, objectives)


def _synthetic_problem(space: SearchSpace, noise: float, objectives: int, terms: Terms, seed: int) -> Problem:
    objective = seed % objectives

    def report(actions: Actions) -> float:
        return synthetic_reward(space.decode(actions), objective)

    def reward(actions: Actions, look: str = "child") -> float:
        child = random_for(seed, look, *actions).getrandbits(31)
        return noisy_reward(space.decode(actions), objective, child, noise if terms.noisy else 0.0)

    again = partial(reward, look="again")
    best_reward = math.inf if terms.noisy and noise else 1.0
    return Problem(space, reward, again, report, None, None, reward, best_reward, best_report=1.0)


@dataclass(frozen=True)
class Run:
    """One run of an arm, after each of B paid trainings: the incumbent's ``report`` [B] and its ``reward`` column [B].

    Both are 0 while there is no incumbent.
    """

    report: Floats
    reward: Floats
    told: tuple[float | None, ...]
    """What every training claimed, in the order of their ends; None for a failed one."""
    trained: int
    """Trainings really paid for: fewer than the budget where the best reward was found before."""
    distinct: int
    """Different cells among them, as the space's canonical form counts."""
    simulated_seconds: float | None
    """Training time of all children together, promoted ones included; None where it is not known."""
    controller_seconds: float
    """Processor time that asking and telling took."""


@dataclass(frozen=True)
class Result:
    """The runs of one arm."""

    arm: Arm
    terms: Terms
    runs: tuple[Run, ...]
    optimum: float
    """The best report there is."""
    best_reward: float = math.inf
    """The best reward there is; infinite where it is not known."""

    def reports(self) -> Floats:
        """The reports of all runs [runs, B]."""
        return np.stack([run.report for run in self.runs])

    def mean(self) -> Floats:
        """Mean report after each training [B]."""
        mean: Floats = self.reports().mean(0)
        return mean

    def half_width(self) -> Floats:
        """Half of the 95 % confidence interval of the mean [B], by the normal approximation."""
        if len(self.runs) < 2:
            return np.full(self.terms.budget, np.nan)
        width: Floats = TWO_SIDED * self.reports().std(0, ddof=1) / np.sqrt(len(self.runs))
        return width

    def regret(self) -> Floats:
        """Mean distance from the best report there is [B]."""
        return self.optimum - self.mean()

    def reward_regret(self) -> Floats:
        """Mean distance of the incumbent's reward column from the best there is [B]; infinite where that is not known."""
        regret: Floats = self.best_reward - np.stack([run.reward for run in self.runs]).mean(0)
        return regret


def run_arm(arm: Arm, task: Task, terms: Terms, seed: int) -> Run:
    """One search. It ends early where nothing can change any more: the best reward has been found."""
    problem = task(terms, seed)
    controller = make_controller(arm.controller, problem.space, seed, arm.options)
    if arm.earlier and isinstance(controller, Beginner):
        controller.begin_with(arm.earlier)
    if arm.repeats != "paid":
        controller = Deduplicated(controller, problem.space, seed, key=str if arm.repeats == "actions" else None)
    crown: _Crown = _ByPosterior(problem.space) if arm.crown == "posterior" else _Crown(problem.space)
    told: dict[Actions, float] = {}
    claims: list[float | None] = []
    curve: list[tuple[float, float]] = []
    simulated, spent = 0.0, 0.0
    certain = arm.crown == "reward" and not terms.false_highs and not terms.promote
    for child in _children(controller, problem, terms, seed, crown):
        simulated += child.simulated_seconds
        spent += child.controller_seconds
        claims.append(child.reward)
        if child.reward is not None:
            told[child.actions] = child.reward
            crown.tell(child.actions, child.reward)
        best = crown.incumbent
        curve.append((0.0, 0.0) if best is None else (problem.report(best), problem.reward(best)))
        if certain and best is not None and told[best] >= problem.best_reward:
            break
    if terms.promote and told:
        finalists = sorted(told, key=lambda actions: -told[actions])[: terms.promote]
        best = max(finalists, key=problem.full_reward)
        curve[-1] = problem.report(best), problem.reward(best)
        if problem.full_seconds is not None:
            simulated += sum(map(problem.full_seconds, finalists))
    trained = len(curve)
    cells = {problem.space.canonical(problem.space.decode(actions)) for actions in told}
    report, reward = np.array(curve + curve[-1:] * (terms.budget - trained)).T
    return Run(report, reward, tuple(claims), trained, len(cells), None if problem.seconds is None else simulated, spent)


class _Crown:
    """Who is the incumbent: whoever claims the best reward."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.incumbent: Actions | None = None
        self.best = -math.inf

    def tell(self, actions: Actions, reward: float) -> None:
        if reward > self.best:
            self.incumbent, self.best = actions, reward

    def second_look(self) -> Actions | None:
        """Who is to be trained a second time next, if somebody is; asked once for every training."""
        return None


class _ByPosterior(_Crown):
    """Whoever has the best posterior mean among those looked at twice; until there is one, among all."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space)
        self.observations: list[Observation] = []
        self._asked: set[Actions] = set()
        self._next: Actions | None = None

    def tell(self, actions: Actions, reward: float) -> None:
        self.observations.append(Observation(actions, reward))
        if reward <= self.best and actions not in self._asked:
            return
        choice = crowned(self.space, self.observations)
        self.incumbent, self.best = choice.incumbent, choice.bar
        self._next = choice.contender

    def second_look(self) -> Actions | None:
        found, self._next = self._next, None
        if found is None or found in self._asked:
            return None
        self._asked.add(found)
        return found


@dataclass(frozen=True)
class _Child:
    actions: Actions
    reward: float | None
    simulated_seconds: float
    controller_seconds: float


def _children(controller: Controller, problem: Problem, terms: Terms, seed: int, crown: _Crown) -> Iterator[_Child]:
    """Drive a search; yields children as they end, with the time that the controller took since the one before.

    The controller is not told of second looks.
    """
    rng = random_for(seed, "durations")
    flying: list[tuple[float, int, Proposal, float, bool]] = []
    now, asked = 0.0, 0
    for _ in range(terms.budget):
        spent = 0.0
        while len(flying) < terms.in_flight and asked < terms.budget:
            start = time.process_time()
            second = crown.second_look()
            chosen = controller.ask(asked, [child[2] for child in flying if not child[4]]) if second is None else Proposal(asked, second)
            spent += time.process_time() - start
            seconds = (1.0 if problem.seconds is None else problem.seconds(chosen.actions)) * rng.uniform(0.5, 1.5)
            heapq.heappush(flying, (now + seconds, asked, chosen, seconds, second is not None))
            asked += 1
        now, number, proposal, seconds, again = heapq.heappop(flying)
        outcome = _outcome(problem, terms, seed, number, proposal.actions, again)
        start = time.process_time()
        if not again:
            controller.tell(proposal, outcome)
        spent += time.process_time() - start
        yield _Child(proposal.actions, outcome.reward if isinstance(outcome, Completed) else None, seconds, spent)


def _outcome(problem: Problem, terms: Terms, seed: int, trial: int, actions: Actions, again: bool) -> Outcome:
    """How a training ends: with its reward, unless it is one of those that fail or claim too much."""
    luck = random_for(seed, "luck", trial).random()
    if luck < terms.failures:
        return Failed("diverged", "injected")
    if luck < terms.failures + terms.false_highs:
        return Completed(1.0)
    return Completed(problem.again(actions) if again else problem.reward(actions))


@dataclass(frozen=True)
class BenchWatcher:
    """What a comparison tells while it runs; ``on_run`` may be called from another thread."""

    on_run: Callable[[], None] = lambda: None
    on_result: Callable[[Result], None] = lambda result: None


def compare(
    arms: Sequence[Arm], task: Task, terms: Terms, seeds: Sequence[int], processes: int = 1, watcher: BenchWatcher | None = None
) -> list[Result]:
    """Run every arm with every seed, in parallel processes if more than one is given. Results come arm by arm.

    Raises:
        ControllerError: an arm names an unknown controller or a wrong option.
    """
    for arm in arms:
        check_options(arm.controller, arm.options)
    watcher = watcher or BenchWatcher()
    problem = task(terms, seeds[0])
    optimum, best_reward = problem.best_report, problem.best_reward
    if processes <= 1:
        results = []
        for arm in arms:
            runs = []
            for seed in seeds:
                runs.append(run_arm(arm, task, terms, seed))
                watcher.on_run()
            results.append(Result(arm, terms, tuple(runs), optimum, best_reward))
            watcher.on_result(results[-1])
        return results
    with _one_thread_each():
        pool = ProcessPoolExecutor(processes, get_context("spawn"), _start_worker, (task,))
        try:
            return _collect(pool, arms, terms, seeds, (optimum, best_reward), watcher)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes started within compute with one thread: the matrices are small, and the processes fill the machine."""
    before = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    os.environ.update(dict.fromkeys(before, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _collect(
    pool: Executor, arms: Sequence[Arm], terms: Terms, seeds: Sequence[int], best: tuple[float, float], watcher: BenchWatcher
) -> list[Result]:
    pending: list[list[Future[Run]]] = [[pool.submit(_run_in_worker, arm, terms, seed) for seed in seeds] for arm in arms]
    for future in (future for futures in pending for future in futures):
        future.add_done_callback(lambda _: watcher.on_run())
    results = []
    for arm, futures in zip(arms, pending, strict=True):
        results.append(Result(arm, terms, tuple(future.result() for future in futures), *best))
        watcher.on_result(results[-1])
    return results


_worker_task: list[Task] = []
"""In a worker: the task of all its runs, which may hold a whole table and is therefore sent once."""


def _start_worker(task: Task) -> None:
    """In a process of our own: Ctrl-C is the parent's affair, and the process never outlives the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _worker_task[:] = [task]


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _run_in_worker(arm: Arm, terms: Terms, seed: int) -> Run:
    return run_arm(arm, _worker_task[0], terms, seed)


def summary_rows(results: Sequence[Result], checkpoints: Sequence[int]) -> tuple[list[str], list[list[str]]]:
    """The comparison as a table's heads and rows, in per cent: mean report ± half of its 95 % interval after so many trainings.

    Regret is by the report and by the reward column, the latter where the best reward is known. Simulated GPU hours are the
    trainings of one run (until the budget is spent or the best reward there is is found).
    """
    marks = [mark for mark in checkpoints if mark <= min(result.terms.budget for result in results)]
    promoted = [f" + top {results[0].terms.promote}" if results[0].terms.promote and m == results[0].terms.budget else "" for m in marks]
    shown = [f"{mark}{more}" for mark, more in zip(marks, promoted, strict=True)]
    costs = ["distinct cells", "simulated GPU hours", "ms a trial"]
    heads = ["controller", "runs", *shown, *(f"regret at {mark}" for mark in marks), *costs]
    rows = []
    for result in results:
        mean, width = 100 * result.mean(), 100 * result.half_width()
        regrets = [_regret(100 * result.regret()[mark - 1], 100 * result.reward_regret()[mark - 1]) for mark in marks]
        trained = sum(run.trained for run in result.runs)
        simulated = [run.simulated_seconds for run in result.runs if run.simulated_seconds is not None]
        rows.append(
            [
                result.arm.label,
                str(len(result.runs)),
                *(f"{mean[mark - 1]:.2f} ± {width[mark - 1]:.2f}" for mark in marks),
                *regrets,
                f"{100 * sum(run.distinct for run in result.runs) / trained:.0f} %",
                f"{sum(simulated) / len(simulated) / 3600:.1f}" if simulated else "–",
                f"{1000 * sum(run.controller_seconds for run in result.runs) / max(trained, 1):.1f}",
            ]
        )
    return heads, rows


def _regret(report: float, reward: float) -> str:
    return f"{report:z.3f} / {reward:z.3f}" if math.isfinite(reward) else f"{report:z.3f}"  # z: rounding error is no -0.000


def summary(results: Sequence[Result], checkpoints: Sequence[int]) -> str:
    """``summary_rows`` as Markdown."""
    heads, rows = summary_rows(results, checkpoints)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (heads, ["---"] * len(heads), *rows)) + "\n"


def draw_curves(results: Sequence[Result], path: str | Path, title: str = "") -> None:
    """Write the anytime curves with their 95 % bands as a picture (PNG, SVG or PDF by the path's suffix)."""
    lines = [Line(result.arm.label, result.mean(), result.half_width(), len(result.runs)) for result in results]
    draw_anytime(lines, results[0].optimum, path, title)
