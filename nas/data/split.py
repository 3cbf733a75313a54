"""The only split: which images are trained on, which are held out for choosing, and which are for the one test at the end. No torch."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nas.data.dataset import Dataset, ImageFiles, Labels, Part, stratified_choice
from nas.data.settings import DataSettings
from nas.errors import DataError

TEST_SHARE = 0.2
TEST_SEED = 0
"""The test part is drawn with this and no other seed: whatever command with whatever settings follows, it meets the same one."""
VALIDATION_FLOOR = 500
MOST_VALIDATION = 50_000


@dataclass(frozen=True)
class Split:
    """The three parts of a data set; no image, and no copy of an image's file, is in two of them."""

    train: Part
    validation: Part
    test: Part
    notes: tuple[str, ...] = ()


def split(dataset: Dataset, settings: DataSettings) -> Split:
    """Split a data set: its test part as a function of its images alone, the other two also of ``settings``.

    A data set without a test part gives a fifth of its images to it, drawn stratified. Of the training images a tenth is held
    out for validation (5,000 of CIFAR-10's 50,000, as in Zoph et al. 2018), at most 50,000, in small sets up to a third and at
    most 500; or as many as the settings say. Copies of one file stay together; a training image whose copy is in the data set's
    own test part is left out.

    Raises:
        DataError: there are too few images.
    """
    notes = []
    if dataset.test is None:
        count = int(len(dataset.train) * TEST_SHARE)
        if count < 1:
            raise DataError(
                f"a folder without test/ must hold at least {int(1 / TEST_SHARE)} images to split, but it has {len(dataset.train)}"
            )
        train, test = _divide(dataset.train, count, np.random.default_rng(TEST_SEED))
        notes.append(f"no test/ or val/ folder: a fifth ({len(test):,} images), the same in every command, is the test part")
    else:
        train, test = _without_copies(dataset.train, dataset.test), dataset.test
        if left_out := len(dataset.train) - len(train):
            notes.append(f"{left_out:,} training images are left out: the test part has copies of them")
    held_out = validation_count(len(train), dataset.classes, settings)
    train, validation = _divide(train, held_out, np.random.default_rng([settings.split_seed, 0]))
    return Split(train, validation, test, tuple(notes))


def validation_count(total: int, classes: int, settings: DataSettings) -> int:
    """How many of ``total`` training images are held out; see ``split``. Raises DataError where too few are left."""
    count = settings.validation_examples or min(MOST_VALIDATION, max(total // 10, min(VALIDATION_FLOOR, total // 3)))
    most = total - max(2, classes)
    if not 1 <= count <= most:
        raise DataError(
            f"data.validation_examples must be 1..{most} (there are {total} training images, "
            f"of which as many as there are classes must stay), but got {count}"
        )
    return count


def planned_parts(images: int, classes: int, own_test: bool, settings: DataSettings) -> tuple[int, int]:
    """How many of ``images`` training images are trained on and held out, before they are read. Raises DataError."""
    left = images if own_test else images - int(images * TEST_SHARE)
    held_out = validation_count(left, classes, settings)
    return left - held_out, held_out


def _divide(part: Part, count: int, rng: np.random.Generator) -> tuple[Part, Part]:
    """The part without about ``count`` images, stratified, and those images."""
    chosen = _keeping_copies_together(part, lambda labels, number: stratified_choice(labels, number, rng), count)
    return part.take(np.setdiff1d(np.arange(len(part)), chosen)), part.take(chosen)


def _keeping_copies_together(part: Part, choose: Callable[[Labels, int], npt.NDArray[np.int64]], count: int) -> npt.NDArray[np.int64]:
    """What ``choose`` draws; where files have copies, it draws among the first of each, and the copies follow."""
    if not isinstance(part, ImageFiles) or len(set(part.digests)) == len(part):
        return choose(part.labels, count)
    _, first, group = np.unique(np.asarray(part.digests), return_index=True, return_inverse=True)
    order = np.argsort(first)  # the files' order, not the digests'
    drawn = order[choose(part.labels[first[order]], max(1, round(count * len(first) / len(part))))]
    return np.flatnonzero(np.isin(group, drawn)).astype(np.int64)


def _without_copies(train: Part, test: Part) -> Part:
    if not isinstance(train, ImageFiles) or not isinstance(test, ImageFiles):
        return train
    known = set(test.digests)
    kept = [i for i, digest in enumerate(train.digests) if digest not in known]
    return train if len(kept) == len(train) else train.take(kept)
