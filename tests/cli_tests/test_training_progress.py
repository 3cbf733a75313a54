"""What a person sees while a training goes on: nothing that is not known yet."""

import io

import pytest
from rich.console import Console

from nas.cli.views import training_progress
from nas.cli.views.training_progress import PLAIN_LINE_EVERY, TrainProgress
from nas.training.config import TrainConfig
from nas.training.recipe import Recipe
from nas.training.timing import Estimate
from nas.training.trainer import Position


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(training_progress, "time", made)
    return made


def lines(clock: Clock, positions: list[tuple[float, Position]], expected: Estimate | None = None) -> list[str]:
    """The plain lines for steps (of 100 an epoch, two epochs) that ended at so many seconds."""
    output = io.StringIO()
    progress = TrainProgress(Console(file=output, width=200), TrainConfig(skeleton={}, recipe=Recipe(epochs=2)))
    progress._steps, progress._expected = 100, expected
    for seconds, position in positions:
        clock.now = seconds
        progress.on_step(position, 100)
    return output.getvalue().splitlines()


def test_a_loss_that_was_not_read_yet_is_not_shown(clock: Clock) -> None:
    every = PLAIN_LINE_EVERY + 1
    found = lines(
        clock,
        [
            (1 * every, Position(1, 49, 0.0)),
            (2 * every, Position(1, 50, 100.0)),
            (3 * every, Position(1, 60, 100.0)),  # as it was when last read
            (4 * every, Position(2, 1, 0.0)),
        ],
    )
    assert ["loss 2.0000" in line for line in found] == [False, True, True, False]
    assert sum("loss" in line for line in found) == 2


def test_the_first_step_does_not_count_for_the_time_left(clock: Clock) -> None:
    slow = 1000 * PLAIN_LINE_EVERY
    first, second = lines(clock, [(slow, Position(1, 1, 2.0)), (slow + PLAIN_LINE_EVERY, Position(1, 11, 22.0))])
    assert "left" not in first
    assert training_progress.duration(189 * PLAIN_LINE_EVERY / 10) + " left" in second


def test_steps_at_larger_sides_count_for_what_they_cost(clock: Clock) -> None:
    expected = Estimate({8: 100, 16: 100}, ((8, 1.0), (16, 4.0)), scoring=0.5, epoch_images=20, test_images=40, steps_an_epoch=100)
    every = 2.0 * PLAIN_LINE_EVERY  # this machine takes so long for what was expected to take 10 s
    (line,) = lines(clock, [(0.0, Position(1, 10, 0.0)), (every, Position(1, 20, 0.0))], expected)
    assert training_progress.duration((80 + 400 + 2 * 10 + 20) * every / 10) + " left" in line
