"""Compares controllers on a table or a synthetic objective: many seeds, one budget, the same accounting for all. No ray.

Importing it does not import torch; running a policy does.
"""

import heapq
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import numpy as np

from controllers.controller import Completed, Controller, Proposal, random_for
from controllers.options import OptionValue
from controllers.registry import check_options, make_controller
from controllers.wrappers import Deduplicated
from nas.synthetic import noisy_reward, synthetic_reward
from nas.tables import Floats, Table
from search_spaces.space import Actions, SearchSpace


@dataclass(frozen=True)
class Arm:
    """One line of a comparison.

    ``repeats`` says when two cells are the same and not trained twice: ``canonical`` form, the same ``actions``, or never,
    and repeats are ``paid`` for.
    """

    label: str
    controller: str
    options: Mapping[str, OptionValue] = field(default_factory=dict)
    repeats: Literal["canonical", "actions", "paid"] = "canonical"


@dataclass(frozen=True)
class Terms:
    """What all arms are given.

    ``in_flight`` children train at once and end in the order of their (simulated) durations. ``noisy`` rewards are one
    training of each architecture, drawn once a run; else the mean over its trainings. ``fidelity`` searches on the reward
    after that many epochs; ``promote`` then trains the best so many of those fully and takes the best of them.
    """

    budget: int
    in_flight: int = 1
    noisy: bool = False
    fidelity: int | None = None
    promote: int = 0


@dataclass(frozen=True)
class Problem:
    """What one run searches: functions of an architecture's actions."""

    space: SearchSpace
    reward: Callable[[Actions], float]
    """What the controller is told."""
    report: Callable[[Actions], float]
    """What counts in the end, of the best architecture by reward."""
    seconds: Callable[[Actions], float]
    """Simulated duration of a training."""
    full_reward: Callable[[Actions], float]
    """The reward after promotion; the reward itself where there is no lower fidelity."""
    best_reward: float
    """No architecture has more; infinite if unknown."""
    best_report: float


Task = Callable[[Terms, int], Problem]
"""Makes the problem of a run from the terms and the run's seed. It is sent to other processes, so it must be picklable."""


def on_table(table: Table) -> Task:
    """The task of searching a table that lists its whole space."""
    return partial(_table_problem, table)


def _table_problem(table: Table, terms: Terms, seed: int) -> Problem:
    full = table.one_training(seed) if terms.noisy else table.mean_reward()
    rewards = full if terms.fidelity is None else table.fidelities[terms.fidelity]
    report = table.mean_reward() if table.report is None else table.report
    seconds = np.ones(len(table)) if table.seconds is None else table.seconds

    def look_up(values: Floats) -> Callable[[Actions], float]:
        return lambda actions: float(values[table.rows[actions]])

    return Problem(
        table.space, look_up(rewards), look_up(report), look_up(seconds), look_up(full), float(rewards.max()), float(report.max())
    )


def on_synthetic(space: SearchSpace, noise: float, objectives: int = 5) -> Task:
    """The task of maximising ``nas.synthetic``'s reward; run s has objective s modulo ``objectives``, and reports without noise."""
    return partial(_synthetic_problem, space, noise, objectives)


def _synthetic_problem(space: SearchSpace, noise: float, objectives: int, terms: Terms, seed: int) -> Problem:
    objective = seed % objectives

    def report(actions: Actions) -> float:
        return synthetic_reward(space.decode(actions), objective)

    def reward(actions: Actions) -> float:
        child = random_for(seed, "child", *actions).getrandbits(31)
        return noisy_reward(space.decode(actions), objective, child, noise if terms.noisy else 0.0)

    return Problem(space, reward, report, lambda actions: 1.0, reward, math.inf, 1.0)


@dataclass(frozen=True)
class Run:
    """One run of an arm, after each of B paid trainings: the ``report`` [B] of the best architecture by reward so far."""

    report: Floats
    trained: int
    """Trainings really paid for: fewer than the budget where the best reward was found before."""
    distinct: int
    """Different cells among them, as the space's canonical form counts."""
    simulated_seconds: float
    """Training time of all children together; seconds where the table says, else units."""
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
        width: Floats = 1.96 * self.reports().std(0, ddof=1) / np.sqrt(len(self.runs))
        return width

    def regret(self) -> Floats:
        """Mean distance from the best report there is [B]."""
        return self.optimum - self.mean()


