"""Batches of a training set, augmented, and of a part that is scored. Every random draw is a function of seed, epoch and place.

So a training can begin again at any step, on any number of workers and loader processes, and sees the same images as before.
"""

import logging
import random
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
from nas.data.augmentation import Augmentation, Draws, augment, draw, normalise
from nas.data.image_files import READING_ERRORS, ImageFiles, to_channels
from nas.data.training_data import ArrayPart, Part, TrainingData
from nas.errors import DataError
from nas.evaluators.child import EVALUATION_PIXELS
from nas.training.recipe import AugmentationSettings, Recipe

logger = logging.getLogger(__name__)

MOST_SUBSTITUTES = 20
"""Neighbouring files tried in place of one that has become unreadable; more in a row mean that the folder is gone."""
LIGHTING_VALUES = (0.2175, 0.0188, 0.0045)
LIGHTING_VECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))
"""Principal components of ImageNet's pixels as facebook/fb.resnet.torch has them, scaled to [0, 1]."""

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


class TrainingBatches:
    """The training part in epochs; made once, with the data on the device where they are in memory."""

    def __init__(self, data: TrainingData, recipe: Recipe, seed: int, device: torch.device, loader_workers: int = 0) -> None:
        self._data, self._recipe, self._seed, self._device = data, recipe, seed, device
        self._loader_workers = loader_workers
        self._plan = batch_augmentation(recipe.augmentation, data.image_size, data.mirrors)
        self._statistics = (torch.tensor(data.mean, device=device), torch.tensor(data.std, device=device))
        self._arrays: Batch | None = None
        if isinstance(data.train, ArrayPart) and recipe.augmentation.batched:
            self._arrays = torch.from_numpy(data.train.images).to(device), torch.from_numpy(data.train.labels).to(device)

    def epoch(self, epoch: int, share: Share, first_step: int, steps: int) -> Iterator[list[Batch]]:
        """The passes of every step from ``first_step`` on, on the device; ``epoch`` counts from 1."""
        rng = random_for(self._seed, "epoch", epoch)
        generator = torch.Generator().manual_seed(rng.getrandbits(62))
        order = torch.randperm(len(self._data.train), generator=generator)
        if self._arrays is not None:
            draws = draw(self._plan, steps * share.batch_size, generator)
            for step in range(first_step, steps):
                yield [self._from_arrays(order, draws, places) for places in share.places(step)]
            return
        passes = [places for step in range(first_step, steps) for places in share.places(step)]
        salt = rng.getrandbits(40)
        wanted = [[(int(order[place]), salt + place) for place in places] for places in passes]
        loaded = _load(self._data, self._data.train, train_transform(self._recipe, self._data), wanted, self._loader_workers)
        for _ in range(first_step, steps):
            yield [self._to_device(next(loaded)) for _ in range(share.passes)]

    def _from_arrays(self, order: Tensor, draws: Draws, places: range) -> Batch:
        assert self._arrays is not None
        images, labels = self._arrays
        at = torch.arange(places.start, places.stop, places.step)
        chosen = order[at].to(self._device)
        mine = Draws(*(getattr(draws, name)[at].to(self._device) for name in Draws.__dataclass_fields__))
        return augment(images.index_select(0, chosen), self._plan, mine, *self._statistics), labels.index_select(0, chosen)

    def _to_device(self, batch: Batch) -> Batch:
        images = batch[0].to(self._device, non_blocking=True).contiguous(memory_format=torch.channels_last)
        return images, batch[1].to(self._device, non_blocking=True)


