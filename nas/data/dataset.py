"""A data set as the engine holds it: all images in one uint8 array, labels, a train and a test part; how to draw from them. No torch."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]
"""(number, height, width, channels), 0..255."""
Labels = npt.NDArray[np.int64]
"""(number,), 0..classes - 1."""


@dataclass(frozen=True)
class Dataset:
    """Images and labels in memory.

    ``mirrors`` says whether a mirror image keeps its class: photographs do, digits do not. ``skipped`` names the files that could
    not be read as images. Where the files bring no split of their own, the train and test parts come from a fixed seed.
    """

    name: str
    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels
    class_names: tuple[str, ...]
    mirrors: bool = True
    skipped: tuple[str, ...] = ()

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


def stratified_choice(labels: Labels, count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """``count`` indices whose classes have the shares they have in ``labels`` (largest remainders), in increasing order.

    ``count`` must be at most ``len(labels)``.
    """
    present, sizes = np.unique(labels, return_counts=True)
    exact = sizes * (count / len(labels))
    quota = np.floor(exact).astype(np.int64)
    for i in np.argsort(quota - exact, kind="stable")[: count - int(quota.sum())]:
        quota[i] += 1
    return _draw(labels, dict(zip(present.tolist(), quota.tolist(), strict=True)), rng)


def balanced_choice(labels: Labels, count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """``count`` indices with as many of every class as of the others, as far as there are enough, in increasing order.

    ``count`` must be at most ``len(labels)``. Where it does not divide evenly, the first classes have one more.
    """
    present, sizes = np.unique(labels, return_counts=True)
    quota = np.zeros_like(sizes)
    while (left := count - int(quota.sum())) > 0:
        open_classes = np.flatnonzero(quota < sizes)
        share = max(1, left // len(open_classes))
        for i in open_classes[:left]:
            quota[i] += min(share, sizes[i] - quota[i])
    return _draw(labels, dict(zip(present.tolist(), quota.tolist(), strict=True)), rng)


def _draw(labels: Labels, quota: dict[int, int], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """The quota of every class, drawn without replacement."""
    drawn = [rng.permutation(np.flatnonzero(labels == label))[:count] for label, count in sorted(quota.items())]
    return np.sort(np.concatenate(drawn)).astype(np.int64)
