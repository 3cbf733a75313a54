"""Says what a search will do and about how long it takes, before it starts: a few training steps are timed on noise of the data's shape."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from nas.data.settings import data_words
from nas.evaluators.registry import EVALUATORS
from nas.evaluators.settings import RungSettings
from nas.runs import streams
from nas.runs.config import SearchConfig
from nas.runs.expected import START_SECONDS, TIMED_ABOVE, images_used, side_by_side, time_children, work_of
from nas.runs.ladder import Ladder
from nas.runs.layout import Layout, choose_layout, open_question, with_layout
from nas.tools.hardware import Hardware
from nas.tools.words import duration, megabytes
from nas.training.fitting import Amount, Choice, amount_of
from search_spaces.networks.native.library import describe as describe_kernels
from search_spaces.registry import load_space
from search_spaces.space import size


def describe_plan(
    config: SearchConfig, hardware: Hardware, choices: Sequence[Choice] = (), expected: "Expected | None" = None
) -> list[str]:
    """What the search will do, one line a topic, with what was chosen to suit the images; and last how long it may take."""
    space = load_space(config.space)
    fidelity, amount = config.fidelity, None
    workers = expected_workers(config, hardware)
    lines = [
        f"search: {config.budget} children from space {space.name} ({len(space.decisions)} decisions, {size(space):.2e} action sequences), "
        f"proposed by {config.controller.name}, seed {config.seed}",
    ]
    lines += [f"fitted: {choice}" for choice in choices]
    if EVALUATORS[config.evaluator].needs_data:
        images = "all" if fidelity.train_examples is None else f"{fidelity.train_examples:,}"
        side = "full resolution" if fidelity.image_size is None else f"{fidelity.image_size}×{fidelity.image_size} pixels"
        lines.append(
            f"child:  N={fidelity.cells}, F={fidelity.filters}, {fidelity.epochs} epochs on {images} images of {data_words(config.data)} "
            f"at {side}, reward = accuracy on a validation split of the training set"
        )
        amount = amount_of(config.data)
        lines += _about_images(config, amount)
    if config.table is not None and config.evaluator == "table":
        column = config.table.column
        lines.append(f"child:  looked up in {config.table.path}, reward = {column if isinstance(column, str) else ' or '.join(column)}")
    lines += [f"rung {rung}: {rung_words(said, config)}" for rung, said in enumerate(config.ladder, start=1)]
    if config.cards:
        beside = "outside the budget, seen by nobody who decides"
        lines.append(f"cards:  {', '.join(config.cards)}, trained at every rung beside the search ({beside})")
    if config.warm_start:
        lines.append(f"warm start: the first children are {', '.join(config.warm_start)}")
    where = (
        "this process"
        if config.runner.kind == "local"
        else f"Ray cluster {config.runner.cluster}"
        if config.runner.cluster
        else "Ray on this machine"
    )
    lines.append(f"runner: {where}, {workers or 'as many as fit'} children at once ({hardware.describe()})")
    if config.evaluator == "train" and not hardware.gpus:
        lines.append(f"native kernels: {describe_kernels()}")
    if config.evaluator == "train" and hardware.gpus and config.runner.gpus_per_child != 0:
        lines.append(f"graphs: {describe_graphs(config)}")
    if expected is not None and expected.layout is not None:
        lines.append(f"layout: {expected.layout.words}")
    lines.append(f"time:   {expected or 'shown once the first children have ended'}")
    return lines


def rung_words(rung: RungSettings, config: SearchConfig) -> str:
    """Who goes up to a rung, and how they are trained there."""
    fidelity = rung.fidelity(config.fidelity)
    who = f"{rung.children} children" if rung.children is not None else f"{rung.share:.3g} of those below"
    seeds = f", {rung.seeds} seeds each" if rung.seeds > 1 else ""
    images = "all" if fidelity.train_examples is None else f"{fidelity.train_examples:,}"
    side = "full resolution" if fidelity.image_size is None else f"{fidelity.image_size}×{fidelity.image_size} pixels"
    epochs = f"{fidelity.epochs} epoch{'s' if fidelity.epochs > 1 else ''}"
    return f"{who}{seeds}, N={fidelity.cells}, F={fidelity.filters:g}, {epochs} on {images} images at {side}"


def _about_images(config: SearchConfig, amount: Amount) -> list[str]:
    """How sure one reward is, and the memory that the images take."""
    trained_on, scored, side = images_used(config, amount)
    error = 50 / math.sqrt(scored)  # per cent, at an accuracy of 50 %: the largest
    return [
        f"reward: from {scored:,} images: standard error at most ± {error:.1f} points; chance is {100 / amount.classes:.3g} %",
        f"memory: the images take {megabytes((trained_on + scored) * side**2 * amount.channels)}, once for all workers",
    ]


def expected_workers(config: SearchConfig, hardware: Hardware) -> int | None:
    """Children at once, as far as it can be told before Ray is asked; None on a cluster."""
    runner = config.runner
    if runner.kind == "local":
        return runner.workers or 1
    if runner.workers is not None or runner.cluster is not None:
        return runner.workers
    on_cpu = max(1, hardware.cores // runner.threads)
    share = runner.gpus_per_child if runner.gpus_per_child is not None else float(bool(hardware.gpus))
    if not share or not hardware.gpus:
        return on_cpu
    on_gpu = len(hardware.gpus) * math.floor(1 / share) if share < 1 else len(hardware.gpus) // math.ceil(share)
    return max(1, min(on_cpu, on_gpu))


def describe_graphs(config: SearchConfig) -> str:
    """How children's steps are done on a GPU: as CUDA graphs, or why not."""
    import torch

    from nas.training.graphs import refusal
    from nas.training.numerics import resolve_precision

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    plain = refusal(config.recipe(), device, resolve_precision(config.training.precision, device))
    return f"steps run operation by operation: {plain}" if plain else "steps are replayed as CUDA graphs"


