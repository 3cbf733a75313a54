"""Stacks a genotype to a size: solves for the depth and width whose network costs a wanted number of MACs or parameters."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Literal

import numpy as np

from nas.errors import ConfigError
from nas.networks.architecture import Architecture
from search_spaces.skeletons import Plane, family_of

TOLERANCE = 0.02
"""A network this near to its target (as a share of it) is near enough to prefer a good shape over a smaller difference."""
LIMIT = 0.5
"""A network further than this from its target is none that was asked for."""
DEEPEST = 20
"""Cells a stage, or blocks of the longest stage: no published network of cells has more than 7."""
WIDEST = 2048
TRIED = 3
"""Depths that are solved exactly before the closest is taken: more would find a closer cost in an odd shape."""
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}

Quantity = Literal["macs", "parameters", "latency"]


@dataclass(frozen=True, slots=True)
class Target:
    """What a network shall cost.

    Multiply-accumulates for one image, trainable parameters (see ``search_spaces.networks.cost.Cost``), or the seconds that one image
    takes, which is measured (``nas.networks.stopwatch``) where the others are counted.
    """

    quantity: Quantity
    value: float

    def __str__(self) -> str:
        if self.quantity == "latency":
            return f"{milliseconds(self.value)} an image"
        return f"{short_number(self.value)} {'MACs' if self.quantity == 'macs' else 'parameters'}"


@dataclass(frozen=True, slots=True)
class Scaled:
    """A network chosen for a target, with what it costs exactly; ``latency`` in seconds where that was the target."""

    architecture: Architecture
    target: Target
    parameters: int
    macs: int
    latency: float = math.nan

    @property
    def off(self) -> float:
        """Signed share of the target by which the network's cost differs: 0.01 is one percent above."""
        costs: dict[Quantity, float] = {"macs": self.macs, "parameters": self.parameters, "latency": self.latency}
        return costs[self.target.quantity] / self.target.value - 1

    def __str__(self) -> str:
        """One line: what was chosen, what it costs, how far that is from the target."""
        distance = f"{abs(self.off):.2%} {'above' if self.off > 0 else 'below'}" if self.off else "exactly"
        chosen = f"{self.architecture.name}: {describe_shape(self.architecture)}"
        measured = "" if math.isnan(self.latency) else f", {milliseconds(self.latency)} an image"
        return f"{chosen}; {self.parameters:,} parameters, {self.macs:,} MACs{measured}, {distance} the {self.target} asked for"


def read_target(macs: str | None, params: str | None, latency: str | None = None) -> Target | None:
    """The target of the flags ``--macs``, ``--params`` and ``--latency``, None where none is given.

    Raises:
        ConfigError: two are given, or one is no number with an optional k, M or G, no time.
    """
    given = {name: value for name, value in {"--macs": macs, "--params": params, "--latency": latency}.items() if value is not None}
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} exclude each other, but got {' and '.join(given.values())}")
    if latency is not None:
        return Target("latency", parse_time(latency, "--latency"))
    if macs is not None:
        return Target("macs", parse_number(macs, "--macs"))
    return None if params is None else Target("parameters", parse_number(params, "--params"))


def parse_number(text: str, flag: str) -> int:
    """A whole number of at least 1 from ``564M``, ``5.3M``, ``1.2G``, ``270k`` or plain digits. Raises ConfigError."""
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)([kMG]?)", text)
    value = round(float(match[1]) * _UNITS[match[2]]) if match else 0
    if not 1 <= value <= 10**15:
        raise ConfigError(f"{flag} must be a number with or without k, M or G, such as 564M, 5.3M or 1.2G, but got {text!r}")
    return value