def run_arm(arm: Arm, task: Task, terms: Terms, seed: int) -> Run:
    """One search. It ends early where nothing can change any more: the best reward has been found."""
    problem = task(terms, seed)
    controller = make_controller(arm.controller, problem.space, seed, arm.options)
    if arm.repeats != "paid":
        controller = Deduplicated(controller, problem.space, seed, key=str if arm.repeats == "actions" else None)
    told: dict[Actions, float] = {}
    curve: list[float] = []
    incumbent, best, simulated, spent = None, -math.inf, 0.0, 0.0
    for child in _children(controller, problem, terms, seed):
        told[child.actions] = child.reward
        simulated += child.simulated_seconds
        spent += child.controller_seconds
        if child.reward > best:
            incumbent, best = child.actions, child.reward
            reported = problem.report(child.actions)
        curve.append(reported)
        if best >= problem.best_reward and not terms.promote:
            break
    assert incumbent is not None
    if terms.promote:
        finalists = sorted(told, key=lambda actions: -told[actions])[: terms.promote]
        curve[-1] = problem.report(max(finalists, key=problem.full_reward))
    trained = len(curve)
    cells = {problem.space.canonical(problem.space.decode(actions)) for actions in told}
    return Run(np.array(curve + curve[-1:] * (terms.budget - trained)), trained, len(cells), simulated, spent)


@dataclass(frozen=True)
class _Child:
    actions: Actions
    reward: float
    simulated_seconds: float
    controller_seconds: float


def _children(controller: Controller, problem: Problem, terms: Terms, seed: int) -> Iterator[_Child]:
    """Drive a search; yields children as they end, with the time that the controller took since the one before."""
    rng = random_for(seed, "durations")
    flying: list[tuple[float, int, Proposal, float]] = []
    now, asked = 0.0, 0
    for _ in range(terms.budget):
        start = time.process_time()
        while len(flying) < terms.in_flight and asked < terms.budget:
            proposal = controller.ask(asked, [child[2] for child in flying])
            seconds = problem.seconds(proposal.actions) * rng.uniform(0.5, 1.5)
            heapq.heappush(flying, (now + seconds, asked, proposal, seconds))
            asked += 1
        spent = time.process_time() - start
        now, _, proposal, seconds = heapq.heappop(flying)
        reward = problem.reward(proposal.actions)
        start = time.process_time()
        controller.tell(proposal, Completed(reward))
        yield _Child(proposal.actions, reward, seconds, spent + time.process_time() - start)


def compare(arms: Sequence[Arm], task: Task, terms: Terms, seeds: Sequence[int], processes: int = 1) -> list[Result]:
    """Run every arm with every seed, in parallel processes if more than one is given.

    Raises:
        ControllerError: an arm names an unknown controller or a wrong option.
    """
    for arm in arms:
        check_options(arm.controller, arm.options)
    optimum = task(terms, seeds[0]).best_report
    if processes <= 1:
        return [Result(arm, terms, tuple(run_arm(arm, task, terms, seed) for seed in seeds), optimum) for arm in arms]
    with ProcessPoolExecutor(processes, get_context("spawn"), _one_thread) as pool:
        chunk = max(1, len(seeds) // (4 * processes))
        pending = [pool.map(partial(run_arm, arm, task, terms), seeds, chunksize=chunk) for arm in arms]
        return [Result(arm, terms, tuple(runs), optimum) for arm, runs in zip(arms, pending, strict=True)]


def summary(results: Sequence[Result], checkpoints: Sequence[int]) -> str:
    """The comparison as a Markdown table, in per cent: mean report ± half of its 95 % interval after so many trainings."""
    marks = [mark for mark in checkpoints if mark <= min(result.terms.budget for result in results)]
    heads = ["controller", "runs", *map(str, marks), f"regret at {marks[-1]}", "distinct rate", "simulated hours", "ms a trial"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for result in results:
        mean, width, regret = 100 * result.mean(), 100 * result.half_width(), 100 * result.regret()
        trained = sum(run.trained for run in result.runs)
        cells = [
            result.arm.label,
            str(len(result.runs)),
            *(f"{mean[mark - 1]:.2f} ± {width[mark - 1]:.2f}" for mark in marks),
            f"{regret[marks[-1] - 1]:.3f}",
            f"{sum(run.distinct for run in result.runs) / trained:.2f}",
            f"{sum(run.simulated_seconds for run in result.runs) / len(result.runs) / 3600:.1f}",
            f"{1000 * sum(run.controller_seconds for run in result.runs) / max(trained, 1):.1f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw_curves(results: Sequence[Result], path: Path, title: str = "") -> None:
    """Write the anytime curves with their 95 % bands as a picture (PNG, SVG or PDF by the path's suffix)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for result in results:
        trainings = np.arange(1, result.terms.budget + 1)
        mean, width = 100 * result.mean(), 100 * result.half_width()
        (line,) = axes.plot(trainings, mean, label=result.arm.label)
        axes.fill_between(trainings, mean - width, mean + width, color=line.get_color(), alpha=0.2, linewidth=0)
    axes.axhline(100 * results[0].optimum, color="grey", linestyle=":", label="best there is")
    lowest = min(100 * float(result.mean()[min(9, result.terms.budget - 1)]) for result in results)
    axes.set(xlabel="trainings paid for", ylabel="report of the best by reward, %", title=title)
    axes.set_ylim(bottom=lowest)
    axes.set_xscale("log")
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=150)


def _one_thread() -> None:
    """In a process of our own: the matrices are small, and the processes fill the machine."""
    import torch

    torch.set_num_threads(1)
