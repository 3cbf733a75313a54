"""Prepared data: a data set split, cut down, brought to one side and measured. What every network is trained and scored on. No torch."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nas.data import kept
from nas.data.dataset import ArrayPart, Dataset, ImageFiles, Images, Part, balanced_choice, facts_of, stratified_choice
from nas.data.image_index import fingerprint
from nas.data.mirrors import judge_mirrors
from nas.data.pixels import READING_ERRORS, channel_statistics, fit, resize_all
from nas.data.registry import load_dataset
from nas.data.settings import CropMode, DataSettings, Normalisation, Preparation
from nas.data.split import split
from nas.errors import DataError

IN_MEMORY_SHARE = 0.25
"""Share of the machine's memory that a folder's decoded images may take before they are read anew every epoch."""
SMALL_SIDE = 96
"""Folders whose images are at most this large are trained at their own size."""
MEASURED_IMAGES = 1000
"""Images on which mean and deviation of streamed files are measured: the mean's standard error is then below 0.01."""
IMAGENET_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class PreparedData:
    """What a network is trained, chosen and finally tested on. ``test`` is None for a search: nothing it sees may come from it.

    ``mean`` and ``std`` are per channel, of pixels scaled to [0, 1]; ``mirrors`` says whether a mirror image keeps its class;
    ``crop_fraction``, ``crop_mode`` and ``interpolation`` say how scoring prepares images from files, and how arrays were resized;
    ``notes`` tell what was skipped, converted or split; ``more`` are further preparations of the same data set and split; ``images`` and
    ``held_out`` are fingerprints of all its files and of its test part's, by which a network's own images are known again.
    """

    name: str
    train: Part
    validation: Part
    test: Part | None
    class_names: tuple[str, ...]
    channels: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    mirrors: bool = True
    crop_fraction: float = 1.0
    crop_mode: CropMode = "center"
    interpolation: str = "bicubic"
    notes: tuple[str, ...] = ()
    more: "tuple[PreparedData, ...]" = ()
    images: str = ""
    held_out: str = ""

    def at_rung(self, rung: int) -> "PreparedData":
        """What is trained at a rung of a search: 0 these images, the others those of ``more``."""
        return self.more[rung - 1] if rung else self

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def fingerprint(self) -> str:
        """64 bits that tell whether two networks are trained and chosen on the same images and labels, in the same order."""
        digest = hashlib.blake2b(digest_size=8)
        for part in (self.train, self.validation):
            for piece in facts_of(part):
                digest.update(piece)
        return digest.hexdigest()


