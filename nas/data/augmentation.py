"""Augmentation of whole batches in tensor operations: every example draws its own crop, mirror image and cutout.

All draws of an epoch are made at once, on the CPU, from one generator: they do not depend on the device or the batch size.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nas.data.settings import AugmentationSettings

ASPECT = 4 / 3
"""Largest ratio of the sides of a part that is enlarged."""


@dataclass(frozen=True)
class Augmentation:
    """What is done to the training images; sides in pixels.

    ``canvas`` is the side of the image from which a window of ``image_size`` is cropped: the upsampled one where
    ``upsample``, else the zero-padded one; equal to ``image_size`` where nothing is cropped.
    """

    image_size: int
    canvas: int
    upsample: bool
    flip: bool
    cutout: int
    min_area: float | None = None
    """Smallest share of the image's area that is enlarged to the whole; None where parts are not enlarged."""


@dataclass(frozen=True)
class Draws:
    """The random choices for a number of examples, each of shape (examples,); of ``part`` (examples, 4): area, aspect, row, column."""

    row: Tensor
    column: Tensor
    mirrored: Tensor
    cut_row: Tensor
    cut_column: Tensor
    part: Tensor

    def take(self, at: slice) -> "Draws":
        """The draws of some of the examples."""
        return Draws(*(values[at] for values in self._fields()))

    def to(self, device: torch.device) -> "Draws":
        """The draws on a device."""
        return Draws(*(values.to(device) for values in self._fields()))

    def _fields(self) -> tuple[Tensor, ...]:
        return self.row, self.column, self.mirrored, self.cut_row, self.cut_column, self.part


def plan_augmentation(settings: AugmentationSettings, image_size: int, mirrors: bool) -> Augmentation:
    """What the settings ask of whole batches, for images of this size.

    ``upsample``: enlarged by 5/4 (32 → 40, bilinear), then a random window of the old size (Zoph et al. 2018, appendix A.1).
    ``shift``: padded with zeros by 1/8 on every side (32 → 40), then a random window (He et al. 2016, section 4.2).
    ``zoom``: a window of random area and aspect ratio (3:4 to 4:3), enlarged to the whole (Szegedy et al. 2015, section 6).
    Images are mirrored only where the settings want it and the data set allows it (``mirrors``).
    """
    canvas = {"shift": image_size + 2 * max(1, round(image_size / 8)), "upsample": round(image_size * 5 / 4)}.get(settings.crop, image_size)
    cutout = min(settings.cutout, image_size // 2)
    min_area = settings.min_area if settings.crop == "zoom" else None
    return Augmentation(image_size, canvas, settings.crop == "upsample", settings.flip and mirrors, cutout, min_area)


def draw(plan: Augmentation, examples: int, generator: torch.Generator) -> Draws:
    """Draw for ``examples`` examples; offsets and cutout centres are uniform, half of the images are mirrored."""

    def uniform(high: int) -> Tensor:
        return torch.randint(high, (examples,), generator=generator)

    offsets = plan.canvas - plan.image_size + 1
    squares = uniform(offsets), uniform(offsets), uniform(2).bool(), uniform(plan.image_size), uniform(plan.image_size)
    return Draws(*squares, torch.zeros(examples, 4) if plan.min_area is None else torch.rand(examples, 4, generator=generator))


def augment(images: Tensor, plan: Augmentation, draws: Draws, mean: Tensor, std: Tensor) -> Tensor:
    """Crop, mirror, normalise, cut out.

    Args:
        images: (batch, size, size, channels), uint8.
        plan: what to do.
        draws: one per image, on the device of the images.
        mean: (channels,), of pixels scaled to [0, 1].
        std: (channels,), likewise.

    Returns:
        (batch, channels, size, size), float32, in channels-last memory format; what cutout erases is 0, the mean.
    """
    pixels = images.permute(0, 3, 1, 2).float()
    if plan.canvas > plan.image_size:
        if plan.upsample:
            pixels = F.interpolate(pixels, size=(plan.canvas, plan.canvas), mode="bilinear", align_corners=False)
        else:
            margin = (plan.canvas - plan.image_size) // 2
            pixels = F.pad(pixels, (margin, margin, margin, margin))
    if plan.min_area is not None:
        pixels = _enlarged_part(pixels, plan, plan.min_area, draws)
    elif plan.canvas > plan.image_size or plan.flip:
        pixels = _window(pixels, plan, draws)
    pixels = normalise_(pixels, mean, std)
    return _cut_out_(pixels, plan, draws) if plan.cutout else pixels


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """uint8 images (batch, size, size, channels) as (batch, channels, size, size), float32, channels-last, mean 0 and deviation 1."""
    return normalise_(images.permute(0, 3, 1, 2).float(), mean, std)


def normalise_(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """In place, for float pixels 0..255 of shape (batch, channels, height, width)."""
    return pixels.sub_((mean * 255)[:, None, None]).div_((std * 255)[:, None, None])


def _window(pixels: Tensor, plan: Augmentation, draws: Draws) -> Tensor:
    """Every example's own window of the canvas, its columns read backwards where it is mirrored."""
    batch, channels, height, width = pixels.shape
    steps = torch.arange(plan.image_size, device=pixels.device)
    rows = draws.row[:, None] + steps
    columns = draws.column[:, None] + (torch.where(draws.mirrored[:, None], plan.image_size - 1 - steps, steps) if plan.flip else steps)
    example = torch.arange(batch, device=pixels.device)[:, None, None] * (height * width)
    flat = (example + rows[:, :, None] * width + columns[:, None, :]).reshape(-1)
    # Selecting whole pixels from (batch × height × width, channels) is about half the time of indexing with three tensors.
    chosen = pixels.permute(0, 2, 3, 1).reshape(-1, channels).index_select(0, flat)
    return chosen.view(batch, plan.image_size, plan.image_size, channels).permute(0, 3, 1, 2)


def _enlarged_part(pixels: Tensor, plan: Augmentation, min_area: float, draws: Draws) -> Tensor:
    """Every example's own part of the image, bilinearly resized to the whole, mirrored where it is to be."""
    area, aspect, row, column = draws.part.unbind(1)
    area = min_area + (1 - min_area) * area
    aspect = (ASPECT ** (2 * aspect - 1)).sqrt()
    height, width = ((area.sqrt() * ratio).clamp(max=1.0) for ratio in (1 / aspect, aspect))
    # From where -1 and 1 are the borders of the result, to where they are those of the image.
    across = torch.where(draws.mirrored, -width, width) if plan.flip else width
    nothing = torch.zeros_like(area)
    rows = torch.stack([nothing, height, (2 * row - 1) * (1 - height)], dim=1)
    columns = torch.stack([across, nothing, (2 * column - 1) * (1 - width)], dim=1)
    grid = F.affine_grid(torch.stack([columns, rows], dim=1), list(pixels.shape), align_corners=False)
    enlarged = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return enlarged.contiguous(memory_format=torch.channels_last)


def _cut_out_(pixels: Tensor, plan: Augmentation, draws: Draws) -> Tensor:
    """Erase a square around every example's centre, clipped at the borders (DeVries and Taylor, arXiv 1708.04552)."""
    steps = torch.arange(plan.image_size, device=pixels.device)
    first = plan.cutout // 2

    def inside(centre: Tensor) -> Tensor:
        start = centre[:, None] - first
        return (steps >= start) & (steps < start + plan.cutout)

    erased = inside(draws.cut_row)[:, None, :, None] & inside(draws.cut_column)[:, None, None, :]
    return pixels.masked_fill_(erased, 0.0)
