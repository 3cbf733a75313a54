"""What a run's table says of its best: nothing where it stands out, and that it may be luck where it may."""

import math
import random

import pytest

from nas.runs.noise import Yardstick, guesses


def test_the_standard_error_is_the_binomial_one() -> None:
    assert math.isclose(Yardstick(2000, 0.1).error(0.5), math.sqrt(0.25 / 2002), rel_tol=1e-9)
    assert 0 < Yardstick(80, 0.3).error(1.0) < 0.03


@pytest.mark.parametrize(("images", "digits"), [(80, 2), (2000, 3), (10_000, 3), (10_000_000, 4)])
def test_as_many_digits_as_say_something(images: int, digits: int) -> None:
    assert Yardstick(images, 0.1).digits(0.5) == digits


def test_guesses_are_called_guesses() -> None:
    rng, yardstick = random.Random(0), Yardstick(80, 1 / 3)
    rewards = sorted((sum(rng.random() < 1 / 3 for _ in range(80)) / 80 for _ in range(4)), reverse=True)
    assert "no cell does better than chance" in str(guesses(rewards[0], yardstick))
    assert guesses(0.6, yardstick) is None
