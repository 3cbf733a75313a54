"""What a run's table says of its best: nothing where it stands out, and that it may be luck where it may."""

import math
import random

import pytest

from nas.runs.noise import Yardstick, verdict


def test_the_standard_error_is_the_binomial_one() -> None:
    assert math.isclose(Yardstick(2000, 0.1).error(0.5), math.sqrt(0.25 / 2002), rel_tol=1e-9)
    assert 0 < Yardstick(80, 0.3).error(1.0) < 0.03


@pytest.mark.parametrize(("images", "digits"), [(80, 2), (2000, 3), (10_000, 3), (10_000_000, 4)])
def test_as_many_digits_as_say_something(images: int, digits: int) -> None:
    assert Yardstick(images, 0.1).digits(0.5) == digits


def test_guesses_are_called_guesses() -> None:
    rng, yardstick = random.Random(0), Yardstick(80, 1 / 3)
    rewards = sorted((sum(rng.random() < 1 / 3 for _ in range(80)) / 80 for _ in range(4)), reverse=True)
    assert "no cell does better than chance" in str(verdict(rewards, yardstick))


def test_a_best_within_noise_is_no_winner() -> None:
    said = str(verdict([0.93, 0.91, 0.90, 0.55], Yardstick(80, 1 / 3)))
    assert said.startswith("the best 3 of 4 cells cannot be told apart")
    assert verdict([0.93, 0.91, 0.90, 0.55], Yardstick(40_000, 1 / 3)) is None
    assert verdict([0.93], Yardstick(80, 1 / 3)) is None and verdict([], Yardstick(80, 1 / 3)) is None


def test_the_spread_of_seeds_counts() -> None:
    rewards = [0.93, 0.90]
    assert verdict(rewards, Yardstick(40_000, 0.1)) is None
    assert verdict(rewards, Yardstick(40_000, 0.1), [0.02, 0.02]) is not None
