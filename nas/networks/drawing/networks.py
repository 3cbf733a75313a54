"""Pictures of whole networks: what follows on what, with shapes and skip inputs. Matplotlib is loaded when one is drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nas.networks.drawing.marks import (
    LINE_HEIGHT,
    MARGIN,
    PAD,
    ROW_HEIGHT,
    Box,
    Key,
    draw_legend,
    legend_rows,
    operation_label,
    stroke,
    text_height,
)
from nas.networks.scaling import short_number
from nas.tools.pictures import FONT, Palette, Theme, drawing, headline, text_width
from search_spaces.canonical import read_inputs
from search_spaces.genotype import STATE_NAMES, Genotype
from search_spaces.residual_skeletons import ResidualSkeleton
from search_spaces.skeletons import (
    FAMILIES,
    CellPlan,
    NASBench201Skeleton,
    NASNetSkeleton,
    Skeleton,
    auxiliary_position,
    kind_of,
    network_name,
    plan_cells,
    stage_filters,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from search_spaces.networks.network import Network

GAP = 0.3
LANE = 0.26
"""How far beside the boxes a skip input runs."""
CARD = 0.045
"""How far the second and third of several equal cells look out behind the first."""


def skeleton_figure(
    genotype: Genotype, skeleton: Skeleton, *, classes: int, channels: int = 3, image_size: int, title: str = "", theme: Theme = "light"
) -> Figure:
    """A network from the image at the bottom to the classes at the top, with its cost, and the shape after every part.

    Dashed lines are the second inputs of cells: each reads the output of the cell before the previous one, too.
    """
    from matplotlib.figure import Figure

    from search_spaces.networks.pieces import network_cost

    parts = network_parts(genotype, skeleton, classes=classes, channels=channels, image_size=image_size)
    cost = network_cost(genotype, skeleton, classes=classes, channels=channels, image_size=image_size)
    size = f"{short_number(cost.parameters)} parameters · {short_number(cost.macs)} MACs · {image_size}×{image_size} pixels"
    with drawing(theme) as colours:
        column = _Column.of(parts)
        rows = legend_rows(_keys(parts, colours), max(column.width, 4.4) - 2 * MARGIN)
        foot = ROW_HEIGHT * len(rows) + 0.28
        width, height = max(column.width, 4.4), column.height + foot + 1.0
        figure = Figure(figsize=(width, height))
        headline(figure, title or network_name(genotype, skeleton), size, MARGIN)
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
        axes.set_axis_off()
        column.draw(axes, (width - column.width) / 2 + MARGIN + column.lane, foot, colours)
        draw_legend(axes, rows, MARGIN, 0.14, colours)
    return figure


@dataclass(frozen=True, slots=True)
class Skip:
    """Where the second input of a part's first cell comes from: the part so many below, from its end or from inside it."""

    down: int
    inside: bool


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a network from bottom to top: what it is, the shape after it, its colour, a head that branches off, a skip input.

    ``times`` says of how many equal cells or blocks it consists.
    """

    text: str
    shape: str
    fill: str
    branch: str = ""
    times: int = 1
    skip: Skip | None = None


def _keys(parts: Sequence[Part], colours: Palette) -> list[Key]:
    words = {"conv": "stem", "pool": "halves the resolution", "block": "cells or blocks"}
    keys = [Key(text, fill=colours.fills[kind]) for kind, text in words.items() if any(part.fill == kind for part in parts)]
    if any(" /2" in part.text for part in parts):
        keys.append(Key("stride 2", sign="/2"))
    if any(part.skip for part in parts):
        keys.append(Key("skip input of a cell", line=colours.series[0]))
    return keys


@dataclass(frozen=True)
class _Column:
    """The parts' boxes one above the other, measured. ``lane`` is the room for skip inputs at either side."""

    parts: Sequence[Part]
    box_width: float
    shape_width: float
    lane: float
    width: float
    heights: tuple[float, ...]

    @staticmethod
    def of(parts: Sequence[Part]) -> _Column:
        box_width = max(2.4, *(text_width(part.text, bold=True) + 4 * PAD for part in parts))
        shape_width = max(text_width(part.shape, FONT - 1) for part in parts)
        lane = LANE + 0.08 if any(part.skip for part in parts) else 0.0
        branch = max((0.6 + text_width(part.branch) + 4 * PAD for part in parts if part.branch), default=0.0)
        width = box_width + 0.3 + shape_width + branch + 2 * (lane + MARGIN)
        return _Column(parts, box_width, shape_width, lane, width, tuple(text_height(part.text) + 0.06 for part in parts))

    @property
    def height(self) -> float:
        """Inches of all boxes and the gaps between them."""
        return sum(self.heights) + GAP * (len(self.parts) - 1)

    def draw(self, axes: Axes, left: float, bottom: float, colours: Palette) -> None:
        from matplotlib.path import Path as Curve

        y, centre = bottom, left + self.box_width / 2
        bottoms = []
        for part, height in zip(self.parts, self.heights, strict=True):
            bottoms.append(y)
            self._draw_part(axes, part, left, y, height, colours)
            y += height + GAP
        for lower, upper, height, part in zip(bottoms, bottoms[1:], self.heights, self.parts, strict=False):
            name = f"{part.text.splitlines()[0]} → {part.shape}"
            stroke(axes, Curve([(centre, lower + height), (centre, upper)]), colours.ink, name, arrives=True)
        for i, part in enumerate(self.parts):
            if part.skip is not None:
                self._draw_skip(axes, i, part.skip, left, bottoms, colours)

    def _draw_part(self, axes: Axes, part: Part, left: float, y: float, height: float, colours: Palette) -> None:
        rounding = 0.1 if part.fill == "end" else 0.03
        for behind in range(min(2, part.times - 1), 0, -1):
            shift = CARD * behind
            Box(left + shift, y + shift, self.box_width, height).draw(
                axes, colours.fills[part.fill], colours.outline, rounding=rounding, order=3 - behind / 10
            )
        words = f"{part.text.replace(chr(10), ', ')}: {part.shape}"
        Box(left, y, self.box_width, height, words).draw(axes, colours.fills[part.fill], colours.outline, rounding=rounding)
        lines = part.text.split("\n")
        for i, line in enumerate(lines):
            at = y + height / 2 + LINE_HEIGHT * ((len(lines) - 1) / 2 - i)
            first = i == 0 and part.fill != "end"
            colour = colours.ink if i == 0 or part.fill == "end" else colours.muted
            weight = "bold" if first else "normal"
            axes.text(left + self.box_width / 2, at, line, ha="center", va="center_baseline", color=colour, weight=weight, zorder=4)
        x = left + self.box_width + self.lane + 0.15
        axes.text(x, y + height / 2, part.shape, ha="left", va="center_baseline", fontsize=FONT - 1, color=colours.muted)
        if part.branch:
            _draw_branch(axes, x + self.shape_width + 0.1, y + height / 2, part.branch, colours)

    def _draw_skip(self, axes: Axes, part: int, skip: Skip, left: float, bottoms: Sequence[float], colours: Palette) -> None:
        """A dashed line beside the boxes, left and right in turn, so that no two of neighbours meet."""
        right = part % 2 == 1
        source = part - skip.down
        edge = left + self.box_width if right else left
        out = edge + LANE if right else edge - LANE
        if skip.inside:
            cards = CARD * min(2, self.parts[source].times - 1) if right else 0.0
            start = (edge + cards, bottoms[source] + 0.78 * self.heights[source])
        else:
            start = (left + self.box_width / 2, bottoms[source] + self.heights[source] + 0.38 * GAP)
        end = (edge + (CARD * min(2, self.parts[part].times - 1) if right else 0.0), bottoms[part] + 0.3 * self.heights[part])
        below = self.parts[source].text.splitlines()[0]
        name = f"skip input of {self.parts[part].text.splitlines()[0]}: from {'inside ' if skip.inside else ''}{below}"
        stroke(axes, _around(start, out, end), colours.series[0], name, arrives=True, dashed=True)


