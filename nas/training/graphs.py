"""Steps of training as CUDA graphs: recorded once for each side of the images, from then on replayed in one call.

A step of a network of cells is thousands of small kernels, which the host gives to the GPU more slowly than the GPU computes them
(``benchmarks/README.md``: 49.9 ms a step, of which the GPU works 26.5). A replayed step is the same kernels without the host.

What makes that right:

* The first steps at every side run operation by operation. They are steps of the training like any other, so nothing has to be put back
  after the warm-up; and recording computes nothing.
* What changes from step to step is read from tensors that stay in one place: images, targets, learning rates, the network's
  ``progress``. All else that a step is given (momenta, statistics of batch norms) it changes in place.
* Random draws come from the device's generator, which every recording knows: a replay draws by the seed that was set just before it, as
  a step operation by operation does.
"""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from nas.tools.words import first_line
from nas.training.recipe import Recipe

SWITCH = "NAS_GRAPHS"
"""In the environment, ``off`` does without graphs."""
WARM_UP = 3
"""Steps at a side that run operation by operation first: they load kernels and make the optimiser's state. The last is watched."""
LEAST_REPLAYS = 20
"""Steps still to come at a side for which recording, which takes about as long as a step, is worth while."""
_WAITS = "called a synchronizing CUDA operation"
"""How PyTorch warns of what makes the host wait for the GPU, which no graph can hold."""

Step = Callable[[Tensor, Tensor], Tensor]
"""A step of the optimiser on images and targets; its result is the loss, a tensor of one number."""


