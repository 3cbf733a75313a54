"""How long a training will take is told from steps at the sides that its images will have; by a clock that only fake steps move."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from nas.data.batches import Resident, Share
from nas.data.embedded import make_synthetic
from nas.data.prepared import PreparedData
from nas.training import timing
from nas.training.config import TrainConfig
from nas.training.plan import describe_time
from nas.training.recipe import Recipe
from nas.training.timing import Estimate, estimate, sides_of
from nas.training.trainer import Position, Trainer, image_side

TEST_IMAGES = 50


@dataclass
class FakeTrainer:
    """A step takes 10 ms for 100 pixels and 5 ms beside; the first ``cold`` steps at a side take ten times as long."""

    recipe: Recipe
    cold: int = 1
    now: float = 0.0
    steps_an_epoch: int = 10
    replays: Any = None
    loader_workers: int = 0
    micro_batch: None = None
    precision: torch.dtype = torch.float32
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    position: Position = field(default_factory=Position)
    done: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        dataset = make_synthetic(100, TEST_IMAGES, 3, 16)
        self.data = PreparedData(
            "noise", dataset.train, dataset.train.take(range(30)), dataset.test, dataset.class_names, 3, 16, (0.5,) * 3, (0.25,) * 3
        )
        self.network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 3))
        self.resident, self.share, self.batches = Resident(self.device), Share(10, 10), self
        self.steps = self.steps_an_epoch * self.recipe.epochs

    updates = Trainer.updates

    def epoch(self, epoch: int, share: Share, first_step: int, steps: int) -> Iterator[list[object]]:
        return iter([[]] * steps)

    def seconds(self, side: int) -> float:
        return side**2 / 10_000 + 0.005

    def step(self, passes: list[object]) -> torch.Tensor:
        side = image_side(self.recipe, 16, self.updates / self.steps)
        self.done[side] = self.done.get(side, 0) + 1
        self.now += self.seconds(side) * (10 if self.done[side] <= self.cold else 1)
        return torch.zeros(())

    def clock(self) -> float:
        return self.now


def fake(start: float = 1.0, epochs: int = 10, **changes: Any) -> FakeTrainer:
    return FakeTrainer(Recipe.model_validate({"epochs": epochs, "resolution": {"start": start}}), **changes)


def told(trainer: FakeTrainer) -> Estimate:
    return estimate(trainer, trainer.clock)  # type: ignore[arg-type]


@pytest.mark.parametrize("start", [1.0, 0.5])
def test_a_training_takes_as_long_as_its_steps_at_their_own_sides(start: float) -> None:
    trainer = fake(start)
    found = told(trainer)
    truth = sum(steps * trainer.seconds(side) for side, steps in sides_of(trainer).items())  # type: ignore[arg-type]
    assert list(found.sides) == ([8, 12, 16] if start < 1 else [16]) and sum(found.sides.values()) == trainer.steps == 100
    assert found.scoring == 0, "which takes the fake clock no time"
    assert found.after(0) == pytest.approx(truth) and found.mean_step == pytest.approx(truth / 100)
    assert found.after(40) == pytest.approx(truth - found.until(40)), "what is left, for who goes on"


def test_sides_between_those_that_were_timed_cost_what_their_area_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "MOST_SIDES", 2)
    trainer = fake(0.5)
    found = told(trainer)
    assert [side for side, _ in found.timed] == [8, 16] and found.step_seconds(12) == pytest.approx(trainer.seconds(12))


def test_scoring_counts_after_every_epoch_and_once_for_the_test_set() -> None:
    found = Estimate({16: 20}, ((16, 1.0),), scoring=0.1, epoch_images=30, test_images=50, steps_an_epoch=10)
    assert found.until(10) == pytest.approx(10 + 3) and found.after(10) == pytest.approx(10 + 3 + 5)


def test_steps_of_a_minute_are_not_timed_often() -> None:
    trainer = fake(cold=0)
    trainer.seconds = lambda side: 60.0  # type: ignore[method-assign]
    assert told(trainer).after(0) == pytest.approx(6000) and trainer.done == {16: 1}


def test_a_side_that_would_take_too_long_is_told_by_its_area() -> None:
    trainer = fake(0.5, cold=0)
    trainer.seconds = lambda side: side**2 / 10.0  # type: ignore[method-assign]
    found = told(trainer)
    assert trainer.done == {8: 1} and found.step_seconds(16) == pytest.approx(25.6) and found.step_seconds(12) == pytest.approx(14.4)


def test_the_line_says_both_ends_where_images_grow() -> None:
    trainer = fake(0.5)
    line = describe_time(trainer, TrainConfig(skeleton={}, threads=3, compile=True), told(trainer))  # type: ignore[arg-type]
    assert "(11 to 31 ms a step of 10 images at 8 to 16 pixels, 10 steps an epoch, 3 threads; without --compile" in line
    plain = describe_time(fake(), TrainConfig(skeleton={}), told(fake()))  # type: ignore[arg-type]
    assert "about 3 s (31 ms a step of 10 images, 10 steps an epoch, 1 thread)" in plain
