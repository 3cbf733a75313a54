"""Trains one child network and scores it on the validation split: a report after every epoch, an outcome at the end."""

import math
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from controllers.controller import Completed, Failed, random_for
from nas.data.augmentation import Augmentation, Draws, augment, augmentation, draw, normalise
from nas.data.proxy import ProxyData
from nas.errors import ConfigError
from nas.evaluators.child_state import Position, pack_state, unpack_state
from nas.evaluators.evaluator import FRESH, Attempt, Evaluation, Report
from nas.evaluators.settings import Fidelity, TrainingSettings
from nas.networks.architecture import searched_skeleton
from nas.runs.config import SearchConfig
from search_spaces.genotype import Genotype
from search_spaces.networks.build import build_network
from search_spaces.networks.cost import count_macs, count_parameters
from search_spaces.networks.network import Network
from search_spaces.skeletons import Skeleton

EVALUATION_PIXELS = {"cpu": 1 << 17, "cuda": 1 << 20}
"""Pixels of a validation batch, by device: 512 images of 16×16 on a CPU, where 64 at once take 1.4 times as long (at 8×8, 3 times)."""
LOSS_CHECKED_EVERY = 50
"""Steps between two looks at the loss on a GPU, where every look waits for the device. On a CPU every step is looked at."""
OUT_OF_MEMORY_SIGNS = ("out of memory", "can't allocate memory", "not enough memory")
"""How PyTorch says in a RuntimeError that an allocation failed, in lower case."""


@dataclass(frozen=True)
class ProxyTensors:
    """The proxy data as tensors on a worker's device, made once and used for all its children. Never written to."""

    train_images: Tensor
    train_labels: Tensor
    validation_images: Tensor
    validation_labels: Tensor
    mean: Tensor
    std: Tensor
    mirrors: bool

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self.train_images.device

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""
        return self.train_images.shape[1]


def to_tensors(data: ProxyData, device: str | torch.device = "cpu") -> ProxyTensors:
    """The data on a device; on the CPU the images stay where they are, shared with other workers of the machine."""

    def shared(array: npt.NDArray[np.generic]) -> Tensor:
        with warnings.catch_warnings():
            # The array is read-only, and so is our use of it.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            return torch.from_numpy(array).to(device)

    return ProxyTensors(
        train_images=shared(data.train_images),
        train_labels=shared(data.train_labels),
        validation_images=shared(data.validation_images),
        validation_labels=shared(data.validation_labels),
        mean=torch.tensor(data.mean, device=device),
        std=torch.tensor(data.std, device=device),
        mirrors=data.mirrors,
    )


class TrainingEvaluator:
    """Scores a genotype by training its network: built once per worker, it keeps the data on the worker's device."""

    def __init__(self, data: ProxyData, config: SearchConfig, device: str | torch.device = "cpu") -> None:
        self._config = config
        self._data = to_tensors(data, device)
        self._classes, self._channels = data.classes, data.channels

    def evaluate(
        self, genotype: Genotype, seed: int, time_limit: float | None, attempt: Attempt = FRESH
    ) -> Generator[Report, None, Evaluation]:
        """Train the child; see ``train_child``. The evaluation's metrics also have ``params`` and ``macs`` (of one image)."""
        config = at_fidelity(self._config, attempt.fidelity)
        torch.manual_seed(seed)
        network: Network | None = None
        try:
            network = build_network(
                genotype,
                child_skeleton(genotype, config),
                classes=self._classes,
                channels=self._channels,
                image_size=self._data.image_size,
            ).to(self._data.device)
        except (MemoryError, RuntimeError) as problem:
            failed = out_of_memory(problem)
        if network is None:
            release_memory(None, self._data.device)
            return Evaluation(failed)
        costs = {
            "params": float(count_parameters(network)),
            "macs": float(count_macs(network, channels=self._channels, image_size=self._data.image_size)),
        }
        training, epochs = smaller_batch(config.training, attempt.batch_divisor), config.fidelity.epochs
        evaluation = yield from train_child(network, self._data, training, epochs, seed, time_limit, attempt)
        return replace(evaluation, metrics=costs | evaluation.metrics)