def expect(config: SearchConfig, hardware: Hardware, measure: bool = True) -> "Expected | None":
    """How children will be laid out and how long the search takes; None where only the first children will tell.

    With ``measure`` the layout is measured where that is an open question and worth it (``nas.runs.layout``).
    """
    workers = expected_workers(config, hardware)
    if config.evaluator != "train" or workers is None:
        return None
    amount, started = amount_of(config.data), time.monotonic()
    timing, work = time_children(config, amount), work_of(config, amount)
    if not timing.children:  # all diverged on noise
        return None
    layout = None
    if measure and open_question(config, hardware):
        layout = choose_layout(config, amount, hardware, timing.seconds(work))
        config = with_layout(config, layout)
        if layout.threads > 1:
            timing = time_children(config, amount)
    elif measure and streams.open_question(config):
        layout = streams.measure_at_once(config, amount)
        config = with_layout(config, layout)
    workers = expected_workers(config, hardware) or 1
    slower = layout.side_by_side if layout is not None else None
    if slower is None and hardware.gpus and config.runner.gpus_per_child != 0:
        slower = max(1.0, workers / len(hardware.gpus))  # processes with a CUDA graph each take turns on a GPU (benchmarks/README.md)
    slower = slower or side_by_side(min(workers, config.budget))
    beside = [one * slower for one in above(config, amount, timing.seconds(work))]
    took = time.monotonic() - started
    return Expected(config, layout, timing.seconds(work) * slower, slower, workers, timing.children, took, sum(beside))


def above(config: SearchConfig, amount: Amount, child: float) -> list[float]:
    """Seconds of all trainings of every rung, from 0, that are not the search's own: the ladder's, and the control cards'."""
    ladder, seconds = Ladder(list(config.ladder)), [len(config.cards) * child]
    for rung in range(1, len(config.ladder) + 1):
        one = config.at_rung(rung)
        timing = time_children(one, amount, TIMED_ABOVE)
        cells = ladder.places(rung, config.budget) + len(config.cards)
        seconds.append(cells * ladder.seeds(rung) * timing.seconds(work_of(one, amount)))
    return seconds


@dataclass(frozen=True)
class Expected:
    """What a search will take: ``child`` seconds each, beside the other workers' children, which makes it ``slower`` times slower."""

    config: SearchConfig
    layout: Layout | None
    child: float
    slower: float
    workers: int
    timed: int
    took: float
    beside: float = 0.0
    """Seconds of all trainings above the search's own and of control cards, on one worker."""

    @property
    def seconds(self) -> float:
        """Of the whole search: its start, the children, the last of whom leave workers idle, and the ladder."""
        rounds = max(1.0, self.config.budget / self.workers + 0.5 * (self.workers > 1))
        return START_SECONDS[self.config.runner.kind] + rounds * self.child + self.beside / self.workers

    def __str__(self) -> str:
        beside = f", {self.slower:.2g} times that alone as {self.workers} train at once" if self.slower >= 1.05 else ""
        ladder = f", {duration(self.beside / self.workers)} of that for rungs and cards" if self.beside else ""
        return (
            f"about {duration(self.seconds)}{ladder} ({self.child:.2g} s a child{beside}, from {self.timed} random children timed "
            f"in {self.took:.0f} s; {START_SECONDS[self.config.runner.kind]:.0f} s to start); Ctrl-C stops, `nas resume` goes on"
        )
