"""Finds and reads the data set that the settings name. No torch."""

from collections.abc import Callable
from dataclasses import dataclass

from nas.data.cifar import SPECS, load_cifar
from nas.data.dataset import Dataset
from nas.data.embedded import load_digits, make_synthetic
from nas.data.folder import load_folder
from nas.data.settings import DataSettings
from nas.errors import DataError
from search_spaces.plugins import Registry

FOLDER_IMAGE_SIZE = 64


@dataclass(frozen=True)
class Shape:
    """What is known of a data set without reading it: training images, their side in pixels, channels, classes."""

    images: int
    side: int
    channels: int
    classes: int


@dataclass(frozen=True)
class DatasetEntry:
    """A row: how the data set is loaded, what it is, and its shape where that is known beforehand."""

    load: Callable[[DataSettings, int | None], Dataset]
    text: str
    shape: Shape | None = None


def _cifar(settings: DataSettings, image_size: int | None) -> Dataset:
    return load_cifar(SPECS[settings.name], settings.root, settings.download)


def _folder(settings: DataSettings, image_size: int | None) -> Dataset:
    if settings.root is None:
        raise DataError("the data set 'folder' needs the folder of its images: --set data.root=FOLDER")
    return load_folder(settings.root, settings.image_size or image_size or FOLDER_IMAGE_SIZE)


def as_entry(found: object) -> DatasetEntry:
    """What a plug-in gives as a row: an entry, or a function of the settings that returns a data set. Raises TypeError."""
    if isinstance(found, DatasetEntry):
        return found
    if callable(found):
        return DatasetEntry(lambda settings, image_size: found(settings), (found.__doc__ or "").strip().partition("\n")[0])
    raise TypeError("a data set must be a function DataSettings -> Dataset, or a DatasetEntry")


DATASETS: Registry[DatasetEntry] = Registry(
    "data set",
    "nas.datasets",
    {
        "cifar10": DatasetEntry(_cifar, "60,000 photographs of 32×32 pixels in 10 classes, fetched", Shape(50_000, 32, 3, 10)),
        "cifar100": DatasetEntry(_cifar, "60,000 photographs of 32×32 pixels in 100 classes, fetched", Shape(50_000, 32, 3, 100)),
        "digits": DatasetEntry(lambda *_: load_digits(), "1,797 handwritten digits of 8×8 pixels, in scikit-learn", Shape(1_437, 8, 1, 10)),
        "synthetic": DatasetEntry(lambda *_: make_synthetic(), "5,000 generated gratings of 16×16 pixels"),
        "folder": DatasetEntry(_folder, "your images: one sub-folder for every class, optionally under train/ and test/"),
    },
    as_entry,
    DataError,
    "or an existing folder of images",
)


def load_dataset(settings: DataSettings, image_size: int | None = None) -> Dataset:
    """Read the data set that the settings name.

    ``image_size`` is the side to which the images of a folder are resized where the settings do not say.

    Raises:
        DataError: the name is unknown, or the data set is missing, incomplete or corrupt.
    """
    return DATASETS[settings.name].load(settings, image_size)
