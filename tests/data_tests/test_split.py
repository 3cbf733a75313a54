"""The only split: copies of a file on one side, the test part the same for every seed, nothing in two parts."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from nas.data.dataset import ArrayPart, Dataset, ImageFiles, from_arrays
from nas.data.settings import DataSettings
from nas.data.split import MOST_VALIDATION, Split, split
from nas.errors import DataError


def files(digests: list[str], labels: list[int], folder: str = "train") -> ImageFiles:
    names = tuple(f"{folder}/{number}.png" for number in range(len(digests)))
    return ImageFiles(Path("nowhere"), names, np.asarray(labels, dtype=np.int64), tuple(digests))


def folder(train: ImageFiles, test: ImageFiles | None = None) -> Dataset:
    return Dataset("folder", train, test, ("a", "b"), 8, 3)


def check_apart(parts: Split) -> None:
    for one, other in combinations((parts.train, parts.validation, parts.test), 2):
        assert set(one.digests).isdisjoint(other.digests)


@pytest.mark.parametrize("seed", range(8))
def test_copies_of_one_file_are_never_on_both_sides(seed: int) -> None:
    distinct = [number % 60 for number in range(100)]  # forty files have a copy
    data = folder(files([f"d{number}" for number in distinct], [number % 2 for number in distinct]))
    parts = split(data, DataSettings(split_seed=seed))
    check_apart(parts)
    everything = (parts.train, parts.validation, parts.test)
    assert sorted(name for part in everything for name in part.names) == sorted(data.train.names), "every file is in one part"
    assert 10 <= len(parts.test) <= 30 and all(set(part.labels.tolist()) == {0, 1} for part in everything)


def test_copies_that_lie_in_two_classes_stay_together_too() -> None:
    digests = [f"d{number}" for number in range(30)]
    parts = split(folder(files([*digests, *digests], [0] * 30 + [1] * 30)), DataSettings())
    check_apart(parts)
    for part in (parts.train, parts.validation, parts.test):
        assert len(part) == 2 * len(set(part.digests)), "both of every pair"
    assert sum(map(len, (parts.train, parts.validation, parts.test))) == 60


def test_training_images_that_the_test_part_has_copies_of_are_left_out() -> None:
    train = files([f"d{number}" for number in range(40)], [number % 2 for number in range(40)])
    test = files(["d3", "d8", "d8", "other"], [1, 0, 1, 0], "test")  # d8 has another label in one of them
    parts = split(folder(train, test), DataSettings())
    check_apart(parts)
    assert parts.test is test and len(parts.train) + len(parts.validation) == 38
    assert parts.notes == ("2 training images are left out: the test part has copies of them",)
    assert split(folder(train, files(["other"], [0], "test")), DataSettings()).notes == ()


def test_the_test_part_does_not_follow_the_seed_and_the_validation_part_does() -> None:
    data = folder(files([f"d{number}" for number in range(100)], [number % 2 for number in range(100)]))
    first, again, other = (split(data, DataSettings(split_seed=seed)) for seed in (0, 0, 1))
    assert first.test.names == other.test.names and first.validation.names != other.validation.names
    assert (first.train.names, first.validation.names) == (again.train.names, again.validation.names)
    more = split(data, DataSettings(validation_examples=40))
    assert more.test.names == first.test.names and len(more.validation) == 40


def test_one_image_many_times_cannot_be_split() -> None:
    with pytest.raises(DataError, match="there are 0 training images"):
        split(folder(files(["same"] * 10, [0, 1] * 5)), DataSettings())


def test_a_large_set_holds_out_a_limited_number() -> None:
    part = ArrayPart(np.zeros((10 * MOST_VALIDATION + 1000, 1, 1, 1), np.uint8), np.arange(10 * MOST_VALIDATION + 1000) % 2)
    parts = split(from_arrays("large", part, part.take(range(2)), ("a", "b")), DataSettings())
    assert len(parts.validation) == MOST_VALIDATION and len(parts.train) == 9 * MOST_VALIDATION + 1000
