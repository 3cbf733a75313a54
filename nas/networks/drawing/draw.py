"""Pictures of cells and whole networks as SVG, PNG or PDF, and text for graphviz. Matplotlib is loaded when a picture is drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search_spaces.canonical import live_nodes
from search_spaces.errors import UserError
from search_spaces.genotype import STATE_NAMES, CellGenotype, Edge, Genotype
from search_spaces.residual_skeletons import ResidualSkeleton
from search_spaces.skeletons import (
    FAMILIES,
    NASBench201Skeleton,
    NASNetSkeleton,
    Skeleton,
    auxiliary_position,
    kind_of,
    network_name,
    plan_cells,
    stage_filters,
)
from search_spaces.vocabulary import OPERATIONS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nas.networks.drawing.layered import Layered, Line
    from search_spaces.networks.network import Network

SUFFIXES = (".svg", ".png", ".pdf")

# All lengths are inches.
FONT = 9
LINE_HEIGHT = 0.155
PAD = 0.09
BOX_GAP = 0.35
TRUNK_GAP = 0.2
LAYER_GAP = 0.62
COMBINE_HEIGHT = 0.23
OUTPUT_MARGIN = 0.25

INK = "#2b2b2b"
FADED = "#a8a8a8"
FILL = {"conv": "#fde8c4", "pool": "#d9e8f6", "other": "#ececec", "block": "#e3f1dc", "combine": "#ffffff", "end": "#f6f2fa"}
LINES = ("#555555", "#111111", "#0072b2", "#d55e00", "#009e73", "#aa3377", "#8a6d00", "#3f4fb5", "#b2352a", "#00798c")
"""Colours of the states' lines, in their order (distinct for the colour-blind as far as ten colours can be)."""


class DrawError(UserError):
    """A picture cannot be written. Choose another file name."""


# ------------------------------------------------------------------------------------------------ text for graphviz


def to_dot(genotype: Genotype) -> str:
    """The genotype in graphviz' DOT language: inputs at the bottom, an ellipse for every operation, a box for every node."""
    lines = [f"digraph {_quoted(genotype.name or 'genotype')} {{", "  rankdir=BT;", "  node [fontname=Helvetica, fontsize=10];"]
    for name, cell in genotype.cells():
        lines.append(f"  subgraph cluster_{name} {{")
        lines.append(f"    label={_quoted(f'{name} cell')};")
        for state, text in enumerate(STATE_NAMES[-cell.inputs :]):
            lines.append(f"    {name}_{state} [label={_quoted(text)}, shape=box, style=rounded];")
        for state, node in enumerate(cell.nodes, cell.inputs):
            lines.append(f"    {name}_{state} [label={_quoted(f'{state}: {node.combine}')}, shape=box];")
            for i, edge in enumerate(node.edges):
                operation = f"{name}_{state}_{i}"
                text = "\n".join((edge.operation, *(f"{key}={value}" for key, value in edge.options)))
                lines.append(f"    {operation} [label={_quoted(text)}, shape=ellipse];")
                lines.append(f"    {name}_{edge.source} -> {operation} -> {name}_{state};")
        lines.append(f"    {name}_output [label={_quoted('concat' if len(cell.outputs) > 1 else 'output')}, shape=box, style=rounded];")
        lines += [f"    {name}_{output} -> {name}_output;" for output in cell.outputs]
        lines.append("  }")
    return "\n".join([*lines, "}", ""])


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


# ------------------------------------------------------------------------------------------------ cells


def draw_genotype(genotype: Genotype, path: str | Path, title: str = "") -> None:
    """Draw the cells of a genotype side by side into a file; see ``genotype_figure``.

    Args:
        genotype: any genotype.
        path: file to write; its ending (.svg, .png, .pdf) chooses the format.
        title: above the picture; the genotype's name if empty.

    Raises:
        DrawError: the ending is another, or the file cannot be written.
    """
    path = _picture(path)
    _save(genotype_figure(genotype, title), path)


