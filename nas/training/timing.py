"""How long a training will take: a few of its steps are timed at the sides that its images will have, and its scoring; all is added up."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from statistics import median

from nas.data.batches import scoring_batches
from nas.training.graphs import WARM_UP
from nas.training.numerics import flushed_denormals
from nas.training.scoring import score_sums
from nas.training.trainer import Position, Trainer, image_side

TIMED_SECONDS, TIMED_SHARE = 5.0, 0.03
"""Longest that steps are timed, in seconds and as a share of the training, before those that there are must do."""
MOST_TIMED = 5
"""Steps timed at one side."""
MOST_SIDES = 3
"""Sides at which steps are timed, where the images grow: what is between them costs what its area says."""
Clock = Callable[[], float]


@dataclass(frozen=True)
class Estimate:
    """What a training takes.

    Attributes:
        sides: steps at every side of the images, in the order of the training.
        timed: side in pixels and seconds of a step, smallest first.
        scoring: seconds of scoring one image.
        epoch_images: images scored after every epoch; ``test_images`` at the end.
        steps_an_epoch: steps of the optimiser.
    """

    sides: dict[int, int]
    timed: tuple[tuple[int, float], ...]
    scoring: float
    epoch_images: int
    test_images: int
    steps_an_epoch: int

    def step_seconds(self, side: int) -> float:
        """Seconds of a step at this side: as timed, or between two of them by its area."""
        for (below, less), (above, more) in zip(self.timed, self.timed[1:], strict=False):
            if below <= side <= above:
                return less + (more - less) * (side**2 - below**2) / (above**2 - below**2)
        return dict(self.timed)[side]

    def until(self, updates: int) -> float:
        """Seconds of the first so many steps, with the scoring of the epochs that have ended by then."""
        seconds, left = self.scoring * self.epoch_images * (updates // self.steps_an_epoch), updates
        for side, steps in self.sides.items():
            seconds += min(steps, left) * self.step_seconds(side)
            left -= min(steps, left)
        return seconds

    def after(self, updates: int) -> float:
        """Seconds of all that comes after so many steps, the reading of the test set included."""
        return self.until(sum(self.sides.values())) - self.until(updates) + self.scoring * self.test_images

    @property
    def mean_step(self) -> float:
        """Seconds of a step, over the whole training."""
        steps = sum(self.sides.values())
        return sum(count * self.step_seconds(side) for side, count in self.sides.items()) / steps


def sides_of(trainer: Trainer) -> dict[int, int]:
    """Steps at every side that the images have in the course of the training."""
    found: dict[int, int] = {}
    for updates in range(trainer.steps):
        side = image_side(trainer.recipe, trainer.data.image_size, updates / trainer.steps)
        found[side] = found.get(side, 0) + 1
    return found


def estimate(trainer: Trainer, clock: Clock = time.perf_counter) -> Estimate:
    """Time some steps and some scoring of a trainer that is thrown away afterwards (``Trainer.twin``)."""
    sides = sides_of(trainer)
    chosen = sorted({list(sides)[round(place * (len(sides) - 1) / (MOST_SIDES - 1))] for place in range(MOST_SIDES)})
    timed: list[tuple[int, float]] = []
    with trainer.replays.stream() if trainer.replays else nullcontext():
        began = clock()
        for side in chosen:
            if timed and clock() - began > TIMED_SECONDS:  # a step takes so long that no other side is worth it
                timed.append((side, timed[-1][1] * side**2 / timed[-1][0] ** 2))
                continue
            first = sum(steps for other, steps in sides.items() if other < side)
            timed.append((side, _time_side(trainer, first, TIMED_SECONDS / len(chosen), clock)))
    tests = len(trainer.data.test or ())
    return Estimate(sides, tuple(timed), _time_scoring(trainer, clock), len(trainer.data.validation), tests, trainer.steps_an_epoch)


def _time_side(trainer: Trainer, first: int, seconds: float, clock: Clock) -> float:
    """Seconds of a step like that number ``first``, batch and all; the first ones, which warm up, are not counted where others are."""
    trainer.position = Position(first // trainer.steps_an_epoch + 1, first % trainer.steps_an_epoch)
    trainer.network.train()
    warming = WARM_UP + 1 if trainer.replays else 1  # the step that is recorded, too
    times: list[float] = []
    limit = seconds
    stream = trainer.batches.epoch(1, trainer.share, 0, min(trainer.steps_an_epoch, warming + MOST_TIMED))
    while True:
        started = clock()
        passes = next(stream, None)
        if passes is None:
            break
        with flushed_denormals(trainer.device):
            trainer.step(passes).item()
        times.append(clock() - started)
        limit = min(seconds, times[-1] * trainer.steps * TIMED_SHARE)
        if len(times) > warming and sum(times[warming:]) > limit:
            break
        if sum(times) > 2 * seconds:
            break
    return median(times[warming:] or times[-1:])


def _time_scoring(trainer: Trainer, clock: Clock) -> float:
    """Seconds of scoring one image."""
    batches = scoring_batches(trainer.data, trainer.data.validation, trainer.resident, trainer.loader_workers)
    batch = next(batches)
    times: list[float] = []
    while len(times) < 2 and sum(times) < 1:
        started = clock()
        with flushed_denormals(trainer.device):
            score_sums(trainer.network, [batch], trainer.precision)
        times.append(clock() - started)
    return min(times) / len(batch[1])
