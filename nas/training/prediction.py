"""What a trained network sees in images: read, prepared as scoring prepares them, and classified batch by batch, in their order."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn

from nas.data.augmentation import normalise
from nas.data.inputs import Named
from nas.data.pixels import READING_ERRORS, fit, from_array, read_image
from nas.errors import ConfigError
from nas.networks.description import NetworkDescription
from nas.training.numerics import flushed_denormals
from nas.training.scoring import Mirrored
from search_spaces.networks import fast
from search_spaces.networks.cost import evaluation_mode

EXCHANGED, FAR = 0.3, 1.5
"""A distance between mean brightnesses (of 1), and one in deviations of training pixels, from which on images are unlike the known ones."""
COLOURED = 0.005
"""Between the mean brightness of two channels, where images have colours."""
READERS = 4
"""Threads that read images while the network works: Pillow lets go of the GIL."""

Picture = Named | Image.Image | npt.NDArray[np.uint8]
"""A file, an image of Pillow, or an array (height, width) or (height, width, channels)."""


@dataclass(frozen=True)
class Seen:
    """One picture: its name, and the probabilities of the classes, (classes,); or why there are none."""

    name: str
    probabilities: npt.NDArray[np.float32] | None = None
    problem: str = ""


class Impression:
    """How bright and colourful pictures are on the whole, beside those that a network has learned from."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self._mean, self._std = np.array(mean), float(np.mean(std))
        self._sum, self._count, self._grey = np.zeros(len(mean)), 0, True

    def take(self, pixels: npt.NDArray[np.uint8]) -> None:
        """Look at some (images, side, side, channels)."""
        self._sum += pixels.mean(axis=(1, 2)).sum(axis=0) / 255
        self._count += len(pixels)
        self._grey = self._grey and bool((pixels == pixels[..., :1]).all())

    def unlike(self) -> str:
        """In what they are far from what the network knows, so that its answers mean little; nothing where they are near.

        That a mean on the other side of grey is one of exchanged colours is a guess: dark letters on paper where it knows light ones.
        """
        if not self._count:
            return ""
        known, seen = float(self._mean.mean()), float((self._sum / self._count).mean())
        means = f"mean {seen:.2f} of 1, where the training images have {known:.2f}"
        if (known - 0.5) * (seen - 0.5) < 0 and abs(seen - known) > EXCHANGED:
            return f"these images look as if dark and light were exchanged ({means}): invert them, or its answers mean little"
        if abs(seen - known) > FAR * self._std:
            return f"these images are much {'brighter' if seen > known else 'darker'} than those that it learned from ({means})"
        if self._grey and np.ptp(self._mean) > COLOURED:
            return "these images are grey, and those that it learned from are in colour"
        return ""


class Predictor:
    """A network with what it needs to look at pictures. ``flip`` gives the mean of every picture and its mirror image.

    ``impression`` has what all pictures so far are like.

    Raises:
        ConfigError: the network has no classes to tell apart.
    """

    def __init__(self, network: nn.Module, description: NetworkDescription, *, flip: bool = False) -> None:
        classes = description.architecture.classes
        if not classes:
            raise ConfigError("this network has no classifier: images can be classified only by one that was trained with classes")
        self.description = description
        self.class_names = description.class_names or tuple(map(str, range(classes)))
        self._network = Mirrored(network) if flip else network
        self._place = next(network.parameters()).device
        self._mean, self._std = torch.tensor(description.mean), torch.tensor(description.std)
        self.impression = Impression(description.mean, description.std)

    def see(self, pictures: Iterable[Picture], batch_size: int = 64) -> Iterator[Seen]:
        """One answer a picture, in their order; a picture that cannot be read is answered with the reason.

        At most two batches of pictures are held at a time, so there may be any number of them.
        """
        rest = iter(pictures)
        waiting: deque[tuple[list[str], list[Future[npt.NDArray[np.uint8]]]]] = deque()
        with ThreadPoolExecutor(READERS) as pool:
            while chunk := list(islice(rest, batch_size)):
                waiting.append(([_name(one) for one in chunk], [pool.submit(self.prepared, one) for one in chunk]))
                if len(waiting) > 1:
                    yield from self._answers(*waiting.popleft())
            while waiting:
                yield from self._answers(*waiting.popleft())

    def prepared(self, picture: Picture) -> npt.NDArray[np.uint8]:
        """(side, side, channels): the pixels that scoring would show the network, before they are normalised."""
        expected = self.description.architecture
        how = self.description.crop_fraction, self.description.interpolation, self.description.crop_mode
        return fit(_opened(picture), expected.channels, expected.image_size, *how)

    def _answers(self, names: list[str], reads: list[Future[npt.NDArray[np.uint8]]]) -> Iterator[Seen]:
        results = [_result(read) for read in reads]
        pixels = [result for result in results if not isinstance(result, str)]
        if pixels:
            self.impression.take(np.stack(pixels))
        rows = iter(self._probabilities(np.stack(pixels)) if pixels else ())
        for name, result in zip(names, results, strict=True):
            yield Seen(name, problem=result) if isinstance(result, str) else Seen(name, next(rows))

    def _probabilities(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        # Entered for every batch: between two of them, the code of whoever asks for answers runs.
        with evaluation_mode(self._network), torch.inference_mode(), flushed_denormals(self._place), fast.scoring():
            logits = self._network(normalise(torch.from_numpy(pixels), self._mean, self._std).to(self._place))
            found: npt.NDArray[np.float32] = logits.float().softmax(dim=1).cpu().numpy()
        return found


def _name(picture: Picture) -> str:
    return str(picture.path) if isinstance(picture, Named) else ""


def _opened(picture: Picture) -> Image.Image:
    if isinstance(picture, Named):
        if picture.problem:
            raise ValueError(picture.problem)
        return read_image(picture.path)
    if isinstance(picture, Image.Image):
        return picture
    array = np.asarray(picture)
    if array.dtype != np.uint8:
        raise TypeError(f"an array of pixels must be uint8, 0..255, but got {array.dtype}")
    return from_array(array) if array.ndim == 3 else Image.fromarray(array)


def _result(read: "Future[npt.NDArray[np.uint8]]") -> npt.NDArray[np.uint8] | str:
    """The pixels; or why there are none."""
    try:
        return read.result()
    except (*READING_ERRORS, TypeError, ValueError) as problem:
        return (isinstance(problem, OSError) and problem.strerror) or str(problem)
