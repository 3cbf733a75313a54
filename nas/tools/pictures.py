"""How every picture looks and is written: colours (light and dark), letters, files, names under the pointer. No torch.

Matplotlib is loaded when a picture is drawn.
"""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args
from xml.etree import ElementTree

from nas.tools.files import write_atomically
from nas.tools.words import printable
from search_spaces.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

SUFFIXES = (".svg", ".png", ".pdf")
_DRAWING = threading.RLock()
"""Matplotlib's settings are the process's, and trainings may go on in several threads."""
Theme = Literal["light", "dark", "auto"]
THEMES: tuple[Theme, ...] = get_args(Theme)
"""``auto`` is an SVG that is light or dark as the reader's system is."""

FONT = 9
"""Points of a picture's ordinary letters."""
DPI = 150
_FAMILY = "DejaVu Sans"
"""It comes with matplotlib, so that pictures are measured alike everywhere; few are as wide."""
_STACK = "'Helvetica Neue', Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
"""What an SVG asks the reader's system for: none is wider than what was measured, so that every label fits its box."""


class DrawError(UserError):
    """A picture cannot be written. Choose another file name."""


@dataclass(frozen=True)
class Palette:
    """The colours of a theme. ``series`` tells lines apart (for the colour-blind too, as far as eight can); ``fills`` are by kind."""

    paper: str
    ink: str
    muted: str
    outline: str
    grid: str
    faded: str
    faded_fill: str
    inputs: tuple[str, str]
    series: tuple[str, ...]
    fills: Mapping[str, str]

    def colours(self) -> list[str]:
        """All of them, in an order that two palettes share."""
        plain = (self.paper, self.ink, self.muted, self.outline, self.grid, self.faded, self.faded_fill)
        return [*plain, *self.inputs, *self.series, *self.fills.values()]


LIGHT = Palette(
    paper="#ffffff",
    ink="#23272f",
    muted="#666d79",
    outline="#8b929e",
    grid="#e3e6ea",
    faded="#b3b9c2",
    faded_fill="#fafafb",
    inputs=("#5b6472", "#14171c"),
    series=("#0a6ebd", "#c2500a", "#00795a", "#a8327a", "#7a6200", "#4a4fc4", "#b2352a", "#00748a"),
    fills=MappingProxyType({"conv": "#fdebcf", "pool": "#dcebf9", "block": "#e1f2da", "other": "#eceef1", "end": "#f3f0fa"}),
)
DARK = Palette(
    paper="#15181d",
    ink="#e8eaee",
    muted="#a6adba",
    outline="#6d7582",
    grid="#323843",
    faded="#59606c",
    faded_fill="#1a1e24",
    inputs=("#9aa5b5", "#f4f6fa"),
    series=("#5db5f5", "#ff9b5c", "#4fd1a5", "#f08bc6", "#e0c44a", "#a5a8ff", "#ff8378", "#5fd0e3"),
    fills=MappingProxyType({"conv": "#4a3a1c", "pool": "#1f3b57", "block": "#2a4526", "other": "#343942", "end": "#2c2940"}),
)


@contextmanager
def drawing(theme: Theme = "light") -> Iterator[Palette]:
    """Figures made within have the theme's colours and the project's letters; gives the palette. One thread at a time."""
    import matplotlib as mpl

    with _DRAWING, mpl.rc_context(_settings(palette(theme))):
        yield palette(theme)


def palette(theme: Theme) -> Palette:
    """The colours that a theme is drawn with. Raises DrawError for a name that is none."""
    if theme not in THEMES:
        raise DrawError(f"a picture's theme must be one of {', '.join(THEMES)}, but got {theme!r}")
    return DARK if theme == "dark" else LIGHT


def _settings(colours: Palette) -> dict[Any, Any]:
    """Matplotlib's. Names are shown as they are: with ``parse_math``, "$" would begin a formula."""
    from cycler import cycler

    return {
        "font.family": [_FAMILY],
        "font.size": FONT,
        "text.parse_math": False,
        "text.color": colours.ink,
        "figure.facecolor": colours.paper,
        "savefig.facecolor": colours.paper,
        "axes.facecolor": colours.paper,
        "axes.edgecolor": colours.outline,
        "axes.labelcolor": colours.ink,
        "axes.labelsize": FONT,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.grid": True,
        "axes.prop_cycle": cycler(color=colours.series),
        "grid.color": colours.grid,
        "grid.linewidth": 0.7,
        "xtick.color": colours.outline,
        "xtick.labelcolor": colours.muted,
        "xtick.labelsize": FONT - 1,
        "ytick.color": colours.outline,
        "ytick.labelcolor": colours.muted,
        "ytick.labelsize": FONT - 1,
        "lines.linewidth": 1.6,
        "lines.solid_capstyle": "round",
        "legend.frameon": False,
        "legend.fontsize": FONT - 1,
        "svg.fonttype": "none",  # text stays text: to be searched, copied, changed
        "svg.hashsalt": "nas",  # the same picture is the same file
    }


