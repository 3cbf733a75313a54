"""Augmentation image by image, by torchvision and timm: for what cannot be done to whole batches, and for files read anew every epoch."""

from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from nas.data.pixels import middle
from nas.data.prepared import PreparedData
from nas.data.settings import AugmentationSettings

LIGHTING_VALUES = (0.2175, 0.0188, 0.0045)
LIGHTING_VECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))
"""Principal components of ImageNet's pixels as facebook/fb.resnet.torch has them, scaled to [0, 1]."""


def train_transform(settings: AugmentationSettings, data: PreparedData) -> Any:  # noqa: ANN401 - a torchvision transform
    """From a Pillow image to a normalised tensor, by torchvision and timm, in the order that timm has."""
    from timm.data.auto_augment import rand_augment_transform
    from timm.data.random_erasing import RandomErasing
    from torchvision.transforms import InterpolationMode, v2

    side = data.image_size
    interpolation = InterpolationMode(settings.interpolation)
    steps: list[Any] = []

    def middle_of(pixels: int) -> Any:  # noqa: ANN401 - a function from image to image
        return partial(middle, side=pixels, interpolation=settings.interpolation, mode=data.crop_mode)

    match settings.crop:
        case "inception":
            steps.append(v2.RandomResizedCrop(side, scale=(settings.min_area, 1.0), ratio=(3 / 4, 4 / 3), interpolation=interpolation))
        case "shift":
            steps += [middle_of(side), v2.RandomCrop(side, padding=max(1, round(side / 8)))]
        case "upsample":
            steps += [middle_of(round(side * 5 / 4)), v2.RandomCrop(side)]
        case "none":
            steps.append(middle_of(side))
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
