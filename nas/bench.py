"""Compares controllers on a table: many seeds, one budget, the same accounting for all. No ray; torch where a policy needs it."""

import heapq
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from controllers.controller import Completed, Controller, Proposal, random_for
from controllers.options import OptionValue
from controllers.registry import check_options, make_controller
from controllers.wrappers import Deduplicated
from nas.tables import Floats, Table


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
class Run:
    """One run of an arm, after each of B paid trainings: the ``report`` [B] of the best architecture by reward so far."""

    report: Floats
    distinct: int
    """Different architectures trained, as the space's canonical form counts."""
    simulated_seconds: float
    """Training time by the table, added over all children; 0 where the table has none."""
    controller_seconds: float
    """Time that asking and telling took."""


@dataclass(frozen=True)
class Result:
    """The runs of one arm."""

    arm: Arm
    terms: Terms
    runs: tuple[Run, ...]
    optimum: float
    """The best report in the table."""

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
        """Mean distance from the table's best report [B]."""
        return self.optimum - self.mean()


def run_arm(arm: Arm, table: Table, terms: Terms, seed: int) -> Run:
    """One search over the table. It ends early where nothing can change any more: the best reward has been found."""
    rewards = _rewards(table, terms, seed)
    truth = table.mean_reward()
    report = truth if table.report is None else table.report
    best_possible = float(rewards.max())
    durations = np.ones(len(table)) if table.seconds is None else table.seconds
    controller = make_controller(arm.controller, table.space, seed, arm.options)
    if arm.repeats != "paid":
        controller = Deduplicated(controller, table.space, seed, key=str if arm.repeats == "actions" else None)
    told: list[int] = []
    curve: list[float] = []
    incumbent, spent = -1, 0.0
    for row, seconds in _outcomes(controller, table, rewards, durations, terms, seed):
        spent += seconds
        told.append(row)
        if incumbent < 0 or rewards[row] > rewards[incumbent]:
            incumbent = row
        curve.append(float(report[incumbent]))
        if rewards[incumbent] >= best_possible and not terms.promote:
            break
    if terms.promote:
        curve[-1] = float(report[_promoted(told, rewards, _full_rewards(table, terms, seed), terms.promote)])
    curve += [curve[-1]] * (terms.budget - len(curve))
    return Run(np.array(curve), len({_cell(table, row) for row in set(told)}), float(durations[told].sum()), spent)


def _outcomes(
    controller: Controller, table: Table, rewards: Floats, durations: Floats, terms: Terms, seed: int
) -> Iterable[tuple[int, float]]:
    """Drive a search; yields the row of every child as it ends, with the controller's seconds spent since the one before."""
    rng = random_for(seed, "durations")
    flying: list[tuple[float, int, Proposal, int]] = []
    now, asked, ended, spent = 0.0, 0, 0, 0.0
    while ended < terms.budget:
        start = time.perf_counter()
        while len(flying) < terms.in_flight and asked < terms.budget:
            proposal = controller.ask(asked, [child[2] for child in flying])
            row = table.row(proposal.actions)
            assert row is not None, "a table for a comparison must list the whole space"
            heapq.heappush(flying, (now + float(durations[row]) * rng.uniform(0.5, 1.5), asked, proposal, row))
            asked += 1
        now, _, proposal, row = heapq.heappop(flying)
        controller.tell(proposal, Completed(float(rewards[row])))
        spent += time.perf_counter() - start
        ended += 1
        yield row, spent
        spent = 0.0


def compare(arms: Sequence[Arm], table: Table, terms: Terms, seeds: Sequence[int], processes: int = 1) -> list[Result]:
    """Run every arm with every seed, in parallel processes if more than one is given.

    Raises:
        ControllerError: an arm names an unknown controller or a wrong option.
    """
    for arm in arms:
        check_options(arm.controller, arm.options)
    report = table.mean_reward() if table.report is None else table.report
    optimum = float(report.max())
    results = []
    if processes <= 1:
        for arm in arms:
            runs = tuple(run_arm(arm, table, terms, seed) for seed in seeds)
            results.append(Result(arm, terms, runs, optimum))
        return results
    with ProcessPoolExecutor(processes, get_context("spawn"), _one_thread) as pool:
        for arm in arms:
            runs = tuple(pool.map(partial(run_arm, arm, table, terms), seeds, chunksize=max(1, len(seeds) // (4 * processes))))
            results.append(Result(arm, terms, runs, optimum))
    return results


def summary(results: Sequence[Result], checkpoints: Sequence[int]) -> str:
    """The comparison as a Markdown table, in per cent: mean report ± half of its 95 % interval after so many trainings."""
    marks = [mark for mark in checkpoints if mark <= min(result.terms.budget for result in results)]
    heads = ["controller", "runs", *(str(mark) for mark in marks), f"regret at {marks[-1]}", "distinct", "simulated hours", "ms a trial"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for result in results:
        mean, width, regret = 100 * result.mean(), 100 * result.half_width(), 100 * result.regret()
        trained = sum(run.distinct for run in result.runs)
        cells = [
            result.arm.label,
            str(len(result.runs)),
            *(f"{mean[mark - 1]:.2f} ± {width[mark - 1]:.2f}" for mark in marks),
            f"{regret[marks[-1] - 1]:.3f}",
            f"{trained / len(result.runs):.0f}",
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
    axes.axhline(100 * results[0].optimum, color="grey", linestyle=":", label="best in the table")
    lowest = min(100 * float(result.mean()[min(9, result.terms.budget - 1)]) for result in results)
    axes.set(xlabel="trainings paid for", ylabel="report of the best by reward, %", title=title)
    axes.set_ylim(bottom=lowest)
    axes.set_xscale("log")
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=150)


def _rewards(table: Table, terms: Terms, seed: int) -> Floats:
    return _full_rewards(table, terms, seed) if terms.fidelity is None else table.fidelities[terms.fidelity]


def _full_rewards(table: Table, terms: Terms, seed: int) -> Floats:
    return table.one_training(seed) if terms.noisy else table.mean_reward()


def _promoted(told: Sequence[int], proxy: Floats, full: Floats, count: int) -> int:
    ranked: NDArray[np.int64] = np.array(sorted(set(told), key=lambda row: -proxy[row])[:count])
    return int(ranked[full[ranked].argmax()])


def _cell(table: Table, row: int) -> str:
    return table.space.canonical(table.space.decode(table.actions[row]))


def _one_thread() -> None:
    """In a process of our own: the matrices are small, and the processes fill the machine."""
    import torch

    torch.set_num_threads(1)
