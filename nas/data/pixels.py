"""From an image file to pixels, the same way for everybody: train, score, predict and what is handed over. No torch.

What a person sees is what a network gets, by a rule that needs the image alone:

- 8-bit modes are shown as they are, in the colours that Pillow converts them to; files of several frames show their first;
- numbers of other depths (16 and 32 bits, floating point) are shown on the smallest of the scales 0..1 (fractions only), 0..255,
  0..4095 and 0..65535 that holds them all; on the image's own, from its smallest to its largest, where none of these does or
  where different numbers would end within fewer than 32 of the 256 levels;
- what is transparent is laid on white; on black, or shown without transparency, where white would hide it.

A file that cannot be shown so is refused with its reason; damaged metadata cost nothing but themselves.
"""

import hashlib
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

warnings.filterwarnings("ignore", module=r"PIL\.", append=True)  # about files that are read all the same, or refused with a reason


class ImageError(ValueError):
    """A file or an image that cannot be used; the text is the reason, in one line that is the same every time."""


READING_ERRORS = (OSError, ImageError)
"""What leaves the functions that read or convert an image, and nothing else."""
GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F"})
RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC, "box": Image.Resampling.BOX}
MOST_PIXELS = 89_478_485
"""Larger images are refused before they are decoded: Pillow's own bound, 256 MiB of RGB."""
NO_PICTURES = frozenset({"BUFR", "DCX", "EPS", "GRIB", "HDF5", "MPEG", "PCX", "WMF"})
"""Formats that Pillow only recognises, or leaves to other programs to draw, or reads as another picture where the end is missing (PCX)."""
FULL_SCALES = (1, 255, 4095, 65535)
VISIBLE_LEVELS = 32
LONGEST = 64
"""Sides that are longer than this many times the other are cut to it before they are scaled: only their middle is looked at."""


def read_image(path: Path) -> Image.Image:
    """A decoded image, turned as its EXIF data say. Raises one of ``READING_ERRORS``."""
    return decode(path.read_bytes())


def decode(content: bytes) -> Image.Image:
    """The image in a file's bytes, upright, in its own mode. Raises ImageError."""
    with reasons():
        try:
            return decode_once(content)
        except Exception:
            plain = without_metadata(content)
            if plain is None:
                raise
            return decode_once(plain)


def decode_once(content: bytes) -> Image.Image:
    """The image in a file's bytes, or whatever error Pillow's decoders let through."""
    with Image.open(BytesIO(content), formats=image_formats()) as image:
        if image.width * image.height > MOST_PIXELS:
            raise ImageError(f"its {image.width}×{image.height} pixels are more than {MOST_PIXELS:,}")
        refuse_cut(image, content)
        high_bytes_only = any(";16" in str(tile[3]) for tile in image.tile)
        image.load()
        if high_bytes_only and not image.mode.startswith("I") and np.asarray(image.convert("RGB")).max() < 16:
            raise ImageError("its colours of 16 bits are all below 4096, and only their upper 8 bits can be read; save it with 8 bits")
        if image.mode == "F":
            to_eight_bits(image)  # refuses numbers that are not finite, so that what is read can also be shown
        if getattr(image, "tag_v2", {}).get(262) == 0:  # TIFF's WhiteIsZero, which Pillow heeds for 8 bits only
            image.info["white_is_zero"] = True
        with suppress(Exception):  # damaged EXIF data; what they said of the orientation is done first
            ImageOps.exif_transpose(image, in_place=True)
        return image.copy()


def refuse_cut(image: ImageFile.ImageFile, content: bytes) -> None:
    """Raise ImageError where parts of an opened file are missing that its decoder would not miss."""
    if image.format == "JPEG2000" and b"\xff\xd9" not in content:  # the end's marker, which no compressed data can hold
        raise ImageError("image file is truncated")
    if image.format != "TIFF":
        return
    order: Literal["little", "big"] = "little" if content[:2] == b"II" else "big"
    place, pointer, counter, entry = (8, 8, 8, 20) if 43 in content[2:4] else (4, 4, 2, 12)  # BigTIFF's widths, and TIFF's
    start = int.from_bytes(content[place : place + pointer], order)
    if start + counter + entry * int.from_bytes(content[start : start + counter], order) > len(
        content
    ):  # what the numbers mean stands there
        raise ImageError("image file is truncated")
    extents = [tile[1] for tile in image.tile if tile[1] is not None]
    if extents:
        columns, rows = (max(extent[i] for extent in extents) for i in (2, 3))
        if columns * rows < image.width * image.height:  # as a product: the size is that of the turned image
            raise ImageError(f"its strips or tiles cover {columns}×{rows} pixels of {image.width}×{image.height}")


def stated_size(content: bytes) -> tuple[int, int]:
    """Width and height as a file's bytes state them, without decoding it. Raises ImageError."""
    with reasons(), Image.open(BytesIO(content), formats=image_formats()) as image:
        return image.size


def image_formats() -> list[str]:
    """The formats that are told by a file's first bytes: others would take any bytes for an image."""
    Image.init()
    return [name for name, (_, recognised) in Image.OPEN.items() if recognised is not None and name not in NO_PICTURES]


@contextmanager
def reasons() -> Iterator[None]:
    """Turn whatever is raised in the block into an ImageError: damaged files make Pillow's decoders raise nearly anything."""
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError:  # its text names the buffer in memory by its address
        raise ImageError("no known image format") from None
    except Exception as problem:
        raise ImageError(" ".join(str(problem).split("\n", 1)[0].split()) or type(problem).__name__) from problem


