"""Scores a genotype by training its network briefly: the trainer with limits, memory rules and an outcome around it."""

import time
from collections.abc import Generator
from dataclasses import replace

import torch
from torch import nn

from controllers.controller import Completed, Failed
from nas.data.batches import Resident
from nas.data.prepared import PreparedData
from nas.errors import ConfigError, UserError
from nas.evaluators.evaluator import FRESH, Attempt, Evaluation, Report
from nas.evaluators.settings import EvaluationConfig, Fidelity
from nas.networks.architecture import searched_skeleton
from nas.training.building import seeded_network
from nas.training.checkpoint import checkpoint_bytes, parse_checkpoint
from nas.training.config import trained_skeleton
from nas.training.recipe import Recipe
from nas.training.trainer import DivergedError, Hooks, Trainer
from nas.training.turns import TURN
from search_spaces.genotype import Genotype
from search_spaces.networks.cost import count_macs, count_parameters
from search_spaces.networks.network import Network
from search_spaces.skeletons import Skeleton

OUT_OF_MEMORY_SIGNS = ("out of memory", "can't allocate memory", "not enough memory")
"""How PyTorch says in a RuntimeError that an allocation failed, in lower case."""


class TrainingEvaluator:
    """Scores a genotype by training its network: built once per worker, it keeps the data on the worker's device."""

    def __init__(self, data: PreparedData, config: EvaluationConfig, device: str | torch.device = "cpu") -> None:
        self._data, self._config = data, config
        self._resident = Resident(torch.device(device))

    def evaluate(
        self, genotype: Genotype, seed: int, time_limit: float | None, attempt: Attempt = FRESH
    ) -> Generator[Report, None, Evaluation]:
        """Train the child; see ``train_child``. The evaluation's metrics also have ``params`` and ``macs`` (of one image)."""
        config = at_fidelity(self._config.at_rung(attempt.rung), attempt.fidelity)
        data, device = self._data.at_rung(attempt.rung), self._resident.device
        network: Network | None = None
        skeleton = child_skeleton(genotype, config)
        try:
            with TURN:
                network = seeded_network(genotype, skeleton, data, seed).to(device)
        except (MemoryError, RuntimeError) as problem:
            failed = out_of_memory(problem)
        if network is None:
            release_memory(None, device)
            return Evaluation(failed)
        costs = {
            "params": float(count_parameters(network)),
            "macs": float(count_macs(network, channels=data.channels, image_size=data.image_size)),
        }
        recipe = smaller_batch(config.recipe(), attempt.batch_divisor)
        evaluation = yield from train_child(network, data, recipe, seed, time_limit, attempt, self._resident, config.fidelity.mirrored)
        return replace(evaluation, metrics=costs | evaluation.metrics)


def child_skeleton(genotype: Genotype, config: EvaluationConfig) -> Skeleton:
    """The macro network of a search's children with the fidelity's N and F, as the recipe changes it."""
    fidelity = config.fidelity
    return trained_skeleton(searched_skeleton(genotype, cells=fidelity.cells, filters=fidelity.filters), config.recipe())


def at_fidelity(config: EvaluationConfig, fidelity: Fidelity | None) -> EvaluationConfig:
    """The configuration at a child's own fidelity, which may differ in epochs, N and F: images are prepared for the search and its rungs.

    Raises:
        ConfigError: it asks for other images.
    """
    if fidelity is None:
        return config
    for name in ("image_size", "train_examples", "validation_examples"):
        if getattr(fidelity, name) != getattr(config.fidelity, name):
            raise ConfigError(f"fidelity.{name} must be the search's, {getattr(config.fidelity, name)}, but got {getattr(fidelity, name)}")
    return config.model_copy(update={"fidelity": fidelity})