def _around(start: tuple[float, float], x: float, end: tuple[float, float]) -> Any:  # noqa: ANN401 - matplotlib's path
    """Sideways to ``x``, up, and back, with round corners."""
    from matplotlib.path import Path as Curve

    turn = 0.1 if x > end[0] else -0.1
    points = [start, (x - turn, start[1]), (x, start[1]), (x, start[1] + 0.1), (x, end[1] - 0.1), (x, end[1]), (x - turn, end[1]), end]
    return Curve(points, [Curve.MOVETO, Curve.LINETO, Curve.CURVE3, Curve.CURVE3, Curve.LINETO, Curve.CURVE3, Curve.CURVE3, Curve.LINETO])


def _draw_branch(axes: Axes, x: float, y: float, text: str, colours: Palette) -> None:
    from matplotlib.path import Path as Curve

    width = text_width(text) + 4 * PAD
    stroke(axes, Curve([(x, y), (x + 0.35, y)]), colours.ink, text, arrives=True)
    Box(x + 0.35, y - 0.17, width, 0.34, text).draw(axes, colours.fills["end"], colours.outline, rounding=0.1)
    axes.text(x + 0.35 + width / 2, y, text, ha="center", va="center_baseline", zorder=4)


# ------------------------------------------------------------------------------------------------ what a network consists of


