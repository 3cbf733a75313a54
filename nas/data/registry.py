"""Finds and reads the data set that the settings name. No torch."""

from nas.data.cifar import SPECS, load_cifar
from nas.data.dataset import Dataset
from nas.data.embedded import load_digits, make_synthetic
from nas.data.folder import load_folder
from nas.data.settings import DataSettings
from nas.errors import DataError

NAMES = (*SPECS, "digits", "synthetic", "folder")
FOLDER_IMAGE_SIZE = 64


def load_dataset(settings: DataSettings, image_size: int | None = None) -> Dataset:
    """Read the data set that the settings name.

    ``image_size`` is the side to which the images of a folder are resized where the settings do not say.

    Raises:
        DataError: the name is unknown, or the data set is missing, incomplete or corrupt.
    """
    if settings.name in SPECS:
        return load_cifar(SPECS[settings.name], settings.root, settings.download)
    if settings.name == "digits":
        return load_digits()
    if settings.name == "synthetic":
        return make_synthetic()
    if settings.name == "folder":
        if settings.root is None:
            raise DataError("the data set 'folder' needs the folder of its images: --set data.root=FOLDER")
        return load_folder(settings.root, settings.image_size or image_size or FOLDER_IMAGE_SIZE)
    raise DataError(f"unknown data set {settings.name!r}; choose one of {', '.join(NAMES)}")
