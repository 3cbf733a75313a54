"""Batches of a training set, augmented, and of a part that is scored. Every random draw is a function of seed, epoch and place.

So a training can begin again at any step, on any number of workers and loader processes, and sees the same images as before.
"""

import logging
import random
import signal
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from controllers.controller import random_for
from nas.data.augmentation import Draws, augment, draw, normalise, plan_augmentation
from nas.data.dataset import ArrayPart, ImageFiles, Part
from nas.data.pixels import READING_ERRORS, as_array, from_array, middle, to_channels
from nas.data.prepared import PreparedData
from nas.data.settings import AugmentationSettings
from nas.data.transforms import train_transform
from nas.errors import DataError

logger = logging.getLogger(__name__)

SCORED_PIXELS = {"cpu": 1 << 17, "cuda": 1 << 20}
"""Pixels of a scored batch, by device: 512 images of 16×16 on a CPU, where 64 at once take 1.4 times as long (at 8×8, 3 times)."""
MOST_SUBSTITUTES = 20
"""Neighbouring files tried in place of one that has become unreadable; more in a row mean that the folder is gone."""
Batch = tuple[Tensor, Tensor]
"""Images (batch, channels, side, side), float32, normalised; labels (batch,)."""


@dataclass(frozen=True)
class Share:
    """Which images of an epoch one worker takes: of every step's ``batch_size`` images the ``rank``-th and every ``world``-th after it.

    ``micro`` is the number of images of one pass; a step's share is cut into passes of that size, the last maybe smaller.
    """

    batch_size: int
    micro: int
    rank: int = 0
    world: int = 1

    def places(self, step: int) -> list[range]:
        """The places in the epoch's order that step number ``step`` takes, pass by pass."""
        mine = range(step * self.batch_size + self.rank, (step + 1) * self.batch_size, self.world)
        return [mine[start : start + self.micro] for start in range(0, len(mine), self.micro)]

    @property
    def passes(self) -> int:
        """Passes of one step."""
        return len(self.places(0))


class Resident:
    """Parts in memory as tensors on a device, each made once and used by all trainings on it. Never written to."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._held: dict[int, tuple[ArrayPart, Batch]] = {}

    def tensors(self, part: ArrayPart) -> Batch:
        """Images (number, side, side, channels), uint8, and labels; on the CPU they stay where they are, shared with other workers."""
        if id(part) not in self._held:
            with warnings.catch_warnings():
                # The arrays are read-only, and so is our use of them.
                warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
                images, labels = (torch.from_numpy(array).to(self.device) for array in (part.images, part.labels))
            self._held[id(part)] = part, (images, labels)
        return self._held[id(part)][1]


class TrainingBatches:
    """The training part in epochs; on the device where it is in memory and the augmentation works on whole batches."""

    def __init__(self, data: PreparedData, settings: AugmentationSettings, seed: int, resident: Resident, loader_workers: int = 0) -> None:
        self._data, self._settings, self._seed, self._device = data, settings, seed, resident.device
        self._loader_workers = loader_workers
        self._plan = plan_augmentation(settings, data.image_size, data.mirrors)
        self._statistics = statistics(data, resident.device)
        self._arrays = resident.tensors(data.train) if isinstance(data.train, ArrayPart) and settings.batched else None

    def epoch(self, epoch: int, share: Share, first_step: int, steps: int) -> Iterator[list[Batch]]:
        """The passes of every step from ``first_step`` on, on the device; ``epoch`` counts from 1."""
        rng = random_for(self._seed, "epoch", epoch)
        generator = torch.Generator().manual_seed(rng.getrandbits(62))
        order = torch.randperm(len(self._data.train), generator=generator)
        if self._arrays is not None:
            # Moved once an epoch: a GPU waits for every copy.
            draws = draw(self._plan, steps * share.batch_size, generator).to(self._device)
            order = order.to(self._device)
            for step in range(first_step, steps):
                yield [self._from_arrays(self._arrays, order, draws, places) for places in share.places(step)]
            return
        passes = [places for step in range(first_step, steps) for places in share.places(step)]
        salt = rng.getrandbits(40)
        wanted = [[(int(order[place]), salt + place) for place in places] for places in passes]
        loaded = _load(self._data, self._data.train, train_transform(self._settings, self._data), wanted, self._loader_workers)
        for _ in range(first_step, steps):
            yield [self._to_device(next(loaded)) for _ in range(share.passes)]

    def _from_arrays(self, arrays: Batch, order: Tensor, draws: Draws, places: range) -> Batch:
        images, labels = arrays
        at = slice(places.start, places.stop, places.step)
        chosen = order[at]
        return augment(images.index_select(0, chosen), self._plan, draws.take(at), *self._statistics), labels.index_select(0, chosen)

    def _to_device(self, batch: Batch) -> Batch:
        images = batch[0].to(self._device, non_blocking=True).contiguous(memory_format=torch.channels_last)
        return images, batch[1].to(self._device, non_blocking=True)


def statistics(data: PreparedData, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation of every channel, each (channels,), of pixels scaled to [0, 1]."""
    return torch.tensor(data.mean, device=device), torch.tensor(data.std, device=device)


