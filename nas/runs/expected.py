"""How long a child takes on this machine: random children are trained briefly on noise of the data's shape, and it is added up."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from controllers.controller import random_for
from nas.evaluators.evaluator import Attempt
from nas.evaluators.fitting import images_used
from nas.evaluators.settings import EvaluationConfig
from nas.runs.config import SearchConfig, space_of
from nas.runs.sizing import sized
from nas.training.fitting import Amount
from search_spaces.genotype import Genotype
from search_spaces.space import sample_actions

if TYPE_CHECKING:
    import torch

    from nas.data.prepared import PreparedData
    from nas.training.trainer import Trainer

TIMED_GENOTYPES = 4
TIMED_ABOVE = 1
"""The same at every rung of a ladder: the first of them, whose steps of the search's own say how usual a cell it is."""
TIMED_IMAGES = 192
"""Training images of a timed epoch at least: a few batches, more of small ones."""
TIMED_SCORED = 256
"""Images that a timed epoch is scored on at most: no more than one batch of them, which is what scoring consists of."""
LEAST_SETUP = 0.03
"""A set-up that is less of a child need not be known any better."""
TIMED_STEPS_ON_GPU = 30
"""Steps of a timed epoch at least where they are recorded as CUDA graphs, which is done in the first one."""
TIMED_SECONDS = 4.0
"""After so many seconds no other child is timed."""
START_SECONDS = {"ray": 9.0, "local": 1.0}
"""From the plan to the first child: Ray takes 4–6 s to start and its workers 2–3 s to load torch (measured on two quiet cores)."""
ALONE_SECONDS = 0.15
"""How long one thread computes alone, and so many as there are workers beside one another, to see what that costs."""


@dataclass(frozen=True)
class Work:
    """What a child has to do: epochs (fewer than all, where children are stopped early), and in each of them."""

    epochs: float
    steps: int
    scored: int


@dataclass(frozen=True)
class ChildTiming:
    """Seconds of a child's parts, alone on this machine, and how many children were timed.

    ``setup`` is what a child costs before its second step: its network is built and counted, and its kernels warm up. ``first`` is how
    many times as long as the mean the first of them takes.
    """

    setup: float
    step: float
    scored_image: float
    children: int
    first: float = 1.0

    def seconds(self, work: Work) -> float:
        """Of a whole child."""
        return self.setup + work.epochs * (work.steps * self.step + work.scored * self.scored_image)


