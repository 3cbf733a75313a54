"""A contact sheet: some images of every class as a network will see them, each class under its name, as one picture. No torch."""

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nas.data.dataset import ArrayPart, Dataset, Part
from nas.data.names import printable
from nas.data.pixels import fit, from_array, resize_all

CELL = 72
"""Pixels that an image takes, about: small ones are enlarged a whole number of times, so that a pixel stays one."""
GAP, LETTER = 4, 14
MOST_CLASSES = 200
ROWS = 25
"""Classes that stand below each other; more go into further columns."""
WIDEST_NAME = 24


def contact_sheet(dataset: Dataset, part: Part, side: int) -> Image.Image:
    """Up to eight images of every class (four where there are many classes, 200 at most) from ``part``, at ``side`` pixels."""
    classes = min(dataset.classes, MOST_CLASSES)
    each = 8 if classes <= ROWS else 4
    times = max(1, CELL // side)
    shown = side * times if times > 1 else min(side, 2 * CELL)
    pitch, columns = shown + GAP, -(-classes // ROWS)
    rows = -(-classes // columns)
    labels = [_label(name, label) for label, name in enumerate(dataset.class_names[:classes])]
    text = max(round(font.getlength(words)) for words, font in labels) + 2 * GAP
    sheet = Image.new("RGB", (columns * (text + each * pitch + GAP), GAP + rows * pitch), "white")
    pen = ImageDraw.Draw(sheet)
    for label, (words, font) in enumerate(labels):
        left, top = (label // rows) * (text + each * pitch + GAP), GAP + (label % rows) * pitch
        pen.text((left + GAP, top + shown / 2), words, fill="black", font=font, anchor="lm")
        for i, image in enumerate(_images(part, label, each, dataset.channels, side)):
            resized = image.resize((shown, shown), Image.Resampling.NEAREST if times > 1 else Image.Resampling.LANCZOS)
            sheet.paste(resized, (left + text + i * pitch, top))
    return sheet


def _images(part: Part, label: int, count: int, channels: int, side: int) -> list[Image.Image]:
    """Some of a class, spread evenly over the part."""
    of_class = np.flatnonzero(part.labels == label)
    chosen = of_class[np.linspace(0, len(of_class) - 1, min(count, len(of_class))).astype(int)]
    if isinstance(part, ArrayPart):
        return [from_array(pixels) for pixels in resize_all(part.images[chosen], side)]
    return [from_array(fit(part.open(int(i)), channels, side)) for i in chosen]


def _label(name: str, label: int) -> tuple[str, ImageFont.FreeTypeFont]:
    """The name and a font that has all its letters; where no font of this machine does, the class's number."""
    plain = printable(name)
    words = plain if len(plain) <= WIDEST_NAME else plain[: WIDEST_NAME - 1] + "…"
    font = _font_with(frozenset(map(ord, words)))
    return (words, font) if font is not None else (f"class {label}", ImageFont.truetype(_fonts()[0], LETTER))


@cache
def _fonts() -> tuple[str, ...]:
    """Matplotlib's DejaVu Sans, which has Latin, Greek, Cyrillic, Arabic and Hebrew, then this machine's."""
    from matplotlib import font_manager

    own = font_manager.findfont("DejaVu Sans")
    return (own, *sorted(font_manager.findSystemFonts(), key=lambda path: ("regular" not in Path(path).name.lower(), path)))


@cache
def _font_with(letters: frozenset[int]) -> ImageFont.FreeTypeFont | None:
    for path in _fonts():
        if letters <= _letters(path):
            return ImageFont.truetype(path, LETTER)
    return None


@cache
def _letters(path: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()
