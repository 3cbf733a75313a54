"""Data sets that need no download: real handwritten digits that come with scikit-learn, and generated images. No torch."""

import numpy as np

from nas.data.dataset import ArrayPart, Dataset, Images, from_arrays, stratified_choice

DIGITS_SPLIT_SEED = 0
DIGITS_TEST = 360
SYNTHETIC_SEED = 0


def load_digits() -> Dataset:
    """1,797 handwritten digits of 8×8 pixels (the test part of UCI's optical recognition set), 1 channel.

    The values 0..16 are scaled to 0..255. 360 images, drawn stratified with seed 0, are the test part. Mirror images are
    other signs, so nothing is flipped.
    """
    from sklearn import datasets  # takes a second to import

    values, labels = datasets.load_digits(return_X_y=True)
    images = np.rint(values.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    labels = labels.astype(np.int64)
    test = stratified_choice(labels, DIGITS_TEST, np.random.default_rng(DIGITS_SPLIT_SEED))
    train = np.setdiff1d(np.arange(len(labels)), test)
    names = tuple(str(digit) for digit in range(10))
    whole = ArrayPart(images, labels)
    return from_arrays("digits", whole.take(train), whole.take(test), names, mirrors=False)


def make_synthetic(
    train: int = 4000,
    test: int = 1000,
    classes: int = 10,
    image_size: int = 16,
    channels: int = 3,
    noise: float = 0.6,
    seed: int = SYNTHETIC_SEED,
) -> Dataset:
    """Generated images that can be learned, for trials of the engine: every class is a grating of its own direction and colour.

    Pixel = 127.5 · (1 + 0.5 · colour · sin(2π · frequency · (x cos a + y sin a) + phase) + noise · N(0, 1)), clipped to 0..255;
    the phase is drawn for every image, so that no single pixel tells the class.
    """
    rng = np.random.default_rng(seed)
    total = train + test
    labels = np.arange(total, dtype=np.int64) % classes
    rng.shuffle(labels)
    angle = np.pi * np.arange(classes) / classes
    frequency = 1.5 + np.arange(classes) % 3
    colour = rng.uniform(0.4, 1.0, size=(classes, channels))
    y, x = np.meshgrid(np.linspace(0, 1, image_size), np.linspace(0, 1, image_size), indexing="ij")
    along = x * np.cos(angle)[labels, None, None] + y * np.sin(angle)[labels, None, None]
    phase = rng.uniform(0, 2 * np.pi, size=(total, 1, 1))
    wave = np.sin(2 * np.pi * frequency[labels, None, None] * along + phase)
    signal = 0.5 * wave[..., None] * colour[labels][:, None, None, :]
    pixels = 127.5 * (1 + signal + noise * rng.standard_normal(size=signal.shape))
    images: Images = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    names = tuple(f"grating {i}" for i in range(classes))
    first, rest = ArrayPart(images[:train], labels[:train]), ArrayPart(images[train:], labels[train:])
    return from_arrays("synthetic", first, rest, names, mirrors=False)