def network_parts(genotype: Genotype, skeleton: Skeleton, *, classes: int, channels: int, image_size: int) -> list[Part]:
    """The parts of a network in order, equal neighbours together. Shapes are found on the meta device.

    Raises:
        UserError: the genotype does not fit the skeleton.
    """
    import torch

    from search_spaces.networks.build import build_network

    with torch.device("meta"):
        network = build_network(genotype, skeleton, classes=classes, channels=channels, image_size=image_size).eval()
    kind = kind_of(skeleton)
    if kind in _PARTS:
        middle = _PARTS[kind](genotype, skeleton, _shapes(network, channels, image_size))
    else:
        middle = (FAMILIES[kind].parts or _maps)(genotype, skeleton, network)
    image = Part("image", f"{channels} × {image_size} × {image_size}", "end")
    head = Part("global average pooling\nlinear, softmax", f"{classes} classes", "end")
    return [image, *middle, head]


def _cell_parts(genotype: Genotype, skeleton: NASNetSkeleton, outputs: dict[str, str]) -> list[Part]:
    planned = plan_cells(skeleton)
    plans = [plan for plan in planned if plan.name in outputs]  # a cell that feeds nothing is not built
    auxiliary = plans.index(planned[auxiliary_position(skeleton)]) if skeleton.auxiliary else -1
    stem = {"cifar": "convolution 3×3", "imagenet": "convolution 3×3 /2", "darts_imagenet": "three convolutions 3×3 /2"}[skeleton.stem]
    groups: list[list[int]] = []
    for i, plan in enumerate(plans):
        alike = groups and (plan.genotype, plan.stride, outputs[plan.name]) == (
            plans[groups[-1][-1]].genotype,
            plans[groups[-1][-1]].stride,
            outputs[plans[groups[-1][-1]].name],
        )
        if alike and groups[-1][-1] != auxiliary:
            groups[-1].append(i)
        else:
            groups.append([i])
    parts = [Part(stem, outputs["stem"], "conv")]
    first = planned[0].current + 1  # the number of the first cell's network state; those before are the stem's
    made = [list(range(first)), *([first + planned.index(plans[i]) for i in group] for group in groups)]
    for group in groups:
        plan = plans[group[-1]]
        times = f"  × {len(group)}" if len(group) > 1 else ""
        text = f"{plan.genotype} cell{' /2' if plan.stride == 2 else ''}{times}\n{plan.filters} filters"
        branch = "auxiliary head" if group[-1] == auxiliary else ""
        skip = _skip_input(genotype, plans[group[0]], made[: len(parts)])
        parts.append(Part(text, outputs[plan.name], "pool" if plan.stride == 2 else "block", branch, len(group), skip))
    return parts


