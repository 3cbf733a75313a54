"""Says what a search will do and about how long it takes, before it starts: a few training steps are timed on noise of the data's shape."""

import math
import time
from collections.abc import Sequence

import numpy as np

from controllers.controller import random_for
from nas.data.prepared import training_side
from nas.data.settings import data_words
from nas.evaluators.registry import EVALUATORS
from nas.evaluators.settings import FOLDER_SIDE
from nas.runs.config import SearchConfig
from nas.tools.hardware import Hardware
from nas.tools.words import duration, megabytes
from nas.training.fitting import Amount, Choice, amount_of
from search_spaces.networks.native.library import describe as describe_kernels
from search_spaces.registry import load_space
from search_spaces.space import sample_actions, size

TIMED_GENOTYPES = 4
TIMED_IMAGES = 192
"""Training images of a timed epoch at least: a few batches, more of small ones."""
TIMED_SCORED = 256


def describe_plan(config: SearchConfig, hardware: Hardware, choices: Sequence[Choice] = ()) -> list[str]:
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
    lines.append(f"time:   {_time(config, workers, amount)}")
    return lines


def _about_images(config: SearchConfig, amount: Amount) -> list[str]:
    """How sure one reward is, and the memory that the images take."""
    trained_on, scored, side = _used(config, amount)
    error = 50 / math.sqrt(scored)  # per cent, at an accuracy of 50 %: the largest
    return [
        f"reward: from {scored:,} images: standard error at most ± {error:.1f} points; chance is {100 / amount.classes:.3g} %",
        f"memory: the images take {megabytes((trained_on + scored) * side**2 * amount.channels)}, once for all workers",
    ]


def _used(config: SearchConfig, amount: Amount) -> tuple[int, int, int]:
    """Images that a child is trained on and scored on, and their side in pixels."""
    fidelity = config.fidelity
    usual = training_side(amount.side, FOLDER_SIDE) if config.data.name == "folder" else amount.side
    return (
        min(fidelity.train_examples or amount.train, amount.train),
        min(fidelity.validation_examples or amount.validation, amount.validation),
        fidelity.image_size or config.data.image_size or usual,
    )


def expected_workers(config: SearchConfig, hardware: Hardware) -> int | None:
    """Children at once, as far as it can be told before Ray is asked; None on a cluster."""
    runner = config.runner
    if runner.kind == "local":
        return 1
    if runner.workers is not None or runner.cluster is not None:
        return runner.workers
    on_cpu = max(1, hardware.cores // runner.threads_per_child)
    share = runner.gpus_per_child if runner.gpus_per_child is not None else float(bool(hardware.gpus))
    if not share or not hardware.gpus:
        return on_cpu
    on_gpu = len(hardware.gpus) * math.floor(1 / share) if share < 1 else len(hardware.gpus) // math.ceil(share)
    return max(1, min(on_cpu, on_gpu))


def _time(config: SearchConfig, workers: int | None, amount: Amount | None) -> str:
    if config.evaluator != "train" or workers is None or amount is None:
        return "shown once the first children have ended"
    started = time.monotonic()
    seconds = estimate_child_seconds(config, amount)
    total = seconds * config.budget / workers
    return (
        f"about {duration(total)} ({seconds:.1f} s a child, from {TIMED_GENOTYPES} random children timed "
        f"in {time.monotonic() - started:.0f} s); Ctrl-C stops, `nas resume` goes on"
    )


def estimate_child_seconds(config: SearchConfig, amount: Amount) -> float:
    """Seconds that an average random child takes on one worker of this machine, from a few timed steps on noise."""
    import torch

    from nas.data.dataset import ArrayPart
    from nas.data.prepared import PreparedData
    from nas.evaluators.registry import build_evaluator

    train_images, validation_images, side = _used(config, amount)
    batch = min(config.training.batch_size, train_images)
    batches, scored = max(3, math.ceil(TIMED_IMAGES / batch)), min(TIMED_SCORED, validation_images)
    noise = np.random.default_rng(0)

    def images(count: int) -> ArrayPart:
        pixels = noise.integers(0, 256, (count, side, side, amount.channels), dtype=np.uint8)
        return ArrayPart(pixels, noise.integers(0, amount.classes, count))

    names = tuple(map(str, range(amount.classes)))
    mean, std = (0.5,) * amount.channels, (0.25,) * amount.channels
    data = PreparedData("noise", images(batch * batches), images(scored), None, names, amount.channels, side, mean, std)
    short = config.model_copy(update={"fidelity": config.fidelity.model_copy(update={"epochs": 2, "image_size": side})})
    space = load_space(config.space)
    threads = torch.get_num_threads()
    torch.set_num_threads(config.runner.threads_per_child)
    try:
        evaluator = build_evaluator(short, data)
        seconds = []
        for number in range(TIMED_GENOTYPES):
            genotype = space.decode(sample_actions(space, random_for(config.seed, "plan", number)))
            # The second epoch alone: the first pays for warming up.
            ends = [time.monotonic() for _ in evaluator.evaluate(genotype, 0, None)]
            if len(ends) < 2:
                continue  # it diverged on noise
            epoch = ends[-1] - ends[0]
            work = batch * batches + scored / 3  # scoring an image costs about a third of training on it
            seconds.append(epoch / work * config.fidelity.epochs * (train_images + validation_images / 3))
    finally:
        torch.set_num_threads(threads)
    return sum(seconds) / max(1, len(seconds))