def child_skeleton(genotype: Genotype, config: SearchConfig) -> Skeleton:
    """The macro network of a search's children, with the fidelity's N and F, and the recipe's auxiliary head and drop path."""
    fidelity, training = config.fidelity, config.training
    return searched_skeleton(
        genotype,
        cells=fidelity.cells,
        filters=fidelity.filters,
        auxiliary=training.auxiliary_weight > 0,
        drop_path_keep=training.drop_path_keep,
    )


def at_fidelity(config: SearchConfig, fidelity: Fidelity | None) -> SearchConfig:
    """The configuration at a child's own fidelity, which may differ in epochs, N and F: the images are prepared once for all children.

    Raises:
        ConfigError: it asks for other images.
    """
    if fidelity is None:
        return config
    for name in ("image_size", "train_examples", "validation_examples"):
        if getattr(fidelity, name) != getattr(config.fidelity, name):
            raise ConfigError(f"fidelity.{name} must be the search's, {getattr(config.fidelity, name)}, but got {getattr(fidelity, name)}")
    return config.model_copy(update={"fidelity": fidelity})


def smaller_batch(training: TrainingSettings, divisor: int) -> TrainingSettings:
    """The recipe at a fraction of the batch size, for a child that had too little memory.

    The learning rate shrinks with the batch (the linear rule of Goyal et al. 2017, arXiv 1706.02677), so that an epoch moves
    the weights about as far.
    """
    if divisor == 1:
        return training
    smaller = {"batch_size": max(1, training.batch_size // divisor), "learning_rate": training.learning_rate / divisor}
    return training.model_copy(update=smaller)


class _DivergedError(Exception):
    """The loss is no longer a number."""


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
    data: ProxyTensors,
    training: TrainingSettings,
    epochs: int,
    seed: int,
    time_limit: float | None = None,
    attempt: Attempt = FRESH,
) -> Generator[Report, None, Evaluation]:
    """Train a network, reporting after every epoch; the network is on the device of the data and is changed.

    The recipe is that of Zoph et al. 2018 (appendix A.1 and the released code): SGD with momentum, one cosine from the
    learning rate to 0 over all steps, L2 on the weights of convolutions and classifiers (not on biases and batch norms),
    the gradient's global norm clipped, drop path growing with the share of steps done.

    The reward is the validation accuracy after the *last* epoch. The best of all epochs would be higher, and the more so
    the noisier a child's training is: it would reward luck, and the last epoch, at learning rate 0, is the best in expectation.

    Equal seeds give equal rewards, bit for bit on the same CPU and number of threads. An incomplete last batch is left
    out (the next epoch's order is another one), so that batch norm never sees a single example. A child that goes on from
    a checkpoint of ``attempt`` ends as it would have without the interruption, again bit for bit; its clock goes on as well.

    Yields:
        One report an epoch: ``reward`` and the metrics ``train_loss`` (mean of the epoch) and ``seconds`` so far.

    Returns:
        ``Completed``, or ``Failed`` with the reason ``diverged``, ``out_of_memory`` or ``time_limit``. Metrics:
        ``train_seconds`` (validation included) and ``images_per_second`` (training images over training time alone).
    """
    run = _Run(network, data, training, epochs, seed, _Clock(time_limit), attempt.beat)
    try:
        for epoch in range(run.restore(attempt.checkpoint) + 1, epochs + 1):
            with flushed_denormals(data.device):
                loss, accuracy = run.train_epoch(epoch), run.accuracy()
            kept = run.pack(epoch) if epoch < epochs and attempt.keep(epoch) else None
            report = Report(epoch, accuracy, {"train_loss": loss, "seconds": run.clock.seconds()}, kept)
            waiting = time.monotonic()
            yield report
            run.clock.skip(time.monotonic() - waiting)
        return Evaluation(Completed(report.reward), run.metrics())
    except _DivergedError as problem:
        return Evaluation(Failed("diverged", str(problem)), run.metrics())
    except _TimeLimitError:
        return Evaluation(Failed("time_limit", f"more than {time_limit:g} s"), run.metrics())
    except (MemoryError, RuntimeError) as problem:
        failed = out_of_memory(problem)
    # Outside the handler: until here the exception held the child's tensors.
    release_memory(run.network, data.device)
    return Evaluation(failed, run.metrics())


@contextmanager
def flushed_denormals(device: torch.device) -> Iterator[None]:
    """Take numbers below 1e-38, as weights that decay to nothing have, for zero: on a CPU they cost a hundred times an ordinary one.

    A property of the calling thread, so it is put back for whatever else the thread does between two epochs.
    """
    if device.type == "cpu":
        torch.set_flush_denormal(True)
    try:
        yield
    finally:
        if device.type == "cpu":
            torch.set_flush_denormal(False)


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
        torch.cuda.empty_cache()


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Two groups for an optimiser: weights of convolutions and linear layers, which decay; vectors (biases, norms), which do not."""
    decayed = [p for p in network.parameters() if p.requires_grad and p.ndim >= 2]
    others = [p for p in network.parameters() if p.requires_grad and p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def learning_rate(initial: float, step: int, steps: int) -> float:
    """The cosine at step 0 .. steps - 1: ``initial`` first, 0 after the last (Loshchilov and Hutter, arXiv 1608.03983, one period)."""
    return initial * 0.5 * (1 + math.cos(math.pi * step / steps))


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """The type of convolutions and products: ``auto`` is float32 on a CPU, on a GPU bfloat16 where it has it, else float16."""
    if name != "auto":
        chosen = getattr(torch, name)
        assert isinstance(chosen, torch.dtype)
        return chosen
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


class _Run:
    """What one child's training needs from step to step."""

    def __init__(
        self,
        network: Network,
        data: ProxyTensors,
        training: TrainingSettings,
        epochs: int,
        seed: int,
        clock: _Clock,
        beat: Callable[[], None],
    ) -> None:
        self.network = network.to(memory_format=torch.channels_last)
        self.data, self.training, self.seed, self.clock, self.beat = data, training, seed, clock, beat
        self.examples = len(data.train_images)
        self.batch_size = min(training.batch_size, self.examples)
        self.steps_an_epoch = self.examples // self.batch_size
        self.steps = self.steps_an_epoch * epochs
        self.step = 0
        self.training_seconds = 0.0
        self.plan: Augmentation = augmentation(training, data.image_size, data.mirrors)
        self.precision = resolve_precision(training.precision, data.device)
        self.scaler = torch.amp.GradScaler(data.device.type, enabled=self.precision == torch.float16 and data.device.type == "cuda")
        self.optimizer = torch.optim.SGD(
            parameter_groups(network, training.weight_decay),
            lr=training.learning_rate,
            momentum=training.momentum,
            nesterov=training.nesterov and training.momentum > 0,
            fused=True,  # one kernel for all parameters: 0.3 ms instead of 1.6 ms a step for the 300 of a small child on a CPU
        )

    def pack(self, epoch: int) -> bytes:
        """The state after an epoch."""
        position = Position(epoch, self.step, self.steps, self.seed, self.clock.seconds(), self.training_seconds)
        return pack_state(self.network, self.optimizer, self.scaler, position)

    def restore(self, state: bytes | None) -> int:
        """Go on from a packed state; returns the epochs done, 0 where there is no state or it does not fit."""
        position = None if state is None else unpack_state(state, self.network, self.optimizer, self.scaler, self.steps, self.seed)
        if position is None:
            return 0
        self.step, self.training_seconds = position.step, position.training_seconds
        self.clock.skip(-position.seconds)
        return position.epoch

    def train_epoch(self, epoch: int) -> float:
        """Train for one epoch; returns the mean loss. Raises _DivergedError and _TimeLimitError."""
        started = self.clock.seconds()
        self.network.train()
        total = torch.zeros((), device=self.data.device)
        every = 1 if self.data.device.type == "cpu" else LOSS_CHECKED_EVERY
        for number, (indices, draws) in enumerate(self._batches(epoch), start=1):
            self.clock.check()
            self.beat()
            total += self._train_step(indices, draws)
            if number % every == 0 or number == self.steps_an_epoch:
                mean = total.item() / number
                if not math.isfinite(mean):
                    raise _DivergedError(f"the loss became {mean} in epoch {epoch}")
        self.training_seconds += self.clock.seconds() - started
        return mean

    def _batches(self, epoch: int) -> Iterator[tuple[Tensor, Draws]]:
        """The epoch's batches: indices of examples, and what is drawn for each."""
        labels = random_for(self.seed, "epoch", epoch)
        generator = torch.Generator().manual_seed(labels.getrandbits(62))
        # Drop path and dropout draw from the global generator; seeded here, a child does not depend on what ran before.
        torch.manual_seed(labels.getrandbits(62))
        used = self.steps_an_epoch * self.batch_size
        order = torch.randperm(self.examples, generator=generator)[:used].to(self.data.device)
        drawn = draw(self.plan, used, generator)
        moved = Draws(*(getattr(drawn, name).to(self.data.device) for name in Draws.__dataclass_fields__))
        for start in range(0, used, self.batch_size):
            yield order[start : start + self.batch_size], moved.take(start, start + self.batch_size)

    def _train_step(self, indices: Tensor, draws: Draws) -> Tensor:
        """One step of gradient descent; returns the batch's loss, detached and still on the device."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.training.learning_rate, self.step, self.steps)
        self.network.set_progress(self.step / self.steps)
        self.step += 1
        images = augment(self.data.train_images.index_select(0, indices), self.plan, draws, self.data.mean, self.data.std)
        labels = self.data.train_labels.index_select(0, indices)
        with self._autocast():
            logits, auxiliary = self.network.forward_with_auxiliary(images)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.training.label_smoothing)
        whole = loss
        if auxiliary is not None and self.training.auxiliary_weight:
            extra = F.cross_entropy(auxiliary.float(), labels, label_smoothing=self.training.label_smoothing)
            whole = loss + self.training.auxiliary_weight * extra
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(whole).backward()  # type: ignore[no-untyped-call]
        if self.training.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self.training.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return whole.detach()

    def accuracy(self) -> float:
        """Share of the validation images classified correctly. Raises _DivergedError and _TimeLimitError."""
        images, labels = self.data.validation_images, self.data.validation_labels
        pixels = EVALUATION_PIXELS.get(self.data.device.type, EVALUATION_PIXELS["cpu"])
        size = max(16, pixels // self.data.image_size**2)
        correct = torch.zeros((), dtype=torch.int64, device=self.data.device)
        numbers = torch.ones((), dtype=torch.bool, device=self.data.device)
        self.network.eval()
        with torch.inference_mode(), self._autocast():
            for start in range(0, len(images), size):
                self.clock.check()
                self.beat()
                logits = self.network(normalise(images[start : start + size], self.data.mean, self.data.std))
                correct += (logits.argmax(dim=1) == labels[start : start + size]).sum()
                numbers &= logits.isfinite().all()
        if not numbers:
            raise _DivergedError("the logits of validation images are not finite")
        return correct.item() / len(images)

    def metrics(self) -> dict[str, float]:
        """What was measured, for the evaluation."""
        measured = {"train_seconds": self.clock.seconds()}
        if self.training_seconds > 0:
            epochs = self.step // self.steps_an_epoch
            measured["images_per_second"] = epochs * self.steps_an_epoch * self.batch_size / self.training_seconds
        return measured

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.data.device.type, dtype=self.precision) if self.precision != torch.float32 else nullcontext()