def genotype_figure(genotype: Genotype, title: str = "") -> Figure:
    """The cells of a genotype side by side: inputs at the bottom, the cell's output at the top.

    A node is a row of its operations under the way it combines them, with the number of its hidden state; the lines that leave
    a hidden state share one colour. Nodes that reach no output are faded.
    """
    panels = [_Panel.of(name, cell) for name, cell in genotype.cells()]
    margin, head = 0.3, 0.75
    width = sum(panel.width for panel in panels) + margin * (len(panels) + 1)
    height = max(panel.height for panel in panels) + head + margin
    figure = _figure(width, height)
    _title(figure, title or genotype.name or "genotype", width, height)
    left = margin
    for panel in panels:
        axes = figure.add_axes((left / width, margin / height, panel.width / width, panel.height / height))
        axes.set(xlim=(panel.left, panel.left + panel.width), ylim=(0, panel.height))
        axes.set_axis_off()
        text = "Reduction cell: stride 2 on its inputs" if panel.name == "reduction" else "Normal cell"
        axes.text(panel.left + panel.width / 2, panel.height + 0.12, text, ha="center", va="bottom", fontsize=FONT + 2, color=INK)
        panel.draw(axes)
        left += panel.width + margin
    return figure


@dataclass(frozen=True)
class _Panel:
    """One cell, placed and measured."""

    name: str
    cell: CellGenotype
    labels: dict[int, list[str]]
    widths: dict[int, list[float]]
    layout: Layered
    bottoms: tuple[float, ...]
    tops: tuple[float, ...]
    left: float
    width: float
    height: float

    @staticmethod
    def of(name: str, cell: CellGenotype) -> _Panel:
        from nas.networks.drawing.layered import lay_out

        labels = {state: [f"{state}  {text}"] for state, text in enumerate(STATE_NAMES[-cell.inputs :])}
        for state, node in enumerate(cell.nodes, cell.inputs):
            labels[state] = [_operation_label(edge, name == "reduction" and edge.source < cell.inputs) for edge in node.edges]
        widths = {s: [max(0.62, _text_width(text, bold=s < cell.inputs) + 2 * PAD) for text in texts] for s, texts in labels.items()}
        layout = lay_out(cell, widths, BOX_GAP, TRUNK_GAP)
        heights = [
            max([0.3, *(_text_height(text) for state, own in layer if _is_box(cell, state, own, layout) for text in labels[state])])
            + (COMBINE_HEIGHT if level and level < len(layout.layers) - 1 else 0.0)
            for level, layer in enumerate(layout.layers)
        ]
        bottoms, y = [], 0.0
        for level, height in enumerate(heights):
            bottoms.append(y)
            y += height + _gap_above(level, layout)
        half = {p: sum(widths[p[0]]) / 2 if _is_box(cell, *p, layout) else 0.0 for layer in layout.layers for p in layer}
        half |= dict.fromkeys(layout.layers[-1], OUTPUT_MARGIN)
        left = min(layout.x[p] - half[p] for p in half) - 0.1
        right = max(layout.x[p] + half[p] for p in half) + 0.1
        tops = tuple(b + h for b, h in zip(bottoms, heights, strict=True))
        centre = (left + right) / 2
        width = max(right - left, 3.0)
        return _Panel(name, cell, labels, widths, layout, tuple(bottoms), tops, centre - width / 2, width, tops[-1])

    def draw(self, axes: Axes) -> None:
        live = {*range(self.cell.inputs), *live_nodes(self.cell)}
        for line in self.layout.lines:
            self._draw_line(axes, line, line.lower[0] in live and line.upper[0] in live)
        for level, layer in enumerate(self.layout.layers):
            for state, own in layer:
                if _is_box(self.cell, state, own, self.layout):
                    self._draw_state(axes, state, level, state in live)
                elif level < len(self.layout.layers) - 1:  # a trunk passes the layer
                    x = self.layout.x[state, own]
                    axes.plot([x, x], [self.bottoms[level], self.tops[level]], color=_colour(state), linewidth=1.4, snap=False)
        self._draw_output(axes)

    def route(self, line: Line) -> list[tuple[float, float]]:
        """A line's way: straight from its box to the top of the layer, then a cubic curve, by its four control points."""
        from nas.networks.drawing.layered import port_offsets

        state, level = line.upper
        shift = 0.0 if line.port is None else port_offsets(self.layout.ports[state], self.widths[state])[line.port]
        x, end = self.layout.x[line.lower], (self.layout.x[line.upper] + shift, self.bottoms[level])
        top = self.tops[line.lower[1]]
        middle = (top + end[1]) / 2
        return [(x, self._top(line.lower)), (x, top), (x, middle), (end[0], middle), end]

    def _draw_line(self, axes: Axes, line: Line, is_live: bool) -> None:
        from matplotlib.patches import FancyArrowPatch
        from matplotlib.path import Path as Curve

        curve = Curve(self.route(line), [Curve.MOVETO, Curve.LINETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4])
        arrives = line.port is not None or line.upper[1] == len(self.layout.layers) - 1
        axes.add_patch(
            FancyArrowPatch(
                path=curve,
                arrowstyle="-|>,head_length=4,head_width=2" if arrives else "-",
                color=_colour(line.lower[0]) if is_live else FADED,
                linewidth=1.4,
                shrinkA=0,
                shrinkB=0,
                joinstyle="round",
                zorder=1,
            )
        )

    def _top(self, place: tuple[int, int]) -> float:
        """Where a line leaves a place: at its box's top, or at the top of the layer that a trunk passes."""
        state, level = place
        if _is_box(self.cell, state, level, self.layout):
            return self.bottoms[level] + self._box_height(state)
        return self.tops[level]

    def _box_height(self, state: int) -> float:
        return max(0.3, *(_text_height(t) for t in self.labels[state])) + (COMBINE_HEIGHT if state >= self.cell.inputs else 0.0)

    def _draw_state(self, axes: Axes, state: int, level: int, is_live: bool) -> None:
        from nas.networks.drawing.layered import port_offsets

        x, bottom, height = self.layout.x[state, level], self.bottoms[level], self._box_height(state)
        ink = INK if is_live else FADED
        if state < self.cell.inputs:
            _box(axes, x - self.widths[state][0] / 2, bottom, self.widths[state][0], height, FILL["end"], _colour(state), rounded=True)
            _label(axes, x, bottom + height / 2, self.labels[state][0], _colour(state), bold=True)
            return
        operations = height - COMBINE_HEIGHT
        node = self.cell.nodes[state - self.cell.inputs]
        for port, shift in port_offsets(self.layout.ports[state], self.widths[state]).items():
            width = self.widths[state][port]
            fill = FILL[_kind(node.edges[port].operation)] if is_live else "#fafafa"
            _box(axes, x + shift - width / 2, bottom, width, operations, fill, ink)
            _label(axes, x + shift, bottom + operations / 2, self.labels[state][port], ink)
        width = sum(self.widths[state])
        _box(axes, x - width / 2, bottom + operations, width, COMBINE_HEIGHT, FILL["combine"], _colour(state) if is_live else FADED)
        combine = "" if len(node.edges) == 1 else "  add" if node.combine == "add" else "  concat"
        _label(axes, x, bottom + operations + COMBINE_HEIGHT / 2, f"{state}{combine}", _colour(state) if is_live else FADED, bold=True)

    def _draw_output(self, axes: Axes) -> None:
        ends = [self.layout.x[place] for place in self.layout.layers[-1]]
        text = "concat: output" if len(ends) > 1 else "output"
        width = max(max(ends) - min(ends) + 2 * OUTPUT_MARGIN, _text_width(text) + 4 * PAD)
        left = (max(ends) + min(ends) - width) / 2
        height = self.tops[-1] - self.bottoms[-1]
        _box(axes, left, self.bottoms[-1], width, height, FILL["end"], INK, rounded=True)
        _label(axes, left + width / 2, self.bottoms[-1] + height / 2, text, INK)