def smaller_batch(recipe: Recipe, divisor: int) -> Recipe:
    """The recipe at a fraction of the batch size, for a child that had too little memory.

    The learning rate shrinks with the batch (the linear rule of Goyal et al. 2017, arXiv 1706.02677), so that an epoch moves
    the weights about as far. Batch normalisation needs two images.
    """
    if divisor == 1:
        return recipe
    optimizer = recipe.optimizer
    if optimizer.per_images is None:  # else it follows the batch by itself
        optimizer = optimizer.model_copy(update={"learning_rate": optimizer.learning_rate / divisor})
    return recipe.model_copy(update={"batch_size": max(2, recipe.batch_size // divisor), "optimizer": optimizer})


class _TimeLimitError(Exception):
    """The child has used its time."""


class _Clock:
    """Seconds a child has used; stands still while the child waits at a report."""

    def __init__(self, limit: float | None) -> None:
        self._limit = limit
        self._started = time.monotonic()
        self._paused = 0.0

    def seconds(self) -> float:
        return time.monotonic() - self._started - self._paused

    def check(self) -> None:
        if self._limit is not None and self.seconds() > self._limit:
            raise _TimeLimitError

    def skip(self, seconds: float) -> None:
        """Do not count this time; what an earlier attempt used is counted as a negative one."""
        self._paused += seconds


def train_child(
    network: Network,
    data: PreparedData,
    recipe: Recipe,
    seed: int,
    time_limit: float | None = None,
    attempt: Attempt = FRESH,
    resident: Resident | None = None,
    mirrored: bool = False,
) -> Generator[Report, None, Evaluation]:
    """Train a network by a recipe, reporting after every epoch; the network is changed.

    The reward is the validation accuracy after the *last* epoch. The best of all epochs would be higher, and the more so
    the noisier a child's training is: it would reward luck, and the last epoch, at learning rate 0, is the best in expectation.

    Equal seeds give equal rewards, bit for bit on the same CPU and number of threads. A child that goes on from a checkpoint of
    ``attempt`` ends as it would have without the interruption, again bit for bit; its clock goes on as well.

    Args:
        network: on the device where it is trained.
        data: what it is trained and scored on.
        recipe: how.
        seed: of the images' order and of everything random in the network.
        time_limit: seconds it may take; None sets none.
        attempt: where it begins, what it keeps, and who hears its signs of life.
        resident: the data on that device, shared with other children; None puts them there.
        mirrored: score images as they are and mirrored, where the data allow it.

    Yields:
        One report an epoch: ``reward`` and the metrics ``train_loss`` (mean of the epoch) and ``seconds`` so far.

    Returns:
        ``Completed``, or ``Failed`` with the reason ``diverged``, ``out_of_memory`` or ``time_limit``. Metrics:
        ``train_seconds`` (validation included) and ``images_per_second`` (training images over training time alone).
    """
    device = next(network.parameters()).device
    clock = _Clock(time_limit)

    def sign_of_life() -> None:
        clock.check()
        attempt.beat()

    trainer: Trainer | None = None
    try:
        trainer = Trainer(network, data, recipe, seed=seed, device=device, resident=resident, mirrored=mirrored)
        _restore(trainer, clock, attempt.checkpoint)
        while trainer.position.epoch <= recipe.epochs:
            record = trainer.run_epoch(Hooks(on_batch=sign_of_life))
            assert record is not None  # nobody asks it to stop: a child that shall stop is closed at its report
            kept = _pack(trainer, clock) if record.epoch < recipe.epochs and attempt.keep(record.epoch) else None
            report = Report(record.epoch, record.validation_top1, {"train_loss": record.train_loss, "seconds": clock.seconds()}, kept)
            waiting = time.monotonic()
            yield report
            clock.skip(time.monotonic() - waiting)
        return Evaluation(Completed(trainer.position.history[-1].validation_top1), _metrics(trainer, clock))
    except DivergedError as problem:
        return Evaluation(Failed("diverged", str(problem)), _metrics(trainer, clock))
    except _TimeLimitError:
        return Evaluation(Failed("time_limit", f"more than {time_limit:g} s"), _metrics(trainer, clock))
    except (MemoryError, RuntimeError) as problem:
        failed = out_of_memory(problem)
    # Outside the handler: until here the exception held the child's tensors.
    release_memory(network, device)
    return Evaluation(failed, _metrics(trainer, clock))


def _pack(trainer: Trainer, clock: _Clock) -> bytes:
    return checkpoint_bytes(trainer.tensors(), {**trainer.state(), "seed": trainer.seed, "seconds": clock.seconds()})


def _restore(trainer: Trainer, clock: _Clock, checkpoint: bytes | None) -> None:
    """Go on from a checkpoint where it fits; where it does not, or is damaged, begin anew: it is only a saving of time."""
    if checkpoint is None:
        return
    try:
        tensors, state = parse_checkpoint(checkpoint, "checkpoint")
        if state.get("seed") != trainer.seed or not isinstance(state.get("seconds"), float):
            return
        trainer.load(tensors, state, "checkpoint")
    except UserError:
        return
    clock.skip(-state["seconds"])


def _metrics(trainer: Trainer | None, clock: _Clock) -> dict[str, float]:
    """What was measured, for the evaluation."""
    measured = {"train_seconds": clock.seconds()}
    if trainer is not None and trainer.replays is not None:
        measured["replayed_share"] = trainer.replays.replayed / max(1, trainer.replays.steps)
    if trainer is not None and trainer.position.history:
        epochs = trainer.position.history
        measured["images_per_second"] = len(epochs) / sum(1 / max(1e-9, record.images_per_second) for record in epochs)
    return measured


def out_of_memory(problem: MemoryError | RuntimeError) -> Failed:
    """The outcome for an exception that means that the device or the host has no memory left. Raises any other exception again."""
    text = str(problem)
    told = any(sign in text.lower() for sign in OUT_OF_MEMORY_SIGNS)
    if not (told or isinstance(problem, MemoryError | torch.cuda.OutOfMemoryError)):
        raise problem
    return Failed("out_of_memory", text.splitlines()[0][:300] if text else "the host ran out of memory")


def release_memory(network: nn.Module | None, device: torch.device) -> None:
    """Give back what a child that ran out of memory still holds, so that the next child does not fail for it."""
    if network is not None:
        network.zero_grad(set_to_none=True)
    if device.type == "cuda":
        with TURN:  # never while another thread records a graph
            torch.cuda.empty_cache()