class Recorder(Protocol):
    """What can record work for a device. The one for CUDA is below; tests have one that needs no GPU."""

    def stream(self) -> AbstractContextManager[object]:
        """Where the work is done that shall be recorded, and its replays."""
        ...

    def watch(self, work: Callable[[], Tensor]) -> tuple[Tensor, str]:
        """Do the work; its result, and why it cannot be recorded ("" where nothing speaks against it)."""
        ...

    def record(self, work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        """Record the work without doing it: where every replay leaves its result, and what replays it. Raises RuntimeError."""
        ...


class CudaRecorder:
    """Records CUDA graphs on one GPU, each with the memory that its work needs."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._own: torch.cuda.Stream | None = None

    @contextmanager
    def _on_own_stream(self) -> Iterator[None]:
        self._own = self._own or torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        before = torch.cuda.current_stream(self._device)
        self._own.wait_stream(before)
        try:
            with torch.cuda.stream(self._own):
                yield
        finally:
            before.wait_stream(self._own)

    def stream(self) -> AbstractContextManager[object]:
        """The caller's stream where it has one of its own, else one that waits for the default one and is waited for."""
        own = torch.cuda.current_stream(self._device) != torch.cuda.default_stream(self._device)
        return nullcontext() if own else self._on_own_stream()

    def watch(self, work: Callable[[], Tensor]) -> tuple[Tensor, str]:
        """Do the work while PyTorch warns of whatever makes the host wait."""
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            before = torch.cuda.get_sync_debug_mode()
            torch.cuda.set_sync_debug_mode("warn")
            try:
                result = work()
            finally:
                torch.cuda.set_sync_debug_mode(before)
        waits = [one for one in told if _WAITS in str(one.message)]
        return result, f"the host waits for the GPU in it ({waits[0].filename}:{waits[0].lineno})" if waits else ""

    def record(self, work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        """Record the work as a CUDA graph, on the stream where it was warmed up."""
        graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.current_stream(self._device)
        # What other threads do on the GPU meanwhile is none of this recording's business.
        with torch.cuda.device(self._device), torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            result = work()
        return result, graph.replay


@dataclass
class _Recorded:
    """A recorded step: the tensors it reads, where it leaves its loss, and what replays it."""

    images: Tensor
    targets: Tensor
    rates: list[Tensor]
    loss: Tensor
    replay: Callable[[], None]


class ReplayedSteps:
    """The steps of one training: operation by operation until they have warmed up, from then on replayed, where that can be.

    Attributes:
        steps: steps done.
        replayed: how many of them were replays.
        refused: why no more are recorded; "" as long as nothing spoke against it.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, recorder: Recorder) -> None:
        self._optimizer, self._recorder = optimizer, recorder
        self._shapes: tuple[object, ...] | None = None
        self._warm = 0
        self._recorded: _Recorded | None = None
        self.steps = self.replayed = 0
        self.refused = ""

    def stream(self) -> AbstractContextManager[object]:
        """Where all steps have to be done."""
        return self._recorder.stream()

    def forget(self) -> None:
        """Warm up and record anew: what the recorded step reads is no longer where it was."""
        self._shapes, self._warm, self._recorded = None, 0, None

    def run(self, step: Step, images: Tensor, targets: Tensor, more: bool) -> Tensor:
        """One step, whichever way; returns the loss, which the next step overwrites.

        Args:
            step: does it, operation by operation; always the same one.
            images: (batch, channels, side, side).
            targets: labels, (batch,), or shares of the classes, (batch, classes).
            more: whether so many steps at this side follow that recording is worth while.
        """
        self.steps += 1
        shapes = images.shape, images.dtype, targets.shape, targets.dtype
        if shapes != self._shapes:
            self.forget()
            self._shapes = shapes
        if self._recorded is None and self._warm >= WARM_UP and more and not self.refused:
            self._recorded = self._record(step, images, targets)
        if self._recorded is not None:
            return self._replay(self._recorded, images, targets)
        self._warm += 1
        if self._warm == WARM_UP and not self.refused:
            loss, self.refused = self._recorder.watch(lambda: step(images, targets))
            return loss
        return step(images, targets)

    def _replay(self, recorded: _Recorded, images: Tensor, targets: Tensor) -> Tensor:
        recorded.images.copy_(images)
        recorded.targets.copy_(targets)
        for rate, group in zip(recorded.rates, self._optimizer.param_groups, strict=True):
            rate.fill_(group["lr"])
        recorded.replay()
        self.replayed += 1
        return recorded.loss

    def _record(self, step: Step, images: Tensor, targets: Tensor) -> _Recorded | None:
        """The step, recorded; None where that failed, with the reason kept."""
        groups = self._optimizer.param_groups
        own = [dict(group) for group in groups]
        here, there = torch.empty_like(images), torch.empty_like(targets)
        rates = [torch.empty((), dtype=torch.float32, device=images.device) for _ in groups]
        try:
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate
                if "capturable" in group:
                    group["capturable"] = True
            loss, replay = self._recorder.record(lambda: step(here, there))
        except RuntimeError as problem:  # out of memory among them: operation by operation it was enough
            self.refused = first_line(problem)
            return None
        finally:
            for group, before in zip(groups, own, strict=True):
                group.update(before)
            self._optimizer.zero_grad(set_to_none=True)
        return _Recorded(here, there, rates, loss, replay)

    def __str__(self) -> str:
        """How the steps so far were done, in a line."""
        rest = f"; the others operation by operation: {self.refused}" if self.refused else ""
        return f"{self.replayed:,} of {self.steps:,} steps replayed as CUDA graphs{rest}"


def refusal(recipe: Recipe, device: torch.device, precision: torch.dtype, workers: int = 1, passes: int = 1) -> str:
    """Why a training's steps cannot be recorded, to be added to "steps run operation by operation:"; "" where they can."""
    if device.type != "cuda":
        return "CUDA graphs need a GPU"
    if os.environ.get(SWITCH, "").lower() == "off":
        return f"{SWITCH}=off is set"
    if workers > 1:
        return "workers that train together exchange gradients in every step"
    if passes > 1:
        return f"a step takes {passes} passes"
    if recipe.optimizer.name == "rmsprop":
        return "rmsprop as TensorFlow has it takes its learning rate from the host"
    if recipe.optimizer.name == "muon":
        return "muon's steps have not been recorded yet"
    if precision == torch.float16:
        return "float16 scales its loss by what it saw before"
    return ""
