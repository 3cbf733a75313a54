"""What pictures of cells and of networks are made of: boxes, labels, arrows, a legend. All lengths are inches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.tools.pictures import FONT, Palette, named, text_width
from search_spaces.genotype import Edge
from search_spaces.vocabulary import OPERATIONS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.path import Path

LINE_HEIGHT = 0.155
PAD = 0.09
MARGIN = 0.3
ARROW = "-|>,head_length=3.6,head_width=1.9"
LINE, REACH = 1.5, 9.0
"""Points that a line is wide, and that a pointer may be off it for its name."""

KINDS = {"conv": "convolution", "pool": "pooling", "block": "block", "other": "other operation"}
"""The legend's words for the colours of operations."""


def text_height(text: str) -> float:
    """Inches that a label takes in a box."""
    return LINE_HEIGHT * (text.count("\n") + 1) + 2 * PAD


def label(axes: Axes, x: float, y: float, text: str, colour: str, bold: bool = False) -> None:
    """Centre a label at a place, line by line: an SVG then keeps its lines centred whatever letters its reader has."""
    lines = text.split("\n")
    for i, line in enumerate(lines):
        height = y + LINE_HEIGHT * ((len(lines) - 1) / 2 - i)
        axes.text(x, height, line, ha="center", va="center_baseline", color=colour, weight="bold" if bold else "normal", zorder=4)


@dataclass(frozen=True)
class Box:
    """A rectangle by its lower left corner; ``name`` is said under the pointer."""

    x: float
    y: float
    width: float
    height: float
    name: str = ""

    def draw(
        self, axes: Axes, fill: str, edge: str, *, kind: str = "node", rounding: float = 0.03, line: float = 0.9, order: float = 3
    ) -> None:
        """Draw it, its corners rounded by so many inches."""
        from matplotlib.patches import FancyBboxPatch

        style = f"round,pad=0,rounding_size={rounding}"
        axes.add_patch(
            FancyBboxPatch(
                (self.x, self.y),
                self.width,
                self.height,
                boxstyle=style,
                facecolor=fill,
                edgecolor=edge,
                linewidth=line,
                zorder=order,
                clip_on=False,
                gid=named(kind, self.name) if self.name else None,
            )
        )


def stroke(axes: Axes, path: Path, colour: str, name: str, *, arrives: bool, dashed: bool = False) -> None:
    """Draw a line, with a head where it arrives; a broad unseen one over it catches the pointer."""
    from matplotlib.patches import FancyArrowPatch, PathPatch
    from matplotlib.path import Path as Curve

    gid = named("edge", name)
    how: dict[str, Any] = {"joinstyle": "round", "capstyle": "butt", "snap": False, "zorder": 1}
    line: dict[str, Any] = {"color": colour, "linewidth": LINE, "shrinkA": 0, "shrinkB": 0, "gid": gid, **how}
    head = ARROW if arrives else "-"
    if dashed:  # but not its head
        axes.add_patch(FancyArrowPatch(path=path, arrowstyle="-", linestyle=(0, (4, 2.5)), **line))
        end = np.asarray(path.vertices)[-2:]
        axes.add_patch(FancyArrowPatch(path=Curve([(end[0] + end[1]) / 2, end[1]]), arrowstyle=head, **line))
    else:
        axes.add_patch(FancyArrowPatch(path=path, arrowstyle=head, **line))
    reach: dict[str, Any] = {"facecolor": "none", "edgecolor": colour, "alpha": 0.0, "linewidth": REACH, "gid": named("reach", name)}
    axes.add_patch(PathPatch(path, **reach, **how))


# ------------------------------------------------------------------------------------------------ operations in words


def operation_label(edge: Edge, strided: bool) -> str:
    """An operation as a box has it: its name with a stride of two, its options below."""
    name = edge.operation.replace("_", " ")
    for digit in "1357":
        name = name.replace(f"{digit}x", f"{digit}×")
    options = "".join(f"\n{key.replace('_', ' ')}: {str(value).replace('_', ' ')}" for key, value in edge.options)
    return name + (" /2" if strided else "") + options


def operation_kind(operation: str) -> str:
    """Which of the colours an operation has."""
    if operation in OPERATIONS and OPERATIONS[operation].kind:
        return OPERATIONS[operation].kind
    for part, kind in (("block", "block"), ("pool", "pool"), ("conv", "conv")):
        if part in operation:
            return kind
    return "other"


# ------------------------------------------------------------------------------------------------ legend


@dataclass(frozen=True)
class Key:
    """An entry of a legend: a swatch of a fill, or of a line, or a sign, and what it means."""

    text: str
    fill: str = ""
    line: str = ""
    sign: str = ""

    @property
    def width(self) -> float:
        """Inches, with the gap to the next."""
        swatch = text_width(self.sign, FONT - 1, bold=True) if self.sign else 0.24
        return swatch + 0.07 + text_width(self.text, FONT - 1) + 0.22


def legend_rows(keys: Sequence[Key], width: float) -> list[list[Key]]:
    """The entries in as few rows as fit in a width."""
    rows: list[list[Key]] = [[]]
    for key in keys:
        if rows[-1] and sum(other.width for other in rows[-1]) + key.width - 0.2 > width:
            rows.append([])
        rows[-1].append(key)
    return [row for row in rows if row]


ROW_HEIGHT = 0.22


def draw_legend(axes: Axes, rows: Sequence[Sequence[Key]], left: float, bottom: float, colours: Palette) -> None:
    """Draw a legend's rows, the last at the bottom."""
    for i, row in enumerate(rows):
        x, y = left, bottom + (len(rows) - 1 - i + 0.5) * ROW_HEIGHT
        for key in row:
            swatch = 0.24
            if key.fill:
                Box(x, y - 0.06, swatch - 0.04, 0.12).draw(axes, key.fill, colours.outline, line=0.7)
            elif key.line:
                axes.plot([x, x + swatch - 0.03], [y, y], color=key.line, linewidth=LINE, linestyle=(0, (4, 2.5)))
            else:
                swatch = text_width(key.sign, FONT - 1, bold=True)
                axes.text(x, y, key.sign, ha="left", va="center_baseline", fontsize=FONT - 1, weight="bold", color=colours.ink)
            axes.text(x + swatch + 0.05, y, key.text, ha="left", va="center_baseline", fontsize=FONT - 1, color=colours.muted)
            x += key.width
