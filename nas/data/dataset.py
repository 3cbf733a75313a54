"""A data set as it is read: a part to train on and maybe one to test on, in memory or as files; how to draw from a part. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from nas.data.pixels import decode
from nas.data.stores import DISK, Store

Images = npt.NDArray[np.uint8]
"""(number, height, width, channels), 0..255."""
Labels = npt.NDArray[np.int64]
"""(number,), 0..classes - 1."""
Indices = npt.NDArray[np.int64] | Sequence[int]


@dataclass(frozen=True)
class ArrayPart:
    """Images in memory: (number, side, side, channels), and their labels."""

    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Indices) -> "ArrayPart":
        """Some of the images."""
        chosen = np.asarray(indices, dtype=np.int64)
        return ArrayPart(self.images[chosen], self.labels[chosen])


@dataclass(frozen=True)
class ImageFiles:
    """Encoded images of one part, with their labels: all were readable when they were checked.

    ``names`` are files relative to ``root``, or what the ``store`` calls the images that it has there; ``digests`` are of their
    bytes: equal ones are copies of one image.
    """

    root: Path
    names: tuple[str, ...]
    labels: Labels
    digests: tuple[str, ...]
    store: Store = DISK

    def __len__(self) -> int:
        return len(self.names)

    def take(self, indices: Indices) -> "ImageFiles":
        """Some of the files."""
        chosen = np.asarray(indices, dtype=np.int64)
        names, digests = (tuple(values[i] for i in chosen) for values in (self.names, self.digests))
        return ImageFiles(self.root, names, self.labels[chosen], digests, self.store)

    def open(self, index: int) -> Image.Image:
        """The decoded image, upright. Raises one of ``READING_ERRORS`` where the file has changed since it was checked."""
        return decode(self.store.read(self.root, self.names[index]))


Part = ArrayPart | ImageFiles


@dataclass(frozen=True)
class Dataset:
    """What a loader returns.

    ``test`` is None where the data set brings no test part, and ``validation`` where it brings none to choose by; ``nas.data.split``
    then makes them.
    ``side`` is that of the images in pixels, of files the median of the shorter sides; ``channels`` is 1 for greyscale, 3 for
    colour; ``mirrors`` says whether a mirror image keeps its class: photographs do, digits do not, None has the images looked at;
    ``notes`` tell a person what was skipped or converted; ``layout`` is how a place with images was understood, in a sentence.
    """

    name: str
    train: Part
    test: Part | None
    class_names: tuple[str, ...]
    side: int
    channels: int
    mirrors: bool | None = True
    notes: tuple[str, ...] = ()
    validation: Part | None = None
    layout: str = ""

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


def from_arrays(name: str, train: ArrayPart, test: ArrayPart, class_names: tuple[str, ...], mirrors: bool = True) -> Dataset:
    """The data set of (square) images in memory."""
    side, channels = int(train.images.shape[1]), int(train.images.shape[3])
    return Dataset(name, train, test, class_names, side, channels, mirrors)


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


def facts_of(part: Part) -> list[Any]:
    """What tells one part from another, piece by piece: bytes of arrays, or names and digests of files. For checksums."""
    if isinstance(part, ArrayPart):
        return [array for values in (part.images, part.labels) for array in (str(values.shape).encode(), np.ascontiguousarray(values).data)]
    lines = (f"{name}\0{label}\0{digest}\n" for name, label, digest in zip(part.names, part.labels.tolist(), part.digests, strict=True))
    return ["".join(lines).encode(errors="surrogateescape")]
