"""The only split: which images are trained on, which are held out for choosing, and which are for the one test at the end. No torch."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nas.data.dataset import Dataset, ImageFiles, Labels, Part, stratified_choice
from nas.data.settings import DataSettings
from nas.errors import DataError
from nas.tools.words import counted

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

    A data set without a test part gives a fifth of its images to it, drawn stratified. Its own validation part is the one to choose
    by, where the settings ask for no more images than it has. Else a tenth of the training images is held out for validation (5,000
    of CIFAR-10's 50,000, as in Zoph et al. 2018), at most 50,000, in small sets up to a third and at most 500; or as many as the
    settings say. Copies of one file stay together; an image whose copy is in the data set's own test part, or an image to train on
    whose copy is in its own validation part, is left out.

    Raises:
        DataError: there are too few images.
    """
    notes: list[str] = []
    if dataset.test is None:
        count = int(len(dataset.train) * TEST_SHARE)
        if count < 1:
            raise DataError(
                f"a folder without test/ must hold at least {int(1 / TEST_SHARE)} images to split, but it has {len(dataset.train)}"
            )
        train, test = _divide(dataset.train, count, np.random.default_rng(TEST_SEED))
        notes.append(f"no test/ or val/ folder: the test part has {counted(len(test), 'image')}, the same in every command")
    else:
        train, test = _without_copies(dataset.train, dataset.test, ("training", "test"), notes), dataset.test
    if dataset.validation is not None:
        own = _without_copies(dataset.validation, test, ("validation", "test"), notes)
        if own_validation(len(own), settings):
            train = _without_copies(train, own, ("training", "validation"), notes)
            validation_count(len(train), dataset.classes, settings, len(own))
            return Split(train, _chosen(own, settings, notes), test, tuple(notes))
        notes.append(f"its own validation part ({counted(len(own), 'image')}) is not used: {_too_few(len(own), settings)}")
    held_out = validation_count(len(train), dataset.classes, settings)
    train, validation = _divide(train, held_out, np.random.default_rng([settings.split_seed, 0]))
    return Split(train, validation, test, tuple(notes))


def own_validation(own: int, settings: DataSettings) -> bool:
    """Whether a data set's own validation part of ``own`` images is the one to choose by."""
    return own >= (settings.validation_examples or 1)


def validation_count(total: int, classes: int, settings: DataSettings, own: int = 0) -> int:
    """How many images are chosen by: of ``total`` training images or, where the settings let it, of the ``own`` part's; see ``split``.

    Raises:
        DataError: too few are left to train on.
    """
    least = max(2, classes)
    if own and own_validation(own, settings):
        most, count = own if total >= least else 0, settings.validation_examples or own
    else:
        most = total - least
        count = settings.validation_examples or min(MOST_VALIDATION, max(total // 10, min(VALIDATION_FLOOR, total // 3)))
    if most < 1:
        raise DataError(
            f"a data set of {classes} classes must leave at least {least} different images to train on beside those to choose by and to "
            f"test on, but there are {total} training images (copies of one image count as one)"
        )
    if not 1 <= count <= most:
        raise DataError(
            f"data.validation_examples must be 1..{most} (there are {total} training images, "
            f"of which as many as there are classes must stay), but got {count}"
        )
    return count


def _too_few(own: int, settings: DataSettings) -> str:
    return (
        f"data.validation_examples asks for {settings.validation_examples:,}, drawn from the training images" if own else "all are copies"
    )


def _chosen(own: Part, settings: DataSettings, notes: list[str]) -> Part:
    """As many images of the own validation part as the settings say, stratified."""
    count = settings.validation_examples or len(own)
    if count == len(own):
        notes.append(f"its own validation part ({counted(count, 'image')}) is what networks are chosen by")
        return own
    notes.append(f"{count:,} of the {len(own):,} images of its own validation part are used, as data.validation_examples says")
    return own.take(stratified_choice(own.labels, count, np.random.default_rng([settings.split_seed, 0])))


def planned_parts(images: int, classes: int, own_test: bool, settings: DataSettings, own: int = 0) -> tuple[int, int]:
    """How many of ``images`` training images are trained on, and how many images are chosen by, before they are read.

    ``own`` is the number of images in the data set's own validation part. Raises DataError.
    """
    left = images if own_test else images - int(images * TEST_SHARE)
    held_out = validation_count(left, classes, settings, own)
    return (left if own and own_validation(own, settings) else left - held_out), held_out


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


def _without_copies(part: Part, other: Part, names: tuple[str, str], notes: list[str]) -> Part:
    """The part without images that the other has copies of; that there are some is noted."""
    if not isinstance(part, ImageFiles) or not isinstance(other, ImageFiles):
        return part
    known = set(other.digests)
    kept = [i for i, digest in enumerate(part.digests) if digest not in known]
    if len(kept) == len(part):
        return part
    one, several = f"{names[0]} image is left out", f"{names[0]} images are left out"
    left = len(part) - len(kept)
    notes.append(f"{counted(left, one, several)}: the {names[1]} part has copies of {'it' if left == 1 else 'them'}")
    return part.take(kept)