# ------------------------------------------------------------------------------------------------ files


def check_picture(path: str | os.PathLike[str], theme: Theme = "light") -> Path:
    """The file that a picture is to be written to. Raises DrawError for an ending that no picture has, or a theme that it cannot have."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DrawError(f"{path}: a picture's name must end in one of {', '.join(SUFFIXES)}, but got {path.suffix!r}")
    palette(theme)
    if theme == "auto" and suffix != ".svg":
        raise DrawError(f"{path}: only an .svg file follows its reader's theme; choose light or dark, but got 'auto'")
    return path


def save(figure: Figure, path: str | Path, theme: Theme = "light") -> None:
    """Write a figure: whole, or not at all; the name's ending (.svg, .png, .pdf) chooses the format.

    Raises:
        DrawError: the ending is another, or the file cannot be written.
    """
    path = check_picture(path, theme)
    suffix = path.suffix.lower()
    content = svg_text(figure, theme) if suffix == ".svg" else _rendered(figure, suffix[1:], theme)
    try:
        write_atomically(path, content)
    except OSError as problem:
        raise DrawError(f"{path}: cannot be written: {problem.strerror or problem}") from None


def svg_text(figure: Figure, theme: Theme = "light") -> str:
    """A figure as an SVG document. What was given a name by ``named`` says it under the pointer."""
    for prefix, address in (("", "http://www.w3.org/2000/svg"), ("xlink", "http://www.w3.org/1999/xlink")):
        ElementTree.register_namespace(prefix, address)
    root = ElementTree.fromstring(_rendered(figure, "svg", theme))  # noqa: S314 - made just now by ourselves
    for metadata in root.findall(f"{_SVG}metadata"):
        root.remove(metadata)
    for group in root.iter(f"{_SVG}g"):
        _name_group(group)
    for text in root.iter(f"{_SVG}text"):
        text.set("style", text.get("style", "").replace(f"'{_FAMILY}'", _STACK))
    style = ElementTree.Element(f"{_SVG}style")
    style.text = _HOVER + (_follow() if theme == "auto" else "")
    root.insert(0, style)
    root.set("role", "img")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def svg_element(figure: Figure, theme: Theme = "light") -> str:
    """A figure as an ``<svg>`` element to put into a page."""
    document = svg_text(figure, theme)
    return document[document.index("<svg") :]


_SVG = "{http://www.w3.org/2000/svg}"
_NAMED = "nas-"
_HOVER = ".nas-edge:hover path,.nas-edge:has(+.nas-reach:hover) path{stroke-width:2.6!important}"


def named(kind: str, text: str) -> str:
    """The ``gid`` of an artist that says ``text`` under the pointer; its group's class is ``nas-KIND``."""
    return f"{_NAMED}{kind} {printable(text)}"


def _name_group(group: ElementTree.Element) -> None:
    """Put a ``<title>`` in the place of an artist's name; matplotlib's own ids go, since a page may hold many pictures."""
    given = group.attrib.pop("id", "")
    if given.startswith(_NAMED):
        kind, _, text = given.partition(" ")
        group.set("class", kind)
        title = ElementTree.Element(f"{_SVG}title")
        title.text = text
        group.insert(0, title)


def _follow() -> str:
    """Rules that give the light theme's colours those of the dark one where the reader's system is dark."""
    pairs = dict(zip(LIGHT.colours(), DARK.colours(), strict=True))
    rules = (f'[style*="{what}: {old}"]{{{what}:{new}!important}}' for old, new in pairs.items() for what in ("fill", "stroke"))
    return f"@media(prefers-color-scheme:dark){{{''.join(rules)}}}"


def _rendered(figure: Figure, format: str, theme: Theme) -> bytes:
    target = io.BytesIO()
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(format)
    with drawing(theme), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(target, format=format, dpi=DPI, metadata=metadata)
    return target.getvalue()


# ------------------------------------------------------------------------------------------------ text


def text_width(text: str, size: float = FONT, bold: bool = False) -> float:
    """Inches that the longest line of a text takes."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    measure = TextToPath()
    font = FontProperties(family=_FAMILY, size=size, weight="bold" if bold else "normal")
    widths = [measure.get_text_width_height_descent(printable(line), font, ismath=False)[0] for line in text.split("\n")]
    return float(max(widths)) / 72


def shortened(text: str, longest: int) -> str:
    """A name's beginning and end, with an ellipsis between, where it is longer: names that begin alike often end in a number."""
    text = printable(text)
    return text if len(text) <= longest else f"{text[: longest - longest // 3 - 1]}…{text[-(longest // 3) :]}"