def _is_box(cell: CellGenotype, state: int, level: int, layout: Layered) -> bool:
    return level == min(own for layer in layout.layers for s, own in layer if s == state)


def _gap_above(level: int, layout: Layered) -> float:
    """More room where lines go far sideways, so that they stay steep enough to follow."""
    lines = [line for line in layout.lines if line.upper[1] == level + 1]
    farthest = max((abs(layout.x[line.upper] - layout.x[line.lower]) for line in lines), default=0.0)
    return LAYER_GAP + min(1.2, 0.09 * farthest + 0.02 * len(lines))


def _operation_label(edge: Edge, strided: bool) -> str:
    name = edge.operation.replace("_", " ")
    for digit in "1357":
        name = name.replace(f"{digit}x", f"{digit}×")
    options = "".join(f"\n{key.replace('_', ' ')}: {str(value).replace('_', ' ')}" for key, value in edge.options)
    return name + (" /2" if strided else "") + options


def _kind(operation: str) -> str:
    if operation in OPERATIONS and OPERATIONS[operation].kind:
        return OPERATIONS[operation].kind
    for part, kind in (("block", "block"), ("pool", "pool"), ("conv", "conv")):
        if part in operation:
            return kind
    return "other"


def _colour(state: int) -> str:
    return LINES[state % len(LINES)]