def work_of(config: SearchConfig, amount: Amount) -> Work:
    """What an average child does."""
    train, validation, _ = images_used(config, amount)
    return Work(expected_epochs(config), max(1, train // min(train, config.training.batch_size)), validation)


def expected_epochs(config: EvaluationConfig) -> float:
    """Epochs of an average child: of those that reach a rung, one in ``halving.reduction`` goes on."""
    epochs, share, before = 0.0, 1.0, 0
    for rung in (*config.rungs(), config.fidelity.epochs):
        epochs += share * (rung - before)
        before = rung
        share /= config.halving.reduction if config.halving is not None else 1
    return epochs


def time_children(
    config: SearchConfig, amount: Amount, most: int = TIMED_GENOTYPES, tell: Callable[[int, int], None] = lambda done, total: None
) -> ChildTiming:
    """Time a few random children, each for two short epochs, on as many threads as a worker has; ``tell`` is told how many are done.

    In a new process the first children compile kernels for their shapes, which most later ones find compiled: where that would count,
    the first child is timed again in the end, and the least set-up is the usual one.
    """
    from nas.evaluators.registry import build_evaluator
    from nas.training.numerics import own_threads

    data, work = noise(config, amount), work_of(config, amount)
    parts: list[tuple[float, float, float]] = []
    with own_threads(config.runner.threads):
        chosen = short(config, data.image_size)
        evaluator = build_evaluator(chosen, data)
        began = time.perf_counter()
        for done, number in enumerate((*range(most), 0)):
            tell(done, most)
            moments = [time.perf_counter()]
            reports = []
            genotype = timed_genotype(config, number)
            fidelity = sized(chosen, genotype).fidelity
            attempt = Attempt(beat=lambda moments=moments: moments.append(time.perf_counter()), fidelity=fidelity)  # type: ignore[misc]
            for _ in evaluator.evaluate(genotype, 0, None, attempt):
                reports.append(len(moments))
                moments.append(time.perf_counter())
            if len(reports) == 2:  # else it diverged on noise
                steps = len(data.train) // min(len(data.train), config.training.batch_size)
                parts.append(_parts(moments, reports, steps, recorded=on_gpu(config)))
            whole = _mean(parts[:most], len(data.validation))
            if time.perf_counter() - began > TIMED_SECONDS or (done == most - 1 and whole.setup < LEAST_SETUP * whole.seconds(work)):
                break
    return replace(_mean(parts[:most], len(data.validation)), setup=min((setup for setup, *_ in parts), default=0.0))


def _mean(parts: Sequence[tuple[float, float, float]], scored: int) -> ChildTiming:
    """Of children's set-up, step and scoring of so many images."""
    if not parts:
        return ChildTiming(0.0, 0.0, 0.0, 0)
    setups, steps, scorings = zip(*parts, strict=True)
    return ChildTiming(min(setups), fmean(steps), fmean(scorings) / scored, len(parts), steps[0] / fmean(steps))


def same_steps(one: SearchConfig, other: SearchConfig) -> bool:
    """Whether children of both take the same time for a step and for an image that is scored: they differ in how many alone."""
    amounts = {"epochs": 2, "train_examples": None, "validation_examples": None}
    first, second = (
        config.model_copy(update={"fidelity": config.fidelity.model_copy(update=amounts), "ladder": []}) for config in (one, other)
    )
    batches = {min(config.training.batch_size, config.fidelity.train_examples or config.training.batch_size) for config in (one, other)}
    return first == second and len(batches) == 1


def _parts(moments: list[float], reports: list[int], steps: int, recorded: bool) -> tuple[float, float, float]:
    """Set-up, a step and one scoring, from the moments of the call, of every batch and of both reports.

    The sides of images that grow come in the short training as in the whole one, so that the mean of its steps is the whole one's:
    of all but the first, and where steps are ``recorded`` in the first epoch, of the second.
    """
    first, second = 1, reports[0] + 1
    spans = [after - before for before, after in pairwise(moments)]
    timed = ([] if recorded else spans[first + 1 : first + steps]) + spans[second : second + steps]
    step = fmean(timed)
    scoring = moments[reports[1]] - moments[second + steps]
    return moments[first + 1] - moments[0] - step, step, scoring


def noise(config: SearchConfig, amount: Amount) -> "PreparedData":
    """Images of the data's shape, as many as a short epoch takes."""
    from nas.data.batches import scored_at_once
    from nas.data.dataset import ArrayPart
    from nas.data.prepared import PreparedData

    train, validation, side = images_used(config, amount)
    batch = min(config.training.batch_size, train)
    source = np.random.default_rng(0)

    def images(count: int) -> ArrayPart:
        pixels = source.integers(0, 256, (count, side, side, amount.channels), dtype=np.uint8)
        return ArrayPart(pixels, source.integers(0, amount.classes, count))

    names = tuple(map(str, range(amount.classes)))
    mean, std = (0.5,) * amount.channels, (0.25,) * amount.channels
    steps = max(TIMED_STEPS_ON_GPU if on_gpu(config) else 3, math.ceil(TIMED_IMAGES / batch))
    parts = images(batch * steps), images(min(TIMED_SCORED, validation, scored_at_once(side)))
    return PreparedData("noise", *parts, None, names, amount.channels, side, mean, std)


def on_gpu(config: SearchConfig) -> bool:
    """Whether this process would train a child on a GPU."""
    import torch

    return config.runner.gpus_per_child != 0 and torch.cuda.is_available()


def short(config: SearchConfig, side: int) -> SearchConfig:
    """The configuration for two epochs on such noise."""
    fidelity = config.fidelity.model_copy(update={"epochs": 2, "image_size": side})
    return config.model_copy(update={"fidelity": fidelity, "halving": None, "ladder": []})


def timed_genotype(config: SearchConfig, number: int) -> Genotype:
    """A random child of the search's space."""
    space = space_of(config)
    return space.decode(sample_actions(space, random_for(config.seed, "plan", number)))


def reference_trainer(config: SearchConfig, data: "PreparedData", device: "torch.device", number: int) -> "Trainer":
    """The training of a random child of a ``short`` configuration, to be timed."""
    from nas.evaluators.child import child_skeleton
    from nas.training.building import seeded_network
    from nas.training.trainer import Trainer

    genotype = timed_genotype(config, number)
    network = seeded_network(genotype, child_skeleton(genotype, sized(config, genotype)), data, number)
    trainer = Trainer(network, data, config.recipe(), seed=number, device=device, mirrored=config.fidelity.mirrored)
    trainer.network.train()
    return trainer


def side_by_side(workers: int) -> float:
    """How many times slower so many threads compute beside one another than one does alone: they share caches, memory and cores.

    Children are processes, and what a thread's first operations cost is none of it: all warm up before any is timed.
    """
    import torch

    from nas.training.numerics import own_threads

    images, weights = torch.zeros(64, 16, 16, 16), torch.zeros(16, 16, 3, 3)

    def count(seconds: float) -> float:
        torch.set_num_threads(1)  # of this thread
        done, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            torch.conv2d(images, weights).add_(1).relu_()
            done += 1
        return done / (time.perf_counter() - started)

    if workers == 1:
        return 1.0
    together = threading.Barrier(workers)
    rates: list[float] = []

    def beside() -> None:
        count(ALONE_SECONDS / 3)
        together.wait()
        rates.append(count(ALONE_SECONDS))

    with own_threads(1):
        count(ALONE_SECONDS / 3)
        alone = count(ALONE_SECONDS)
        threads = [threading.Thread(target=beside) for _ in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return min(float(workers), max(1.0, alone / fmean(rates)))