def _skip_input(genotype: Genotype, plan: CellPlan, below: Sequence[Sequence[int]]) -> Skip | None:
    """Where a cell has PREVIOUS from, among the network states that each part below it makes; None where it reads none."""
    cell = genotype.reduction if plan.genotype == "reduction" and genotype.reduction is not None else genotype.normal
    if plan.previous is None or cell.inputs < len(STATE_NAMES) or STATE_NAMES.index("previous") not in read_inputs(cell):
        return None
    source = next(i for i, states in enumerate(below) if plan.previous in states)
    return Skip(len(below) - source, inside=plan.previous != below[source][-1])


def _residual_parts(genotype: Genotype, skeleton: ResidualSkeleton, outputs: dict[str, str]) -> list[Part]:
    stem = {
        "imagenet": "convolution 7×7 /2\nmax pool 3×3 /2",
        "cifar": "convolution 3×3",
        "patch": f"patches {skeleton.patch}×{skeleton.patch}",
    }[skeleton.stem]
    parts = [Part(stem, outputs["stem"], "conv")]
    name, *options = operation_label(genotype.normal.nodes[0].edges[0], strided=False).split("\n")
    for stage, depth in enumerate(skeleton.depths):
        times = f"  × {depth}" if depth > 1 else ""
        first = ", the first /2" if stage and depth > 1 else " /2" if stage else ""
        text = "\n".join((f"{name}{times}{first}", *(", ".join(options[i : i + 2]) for i in range(0, len(options), 2))))
        parts.append(Part(text, outputs[f"stages.{stage}"], "block", times=depth))
    return parts


def _nasbench201_parts(genotype: Genotype, skeleton: NASBench201Skeleton, outputs: dict[str, str]) -> list[Part]:
    parts = [Part("convolution 3×3", outputs["stem"], "conv")]
    times = f"  × {skeleton.cells}" if skeleton.cells > 1 else ""
    for stage, width in enumerate(stage_filters(skeleton.filters)):
        filters = f"{width} filters"
        if stage:
            parts.append(Part(f"residual block /2\n{filters}", outputs[f"reductions.{stage - 1}"], "pool"))
        parts.append(Part(f"normal cell{times}\n{filters}", outputs[f"stages.{stage}"], "block", times=skeleton.cells))
    return parts


_PARTS: dict[str, Callable[[Genotype, Any, dict[str, str]], list[Part]]] = {
    "nasnet": _cell_parts,
    "nasbench201": _nasbench201_parts,
    "residual": _residual_parts,
}
"""The parts between image and head of each built-in family of skeletons."""


def _maps(genotype: Genotype, skeleton: object, network: Network) -> list[Part]:
    """What every network can say of itself: its feature maps."""
    return [Part(f"features /{info.stride}", f"{info.channels} channels", "block") for info in network.feature_info]


def _shapes(network: Network, channels: int, image_size: int) -> dict[str, str]:
    """Shape after the stem and after every cell or stage."""
    import torch
    from torch import Tensor, nn

    from search_spaces.networks.cell import State

    shapes: dict[str, str] = {}

    def remember(name: str) -> Callable[[nn.Module, object, State | Tensor], None]:
        def hook(module: nn.Module, inputs: object, output: State | Tensor) -> None:
            shape = (output if isinstance(output, Tensor) else output.raw).shape
            shapes[name] = " × ".join(str(side) for side in shape[1:])

        return hook

    for name, module in network.named_modules():
        if name == "stem" or (name.startswith("stem.") and name.count(".") == 1):
            module.register_forward_hook(remember("stem"))  # a cell network runs its stem's parts one by one; the last remains
        elif name.startswith(("cells.", "reductions.")) and name.count(".") == 1:
            module.register_forward_hook(remember(name.removeprefix("cells.")))
        elif name.startswith("stages.") and name.count(".") == 2:
            module.register_forward_hook(remember(name.rpartition(".")[0]))  # the stage's last block remains
    with torch.no_grad():
        network(torch.empty(1, channels, image_size, image_size, device="meta"))
    return shapes
