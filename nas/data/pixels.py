"""From an image file to pixels, the same way for everybody: train, score, predict and what is handed over. No torch."""

import hashlib
import math
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

READING_ERRORS = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)
"""What Pillow's decoders raise."""
GREY_MODES = frozenset({"1", "L", "LA", "I", "I;16", "I;16B", "F"})
RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC, "box": Image.Resampling.BOX}


def read_image(path: Path) -> Image.Image:
    """A decoded image, turned as its EXIF data say. Raises one of ``READING_ERRORS``."""
    return decode(path.read_bytes())


def decode(content: bytes) -> Image.Image:
    """The image in a file's bytes, upright. Raises one of ``READING_ERRORS``."""
    with Image.open(BytesIO(content)) as opened:
        upright = ImageOps.exif_transpose(opened)
        upright.load()
        return upright


def digest_of(content: bytes) -> str:
    """64 bits, in hexadecimal, by which copies of one file are found."""
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def to_rgb(image: Image.Image) -> Image.Image:
    """Any of Pillow's modes as RGB: 16-bit values scaled, transparency laid on white."""
    if image.mode.startswith("I"):  # 16 bits a pixel: Pillow's own conversion would clip at 255
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", coloured.size, "white"), coloured).convert("RGB")
    return image.convert("RGB")


def to_channels(image: Image.Image, channels: int) -> Image.Image:
    """The image as greyscale (1 channel) or RGB (3), from any of Pillow's modes."""
    coloured = to_rgb(image)
    return coloured.convert("L") if channels == 1 else coloured


def middle(image: Image.Image, side: int, fraction: float = 1.0, interpolation: str = "bicubic") -> Image.Image:
    """The shorter side scaled to ``side / fraction`` pixels, then the middle ``side`` × ``side`` cut out.

    The arithmetic is torchvision's (``Resize`` and ``CenterCrop``) and timm's (rounding down), so that their transforms give the
    same pixels.
    """
    short, (width, height) = math.floor(side / fraction), image.size
    scaled = (short, int(short * height / width)) if width <= height else (int(short * width / height), short)
    resized = image if scaled == image.size else image.resize(scaled, RESAMPLING[interpolation])
    left, top = (round((length - side) / 2.0) for length in resized.size)
    return resized.crop((left, top, left + side, top + side))


def as_array(image: Image.Image) -> npt.NDArray[np.uint8]:
    """(height, width, channels) of a greyscale or RGB image."""
    return np.asarray(image).reshape(image.height, image.width, -1)


def fit(image: Image.Image, channels: int, side: int, fraction: float = 1.0, interpolation: str = "bicubic") -> npt.NDArray[np.uint8]:
    """(side, side, channels): what a network sees of an image when it is scored."""
    return as_array(middle(to_channels(image, channels), side, fraction, interpolation))


def resize_all(images: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """Images (number, height, width, channels) with sides of ``side``: area averages when shrinking, else bilinear."""
    if images.shape[1] == images.shape[2] == side:
        return images
    method = Image.Resampling.BOX if side < images.shape[1] else Image.Resampling.BILINEAR
    out = np.empty((len(images), side, side, images.shape[3]), dtype=np.uint8)
    for i, image in enumerate(images):
        out[i] = as_array(from_array(image).resize((side, side), method))
    return out


def from_array(pixels: npt.NDArray[np.uint8]) -> Image.Image:
    """An image (height, width, channels) of 1 or 3 channels for Pillow, which wants greyscale without a channel axis."""
    return Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)


def channel_statistics(images: npt.NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
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