def scoring_batches(
    data: TrainingData, part: Part, recipe: Recipe, device: torch.device, loader_workers: int = 0, rank: int = 0, world: int = 1
) -> Iterator[Batch]:
    """A part in order, without augmentation: every image once, every ``world``-th from ``rank`` on. From files: the middle crop."""
    pixels = EVALUATION_PIXELS.get(device.type, EVALUATION_PIXELS["cpu"])
    size = max(16, pixels // data.image_size**2)
    mine = range(rank, len(part), world)
    chunks = [mine[start : start + size] for start in range(0, len(mine), size)]
    if isinstance(part, ArrayPart):
        mean, std = torch.tensor(data.mean, device=device), torch.tensor(data.std, device=device)
        for chunk in chunks:
            at = np.asarray(chunk)
            labels = torch.from_numpy(part.labels[at]).to(device)
            yield normalise(torch.from_numpy(part.images[at]).to(device), mean, std), labels
        return
    wanted = [[(place, 0) for place in chunk] for chunk in chunks]
    for images, labels in _load(data, part, scoring_transform(recipe, data), wanted, loader_workers):
        yield images.to(device).contiguous(memory_format=torch.channels_last), labels.to(device)


def batch_augmentation(settings: AugmentationSettings, image_size: int, mirrors: bool) -> Augmentation:
    """The recipe's augmentation of whole batches, for images of this size."""
    canvas = {"shift": image_size + 2 * max(1, round(image_size / 8)), "upsample": round(image_size * 5 / 4)}.get(settings.crop, image_size)
    cutout = min(settings.cutout, image_size // 2)
    return Augmentation(image_size, canvas, settings.crop == "upsample", flip=settings.flip and mirrors, cutout=cutout)


def shrink(images: Tensor, side: int) -> Tensor:
    """Images (batch, channels, side, side) at a smaller side, each pixel the average of the area it covers."""
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, size=(side, side), mode="area").contiguous(memory_format=torch.channels_last)


# ---------------------------------------------------------------------------------------------------- image by image


def train_transform(recipe: Recipe, data: TrainingData) -> Any:  # noqa: ANN401 - a torchvision transform
    """From a Pillow image to a normalised tensor, by torchvision and timm, in the order that timm has."""
    from timm.data.auto_augment import rand_augment_transform
    from timm.data.random_erasing import RandomErasing
    from torchvision.transforms import InterpolationMode, v2

    settings, side = recipe.augmentation, data.image_size
    interpolation = InterpolationMode(settings.interpolation)
    steps: list[Any] = []
    match settings.crop:
        case "inception":
            steps.append(v2.RandomResizedCrop(side, scale=(settings.min_area, 1.0), ratio=(3 / 4, 4 / 3), interpolation=interpolation))
        case "shift":
            steps += [*_middle(side, 1.0, interpolation), v2.RandomCrop(side, padding=max(1, round(side / 8)))]
        case "upsample":
            steps += [*_middle(round(side * 5 / 4), 1.0, interpolation), v2.RandomCrop(side)]
        case "none":
            steps += _middle(side, 1.0, interpolation)
    if settings.flip and data.mirrors:
        steps.append(v2.RandomHorizontalFlip())
    if settings.rand_augment:
        grey = tuple(round(255 * value) for value in data.mean) if data.channels == 3 else (round(255 * data.mean[0]),) * 3
        options = {"translate_const": int(side * 0.45), "img_mean": grey}
        steps += [v2.RGB(), _with_valid_bits(rand_augment_transform(settings.rand_augment, options))]
    if settings.color_jitter:
        steps.append(v2.ColorJitter(*(settings.color_jitter,) * 3))
    if data.channels == 1:
        steps.append(v2.Grayscale())
    steps += [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)]
    if settings.lighting and data.channels == 3:
        steps.append(Lighting(settings.lighting))
    steps.append(v2.Normalize(data.mean, data.std))
    if settings.random_erasing:
        steps.append(RandomErasing(settings.random_erasing, mode="pixel", max_count=1, device="cpu"))
    if settings.cutout:
        steps.append(Cutout(min(settings.cutout, side // 2)))
    return v2.Compose(steps)


def _with_valid_bits(augment: Any) -> Any:  # noqa: ANN401 - timm's RandAugment
    """The transform with posterising to at least 1 bit: at its largest magnitudes timm asks for 0, which newer Pillows refuse."""
    from timm.data.auto_augment import posterize

    def posterize_validly(image: Image.Image, bits: int, **_: object) -> Image.Image:
        result: Image.Image = posterize(image, max(1, bits))
        return result

    for operation in augment.ops:
        if operation.aug_fn is posterize:
            operation.aug_fn = posterize_validly
    return augment


def scoring_transform(recipe: Recipe, data: TrainingData) -> Any:  # noqa: ANN401 - a torchvision transform
    """The middle of the image: the shorter side scaled to ``image_size / crop_fraction``, normalised."""
    from torchvision.transforms import InterpolationMode, v2

    interpolation = InterpolationMode(recipe.augmentation.interpolation)
    fraction = recipe.crop_fraction if recipe.augmentation.crop == "inception" else 1.0
    last = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(data.mean, data.std)]
    return v2.Compose([*_middle(data.image_size, fraction, interpolation), *last])


def _middle(side: int, fraction: float, interpolation: Any) -> list[Any]:  # noqa: ANN401 - torchvision's enumeration
    from torchvision.transforms import v2

    return [v2.Resize(round(side / fraction), interpolation=interpolation), v2.CenterCrop(side)]


class Lighting:
    """AlexNet's PCA lighting: adds the principal components of ImageNet's pixels, each times its deviation times N(0, ``strength``)."""

    def __init__(self, strength: float) -> None:
        self._strength = strength
        self._components = torch.tensor(LIGHTING_VECTORS) * torch.tensor(LIGHTING_VALUES)

    def __call__(self, image: Tensor) -> Tensor:
        """A changed copy of an image (3, height, width) with values in [0, 1]."""
        return image + (self._components @ (torch.randn(3) * self._strength))[:, None, None]


class Cutout:
    """Sets a square around a random centre to 0, clipped at the borders (DeVries and Taylor, arXiv 1708.04552)."""

    def __init__(self, side: int) -> None:
        self._side = side

    def __call__(self, image: Tensor) -> Tensor:
        """The image (channels, height, width), changed in place."""
        row, column = (int(torch.randint(size, ())) - self._side // 2 for size in image.shape[-2:])
        image[:, max(0, row) : max(0, row + self._side), max(0, column) : max(0, column + self._side)] = 0
        return image


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
            array = self._part.images[index]
            return Image.fromarray(array.squeeze(-1) if array.shape[-1] == 1 else array), int(self._part.labels[index])
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


def _load(data: TrainingData, part: Part, transform: Any, wanted: list[list[tuple[int, int]]], workers: int) -> Iterator[Batch]:  # noqa: ANN401
    if not wanted:
        return iter(())
    images = _Images(part, transform, data.channels)
    loader: DataLoader[Any] = DataLoader(images, batch_sampler=wanted, num_workers=workers, pin_memory=torch.cuda.is_available())
    return ((batch, labels.long()) for batch, labels in loader)
