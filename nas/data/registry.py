"""The data sets: one row each. Finds and reads what the settings name. No torch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from nas.data.cifar import SPECS, bases, find, load_cifar
from nas.data.dataset import Dataset
from nas.data.embedded import load_digits, make_synthetic
from nas.data.image_index import Progress, load_folder
from nas.data.layouts import find_images
from nas.data.pixels import READING_ERRORS, stated_size
from nas.data.settings import DataSettings
from nas.errors import DataError
from search_spaces.plugins import Registry

PEEKED = 50
"""Files whose size is looked at to know about a folder before it is checked."""


@dataclass(frozen=True)
class Shape:
    """What is known of a data set without reading it: training images, their side in pixels, channels, classes.

    Without ``own_test`` the test part is taken from those images; ``validation`` is the number of images in its own part to choose by.
    """

    images: int
    side: int
    channels: int
    classes: int
    own_test: bool = True
    validation: int = 0


Loader = Callable[[DataSettings, Path | None, Progress | None], Dataset]


@dataclass(frozen=True)
class DatasetEntry:
    """A row: how the data set is loaded, what it is, its shape where that is known beforehand, its address on the Hugging Face hub.

    ``missing`` says whether loading it would fetch it first.
    """

    load: Loader
    text: str
    shape: Shape | None = None
    hub: str = ""
    missing: Callable[[DataSettings], bool] = lambda settings: False


def _cifar(settings: DataSettings, index_file: Path | None, progress: Progress | None) -> Dataset:
    return load_cifar(SPECS[settings.name], settings.root, settings.download)


def _no_cifar(settings: DataSettings) -> bool:
    return find(SPECS[settings.name], bases(settings.root)) is None


def _folder(settings: DataSettings, index_file: Path | None, progress: Progress | None) -> Dataset:
    return load_folder(_root(settings), index_file, progress)


def _root(settings: DataSettings) -> str:
    if settings.root is None:
        raise DataError("the data set 'folder' needs the folder of its images, or a file that lists or holds them: --data FOLDER")
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
            _cifar, "60,000 photographs of 32×32 pixels in 10 classes, fetched", Shape(50_000, 32, 3, 10), "uoft-cs/cifar10", _no_cifar
        ),
        "cifar100": DatasetEntry(
            _cifar, "60,000 photographs of 32×32 pixels in 100 classes, fetched", Shape(50_000, 32, 3, 100), "uoft-cs/cifar100", _no_cifar
        ),
        "digits": DatasetEntry(lambda *_: load_digits(), "1,797 handwritten digits of 8×8 pixels, in scikit-learn", Shape(1_437, 8, 1, 10)),
        "synthetic": DatasetEntry(lambda *_: make_synthetic(), "5,000 generated gratings of 16×16 pixels", Shape(4_000, 16, 3, 10)),
        "folder": DatasetEntry(
            _folder,
            "your images: class folders (also under train/, val/, test/), a CSV, parquet files, webdataset shards, a saved data set",
        ),
    },
    row=as_entry,
    error=DataError,
    hint="or an existing folder or file of images",
)


def load_dataset(settings: DataSettings, index_file: Path | None = None, progress: Progress | None = None) -> Dataset:
    """Read (or list) the data set that the settings name; see ``nas.data.image_index.load_folder`` for the other two.

    Raises:
        DataError: the name is unknown, or the data set is missing, incomplete or corrupt.
    """
    return DATASETS[settings.name].load(settings, index_file, progress)


def to_be_fetched(settings: DataSettings) -> bool:
    """Whether the data set is not on this machine yet, and is one that can be fetched."""
    return DATASETS[settings.name].missing(settings)


def fetch(settings: DataSettings) -> None:
    """Have a data set on this machine. Raises DataError where it cannot be had."""
    load_dataset(settings)


def fetched_first(settings: DataSettings) -> list[str]:
    """What whoever fetches nothing now says of a data set that will be fetched before all else; no line where it is on this machine.

    Raises:
        DataError: it is missing, and must not be fetched.
    """
    if not to_be_fetched(settings):
        return []
    if not settings.download:
        fetch(settings)
    return [f"data:   {settings.name} is not on this machine yet, and will be fetched first"]


def peek(settings: DataSettings) -> Shape:
    """A data set's shape; of a place with images from its list of them and the sizes that a few of them state, without decoding any.

    Raises:
        DataError: the data set cannot be used.
    """
    entry = DATASETS[settings.name]
    if entry.shape is not None:
        return entry.shape
    if settings.name != "folder":
        dataset = load_dataset(settings)
        own_test, validation = dataset.test is not None, len(dataset.validation or ())
        return Shape(len(dataset.train), dataset.side, dataset.channels, dataset.classes, own_test, validation)
    found = find_images(_root(settings))
    train, sides = found.parts["train"], []
    for name, _ in train[:: max(1, len(train) // PEEKED)]:
        try:
            sides.append(min(stated_size(found.store.read(found.root, name))))
        except READING_ERRORS:
            continue
    if not sides:
        raise DataError(f"{settings.root}: none of the images that were tried can be read")
    validation = len(found.parts.get("validation", ()))
    return Shape(len(train), int(median(sides)), 3, len(found.class_names), "test" in found.parts, validation)
