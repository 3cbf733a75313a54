"""Places the states of a cell in layers so that no line runs through a box and few lines cross. No drawing, no torch.

Every state is a box in the layer after the last of its operands. A state that is read further up has a *trunk*: one free place
in every layer between, through which its line passes, so lines meet boxes only where they end. (This is Sugiyama's method with
the lines of one source bundled: Sugiyama, Tagawa, Toda 1981.)
"""

import itertools
import math
import random
from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.isotonic import isotonic_regression

from search_spaces.genotype import CellGenotype

Place = tuple[int, int]
"""A state at a layer: its box where the layer is the state's own, else its trunk."""
Positions = np.ndarray[tuple[int], np.dtype[np.float64]]
SWEEPS = 8
RESTARTS = 60
RELAXATIONS = 120


@dataclass(frozen=True)
class Line:
    """A piece of a line between two neighbouring layers. ``port`` is the edge of the upper box at which it ends, None at a trunk."""

    lower: Place
    upper: Place
    port: int | None


@dataclass(frozen=True)
class Layered:
    """Where everything is: ``x`` of the places' middles, ``ports`` the edges of each state from left to right."""

    layers: tuple[tuple[Place, ...], ...]
    lines: tuple[Line, ...]
    x: Mapping[Place, float]
    ports: Mapping[int, tuple[int, ...]]


def state_layers(cell: CellGenotype) -> dict[int, int]:
    """Layer of every state: inputs in 0, a node above all that it reads, in the first layer that has room.

    A layer has room for about √(1.5 · nodes) boxes, three for five nodes, so that a cell of parallel nodes stays as high as wide.
    """
    room = max(2, math.ceil(math.sqrt(1.5 * len(cell.nodes))))
    layers = dict.fromkeys(range(cell.inputs), 0)
    boxes: Counter[int] = Counter()
    for state, node in enumerate(cell.nodes, cell.inputs):
        layer = 1 + max(layers[edge.source] for edge in node.edges)
        while boxes[layer] >= room:
            layer += 1
        boxes[layer] += 1
        layers[state] = layer
    return layers


def lay_out(cell: CellGenotype, port_widths: Mapping[int, Sequence[float]], gap: float, trunk_gap: float) -> Layered:
    """Place a cell's states.

    Args:
        cell: the cell. Its outputs end in places of their own, one layer above all boxes.
        port_widths: for every node's state, the widths of its edges' boxes, side by side; for an input one width.
        gap: least distance between two boxes.
        trunk_gap: least distance between a trunk and its neighbour.
    """
    layers, lines = _places(cell)
    order, ports = _order(cell, layers, lines)
    x = _coordinates(order, lines, ports, port_widths, gap, trunk_gap)
    return Layered(tuple(map(tuple, order)), tuple(lines), x, ports)


def _places(cell: CellGenotype) -> tuple[list[list[Place]], list[Line]]:
    """All boxes and trunks by layer, and the lines between them."""
    layer = state_layers(cell)
    top = max(layer.values()) + 1
    readers: dict[int, list[tuple[int, int]]] = {state: [] for state in layer}
    for state, node in enumerate(cell.nodes, cell.inputs):
        for port, edge in enumerate(node.edges):
            readers[edge.source].append((state, port))
    layers: list[list[Place]] = [[] for _ in range(top + 1)]
    lines: list[Line] = []
    for state, own in layer.items():
        layers[own].append((state, own))
        last = top if state in cell.outputs else max((layer[reader] - 1 for reader, _ in readers[state]), default=own)
        for level in range(own + 1, last + 1):
            layers[level].append((state, level))
            lines.append(Line((state, level - 1), (state, level), None))
        lines += [Line((state, layer[reader] - 1), (reader, layer[reader]), port) for reader, port in readers[state]]
    return layers, lines


# ------------------------------------------------------------------------------------------------ order within the layers


