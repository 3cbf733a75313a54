"""Trains one network by a recipe, step by step, and can stop and go on at any step with the same result bit for bit."""

import copy
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from controllers.controller import random_for
from nas.data.batches import Batch, Resident, Share, TrainingBatches, scoring_batches, shrink
from nas.data.dataset import Part
from nas.data.prepared import PreparedData
from nas.errors import DataError, RunError
from nas.tools.words import first_line
from nas.training.checkpoint import optimizer_state, optimizer_tensors
from nas.training.graphs import LEAST_REPLAYS, CudaRecorder, Recorder, ReplayedSteps, refusal
from nas.training.numerics import autocast, flushed_denormals, resolve_precision
from nas.training.optimisation import WeightAverage, make_mixup, make_optimizer, make_schedule, set_norm_momentum
from nas.training.recipe import Recipe
from nas.training.scoring import Mirrored, Scores, score_sums
from nas.training.turns import TURN
from search_spaces.networks.network import Network

LOSS_CHECKED_EVERY = 50
"""Steps between two looks at the loss on a GPU, where every look waits for the device. On a CPU every step is looked at."""
RESOLUTION_STEP = 4
"""Pixels by which the side of shrunk images grows."""


class Ending(Enum):
    """How a session of training ended."""

    FINISHED = "finished"
    INTERRUPTED = "interrupted"
    DIVERGED = "diverged"


class DivergedError(Exception):
    """The loss is no longer a number."""


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch came to; accuracies in [0, 1], on the validation part, with the averaged weights where there are some."""

    epoch: int
    train_loss: float
    validation_loss: float
    validation_top1: float
    validation_top5: float
    learning_rate: float
    seconds: float
    cpu_seconds: float
    images_per_second: float


@dataclass
class Position:
    """Where a training is: ``step`` steps of epoch ``epoch`` (from 1) are done; ``loss_sum`` is over them."""

    epoch: int = 1
    step: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    best_epoch: int = 0
    history: list[EpochRecord] = field(default_factory=list)

    @property
    def best(self) -> float:
        """The validation accuracy of the best epoch so far; −1 before the first one's end."""
        return self.history[self.best_epoch - 1].validation_top1 if self.best_epoch else -1.0

    def add(self, record: EpochRecord, images: int) -> None:
        """An epoch has ended, and was scored on so many images.

        It is the best so far where it lies within a standard error of the most accurate one (Breiman et al. 1984, section 3.4.3): the
        most accurate of many epochs is a lucky one where images are few, and later ones have learned more.
        """
        self.history.append(record)
        most = max(past.validation_top1 for past in self.history)
        if record.validation_top1 >= most - math.sqrt(most * (1 - most) / images):
            self.best_epoch = record.epoch
        self.epoch += 1
        self.step, self.loss_sum = 0, 0.0
        self.seconds = self.cpu_seconds = 0.0

    def document(self) -> dict[str, Any]:
        """As plain data; ``from_document`` reads it."""
        return asdict(self)

    @staticmethod
    def from_document(document: Mapping[str, Any]) -> "Position":
        """The position that ``document`` described. Raises KeyError, TypeError or ValueError where it did not."""
        history = [EpochRecord(**record) for record in document["history"]]
        rest = {key: document[key] for key in ("epoch", "step", "loss_sum", "seconds", "cpu_seconds", "best_epoch")}
        if not 0 <= rest["best_epoch"] <= len(history) or rest["epoch"] != len(history) + 1:
            raise ValueError("epochs and history do not agree")
        return Position(**rest, history=history)


@dataclass(frozen=True)
class Workers:
    """The processes that train together: this one's number, how many there are, how they exchange gradients and make sums.

    ``share_buffers`` gives everybody the first worker's moving statistics, so that all score the same network.
    """

    rank: int = 0
    world: int = 1
    wrap: Callable[[nn.Module], nn.Module] = lambda module: module
    add: Callable[[list[float]], list[float]] = lambda values: values
    share_buffers: Callable[[nn.Module], None] = lambda module: None


