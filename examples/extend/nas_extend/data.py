"""The data set ``corners``: in which corner is the bright square? A loader is a function of the settings."""

import numpy as np

from nas.data.dataset import ArrayPart, Dataset, from_arrays
from nas.data.settings import DataSettings

IMAGES, TEST, SIDE = 1200, 200, 16
NAMES = ("top left", "top right", "bottom left", "bottom right")


def corners(settings: DataSettings) -> Dataset:
    """1,200 generated images of 16×16 pixels in 4 classes."""
    rng = np.random.default_rng(0)
    labels = np.arange(IMAGES, dtype=np.int64) % len(NAMES)
    images = rng.integers(0, 160, (IMAGES, SIDE, SIDE, 3), dtype=np.uint8)
    for image, label, (y, x) in zip(images, labels, rng.integers(0, 4, (IMAGES, 2)), strict=True):
        top, left = y + 8 * (label // 2), x + 8 * (label % 2)
        image[top : top + 4, left : left + 4] += 95
    train, test = ArrayPart(images[TEST:], labels[TEST:]), ArrayPart(images[:TEST], labels[:TEST])
    return from_arrays("corners", train, test, NAMES, mirrors=False)