def headline(figure: Figure, title: str, note: str = "", left: float = 0.3) -> float:
    """Write a title and a line below it at a figure's upper left; gives the inches that they take from the top.

    Both are shrunk where they are wider than the figure, ``left`` inches being its margins.
    """
    title, note = printable(title), printable(note)
    width, height = figure.get_size_inches()
    y = 0.24
    for text, size, weight, colour in ((title, FONT + 4.0, "bold", None), (note, float(FONT), "normal", _muted())):
        if not text:
            continue
        fitting = min(size, size * (width - 2 * left) / max(0.1, text_width(text, size, weight == "bold")))
        extra: dict[str, Any] = {} if colour is None else {"color": colour}
        figure.text(left / width, 1 - y / height, text, ha="left", va="center", fontsize=fitting, weight=weight, parse_math=False, **extra)
        y += 0.25
    return y


def _muted() -> str:
    import matplotlib as mpl

    return str(mpl.rcParams["xtick.labelcolor"])


# ------------------------------------------------------------------------------------------------ charts


def chance_line(axes: Axes, classes: int, colours: Palette) -> None:
    """Mark the accuracy, in per cent, of guessing among so many classes."""
    height, text = 100 / classes, f"chance {100 / classes:.3g} %"
    axes.axhline(height, color=colours.muted, linestyle=(0, (1, 2)), linewidth=1.2, zorder=1.5, gid=named("chance", text))
    place = axes.get_yaxis_transform()
    axes.text(0.995, height, text, transform=place, ha="right", va="bottom", fontsize=FONT - 1, color=colours.muted)


def per_cent_limits(values: Sequence[float], below: float | None = None) -> tuple[float, float]:
    """Limits of an axis of accuracies in per cent: room around the values, never under 0 or above 100; ``below`` is shown, too."""
    lowest, highest = min(values), max(values)
    if below is not None:
        lowest = min(lowest, below)
    room = max(0.08 * (highest - lowest), 0.3)
    return max(0.0, lowest - room), min(100.0 + 0.2 * room, highest + room)


_AROUND = ((1, 0), (1, 1), (1, -1), (-1, 0), (-1, 1), (-1, -1), (0, 1), (0, -1))


def label_points(axes: Axes, points: Sequence[tuple[float, float]], texts: Sequence[str], colours: Palette) -> None:
    """Write a text beside every point so that none covers another, a point, or the axes' edge; a hair leads to one that stands off.

    The axes must have their final place and limits.
    """
    from matplotlib.transforms import Bbox

    figure = axes.get_figure(root=True)
    assert figure is not None
    pixel = figure.dpi / 72
    at = [tuple(map(float, axes.transData.transform(point))) for point in points]
    taken = [Bbox.from_extents(x - 4 * pixel, y - 4 * pixel, x + 4 * pixel, y + 4 * pixel) for x, y in at]
    inside = axes.get_window_extent()
    for (x, y), point, text in sorted(zip(at, points, texts, strict=True), key=lambda row: -row[0][1]):
        size = (text_width(text, FONT - 1) * figure.dpi, 1.25 * (FONT - 1) * pixel)
        best = min(_places(x, y, size, pixel), key=lambda place: (_cost(place[0], taken, inside), place[1]))
        box, distance = best
        taken.append(box)
        middle = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
        offset = ((middle[0] - x) / pixel, (middle[1] - y) / pixel)
        hair = {"arrowstyle": "-", "color": colours.outline, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3} if distance > 12 else None
        axes.annotate(
            text,
            point,
            xytext=offset,
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=FONT - 1,
            arrowprops=hair,
            annotation_clip=False,
            zorder=5,
        )


def _places(x: float, y: float, size: tuple[float, float], pixel: float) -> Iterator[tuple[Bbox, float]]:
    """Boxes around a point, and their distances from it in points."""
    from matplotlib.transforms import Bbox

    width, height = size
    for distance in (5, 10, 16, 24, 34, 46, 60):
        for right, up in _AROUND:
            shift = distance * pixel
            cx, cy = x + right * (shift + width / 2), y + up * (shift + height / 2) * (1 if not right else 0.8)
            yield Bbox.from_extents(cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2), distance + 2 * (right < 0)


def _cost(box: Bbox, taken: Sequence[Bbox], inside: Bbox) -> int:
    """How much is wrong with a place: what it covers, and whether it sticks out."""
    out = box.x0 < inside.x0 or box.x1 > inside.x1 or box.y0 < inside.y0 or box.y1 > inside.y1
    return sum(bool(box.overlaps(other)) for other in taken) + 2 * int(out)
