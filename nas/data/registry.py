"""The data sets: one row each. Finds and reads what the settings name. No torch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from PIL import Image

from nas.data.cifar import SPECS, load_cifar
from nas.data.dataset import Dataset
from nas.data.embedded import load_digits, make_synthetic
from nas.data.folder import find_files
from nas.data.image_index import Progress, load_folder
from nas.data.pixels import READING_ERRORS
from nas.data.settings import DataSettings
from nas.errors import DataError
from search_spaces.plugins import Registry

PEEKED = 50
"""Files whose size is looked at to know about a folder before it is checked."""


@dataclass(frozen=True)
class Shape:
    """What is known of a data set without reading it: training images, their side in pixels, channels, classes."""

    images: int
    side: int
    channels: int
    classes: int


Loader = Callable[[DataSettings, Path | None, Progress | None], Dataset]


@dataclass(frozen=True)
class DatasetEntry:
    """A row: how the data set is loaded, what it is, its shape where that is known beforehand, its address on the Hugging Face hub."""

    load: Loader
    text: str
    shape: Shape | None = None
    hub: str = ""


def _cifar(settings: DataSettings, index_file: Path | None, progress: Progress | None) -> Dataset:
    return load_cifar(SPECS[settings.name], settings.root, settings.download)


def _folder(settings: DataSettings, index_file: Path | None, progress: Progress | None) -> Dataset:
    return load_folder(_root(settings), index_file, progress)


def _root(settings: DataSettings) -> str:
    if settings.root is None:
        raise DataError("the data set 'folder' needs the folder of its images: --data FOLDER")
    return settings.root


def as_entry(found: object) -> DatasetEntry:
    """What a plug-in gives as a row: an entry, or a function of the settings that returns a data set. Raises TypeError."""
    if isinstance(found, DatasetEntry):
        return found
    if callable(found):
        return DatasetEntry(lambda settings, index_file, progress: found(settings), (found.__doc__ or "").strip().partition("\n")[0])
    raise TypeError("a data set must be a function DataSettings -> Dataset, or a DatasetEntry")


DATASETS: Registry[DatasetEntry] = Registry(
    "data set",
    "nas.datasets",
    {
        "cifar10": DatasetEntry(
            _cifar, "60,000 photographs of 32×32 pixels in 10 classes, fetched", Shape(50_000, 32, 3, 10), "uoft-cs/cifar10"
        ),
        "cifar100": DatasetEntry(
            _cifar, "60,000 photographs of 32×32 pixels in 100 classes, fetched", Shape(50_000, 32, 3, 100), "uoft-cs/cifar100"
        ),
        "digits": DatasetEntry(lambda *_: load_digits(), "1,797 handwritten digits of 8×8 pixels, in scikit-learn", Shape(1_437, 8, 1, 10)),
        "synthetic": DatasetEntry(lambda *_: make_synthetic(), "5,000 generated gratings of 16×16 pixels", Shape(4_000, 16, 3, 10)),
        "folder": DatasetEntry(_folder, "your images: one sub-folder for every class, optionally under train/ and test/"),
    },
    row=as_entry,
    error=DataError,
    hint="or an existing folder of images",
)


def load_dataset(settings: DataSettings, index_file: Path | None = None, progress: Progress | None = None) -> Dataset:
    """Read (or list) the data set that the settings name; see ``nas.data.image_index.load_folder`` for the other two.

    Raises:
        DataError: the name is unknown, or the data set is missing, incomplete or corrupt.
    """
    return DATASETS[settings.name].load(settings, index_file, progress)


def peek(settings: DataSettings) -> Shape:
    """A data set's shape; of a folder from its list of files and the sizes that a few of them state, without decoding any.

    Raises:
        DataError: the data set cannot be used.
    """
    entry = DATASETS[settings.name]
    if entry.shape is not None:
        return entry.shape
    if settings.name != "folder":
        dataset = load_dataset(settings)
        return Shape(len(dataset.train), dataset.side, dataset.channels, dataset.classes)
    found = find_files(_root(settings))
    sides = []
    for path, _ in found.train[:: max(1, len(found.train) // PEEKED)]:
        try:
            with Image.open(path) as image:
                sides.append(min(image.size))
        except READING_ERRORS:
            continue
    if not sides:
        raise DataError(f"{settings.root}: none of the images that were tried can be read")
    return Shape(len(found.train), int(median(sides)), 3, len(found.class_names))