def without_metadata(content: bytes) -> bytes | None:
    """A JPEG or PNG file without what is not needed to show it; None for other files, and where its parts cannot be told."""
    kept, place = [], 0
    if content[:2] == b"\xff\xd8":  # markers and lengths; of the application's segments, Adobe's (14) tells what the colours mean
        kept, place = [content[:2]], 2
        while content[place : place + 1] == b"\xff" and content[place + 1 : place + 2] not in (b"\xda", b""):
            marker, end = content[place + 1], place + 2 + int.from_bytes(content[place + 2 : place + 4], "big")
            if not (0xE0 <= marker <= 0xEF or marker == 0xFE) or marker == 0xEE:
                kept.append(content[place:end])
            place = end
        return b"".join([*kept, content[place:]]) if content[place : place + 1] == b"\xff" else None
    if content[:8] == b"\x89PNG\r\n\x1a\n":  # lengths, types and checksums
        kept, place = [content[:8]], 8
        while place < len(content):
            end = place + 12 + int.from_bytes(content[place : place + 4], "big")
            if content[place + 4 : place + 8] in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
                kept.append(content[place:end])
            place = end
        return b"".join(kept)
    return None


def digest_of(content: bytes) -> str:
    """64 bits, in hexadecimal, by which copies of one file are found."""
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def to_rgb(image: Image.Image) -> Image.Image:
    """An image of any of Pillow's modes in RGB, as a person sees it: see above. Raises ImageError."""
    with reasons():
        if image.mode.startswith("I") or image.mode == "F":
            image = to_eight_bits(image)
        if image.mode in ("La", "RGBa"):  # colours already multiplied by their opacity
            image = image.convert(image.mode.upper())
        if image.mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA") and image.has_transparency_data:
            return on_white(image.convert("RGBA"))
        return image.convert("RGB")


def to_eight_bits(image: Image.Image) -> Image.Image:
    """Numbers of any depth as grey levels, on the scale that they need: see above. Raises ImageError where some are not finite."""
    numbers = np.asarray(image).astype(np.float64)
    low, high = float(numbers.min()), float(numbers.max())
    if not math.isfinite(high - low):
        raise ImageError("some of its numbers are not finite (NaN or infinity)")
    scales = FULL_SCALES if image.mode == "F" else FULL_SCALES[1:]
    full = next((full for full in scales if low >= 0 and high <= full), None)
    levels = None if full is None else np.rint(numbers * (255 / full))
    if levels is None or (np.ptp(levels) < VISIBLE_LEVELS and len(np.unique(levels)) < len(np.unique(numbers))):
        levels = np.rint((numbers - low) * (255 / ((high - low) or 1.0)))
    shown = Image.fromarray((255 - levels if image.info.get("white_is_zero") else levels).astype(np.uint8))
    hidden = image.info.get("transparency")
    if isinstance(hidden, int):
        shown.putalpha(Image.fromarray(np.where(numbers == hidden, 0, 255).astype(np.uint8)))
    return shown


def contrast(image: Image.Image) -> float:
    """From the darkest to the brightest level of the channel in which they are farthest apart."""
    extremes = np.asarray([band.getextrema() for band in image.split()])
    return float((extremes[:, 1] - extremes[:, 0]).max())


def on_white(image: Image.Image) -> Image.Image:
    """An RGBA image laid on white; on black, or without its transparency, where that would hide it."""
    if image.getchannel("A").getextrema() == (255, 255):
        return image.convert("RGB")
    white = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if contrast(white) >= VISIBLE_LEVELS:
        return white
    black = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image).convert("RGB")
    return max((white, black, image.convert("RGB")), key=contrast)


def to_channels(image: Image.Image, channels: int) -> Image.Image:
    """The image as greyscale (1 channel) or RGB (3), from any of Pillow's modes. Raises ImageError."""
    coloured = to_rgb(image)
    return coloured.convert("L") if channels == 1 else coloured


def middle(image: Image.Image, side: int, fraction: float = 1.0, interpolation: str = "bicubic", mode: str = "center") -> Image.Image:
    """The shorter side scaled to ``side / fraction`` pixels, then the middle ``side`` × ``side`` cut out.

    In the mode ``squash`` both sides are scaled to that: nothing is cut off where ``fraction`` is 1, and squares become oblongs.
    The arithmetic is torchvision's (``Resize`` and ``CenterCrop``) and timm's (rounding down), so that their transforms give the
    same pixels.
    """
    image = image if mode == "squash" else cut_to_ratio(image)
    short, (width, height) = math.floor(side / fraction), image.size
    scaled = (short, int(short * height / width)) if width <= height else (int(short * width / height), short)
    scaled = (short, short) if mode == "squash" else scaled
    resized = image if scaled == image.size else image.resize(scaled, RESAMPLING[interpolation])
    left, top = (round((length - side) / 2.0) for length in resized.size)
    return resized.crop((left, top, left + side, top + side))


def cut_to_ratio(image: Image.Image) -> Image.Image:
    """The middle of an image that is so long and narrow that scaling the whole would take all memory."""
    width, height = (min(length, LONGEST * min(image.size)) for length in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image if (width, height) == image.size else image.crop((left, top, left + width, top + height))


def as_array(image: Image.Image) -> npt.NDArray[np.uint8]:
    """(height, width, channels) of a greyscale or RGB image."""
    return np.asarray(image).reshape(image.height, image.width, -1)


def fit(
    image: Image.Image, channels: int, side: int, fraction: float = 1.0, interpolation: str = "bicubic", mode: str = "center"
) -> npt.NDArray[np.uint8]:
    """(side, side, channels): what a network sees of an image when it is scored. Raises ImageError."""
    return as_array(middle(to_channels(image, channels), side, fraction, interpolation, mode))


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
