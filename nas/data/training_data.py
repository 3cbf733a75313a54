"""The data of a final training: training, validation and test part, in memory or as files. No torch."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from nas.data.dataset import Dataset, Images, Labels, stratified_choice
from nas.data.folder import find_files
from nas.data.image_files import READING_ERRORS, ImageFiles, ImageIndex, fit, index_document, index_folder, measure, read_index
from nas.data.proxy import VALIDATION_FLOOR, channel_statistics, resize
from nas.data.registry import load_dataset
from nas.data.settings import DataSettings
from nas.errors import DataError
from nas.training.recipe import Recipe

MOST_VALIDATION = 50_000
IN_MEMORY_SHARE = 0.25
"""Share of the machine's memory that a folder's decoded images may take before they are read anew every epoch."""
SMALL_SIDE = 96
"""Folders whose images are at most this large are trained at their own size."""
LARGE_SIDE = 224
PEEKED = 50
"""Files whose size is looked at to choose a skeleton."""
IMAGENET_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class ArrayPart:
    """Images in memory: (number, side, side, channels), and their labels."""

    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)


Part = ArrayPart | ImageFiles


@dataclass(frozen=True)
class TrainingData:
    """What a network is trained, chosen and finally tested on. The validation part is held out of the training set.

    ``mean`` and ``std`` are per channel, of pixels scaled to [0, 1]; ``mirrors`` says whether a mirror image keeps its class;
    ``notes`` tell what was skipped, converted or split.
    """

    name: str
    train: Part
    validation: Part
    test: Part
    class_names: tuple[str, ...]
    channels: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    mirrors: bool
    notes: tuple[str, ...] = ()
    interpolation: str | None = None
    """How the images were resized, where the data set decided it and not the recipe."""

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


def load_training_data(
    settings: DataSettings,
    recipe: Recipe,
    image_size: int | None = None,
    *,
    index_file: Path | None = None,
    always_stream: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> TrainingData:
    """Load (or list) the data set and split the validation part off.

    A folder's images are held in memory where the recipe's augmentation works on whole batches and they take at most a
    quarter of the memory; else they are read from the files every epoch.

    Args:
        settings: which data set.
        recipe: for the augmentation, the normalisation and the image size.
        image_size: side in pixels; None keeps the data's own where it is small (at most ``SMALL_SIDE``), else takes the recipe's.
        index_file: where the list of a folder's images is kept: read where it exists, else written.
        always_stream: never hold a folder's images in memory.
        progress: told (files checked, files in all) while a folder is checked.

    Raises:
        DataError: the data set cannot be used.
    """
    if settings.name == "folder":
        index = _index(settings, index_file, progress)
        return _from_index(index, settings, recipe, image_size or training_side(index.side, recipe), always_stream)
    return _from_arrays(load_dataset(settings), settings, recipe, image_size)


def training_side(own: int, recipe: Recipe) -> int:
    """The side at which images are trained on where nobody says: small ones' own, in steps of 4 pixels, else the recipe's, else 224."""
    return max(8, own // 4 * 4) if own <= SMALL_SIDE else recipe.image_size or LARGE_SIDE


def peek_side(settings: DataSettings, recipe: Recipe) -> int:
    """``training_side`` of a data set, from the sizes that a few files state: enough to choose a skeleton. Raises DataError."""
    from nas.runs.plan import KNOWN_SHAPES

    if settings.name in KNOWN_SHAPES:
        return KNOWN_SHAPES[settings.name][1]
    if settings.name != "folder":
        return load_dataset(settings).image_size
    if settings.root is None:
        raise DataError("the data set 'folder' needs the folder of its images: --data FOLDER")
    files = find_files(settings.root).train
    sides = []
    for path, _ in files[:: max(1, len(files) // PEEKED)]:
        with suppress(*READING_ERRORS), Image.open(path) as image:
            sides.append(min(image.size))
    if not sides:
        raise DataError(f"{settings.root}: none of the images that were tried can be read")
    return training_side(int(np.median(sides)), recipe)


def prepare_index(settings: DataSettings, index_file: Path, progress: Callable[[int, int], None] | None = None) -> None:
    """Check a folder's images and list them in ``index_file``, once; other data sets need nothing. Raises DataError."""
    if settings.name == "folder":
        _index(settings, index_file, progress)