def scored_at_once(side: int, device: str = "cpu") -> int:
    """Images of that side in a scored batch, on a device of that type."""
    return max(16, SCORED_PIXELS.get(device, SCORED_PIXELS["cpu"]) // side**2)


def scoring_batches(
    data: PreparedData, part: Part, resident: Resident, loader_workers: int = 0, rank: int = 0, world: int = 1
) -> Iterator[Batch]:
    """A part in order, without augmentation: every image once, every ``world``-th from ``rank`` on.

    Files are prepared by ``nas.data.pixels.fit``, as images in memory were.
    """
    device = resident.device
    mean, std = statistics(data, device)
    size = scored_at_once(data.image_size, device.type)
    mine = range(rank, len(part), world)
    chunks = [mine[start : start + size] for start in range(0, len(mine), size)]
    if isinstance(part, ArrayPart):
        arrays = resident.tensors(part)
        for chunk in chunks:
            images, labels = (values[chunk.start : chunk.stop : chunk.step] for values in arrays)
            yield normalise(images, mean, std), labels
        return
    wanted = [[(place, 0) for place in chunk] for chunk in chunks]
    for images, labels in _load(data, part, _Fit(data), wanted, loader_workers):
        yield normalise(images.to(device), mean, std), labels.to(device)


def shrink(images: Tensor, side: int) -> Tensor:
    """Images (batch, channels, side, side) at a smaller side, each pixel the average of the area it covers."""
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, size=(side, side), mode="area").contiguous(memory_format=torch.channels_last)


class _Fit:
    """From a Pillow image to (side, side, channels), uint8: what scoring sees of it."""

    def __init__(self, data: PreparedData) -> None:
        self._how = {"side": data.image_size, "fraction": data.crop_fraction, "interpolation": data.interpolation, "mode": data.crop_mode}

    def __call__(self, image: Image.Image) -> Tensor:
        return torch.from_numpy(as_array(middle(image, **self._how)).copy())  # type: ignore[arg-type]


class _Images(Dataset[tuple[Tensor, int]]):
    """One part, image by image: item (index, seed) is transformed with every generator seeded, in whatever process it is."""

    def __init__(self, part: Part, transform: Any, channels: int) -> None:  # noqa: ANN401 - a torchvision transform
        self._part, self._transform, self._channels = part, transform, channels

    def __len__(self) -> int:
        return len(self._part)

    def __getitem__(self, item: tuple[int, int]) -> tuple[Tensor, int]:
        index, seed = item
        torch.manual_seed(seed)
        np.random.seed(seed % (1 << 32))
        random.seed(seed)
        image, label = self._image(index)
        return self._transform(image), label

    def _image(self, index: int) -> tuple[Image.Image, int]:
        if isinstance(self._part, ArrayPart):
            return from_array(self._part.images[index]), int(self._part.labels[index])
        return open_or_neighbour(self._part, index, self._channels)


def open_or_neighbour(files: ImageFiles, index: int, channels: int) -> tuple[Image.Image, int]:
    """The image and its label; where the file has become unreadable since it was checked, those of the next readable one.

    Raises:
        DataError: many files in a row cannot be read.
    """
    for offset in range(MOST_SUBSTITUTES):
        chosen = (index + offset) % len(files)
        try:
            image = to_channels(files.open(chosen), channels)
        except READING_ERRORS as problem:
            logger.warning("%s has become unreadable (%s); the next image takes its place", files.root / files.names[chosen], problem)
        else:
            return image, int(files.labels[chosen])
    raise DataError(f"{files.root}: {MOST_SUBSTITUTES} files in a row cannot be read any more, the first {files.names[index]}")


def _leave_ctrl_c(worker: int) -> None:
    """A terminal sends Ctrl-C to readers too: they go on, so that the step in hand can be finished, and end with the training."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _load(data: PreparedData, part: Part, transform: Any, wanted: list[list[tuple[int, int]]], workers: int) -> Iterator[Batch]:  # noqa: ANN401
    if not wanted:
        return iter(())
    images = _Images(part, transform, data.channels)
    pinned = torch.cuda.is_available()
    loader: DataLoader[Any] = DataLoader(
        images, batch_sampler=wanted, num_workers=workers, pin_memory=pinned, worker_init_fn=_leave_ctrl_c if workers else None
    )
    return ((batch, labels.long()) for batch, labels in loader)