@dataclass(frozen=True)
class Hooks:
    """Who is told what while a training goes on.

    ``on_batch`` is called before every batch that is trained on or scored, ``stop`` is asked after every step; ``on_step`` and
    ``on_epoch`` come after it happened. What they raise ends the training.
    """

    on_batch: Callable[[], None] = lambda: None
    stop: Callable[[], bool] = lambda: False
    on_step: Callable[[Position, int], None] = lambda position, steps: None
    on_epoch: Callable[[EpochRecord, bool], None] = lambda record, is_best: None


class _WithAuxiliary(nn.Module):
    """The network as DistributedDataParallel needs it: its ``forward`` is the one that training calls."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits, and the auxiliary head's."""
        return self.network.forward_with_auxiliary(images)


class Trainer:
    """One training: the network is on the device of the data and is changed.

    ``mirrored``: score images as they are and mirrored, by the mean of both, where the data set's images may be.
    """

    def __init__(
        self,
        network: Network,
        data: PreparedData,
        recipe: Recipe,
        *,
        seed: int,
        device: torch.device,
        micro_batch: int | None = None,
        loader_workers: int = 0,
        workers: Workers | None = None,
        resident: Resident | None = None,
        compiled: bool = False,
        recorder: Recorder | None = None,
        mirrored: bool = False,
    ) -> None:
        self.resident = resident or Resident(device)
        self.workers = workers or Workers()
        self.network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.data, self.recipe, self.seed, self.device = data, recipe, seed, device
        self.loader_workers, self.micro_batch = loader_workers, micro_batch
        self.mirrored = mirrored and data.mirrors
        self.share = plan_share(recipe, len(data.train), self.workers.world, micro_batch, self.workers.rank)
        self.steps_an_epoch = len(data.train) // self.share.batch_size
        self.steps = self.steps_an_epoch * recipe.epochs
        self.position = Position()
        self.precision = resolve_precision(recipe.precision, device)
        set_norm_momentum(network, recipe.regularisation.norm_momentum)
        self.optimizer = make_optimizer(network, recipe.optimizer, self.share.batch_size)
        self.schedule = make_schedule(self.optimizer, recipe.schedule, recipe.epochs, self.steps_an_epoch)
        self.average = WeightAverage(network, recipe.ema) if recipe.ema else None
        self.mixup = make_mixup(recipe, data.classes)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.precision == torch.float16 and device.type == "cuda")
        self.batches = TrainingBatches(data, recipe.augmentation, seed, self.resident, loader_workers)
        self.module = self.workers.wrap(_WithAuxiliary(self.network))
        if compiled:  # the forward pass of training alone: what is scored, saved and exported is the network itself
            self.module = torch.compile(self.module)  # type: ignore[assignment]
        self.plain = "" if recorder else refusal(recipe, device, self.precision, self.workers.world, self.share.passes)
        self.replays = None if self.plain else ReplayedSteps(self.optimizer, recorder or CudaRecorder(device))

    @cached_property
    def fingerprint(self) -> str:
        """Tells whether another training has the same images."""
        return self.data.fingerprint()

    def twin(self) -> "Trainer":
        """The same training from its beginning, on a copy of the network, uncompiled and alone: to be timed and thrown away."""
        return Trainer(
            copy.deepcopy(self.network),
            self.data,
            self.recipe,
            seed=self.seed,
            device=self.device,
            micro_batch=self.micro_batch,
            loader_workers=self.loader_workers,
            resident=self.resident,
        )

    # ------------------------------------------------------------------------------------------------ state

    @property
    def updates(self) -> int:
        """Steps of the optimiser done so far."""
        return (self.position.epoch - 1) * self.steps_an_epoch + self.position.step

    @property
    def scored_network(self) -> Network:
        """The network that is scored and handed over: with averaged weights where the recipe has them."""
        return self.average.network if self.average else self.network

    def tensors(self) -> dict[str, Tensor]:
        """Everything that changes while training, by name."""
        found = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        if self.average:
            found |= {f"average.{name}": value for name, value in self.average.network.state_dict().items()}
        return found | optimizer_tensors(self.optimizer)

    def state(self) -> dict[str, Any]:
        """The rest, as plain data."""
        return {
            "position": self.position.document(),
            "scaler": self.scaler.state_dict(),
            "steps_an_epoch": self.steps_an_epoch,
            "data": self.fingerprint,
        }

    def load(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any], path: Any) -> None:  # noqa: ANN401 - any path, for messages
        """Go back to where ``tensors`` and ``state`` were taken.

        Raises:
            RunError: they do not fit this network or recipe.
            DataError: they were taken while training on other images.
        """
        if state.get("data", self.fingerprint) != self.fingerprint:
            raise DataError(
                f"{path}: a training must go on with the images it began with (checksum {state['data']}), but those of {self.data.name} "
                f"have {self.fingerprint}; put them back, or begin another training"
            )
        try:
            if state["steps_an_epoch"] != self.steps_an_epoch:
                raise ValueError(f"it has {state['steps_an_epoch']} steps an epoch, this training {self.steps_an_epoch}")
            position = Position.from_document(state["position"])
            networks = {"network.": self.network} | ({"average.": self.average.network} if self.average else {})
            for prefix, network in networks.items():
                _check_shapes(network, _below(prefix, tensors))
            momenta = optimizer_state(self.optimizer, tensors)
            if state["scaler"]:
                self.scaler.load_state_dict(state["scaler"])
        except (KeyError, TypeError, ValueError, RuntimeError) as problem:
            raise RunError(f"{path}: the checkpoint does not fit this training: {first_line(problem)}") from None
        # Nothing was changed until here, so that a caller whose checkpoint does not fit can begin anew.
        self.position = position
        for prefix, network in networks.items():
            network.load_state_dict(_below(prefix, tensors))
        for parameter, name, value in momenta:
            self.optimizer.state[parameter][name] = value
        if self.replays:
            self.replays.forget()

    # ------------------------------------------------------------------------------------------------ training

    def run(self, checkpoint: Callable[[bool], None], hooks: Hooks | None = None, every_steps: int | None = None) -> Ending:
        """Train to the end of the recipe, or until ``hooks.stop`` says so.

        ``checkpoint`` is called after every epoch, with whether it was the best; and in the middle of one before stopping, and
        after every ``every_steps`` steps. Whoever stops after an epoch's last step stops before that epoch is scored; only after the
        very last step of all is there nothing left to stop, and the training finishes.

        Raises:
            DivergedError: the loss became infinite or NaN; the last checkpoint is from before.
        """
        hooks = hooks or Hooks()
        while self.position.epoch <= self.recipe.epochs:
            record = self.run_epoch(hooks, lambda: checkpoint(False), every_steps)
            if record is None:
                return Ending.INTERRUPTED
            checkpoint(self.position.best_epoch == record.epoch)
            hooks.on_epoch(record, self.position.best_epoch == record.epoch)
        return Ending.FINISHED

    def run_epoch(self, hooks: Hooks, checkpoint: Callable[[], None] = lambda: None, every_steps: int | None = None) -> EpochRecord | None:
        """Train to the end of the current epoch and score it; None where ``hooks.stop`` said so. Raises DivergedError."""
        with self.replays.stream() if self.replays else nullcontext():
            trained = self._train_epoch(hooks, checkpoint, every_steps)
        return self._end_epoch(hooks) if trained else None

    def _train_epoch(self, hooks: Hooks, checkpoint: Callable[[], None], every_steps: int | None) -> bool:
        """Train to the end of the current epoch; False where it was interrupted."""
        position = self.position
        self.network.train()
        self.module.train()
        every = 1 if self.device.type == "cpu" else LOSS_CHECKED_EVERY
        total = torch.tensor(position.loss_sum, dtype=torch.float64, device=self.device)
        clock = _Clock(position)
        steps = self.batches.epoch(position.epoch, self.share, position.step, self.steps_an_epoch)
        for passes in steps:
            hooks.on_batch()
            with flushed_denormals(self.device):
                total += self.step(passes)
            position.step += 1
            stopping = hooks.stop()
            if stopping or position.step % every == 0 or position.step == self.steps_an_epoch:
                position.loss_sum = total.item()
                if not math.isfinite(position.loss_sum):
                    raise DivergedError(f"the loss became {position.loss_sum} at step {position.step} of epoch {position.epoch}")
            clock.tick()
            hooks.on_step(position, self.steps_an_epoch)
            stopping = stopping and self.updates < self.steps
            if stopping or (every_steps and position.step % every_steps == 0 and position.step < self.steps_an_epoch):
                # The mean over all workers, for everybody: any number of them can go on from it.
                position.loss_sum = self.workers.add([total.item()])[0] / self.workers.world
                total.fill_(position.loss_sum)
                checkpoint()
            if stopping:
                return False
        return True

    @property
    def side(self) -> int:
        """Side of the images in the next step."""
        return image_side(self.recipe, self.data.image_size, self.updates / self.steps)

    def step(self, passes: list[Batch]) -> Tensor:
        """One step of the optimiser; returns the mean loss of this worker's images, detached.

        The position is the caller's business; the next step may overwrite the loss.
        """
        updates, side = self.updates, self.side
        mine = sum(len(labels) for _, labels in passes)
        with TURN:
            self._seed_step(updates)
            self.schedule.step_update(updates)
            self.network.set_progress(updates / self.steps)
            mixed = (self._mixed(shrink(images, side), labels) for images, labels in passes)
            if self.replays and len(passes) == 1:
                ahead = updates + LEAST_REPLAYS
                more = ahead <= self.steps and image_side(self.recipe, self.data.image_size, (ahead - 1) / self.steps) == side
                loss = self.replays.run(lambda *batch: self._optimise(iter([batch]), 1, mine), *next(mixed), more)
            else:
                loss = self._optimise(mixed, len(passes), mine)
            if self.average:
                self.average.update(self.network, updates + 1)
        return loss

    def _optimise(self, passes: Iterator[Batch], count: int, mine: int) -> Tensor:
        """Gradients of all ``count`` passes, then the optimiser's step: what can be recorded, and so waits for nothing on the device."""
        # Workers average their gradients; those with one image more than others count for it.
        mean_share = self.share.batch_size / self.workers.world
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        for number, (images, targets) in enumerate(passes, start=1):
            # Workers exchange gradients in the last pass only.
            quiet = self._without_exchange() if number < count else nullcontext()
            with quiet:
                part = self._loss(images, targets)
                self.scaler.scale(part * (len(targets) / mean_share)).backward()  # type: ignore[no-untyped-call]
            loss += part.detach().double() * (len(targets) / mine)
        if self.recipe.optimizer.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.optimizer.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return loss

    def _without_exchange(self) -> AbstractContextManager[object]:
        """Where workers train together: leave the exchange of gradients to a later pass."""
        no_sync = getattr(self.module, "no_sync", None)
        return no_sync() if callable(no_sync) else nullcontext()

    def _loss(self, images: Tensor, targets: Tensor) -> Tensor:
        with autocast(self.device, self.precision):
            logits, auxiliary = self.module(images)
        smoothing = 0.0 if self.mixup else self.recipe.regularisation.label_smoothing
        loss = F.cross_entropy(logits.float(), targets, label_smoothing=smoothing)
        weight = self.recipe.regularisation.auxiliary_weight
        if auxiliary is not None and weight:
            loss = loss + weight * F.cross_entropy(auxiliary.float(), targets, label_smoothing=smoothing)
        return loss

    def _mixed(self, images: Tensor, labels: Tensor) -> Batch:
        """Images mixed in pairs, and their classes' shares (batch, classes), where the recipe mixes; the last of an odd number stays."""
        if self.mixup is None:
            return images, labels
        even = len(labels) // 2 * 2
        smoothing, classes = self.recipe.regularisation.label_smoothing, self.data.classes
        alone = F.one_hot(labels[even:], classes) * (1 - smoothing) + smoothing / classes
        if not even:
            return images, alone
        mixed, targets = self.mixup(images[:even], labels[:even])
        return torch.cat([mixed, images[even:]]), torch.cat([targets, alone])

    def _seed_step(self, updates: int) -> None:
        """Seed what drop path, dropout and mixup draw from, by the step's number: so a checkpoint needs no generators' states."""
        rng = random_for(self.seed, "step", updates * self.workers.world + self.workers.rank)
        torch.manual_seed(rng.getrandbits(62))
        np.random.seed(rng.getrandbits(32))
        random.seed(rng.getrandbits(62))

    def _end_epoch(self, hooks: Hooks) -> EpochRecord:
        """Score the epoch and step to the next."""
        position = self.position
        clock = _Clock(position)
        trained = position.seconds
        mean = self.workers.add([position.loss_sum])[0] / self.workers.world / self.steps_an_epoch
        scores = self.score(self.data.validation, hooks.on_batch)
        if not math.isfinite(scores.loss):
            raise DivergedError(f"the logits of validation images are not finite after epoch {position.epoch}")
        clock.tick()
        record = EpochRecord(
            epoch=position.epoch,
            train_loss=mean,
            validation_loss=scores.loss,
            validation_top1=scores.top1,
            validation_top5=scores.top5,
            learning_rate=float(max(group["lr"] for group in self.optimizer.param_groups)),
            seconds=position.seconds,
            cpu_seconds=position.cpu_seconds,
            images_per_second=self.steps_an_epoch * self.share.batch_size / max(1e-9, trained),
        )
        position.add(record, scores.images)
        return record

    def score(self, part: Part, on_batch: Callable[[], None] = lambda: None) -> Scores:
        """Score the network on a part of the data, all workers together; ``on_batch`` is called before every batch."""
        network = self.scored_network
        self.workers.share_buffers(network)
        seen = Mirrored(network) if self.mirrored else network
        batches = scoring_batches(self.data, part, self.resident, self.loader_workers, self.workers.rank, self.workers.world)
        with flushed_denormals(self.device):
            sums = score_sums(seen, _announced(batches, on_batch), self.precision)
        names = list(sums)
        sums = dict(zip(names, self.workers.add([sums[name] for name in names]), strict=True))
        count = max(1.0, sums["images"])
        seconds = sums["seconds"] / self.workers.world
        return Scores(sums["top1"] / count, sums["top5"] / count, sums["loss"] / count, int(sums["images"]), seconds)