def _index(settings: DataSettings, index_file: Path | None, progress: Callable[[int, int], None] | None) -> ImageIndex:
    from nas.tools.files import write_atomically

    if index_file is not None and index_file.is_file():
        return read_index(index_file)
    if settings.root is None:
        raise DataError("the data set 'folder' needs the folder of its images: --data FOLDER")
    index = index_folder(settings.root, settings.split_seed, progress)
    if index_file is not None:
        index_file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(index_file, index_document(index))
    return index


def split_labels(labels: Labels, classes: int, settings: DataSettings) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Indices to train on, and those held out for choosing the best epoch: stratified, drawn with ``settings.split_seed``.

    Where the settings name no number it is a tenth, at most 50,000, in small sets up to a third and at most 500.

    Raises:
        DataError: the number leaves too few to train on.
    """
    total = len(labels)
    count = settings.validation_examples or min(MOST_VALIDATION, max(total // 10, min(VALIDATION_FLOOR, total // 3)))
    most = total - max(2, classes)
    if not 1 <= count <= most:
        raise DataError(
            f"data.validation_examples must be 1..{most} (there are {total} training images, "
            f"of which as many as there are classes must stay), but got {count}"
        )
    validation = stratified_choice(labels, count, np.random.default_rng([settings.split_seed, 0]))
    return np.setdiff1d(np.arange(total), validation), validation


def _from_arrays(dataset: Dataset, settings: DataSettings, recipe: Recipe, side: int | None) -> TrainingData:
    size = side or dataset.image_size
    train, validation = split_labels(dataset.train_labels, dataset.classes, settings)
    images = resize(dataset.train_images, size)
    mean, std = _statistics(recipe, dataset.channels, lambda: channel_statistics(images[train]))
    return TrainingData(
        name=dataset.name,
        train=ArrayPart(images[train], dataset.train_labels[train]),
        validation=ArrayPart(images[validation], dataset.train_labels[validation]),
        test=ArrayPart(resize(dataset.test_images, size), dataset.test_labels),
        class_names=dataset.class_names,
        channels=dataset.channels,
        image_size=size,
        mean=mean,
        std=std,
        mirrors=dataset.mirrors,
        interpolation="box" if size < dataset.image_size else "bilinear",
    )


def _from_index(index: ImageIndex, settings: DataSettings, recipe: Recipe, side: int, always_stream: bool) -> TrainingData:
    train, validation = split_labels(index.train.labels, len(index.class_names), settings)
    parts: dict[str, Part] = {"train": index.train.take(train), "validation": index.train.take(validation), "test": index.test}
    mean, std = _statistics(recipe, index.channels, lambda: measure(index.train.take(train), index.channels, side, settings.split_seed))
    need = (len(index.train) + len(index.test)) * side * side * index.channels
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 1 << 33
    if recipe.augmentation.batched and not always_stream and need <= IN_MEMORY_SHARE * have:
        parts = {name: _in_memory(part, index.channels, side) for name, part in parts.items() if isinstance(part, ImageFiles)}
    return TrainingData(
        name=index.name,
        class_names=index.class_names,
        channels=index.channels,
        image_size=side,
        mean=mean,
        std=std,
        mirrors=True,
        notes=tuple(index.notes()),
        train=parts["train"],
        validation=parts["validation"],
        test=parts["test"],
    )


def _in_memory(files: ImageFiles, channels: int, side: int) -> ArrayPart:
    images = np.empty((len(files), side, side, channels), dtype=np.uint8)
    for i in range(len(files)):
        images[i] = fit(files.open(i), channels, side)
    return ArrayPart(images, files.labels)


def _statistics(
    recipe: Recipe, channels: int, measured: Callable[[], tuple[tuple[float, ...], tuple[float, ...]]]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation as the recipe wants them; ImageNet's only for three channels."""
    if recipe.normalisation == "half":
        return (0.5,) * channels, (0.5,) * channels
    if recipe.normalisation == "imagenet" and channels == len(IMAGENET_STATISTICS[0]):
        return IMAGENET_STATISTICS
    return measured()