# ------------------------------------------------------------------------------------------------ networks


def draw_skeleton(genotype: Genotype, skeleton: Skeleton, path: str | Path, *, classes: int, channels: int = 3, image_size: int) -> None:
    """Draw a whole network into a file; see ``skeleton_figure``.

    Args:
        genotype: its cells.
        skeleton: the macro network.
        path: file to write; its ending (.svg, .png, .pdf) chooses the format.
        classes: number of classes.
        channels: of an image.
        image_size: side in pixels.

    Raises:
        DrawError: the ending is another, or the file cannot be written.
        UserError: the genotype does not fit the skeleton.
    """
    path = _picture(path)
    _save(skeleton_figure(genotype, skeleton, classes=classes, channels=channels, image_size=image_size), path)


def skeleton_figure(genotype: Genotype, skeleton: Skeleton, *, classes: int, channels: int = 3, image_size: int) -> Figure:
    """A network from the image at the bottom to the classes at the top, with its cost, and the shape after every part."""
    from search_spaces.networks.pieces import network_cost

    parts = network_parts(genotype, skeleton, classes=classes, channels=channels, image_size=image_size)
    cost = network_cost(genotype, skeleton, classes=classes, channels=channels, image_size=image_size)
    box_width = max(2.4, *(_text_width(part.text) + 4 * PAD for part in parts))
    shape_width = max(_text_width(part.shape) for part in parts) + 0.3
    side = 1.9 if any(part.branch for part in parts) else 0.0
    gap, head, margin = 0.26, 0.95, 0.3
    heights = [_text_height(part.text) + 0.06 for part in parts]
    width = max(box_width + shape_width + side + 2 * margin, 4.6)
    height = sum(heights) + gap * (len(parts) - 1) + head + margin
    figure = _figure(width, height)
    _title(figure, network_name(genotype, skeleton), width, height)
    summary = f"{cost.parameters:,} parameters, {cost.macs:,} multiply-accumulates at {image_size}×{image_size}"
    figure.text(0.5, (height - 0.5) / height, summary, ha="center", va="center", fontsize=FONT - 1, color=INK)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    left, y = (width - box_width - shape_width - side) / 2, margin
    for i, (part, part_height) in enumerate(zip(parts, heights, strict=True)):
        _box(axes, left, y, box_width, part_height, FILL[part.fill], INK, rounded=part.fill == "end")
        _label(axes, left + box_width / 2, y + part_height / 2, part.text, INK)
        axes.text(left + box_width + 0.15, y + part_height / 2, part.shape, ha="left", va="center", fontsize=FONT - 1, color=INK)
        if part.branch:
            _branch(axes, left + box_width + shape_width, y + part_height / 2, part.branch)
        if i + 1 < len(parts):
            _arrow(axes, (left + box_width / 2, y + part_height), (left + box_width / 2, y + part_height + gap))
        y += part_height + gap
    return figure


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a network from bottom to top: what it is, the shape after it, its colour, and a head that branches off."""

    text: str
    shape: str
    fill: str
    branch: str = ""


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
    for group in groups:
        plan = plans[group[-1]]
        times = f"  × {len(group)}" if len(group) > 1 else ""
        text = f"{plan.genotype} cell{' /2' if plan.stride == 2 else ''}{times}\n{plan.filters} filters"
        branch = "auxiliary head" if group[-1] == auxiliary else ""
        parts.append(Part(text, outputs[plan.name], "pool" if plan.stride == 2 else "block", branch))
    return parts


def _residual_parts(genotype: Genotype, skeleton: ResidualSkeleton, outputs: dict[str, str]) -> list[Part]:
    stem = {
        "imagenet": "convolution 7×7 /2\nmax pool 3×3 /2",
        "cifar": "convolution 3×3",
        "patch": f"patches {skeleton.patch}×{skeleton.patch}",
    }[skeleton.stem]
    parts = [Part(stem, outputs["stem"], "conv")]
    name, *options = _operation_label(genotype.normal.nodes[0].edges[0], strided=False).split("\n")
    for stage, depth in enumerate(skeleton.depths):
        times = f"  × {depth}" if depth > 1 else ""
        first = ", the first /2" if stage and depth > 1 else " /2" if stage else ""
        text = "\n".join((f"{name}{times}{first}", *(", ".join(options[i : i + 2]) for i in range(0, len(options), 2))))
        parts.append(Part(text, outputs[f"stages.{stage}"], "block"))
    return parts


def _nasbench201_parts(genotype: Genotype, skeleton: NASBench201Skeleton, outputs: dict[str, str]) -> list[Part]:
    parts = [Part("convolution 3×3", outputs["stem"], "conv")]
    times = f"  × {skeleton.cells}" if skeleton.cells > 1 else ""
    for stage, width in enumerate(stage_filters(skeleton.filters)):
        filters = f"{width} filters"
        if stage:
            parts.append(Part(f"residual block /2\n{filters}", outputs[f"reductions.{stage - 1}"], "pool"))
        parts.append(Part(f"normal cell{times}\n{filters}", outputs[f"stages.{stage}"], "block"))
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


# ------------------------------------------------------------------------------------------------ matplotlib


def _picture(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise DrawError(f"{path}: a picture's name must end in one of {', '.join(SUFFIXES)}, but got {path.suffix!r}")
    return path


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), facecolor="white")


def _title(figure: Figure, text: str, width: float, height: float) -> None:
    size = min(FONT + 4.0, (FONT + 4) * (width - 0.4) / max(0.1, _text_width(text, FONT + 4)))
    figure.text(0.5, (height - 0.25) / height, text, ha="center", va="center", fontsize=size, color=INK, parse_math=False)


def _save(figure: Figure, path: Path) -> None:
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix.lower())
    try:
        with mpl.rc_context({"svg.hashsalt": "nas"}):  # the same genotype gives the same file
            figure.savefig(path, dpi=150, metadata=metadata)
    except OSError as problem:
        raise DrawError(f"{path}: cannot be written: {problem.strerror or problem}") from None


def _text_width(text: str, size: float = FONT, bold: bool = False) -> float:
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    measure = TextToPath()
    font = FontProperties(size=size, weight="bold" if bold else "normal")
    widths = [measure.get_text_width_height_descent(line, font, ismath=False)[0] for line in text.split("\n")]
    return float(max(widths)) / 72


def _text_height(text: str) -> float:
    return LINE_HEIGHT * (text.count("\n") + 1) + 2 * PAD


def _label(axes: Axes, x: float, y: float, text: str, colour: str, bold: bool = False) -> None:
    axes.text(
        x, y, text, ha="center", va="center", fontsize=FONT, color=colour, weight="bold" if bold else "normal", parse_math=False, zorder=4
    )


def _box(axes: Axes, x: float, y: float, width: float, height: float, fill: str, edge: str, rounded: bool = False) -> None:
    from matplotlib.patches import FancyBboxPatch

    style = "round,pad=0,rounding_size=0.08" if rounded else "square,pad=0"
    axes.add_patch(
        FancyBboxPatch((x, y), width, height, boxstyle=style, facecolor=fill, edgecolor=edge, linewidth=1.1, zorder=3, clip_on=False)
    )


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    from matplotlib.patches import FancyArrowPatch

    style = "-|>,head_length=4,head_width=2"
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle=style, color=INK, linewidth=1.2, shrinkA=0, shrinkB=0))


def _branch(axes: Axes, x: float, y: float, text: str) -> None:
    width = _text_width(text) + 4 * PAD
    _arrow(axes, (x, y), (x + 0.3, y))
    _box(axes, x + 0.3, y - 0.17, width, 0.34, FILL["end"], INK, rounded=True)
    _label(axes, x + 0.3 + width / 2, y, text, INK)
