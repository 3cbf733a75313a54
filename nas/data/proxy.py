"""From a data set to what the children of a search are trained on: validation split, subset, resolution, statistics. No torch."""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from nas.data.dataset import Dataset, Images, Labels, balanced_choice, stratified_choice
from nas.data.registry import load_dataset
from nas.data.settings import DataSettings
from nas.errors import DataError

if TYPE_CHECKING:
    from nas.runs.config import SearchConfig

_Scalar = TypeVar("_Scalar", bound=np.generic)

VALIDATION_FLOOR = 500


@dataclass(frozen=True)
class ProxyData:
    """The training and validation images of a search, as read-only numpy arrays: shared by all workers of a machine.

    ``mean`` and ``std`` are per channel, of pixels scaled to [0, 1], measured on ``train_images``. The test part of the
    data set is not here: nothing that a search sees may come from it.
    """

    name: str
    train_images: Images
    train_labels: Labels
    validation_images: Images
    validation_labels: Labels
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    mirrors: bool = True

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def channels(self) -> int:
        """1 for greyscale, 3 for colour."""
        return int(self.train_images.shape[3])

    @property
    def image_size(self) -> int:
        """Side of the (square) images in pixels."""
        return int(self.train_images.shape[1])


def checksum(data: ProxyData) -> str:
    """64 bits that tell whether two searches train on the same images and labels, in the same order."""
    digest = hashlib.blake2b(digest_size=8)
    for array in (data.train_images, data.train_labels, data.validation_images, data.validation_labels):
        digest.update(str(array.shape).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def split_validation(dataset: Dataset, settings: DataSettings) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Indices into the *training* part: what is trained on, and what is held out for the reward; both in increasing order.

    The held-out part is stratified and depends on ``settings.split_seed`` alone. Where the settings name no number, it is a
    tenth (5,000 of CIFAR-10's 50,000, as in Zoph et al. 2018), in small sets up to a third, at most 500.

    Raises:
        DataError: the number held out leaves too few to train on.
    """
    total = len(dataset.train_labels)
    count = settings.validation_examples or max(total // 10, min(VALIDATION_FLOOR, total // 3))
    most = total - max(2, dataset.classes)
    if not 1 <= count <= most:
        raise DataError(
            f"data.validation_examples must be 1..{most} ({dataset.name} has {total} training images, "
            f"of which as many as there are classes must stay), but got {count}"
        )
    validation = stratified_choice(dataset.train_labels, count, np.random.default_rng([settings.split_seed, 0]))
    return np.setdiff1d(np.arange(total), validation), validation


def prepare(config: "SearchConfig") -> ProxyData:
    """Load the data set and bring it to the fidelity of the search: once, in the driver.

    Raises:
        DataError: the data set cannot be used as the settings ask.
    """
    return proxy_data(load_dataset(config.data, config.fidelity.image_size), config)


def proxy_data(dataset: Dataset, config: "SearchConfig") -> ProxyData:
    """The part of ``prepare`` after loading: split, subset, resize (area averaging when shrinking), measure.

    The subset of the training images is balanced over the classes, that of the validation images stratified; both are
    drawn with ``data.split_seed`` and hold at most what there is.

    Raises:
        DataError: the split cannot be made.
    """
    fidelity, seed = config.fidelity, config.data.split_seed
    train, validation = split_validation(dataset, config.data)
    wanted, scored = fidelity.train_examples, fidelity.validation_examples
    if wanted is not None and wanted < len(train):
        if wanted < 2:
            raise DataError(f"fidelity.train_examples must be at least 2 (batch normalisation needs more than one image), but got {wanted}")
        train = train[balanced_choice(dataset.train_labels[train], wanted, np.random.default_rng([seed, 1]))]
    if scored is not None and scored < len(validation):
        validation = validation[stratified_choice(dataset.train_labels[validation], scored, np.random.default_rng([seed, 2]))]
    size = fidelity.image_size or dataset.image_size
    train_images = resize(dataset.train_images[train], size)
    mean, std = channel_statistics(train_images)
    return ProxyData(
        name=dataset.name,
        train_images=_read_only(train_images),
        train_labels=_read_only(dataset.train_labels[train]),
        validation_images=_read_only(resize(dataset.train_images[validation], size)),
        validation_labels=_read_only(dataset.train_labels[validation]),
        class_names=dataset.class_names,
        mean=mean,
        std=std,
        mirrors=dataset.mirrors,
    )


def resize(images: Images, image_size: int) -> Images:
    """Images (number, height, width, channels) with sides of ``image_size``: area averages when shrinking, else bilinear."""
    if images.shape[1] == images.shape[2] == image_size:
        return images
    method = Image.Resampling.BOX if image_size < images.shape[1] else Image.Resampling.BILINEAR
    out = np.empty((len(images), image_size, image_size, images.shape[3]), dtype=np.uint8)
    for i, image in enumerate(images):
        # Pillow wants greyscale without a channel axis.
        resized = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).resize((image_size, image_size), method)
        out[i] = np.asarray(resized).reshape(image_size, image_size, -1)
    return out


def channel_statistics(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of every channel, of pixels scaled to [0, 1]; a constant channel has deviation 1."""
    means, deviations = [], []
    for channel in range(images.shape[3]):
        counts = np.bincount(images[..., channel].ravel(), minlength=256)  # exact, and no float copy of the data set
        values = np.arange(256) / 255
        mean = float(counts @ values / counts.sum())
        deviation = float(np.sqrt(counts @ (values - mean) ** 2 / counts.sum()))
        means.append(mean)
        deviations.append(deviation if deviation > 0 else 1.0)
    return tuple(means), tuple(deviations)


def _read_only(array: npt.NDArray[_Scalar]) -> npt.NDArray[_Scalar]:
    array.setflags(write=False)
    return array