def _announced(batches: Iterator[Batch], on_batch: Callable[[], None]) -> Iterator[Batch]:
    for batch in batches:
        on_batch()
        yield batch


class _Clock:
    """Adds wall-clock and CPU time since the last tick to a position."""

    def __init__(self, position: Position) -> None:
        self._position = position
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def tick(self) -> None:
        wall, cpu = time.monotonic(), time.process_time()
        self._position.seconds += wall - self._wall
        self._position.cpu_seconds += cpu - self._cpu
        self._wall, self._cpu = wall, cpu


def _check_shapes(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    own = {name: value.shape for name, value in network.state_dict().items()}
    found = {name: value.shape for name, value in weights.items()}
    if own != found:
        name = sorted(name for name in own.keys() | found.keys() if own.get(name) != found.get(name))[0]
        raise ValueError(f"{name} must have the shape {own.get(name)}, but has {found.get(name)}")


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def plan_share(recipe: Recipe, examples: int, world: int, micro_batch: int | None, rank: int = 0) -> Share:
    """How many images a step takes and how they are cut into passes.

    The recipe's batch, but at most all there are, whatever the number of workers: so another number can go on. Shares and passes
    are as equal as can be.

    Raises:
        DataError: there are too few images for a step.
    """
    batch = min(recipe.batch_size, examples)
    if batch < 2 * world:
        raise DataError(f"a step needs at least 2 images for each of {world} workers, but there are {batch}")
    most = -(-batch // world)
    passes = -(-most // min(most, micro_batch or most))
    return Share(batch, -(-most // passes), rank, world)


def image_side(recipe: Recipe, full: int, progress: float) -> int:
    """Side of the training images when the share ``progress`` of the training is done: see ``ResolutionSettings``."""
    settings = recipe.resolution
    if settings.start >= 1 or progress >= settings.full_from:
        return full
    share = settings.start + (1 - settings.start) * progress / settings.full_from
    return min(full, max(8, round(full * share / RESOLUTION_STEP) * RESOLUTION_STEP))