def _order(cell: CellGenotype, layers: list[list[Place]], lines: list[Line]) -> tuple[list[list[Place]], dict[int, tuple[int, ...]]]:
    """The order with the fewest crossings that barycentre sweeps from many random starts find; always the same for the same cell."""
    rng = random.Random(0)  # noqa: S311 - not for secrets
    between = _by_layer(lines, len(layers))
    places = sum(map(len, layers))
    best: tuple[tuple[int, float], list[list[Place]], dict[int, tuple[int, ...]]] | None = None
    current = [list(layer) for layer in layers]
    for _ in range(max(1, min(RESTARTS, 6000 // places))):
        for _ in range(SWEEPS):
            _sweep(current, between)
            ports = _sorted_ports(cell, current, between)
            score = _score(current, between, ports)
            if best is None or score < best[0]:
                best = score, [list(layer) for layer in current], ports
        for layer in current:
            rng.shuffle(layer)
    assert best is not None
    return best[1], best[2]


def _by_layer(lines: list[Line], layers: int) -> list[list[Line]]:
    between: list[list[Line]] = [[] for _ in range(layers)]
    for line in lines:
        between[line.upper[1]].append(line)
    return between


def _sweep(order: list[list[Place]], between: list[list[Line]]) -> None:
    """Sort every layer by the mean position of its neighbours below, upwards, then by those above, downwards."""
    for upward in (True, False):
        levels = range(1, len(order)) if upward else range(len(order) - 2, -1, -1)
        for level in levels:
            near, lines = (order[level - 1], between[level]) if upward else (order[level + 1], between[level + 1])
            position = _relative(near)
            pulls: dict[Place, list[float]] = {place: [] for place in order[level]}
            for line in lines:
                here, there = (line.upper, line.lower) if upward else (line.lower, line.upper)
                pulls[here].append(position[there])
            own = _relative(order[level])
            order[level].sort(key=lambda place: sum(pulls[place]) / len(pulls[place]) if pulls[place] else own[place])


def _relative(layer: list[Place]) -> dict[Place, float]:
    return {place: (i + 0.5) / len(layer) for i, place in enumerate(layer)}


def _sorted_ports(cell: CellGenotype, order: list[list[Place]], between: list[list[Line]]) -> dict[int, tuple[int, ...]]:
    """A node's edges from left to right: as their sources lie, where they are added; in their order, where they are concatenated."""
    position = {place: i for layer in order for i, place in enumerate(layer)}
    sources: dict[int, dict[int, int]] = {}
    for lines in between:
        for line in lines:
            if line.port is not None:
                sources.setdefault(line.upper[0], {})[line.port] = position[line.lower]
    ports = {}
    for state, node in enumerate(cell.nodes, cell.inputs):
        edges = range(len(node.edges))
        ports[state] = tuple(sorted(edges, key=lambda port: sources[state][port]) if node.combine == "add" else edges)
    return ports


def _score(order: list[list[Place]], between: list[list[Line]], ports: Mapping[int, tuple[int, ...]]) -> tuple[int, float]:
    """Crossings, then the lines' length in places."""
    crossings, length = 0, 0.0
    for level in range(1, len(order)):
        below, above = ({place: i for i, place in enumerate(layer)} for layer in (order[level - 1], order[level]))
        ends = []
        for line in between[level]:
            inside = 0.0 if line.port is None else ports[line.upper[0]].index(line.port) / (2 * len(ports[line.upper[0]]))
            ends.append((below[line.lower], above[line.upper] + inside))
            length += abs(ends[-1][0] - len(below) / 2 - ends[-1][1] + len(above) / 2)
        passed: list[float] = []
        for _, upper in sorted(ends):  # an inversion is a crossing; lines of one source sort together and do not count
            crossings += len(passed) - bisect_right(passed, upper)
            insort(passed, upper)
    return crossings, length


# ------------------------------------------------------------------------------------------------ coordinates


def _coordinates(
    order: list[list[Place]],
    lines: list[Line],
    ports: Mapping[int, tuple[int, ...]],
    port_widths: Mapping[int, Sequence[float]],
    gap: float,
    trunk_gap: float,
) -> dict[Place, float]:
    """Positions that keep order and distances and make lines as straight as they can be; trunks before all.

    Every place wants to be at the mean of its neighbours; isotonic regression gives the nearest positions that keep the
    distances. A few rounds over the layers settle it.
    """
    own_layer = {line.upper[0]: line.upper[1] for line in lines if line.port is not None}

    def width(place: Place) -> float:
        state, level = place
        return sum(port_widths[state]) if level == own_layer.get(state, 0) else 0.0

    offset = {(state, port): o for state, edges in ports.items() for port, o in _offsets(edges, port_widths[state])}
    pulls: dict[Place, list[tuple[Place, float, float]]] = {place: [] for layer in order for place in layer}
    for line in lines:
        shift = 0.0 if line.port is None else offset[line.upper[0], line.port]
        weight = 8.0 if line.port is None else 1.0
        pulls[line.upper].append((line.lower, -shift, weight))
        pulls[line.lower].append((line.upper, shift, weight))
    x: dict[Place, float] = {}
    least: list[Positions] = []
    for layer in order:
        steps = [0.0]
        for left, right in itertools.pairwise(layer):
            boxes = width(left) > 0 and width(right) > 0
            steps.append((width(left) + width(right)) / 2 + (gap if boxes else trunk_gap))
        least.append(np.cumsum(steps))
        x |= {place: float(position - least[-1][-1] / 2) for place, position in zip(layer, least[-1], strict=True)}
    for step in range(RELAXATIONS):
        indices = range(len(order)) if step % 2 else range(len(order) - 1, -1, -1)
        for level in indices:
            layer = order[level]
            wanted = [sum(w * (x[n] + s) for n, s, w in pulls[p]) / max(1e-9, sum(w for _, _, w in pulls[p])) for p in layer]
            weights = [sum(w for _, _, w in pulls[p]) or 1e-9 for p in layer]
            settled = isotonic_regression(np.array(wanted) - least[level], sample_weight=weights) + least[level]
            x |= {place: float(position) for place, position in zip(layer, settled, strict=True)}
    _straighten(x, order, lines, least)
    return x


def _straighten(x: dict[Place, float], order: list[list[Place]], lines: list[Line], least: list[Positions]) -> None:
    """Move trunks that lean by less than an eye takes for meant, where their neighbours leave room."""
    for line in lines:
        if line.port is None and abs(x[line.upper] - x[line.lower]) < 0.1:
            level = line.upper[1]
            layer, distances = order[level], least[level]
            i = layer.index(line.upper)
            free_left = i == 0 or x[line.lower] - x[layer[i - 1]] >= distances[i] - distances[i - 1] - 1e-9
            free_right = i + 1 == len(layer) or x[layer[i + 1]] - x[line.lower] >= distances[i + 1] - distances[i] - 1e-9
            if free_left and free_right:
                x[line.upper] = x[line.lower]


def _offsets(edges: tuple[int, ...], widths: Sequence[float]) -> list[tuple[int, float]]:
    """Middle of every edge's box from the middle of them all."""
    left, result = -sum(widths) / 2, []
    for port in edges:
        result.append((port, left + widths[port] / 2))
        left += widths[port]
    return result


def port_offsets(edges: tuple[int, ...], widths: Sequence[float]) -> dict[int, float]:
    """Middle of every edge's box, from the middle of its node."""
    return dict(_offsets(edges, widths))