def parse_time(text: str, flag: str) -> float:
    """Seconds of ``8ms``, ``0.008s`` or ``800us``: above 0 and at most 1000 s. Raises ConfigError."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(us|ms|s)", text)
    value = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if not 0 < value <= 1000:
        raise ConfigError(f"{flag} must be a time with its unit (s, ms or us), such as 8ms or 0.008s, but got {text!r}")
    return value


def milliseconds(seconds: float) -> str:
    """A latency as ``8 ms``, with four digits at most."""
    return f"{1000 * seconds:.4g} ms"


def short_number(value: float) -> str:
    """``563638816`` as ``563.6M``: four digits, with the unit that ``parse_number`` reads."""
    for unit in ("G", "M", "k"):
        if value >= _UNITS[unit]:
            return f"{value / _UNITS[unit]:.4g}{unit}"
    return f"{value:g}"


def describe_shape(architecture: Architecture) -> str:
    """Depth and width in words: N and F (with the penultimate filters that NASNet's papers print), or depths and widths."""
    return family_of(architecture.skeleton).shape(architecture.genotype, architecture.skeleton)


def scale_to(
    architecture: Architecture, target: Target, *, cells: int | None = None, filters: int | None = None, limit: float = LIMIT
) -> Scaled:
    """Solve for the depth and width of a network with the target's cost; everything else of the architecture stays.

    Many pairs of depth and width cost the same. The rule: depths are tried from the one whose solution keeps the
    skeleton's published proportion of depth to width best (in logarithms), for each the width with the closest cost is found
    exactly, and the first within 2 % of the target is taken; where none of the nearest three depths is that near, the
    closest of them is, the smaller network of two equally close. So a published network's own cost gives back that network.
    Where whole numbers of filters are too coarse for 2 % (narrow networks), F is a fraction whose stages are rounded.

    In a residual skeleton all stages keep their proportions, and the stem its own to the first stage. The order of depths
    and the first guess of a width come from a polynomial through six counts (cost is quadratic in width and linear in depth,
    but for rounding); what is returned is counted.

    Args:
        architecture: genotype, skeleton, classes, channels and resolution.
        target: the cost wanted.
        cells: N where it is given and only F is free (not for residual skeletons).
        filters: F where it is given and only N is free.
        limit: share of the target by which the closest network may be off.

    Raises:
        ConfigError: both are given, or no network of this family comes within ``limit`` of the target.
    """
    if cells is not None and filters is not None:
        raise ConfigError(f"--macs and --params solve for N or F, but got both: --cells {cells} --filters {filters}")
    plane = family_of(architecture.skeleton).plane
    if plane is None:
        raise ConfigError(f"--macs and --params do not go with the skeleton {architecture.skeleton_name}, which has one size")
    family = plane(architecture.skeleton)
    count = _counter(architecture, family, target)
    if filters is not None:
        best = (int(_closest(lambda depth: count(int(depth), filters), target.value, family.depth, 1, DEEPEST, 1)), float(filters))
    else:
        best = _solve(family, count, target.value, [cells] if cells is not None else None)
    chosen = replace(architecture, skeleton=family.make(*best))

    cost = chosen.cost()
    scaled = Scaled(chosen, target, cost.parameters, cost.macs)
    if abs(scaled.off) > limit:
        raise ConfigError(f"no network of this skeleton has about {target}; the closest is {chosen.name} with {scaled.off:+.0%}")
    return scaled


Count = Callable[[int, float], float]
"""The cost at a depth and a width."""


def _counter(architecture: Architecture, family: Plane, target: Target) -> Count:
    assert target.quantity != "latency"  # nothing counts it

    @cache
    def count(depth: int, width: float) -> int:
        cost = replace(architecture, skeleton=family.make(depth, width)).cost()
        return cost.macs if target.quantity == "macs" else cost.parameters

    return count


# ---------------------------------------------------------------------------------------------------- solving


def _solve(family: Plane, count: Count, target: float, depths: list[int] | None) -> tuple[int, float]:
    """Depth and width by the rule of ``scale_to``; ``depths`` are those allowed."""
    allowed = depths or list(range(1, max(DEEPEST, family.depth) + 1))
    if family.depth in allowed and _near(count(family.depth, family.width), target):
        return family.depth, family.width  # no other shape is nearer to the published one
    if depths is not None and len(depths) == 1:
        depth = depths[0]
        start = family.width * math.sqrt(target / count(depth, family.width))  # cost is about quadratic in width
        return depth, solve_width(family, partial(count, depth), target, min(max(start, family.lowest), WIDEST))
    width_of = _width_guess(family, count, target)
    guesses = {depth: width_of(depth) for depth in allowed}

    def distortion(depth: int) -> float:
        return abs(math.log(depth / family.depth) - math.log(guesses[depth] / family.width))

    tried: list[tuple[int, float]] = []
    for depth in sorted(allowed, key=distortion)[:TRIED]:
        width = solve_width(family, partial(count, depth), target, guesses[depth])
        if _near(count(depth, width), target):
            return depth, width
        tried.append((depth, width))
    return min(tried, key=lambda pair: (abs(count(*pair) - target), count(*pair)))


def _near(cost: float, target: float) -> bool:
    return abs(cost / target - 1) <= TOLERANCE


def solve_width(family: Plane, cost: Callable[[float], float], target: float, guess: float) -> float:
    """The whole width of the closest cost, or where that is not near enough the fraction."""
    whole = _closest(cost, target, guess, family.lowest, WIDEST, family.step)
    if family.fraction is None or _near(cost(whole), target):
        return whole
    lowest, highest = max(whole - family.step, family.lowest), min(whole + family.step, WIDEST)
    return _closest(cost, target, guess, lowest, highest, family.fraction)


def _width_guess(family: Plane, count: Count, target: float) -> Callable[[int], float]:
    """The width, unrounded, at which the polynomial ``Σ c_ij · depth^i · width^j`` (i ≤ 1, j ≤ 2) has the target's value."""
    start = family.width * (target / count(family.depth, family.width)) ** (1 / 3)
    middle = _on_grid(start, family, max(2 * family.lowest, 2 * family.step))
    widths = [max(family.lowest, int(middle // 2 // family.step * family.step)), middle, 2 * middle]
    points = [(depth, width) for depth in (2, 4) for width in widths]
    powers = [[depth**i * (width / middle) ** j for i in (0, 1) for j in (0, 1, 2)] for depth, width in points]
    coefficients = np.linalg.solve(np.array(powers, float), np.array([count(*point) for point in points], float))

    def width_at(depth: int) -> float:
        c, b, a = (float(coefficients[j] + depth * coefficients[3 + j]) for j in range(3))
        c -= target
        root = (-b + math.sqrt(max(b * b - 4 * a * c, 0))) / (2 * a) if a > 0 else 1.0
        return min(max(root * middle, float(family.lowest)), float(WIDEST))

    return width_at


def _on_grid(width: float, family: Plane, lowest: int) -> int:
    return min(max(round(width / family.step) * family.step, lowest), WIDEST // 2)


def _closest(cost: Callable[[float], float], target: float, guess: float, lowest: float, highest: float, step: float) -> float:
    """The value on the grid whose cost is closest to the target (the smaller of two equally close); the cost grows with the value.

    Ever longer strides from the guess bracket the target, then the bracket is halved: some ten counts, wherever the guess lies.
    """
    last = math.floor((highest - lowest) / step)
    below = min(max(math.floor((guess - lowest) / step), 0), last)

    def at(place: int) -> float:
        return cost(lowest + place * step)

    stride = 1
    while below > 0 and at(below) > target:
        below, stride = max(below - stride, 0), 2 * stride
    above, stride = min(below + 1, last), 1
    while above < last and at(above) <= target:
        below, above, stride = above, min(above + stride, last), 2 * stride
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (middle, above) if at(middle) <= target else (below, middle)
    # Now cost(below) <= target < cost(above), but at the ends of the grid.
    return lowest + min((below, above), key=lambda place: (abs(at(place) - target), place)) * step