def prepare(
    settings: DataSettings,
    wanted: Preparation | None = None,
    further: Sequence[Preparation] = (),
    *,
    index_file: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PreparedData:
    """Load (or list) the data set, split it and prepare its parts: the one way to images for every command.

    Args:
        settings: which data set.
        wanted: how its images are prepared.
        further: how else: in ``more`` of what is returned, each different one prepared once, all of the same split.
        index_file: where the list of a folder's images is kept: checked against the folder where it exists, else written.
        progress: told (files checked, files in all) while a folder is checked.

    Raises:
        DataError: the data set cannot be used, or a folder does not hold the images that ``index_file`` lists.
    """
    wanted = wanted or Preparation()
    dataset = load_dataset(settings, index_file, progress)
    made = {how: prepare_dataset(dataset, settings, how) for how in dict.fromkeys([wanted, *further])}
    return replace(made[wanted], more=tuple(made[how] for how in further))


def prepare_dataset(dataset: Dataset, settings: DataSettings, wanted: Preparation) -> PreparedData:
    """The part of ``prepare`` after loading.

    The subset of the training images is balanced over the classes, that of the validation images stratified; both are drawn
    with ``settings.split_seed`` and hold at most what there is.
    """
    parts = split(dataset, settings)
    train = _subset(parts.train, wanted.train_examples, settings.split_seed)
    validation = _scored(parts.validation, wanted.validation_examples, settings.split_seed)
    side = wanted.image_size or settings.image_size or own_side(dataset, wanted.large_side)
    interpolation = wanted.interpolation
    if isinstance(dataset.train, ArrayPart):  # area averages when shrinking: see ``resize_all``
        interpolation = "box" if side < dataset.side else "bilinear"
    needed = [train, validation, *([parts.test] if wanted.test else [])]
    stream = not wanted.whole_batches or sum(map(len, needed)) * side * side * dataset.channels > IN_MEMORY_SHARE * total_memory()
    held = [part if stream and isinstance(part, ImageFiles) else _hold(part, dataset.channels, side, wanted) for part in needed]
    understood = (f"understood as {dataset.layout}",) if dataset.layout else ()
    mirrors, why = _mirrors(dataset, settings, parts.train, wanted.mirrored)
    mean, std = _statistics(held[0], dataset.channels, side, wanted.normalisation, settings.split_seed)
    return PreparedData(
        name=dataset.name,
        train=held[0],
        validation=held[1],
        test=held[2] if wanted.test else None,
        class_names=dataset.class_names,
        channels=dataset.channels,
        image_size=side,
        mean=mean,
        std=std,
        mirrors=mirrors,
        crop_fraction=wanted.crop_fraction,
        crop_mode=wanted.crop_mode,
        interpolation=interpolation,
        notes=(*understood, *dataset.notes, *parts.notes, *why),
        images=_files_of(dataset.train, dataset.validation, dataset.test),
        held_out=_files_of(parts.test),
    )


def _files_of(*parts: Part | None) -> str:
    """The fingerprint of the parts' files together; nothing for arrays."""
    return fingerprint(digest for part in parts if isinstance(part, ImageFiles) for digest in part.digests)


def prepare_part(
    dataset: Dataset, part: Part, wanted: Preparation, channels: int, statistics: tuple[tuple[float, ...], tuple[float, ...]]
) -> PreparedData:
    """One part alone, as ``test``, for scoring: arrays at one side; files as they are, since each is read once.

    Args:
        dataset: the data set that the part is of.
        part: what is scored.
        wanted: how its images are prepared.
        channels: 1 or 3: files are converted to greyscale or RGB.
        statistics: mean and deviation of every channel, as the network was trained with.
    """
    side = wanted.image_size or own_side(dataset, wanted.large_side)
    held = part if isinstance(part, ImageFiles) else _hold(part, channels, side, wanted)
    nothing = held.take([])
    return PreparedData(
        name=dataset.name,
        train=nothing,
        validation=nothing,
        test=held,
        class_names=dataset.class_names,
        channels=channels if isinstance(part, ImageFiles) else dataset.channels,
        image_size=side,
        mean=statistics[0],
        std=statistics[1],
        mirrors=dataset.mirrors is not False,
        crop_fraction=wanted.crop_fraction,
        crop_mode=wanted.crop_mode,
        interpolation=wanted.interpolation,
        notes=dataset.notes,
    )


def _mirrors(dataset: Dataset, settings: DataSettings, train: Part, wanted: bool) -> tuple[bool, list[str]]:
    """Whether training images may be mirrored: as the settings say, else the data set, else by looking at them; and a note."""
    known = dataset.mirrors if settings.mirrors is None else settings.mirrors
    if known is not None or isinstance(train, ArrayPart) or not wanted:
        return known is not False, []
    mirrors, why = judge_mirrors(dataset.class_names, train.labels, train.open)
    return mirrors, [] if mirrors else [f"training images are not mirrored: {why}; data.mirrors=true does it all the same"]


def own_side(dataset: Dataset, large: int) -> int:
    """The side at which images are trained on where nobody says: arrays' own; files' own where they are small, else ``large``."""
    return dataset.side if isinstance(dataset.train, ArrayPart) else training_side(dataset.side, large)


def training_side(own: int, large: int) -> int:
    """Of images from files: small ones' own, in steps of 4 pixels, else ``large``."""
    return max(8, own // 4 * 4) if own <= SMALL_SIDE else large


def total_memory() -> int:
    """Bytes of this machine's memory; 8 GiB where it does not tell (Windows)."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 1 << 33


def _subset(part: Part, count: int | None, seed: int) -> Part:
    if count is None or count >= len(part):
        return part
    if count < 2:
        raise DataError(f"train_examples must be at least 2 (batch normalisation needs more than one image), but got {count}")
    return part.take(balanced_choice(part.labels, count, np.random.default_rng([seed, 1])))


def _scored(part: Part, count: int | None, seed: int) -> Part:
    if count is None or count >= len(part):
        return part
    return part.take(stratified_choice(part.labels, count, np.random.default_rng([seed, 2])))


def _hold(part: Part, channels: int, side: int, wanted: Preparation) -> ArrayPart:
    """The part in memory at one side, read-only: shared by all workers of a machine."""
    if isinstance(part, ArrayPart):
        images = resize_all(part.images, side)
    else:
        how = (side, channels, wanted.crop_fraction, wanted.interpolation, wanted.crop_mode)
        images = kept.pixels(part.digests, how, (len(part), side, side, channels), lambda: _decode(part, channels, side, wanted))
    labels = part.labels
    for array in (images, labels):
        array.setflags(write=False)
    return ArrayPart(images, labels)


def _decode(part: ImageFiles, channels: int, side: int, wanted: Preparation) -> Images:
    """(images, side, side, channels). Threads decode: Pillow lets go of the GIL."""
    images = np.empty((len(part), side, side, channels), dtype=np.uint8)

    def decode(index: int) -> None:
        try:
            images[index] = fit(part.open(index), channels, side, wanted.crop_fraction, wanted.interpolation, wanted.crop_mode)
        except READING_ERRORS as problem:
            raise DataError(f"{part.root / part.names[index]}: has become unreadable since it was checked: {problem}") from None

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for _ in pool.map(decode, range(len(part)), chunksize=1):
            pass
    return images


def _statistics(
    train: Part, channels: int, side: int, normalisation: Normalisation, seed: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation as wanted; ImageNet's only for three channels."""
    if normalisation == "half":
        return (0.5,) * channels, (0.5,) * channels
    if normalisation == "imagenet" and channels == len(IMAGENET_STATISTICS[0]):
        return IMAGENET_STATISTICS
    if isinstance(train, ArrayPart):
        return channel_statistics(train.images)
    chosen = np.sort(np.random.default_rng([seed, 3]).permutation(len(train))[:MEASURED_IMAGES])
    return channel_statistics(np.stack([fit(train.open(int(i)), channels, side) for i in chosen]))
