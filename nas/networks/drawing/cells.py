"""Pictures of cells: inputs at the bottom, a box for every node, lines in its state's colour. Matplotlib is loaded when one is drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nas.networks.drawing.marks import (
    KINDS,
    MARGIN,
    PAD,
    ROW_HEIGHT,
    Box,
    Key,
    draw_legend,
    label,
    legend_rows,
    operation_kind,
    operation_label,
    stroke,
    text_height,
)
from nas.tools.pictures import FONT, Palette, Theme, drawing, headline, text_width
from search_spaces.canonical import live_nodes, read_inputs
from search_spaces.genotype import STATE_NAMES, CellGenotype, Edge, Genotype, Provenance

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nas.networks.drawing.layered import Layered, Line

BOX_GAP = 0.35
TRUNK_GAP = 0.2
LAYER_GAP = 0.62
COMBINE_HEIGHT = 0.23
OUTPUT_MARGIN = 0.25
CAPTION = 0.36
MOST_HEADING = 7.0
"""Inches to which a narrow picture is widened for its title; a longer one is written smaller."""
MOST_STRETCH = 0.5
"""How much farther apart, at most, the layers of a low cell are drawn beside a high one."""


def genotype_figure(genotype: Genotype, title: str = "", note: str = "", theme: Theme = "light") -> Figure:
    """The cells of a genotype side by side: inputs at the bottom, the cell's output at the top.

    A node is a row of its operations under the way it combines them, with the number of its hidden state; the lines that leave
    a hidden state share its colour. What reaches no output is faded. Under the title stands ``note``, such as the network's
    size, after the reward, where the genotype says one.
    """
    from matplotlib.figure import Figure

    panels = _stretched([_Panel.of(name, cell) for name, cell in genotype.cells()])
    with drawing(theme) as colours:
        above = title or genotype.name or (f"cells of the space {genotype.space}" if genotype.space else "cells")
        notes = " · ".join(filter(None, (found(genotype.provenance), note)))
        needed = min(MOST_HEADING, max(text_width(above, FONT + 4, bold=True), text_width(notes)) + 2 * MARGIN)
        width = max(sum(panel.width for panel in panels) + MARGIN * (len(panels) + 1), needed, 3.6)
        rows = legend_rows(_keys(genotype, colours), width - 2 * MARGIN)
        highest, foot = max(panel.height for panel in panels), ROW_HEIGHT * len(rows) + 0.3
        height = highest + foot + 0.35 + (0.5 if notes else 0.25) + CAPTION
        figure = Figure(figsize=(width, height))
        top = highest + foot + 0.15
        headline(figure, above, notes, MARGIN)
        left = (width - sum(panel.width for panel in panels) - MARGIN * (len(panels) - 1)) / 2
        for panel in panels:
            axes = figure.add_axes((left / width, (top - panel.height - 0.15) / height, panel.width / width, panel.height / height))
            axes.set(xlim=(panel.left, panel.left + panel.width), ylim=(0, panel.height))
            axes.set_axis_off()
            centre = panel.left + panel.width / 2
            axes.text(centre, panel.height + 0.14, f"{panel.name} cell", ha="center", va="bottom", fontsize=FONT + 1, weight="bold")
            panel.draw(axes, colours)
            left += panel.width + MARGIN
        whole = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
        whole.set_axis_off()
        draw_legend(whole, rows, MARGIN, 0.14, colours)
    return figure


def found(origin: Provenance | None) -> str:
    """The reward of a genotype that was found, and where it was; empty for others."""
    if origin is None:
        return ""
    reward = "" if origin.reward is None else f"{origin.reward:.2%} validation accuracy believed, "
    return f"{reward}trial {origin.trial} of {origin.run}" + (f" by {origin.controller}" if origin.controller else "")


def _keys(genotype: Genotype, colours: Palette) -> list[Key]:
    """What the picture's colours and signs mean; only those that occur."""
    cells = [cell for _, cell in genotype.cells()]
    edges = [edge for cell in cells for node in cell.nodes for edge in node.edges]
    kinds = {operation_kind(edge.operation) for edge in edges}
    keys = [
        Key(_other_words(edges) if kind == "other" else words, fill=colours.fills[kind]) for kind, words in KINDS.items() if kind in kinds
    ]
    if genotype.reduction is not None:
        keys.append(Key("stride 2", sign="/2"))
    if any(len(_live(cell)) < cell.inputs + len(cell.nodes) for cell in cells):
        keys.append(Key("reaches no output", fill=colours.faded_fill))
    return keys


def _other_words(edges: list[Edge]) -> str:
    """What "other operations" are, where it is one word."""
    names = {edge.operation for edge in edges if operation_kind(edge.operation) == "other"}
    return names.pop() if len(names) == 1 else "identity or zero" if names == {"identity", "zero"} else KINDS["other"]


def _live(cell: CellGenotype) -> set[int]:
    """The hidden states, inputs too, that an output depends on."""
    return {*live_nodes(cell), *read_inputs(cell)}


def state_words(cell: CellGenotype, state: int) -> str:
    """A hidden state in words: ``previous``, ``current`` or its node."""
    return STATE_NAMES[-cell.inputs :][state] if state < cell.inputs else f"node {state}"


def _stretched(panels: list[_Panel]) -> list[_Panel]:
    """The cells at one height, as far as layers may be moved apart for it."""
    highest = max(panel.height for panel in panels)
    result = []
    for panel in panels:
        more = min(MOST_STRETCH, (highest - panel.height) / max(1, len(panel.tops) - 1))
        moved = [tuple(y + more * level for level, y in enumerate(places)) for places in (panel.bottoms, panel.tops)]
        result.append(replace(panel, bottoms=moved[0], tops=moved[1], height=moved[1][-1]))
    return result


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

        labels = {state: [f"{state} · {text}"] for state, text in enumerate(STATE_NAMES[-cell.inputs :])}
        for state, node in enumerate(cell.nodes, cell.inputs):
            labels[state] = [operation_label(edge, _strided(name, cell, edge)) for edge in node.edges]
        widths = {s: [max(0.62, text_width(text, bold=s < cell.inputs) + 2 * PAD) for text in texts] for s, texts in labels.items()}
        for state, node in enumerate(cell.nodes, cell.inputs):
            lacking = text_width(_header(state, node.combine, len(node.edges)), bold=True) + 2 * PAD - sum(widths[state])
            widths[state] = [width + max(0.0, lacking) / len(node.edges) for width in widths[state]]
        layout = lay_out(cell, widths, BOX_GAP, TRUNK_GAP)
        heights = [
            max([0.3, *(text_height(text) for state, own in layer if _is_box(cell, state, own, layout) for text in labels[state])])
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
        width = max(right - left, 1.6)
        return _Panel(name, cell, labels, widths, layout, tuple(bottoms), tops, centre - width / 2, width, tops[-1])

    def draw(self, axes: Axes, colours: Palette) -> None:
        live = _live(self.cell)
        for line in self.layout.lines:
            self._draw_line(axes, line, colours, line.lower[0] in live and line.upper[0] in live)
        for level, layer in enumerate(self.layout.layers):
            for state, own in layer:
                if _is_box(self.cell, state, own, self.layout):
                    self._draw_state(axes, state, level, colours, state in live)
                elif level < len(self.layout.layers) - 1:
                    self._draw_trunk(axes, (state, own), colours, state in live)
        self._draw_output(axes, colours)

    def route(self, line: Line) -> list[tuple[float, float]]:
        """A line's way: straight from its box to the top of the layer, then a cubic curve, by its four control points."""
        from nas.networks.drawing.layered import port_offsets

        state, level = line.upper
        shift = 0.0 if line.port is None else port_offsets(self.layout.ports[state], self.widths[state])[line.port]
        x, end = self.layout.x[line.lower], (self.layout.x[line.upper] + shift, self.bottoms[level])
        top = self.tops[line.lower[1]]
        middle = (top + end[1]) / 2
        return [(x, self._top(line.lower)), (x, top), (x, middle), (end[0], middle), end]

    def _draw_line(self, axes: Axes, line: Line, colours: Palette, is_live: bool) -> None:
        from matplotlib.path import Path as Curve

        curve = Curve(self.route(line), [Curve.MOVETO, Curve.LINETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4])
        arrives = line.port is not None or line.upper[1] == len(self.layout.layers) - 1
        if line.port is not None:
            name = self._edge_words(line.upper[0], line.port)
        elif arrives:
            name = f"{state_words(self.cell, line.upper[0])} → output"
        else:
            name = self._trunk_words(line.upper)
        stroke(axes, curve, self._colour(line.lower[0], colours, is_live), name, arrives=arrives)

    def _draw_trunk(self, axes: Axes, place: tuple[int, int], colours: Palette, is_live: bool) -> None:
        """The way of a line past the boxes of a layer."""
        from matplotlib.path import Path as Curve

        x, level = self.layout.x[place], place[1]
        way = Curve([(x, self.bottoms[level]), (x, self.tops[level])])
        stroke(axes, way, self._colour(place[0], colours, is_live), self._trunk_words(place), arrives=False)

    def _edge_words(self, state: int, port: int) -> str:
        edge = self.cell.nodes[state - self.cell.inputs].edges[port]
        words = operation_label(edge, strided=False).replace("\n", ", ")
        stride = ", stride 2" if _strided(self.name, self.cell, edge) else ""
        return f"{state_words(self.cell, edge.source)} → {words}{stride} → node {state}"

    def _trunk_words(self, place: tuple[int, int]) -> str:
        """Who reads a state above a layer."""
        state, level = place
        top = len(self.layout.layers) - 1
        readers = {line.upper for line in self.layout.lines if line.lower[0] == state and line.port is not None and line.upper[1] > level}
        words = [f"node {reader}" for reader in sorted({reader for reader, _ in readers})]
        return f"{state_words(self.cell, state)} → {', '.join([*words, *(['output'] if (state, top) in self.layout.layers[-1] else [])])}"

    def _top(self, place: tuple[int, int]) -> float:
        """Where a line leaves a place: at its box's top, or at the top of the layer that a trunk passes."""
        state, level = place
        if _is_box(self.cell, state, level, self.layout):
            return self.bottoms[level] + self._box_height(state)
        return self.tops[level]

    def _box_height(self, state: int) -> float:
        return max(0.3, *(text_height(t) for t in self.labels[state])) + (COMBINE_HEIGHT if state >= self.cell.inputs else 0.0)

    def _draw_state(self, axes: Axes, state: int, level: int, colours: Palette, is_live: bool) -> None:
        from nas.networks.drawing.layered import port_offsets

        x, bottom, height = self.layout.x[state, level], self.bottoms[level], self._box_height(state)
        own, width = self._colour(state, colours, is_live), sum(self.widths[state])
        if state < self.cell.inputs:
            before = "the cell before the previous one" if state_words(self.cell, state) == STATE_NAMES[0] else "the previous cell"
            box = Box(x - width / 2, bottom, width, height, f"hidden state {state}: the output of {before}")
            box.draw(axes, colours.fills["end"] if is_live else colours.faded_fill, own, rounding=0.1, line=1.3)
            label(axes, x, bottom + height / 2, self.labels[state][0], own, bold=True)
            return
        operations, node = height - COMBINE_HEIGHT, self.cell.nodes[state - self.cell.inputs]
        for port, shift in port_offsets(self.layout.ports[state], self.widths[state]).items():
            wide = self.widths[state][port]
            fill = colours.fills[operation_kind(node.edges[port].operation)] if is_live else colours.faded_fill
            box = Box(x + shift - wide / 2, bottom, wide, operations, self._edge_words(state, port))
            box.draw(axes, fill, colours.outline if is_live else colours.faded, kind="operation")
            label(axes, x + shift, bottom + operations / 2, self.labels[state][port], colours.ink if is_live else colours.faded)
        text = _header(state, node.combine, len(node.edges))
        words = f"node {state} = {' + '.join(state_words(self.cell, edge.source) for edge in node.edges)}"
        Box(x - width / 2, bottom + operations, width, COMBINE_HEIGHT, f"{words}, by {node.combine}").draw(axes, own, own)
        label(axes, x, bottom + operations + COMBINE_HEIGHT / 2, text, colours.paper, bold=True)

    def _draw_output(self, axes: Axes, colours: Palette) -> None:
        ends = [self.layout.x[place] for place in self.layout.layers[-1]]
        text = "output: concat" if len(ends) > 1 else "output"
        width = max(max(ends) - min(ends) + 2 * OUTPUT_MARGIN, text_width(text, bold=True) + 4 * PAD)
        left = (max(ends) + min(ends) - width) / 2
        bottom, height = self.bottoms[-1], self.tops[-1] - self.bottoms[-1]
        words = ", ".join(state_words(self.cell, state) for state in self.cell.outputs)
        Box(left, bottom, width, height, f"the cell's output: {words}").draw(
            axes, colours.fills["end"], colours.ink, rounding=0.1, line=1.3
        )
        label(axes, left + width / 2, bottom + height / 2, text, colours.ink, bold=True)

    def _colour(self, state: int, colours: Palette, is_live: bool) -> str:
        """Of a state's header and the lines that leave it: neutral for inputs."""
        if not is_live:
            return colours.faded
        if state < self.cell.inputs:
            return colours.inputs[-self.cell.inputs :][state]
        return colours.series[(state - self.cell.inputs) % len(colours.series)]


def _header(state: int, combine: str, edges: int) -> str:
    return f"{state} · {combine}" if edges > 1 else str(state)


def _strided(name: str, cell: CellGenotype, edge: Edge) -> bool:
    """Whether the edge halves the resolution: those of a reduction cell that read its inputs do."""
    return name == "reduction" and edge.source < cell.inputs


def _is_box(cell: CellGenotype, state: int, level: int, layout: Layered) -> bool:
    return level == min(own for layer in layout.layers for s, own in layer if s == state)


def _gap_above(level: int, layout: Layered) -> float:
    """More room where lines go far sideways, so that they stay steep enough to follow."""
    lines = [line for line in layout.lines if line.upper[1] == level + 1]
    farthest = max((abs(layout.x[line.upper] - layout.x[line.lower]) for line in lines), default=0.0)
    return LAYER_GAP + min(1.2, 0.09 * farthest + 0.02 * len(lines))
