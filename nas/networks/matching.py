"""What networks may or should cost, as a person says it: ``macs=5M``, ``params<=3M,latency<=8ms``, ``accuracy,macs``. No torch."""

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.errors import ConfigError
from nas.networks.architecture import Architecture
from nas.networks.scaling import Quantity, Scaled, Target, parse_number, parse_time, scale_to

if TYPE_CHECKING:
    from nas.networks.stopwatch import Stopwatch

TOLERANCE = 0.05
"""A network further than this from the cost that all shall have (as a share of it) is not compared with the others."""
LATENCY_TOLERANCE = 0.1
"""The same of a latency: two measurements of one network differ by some per cent."""

QUANTITIES: dict[str, Quantity] = {"macs": "macs", "params": "parameters", "latency": "latency"}
"""What is known of a network before it is trained, by the name that a person says."""
_NAMES = "|".join(QUANTITIES)


@dataclass(frozen=True, slots=True)
class Match:
    """The cost that every network shall have: its width is solved for it."""

    target: Target
    side: int | None = None
    """Side of the images in pixels at which it costs that, where it is said."""

    def __str__(self) -> str:
        return str(self.target)

    @property
    def measured(self) -> bool:
        """Whether it takes a stopwatch to know it."""
        return self.target.quantity == "latency"

    @property
    def tolerance(self) -> float:
        """The share of the cost by which a network may be off."""
        return LATENCY_TOLERANCE if self.measured else TOLERANCE


@dataclass(frozen=True, slots=True)
class Limit:
    """The most that a network may cost."""

    name: str
    most: Target

    def __str__(self) -> str:
        return f"at most {self.most}"

    def broken(self, cost: float) -> str | None:
        """Why a network of this cost may not be trained; None where it may."""
        return f"more than {self.most}" if cost > self.most.value else None


@dataclass(frozen=True, slots=True)
class FeatureLimit:
    """The most or the least of a feature that a search space knows of its cells, such as the share of the edges that are convolutions."""

    name: str
    least: bool
    value: float

    def __str__(self) -> str:
        return f"{self.name} at {'least' if self.least else 'most'} {self.value:g}"

    def broken(self, found: float) -> str | None:
        """Why a cell with this much of it may not be trained; None where it may."""
        wrong = found < self.value if self.least else found > self.value
        return f"{self.name} {'less' if self.least else 'more'} than {self.value:g}" if wrong else None


def read_match(text: str) -> Match:
    """The cost of ``macs=5M``, ``params=300k`` or ``latency=8ms``, at a side in pixels of ``macs=5M@32``. Raises ConfigError."""
    found = re.fullmatch(rf"\s*({_NAMES})\s*=\s*([^\s,=<>@]+)(?:@([0-9]{{1,4}}))?\s*", text)
    if not found:
        raise ConfigError(f"match must be one cost for all networks, such as macs=5M, params=300k or latency=8ms, but got {text!r}")
    return Match(_target(found[1], found[2], "match"), int(found[3]) if found[3] else None)


def read_limits(text: str) -> tuple[Limit | FeatureLimit, ...]:
    """The limits of ``params<=3M,latency<=10ms`` and of ``normal.convolutions>=0.3``. Raises ConfigError.

    Which features there are is the search space's business: their names are not looked at here.
    """
    limits: list[Limit | FeatureLimit] = []
    for part in text.split(","):
        if found := re.fullmatch(rf"\s*({_NAMES})\s*<=\s*([^\s,=<>]+)\s*", part):
            limits.append(Limit(found[1], _target(found[1], found[2], "limit")))
        elif found := re.fullmatch(rf"\s*(?!(?:{_NAMES})\b)(\w+(?:\.\w+)*)\s*([<>])=\s*(\d+(?:\.\d*)?|\.\d+)\s*", part):
            limits.append(FeatureLimit(found[1], found[2] == ">", float(found[3])))
        else:
            rule = f"limit must be upper limits of {' or '.join(QUANTITIES)}, or limits of what the search space says of cells"
            raise ConfigError(f"{rule}, such as params<=3M,latency<=8ms or normal.convolutions>=0.3, but got {part.strip()!r}")
    return tuple(limits)


WEIGHT = -0.07
"""w of MnasNet's product accuracy · (cost / target)^w (Tan et al. 2019, arXiv 1807.11626, section 3): a doubled cost is worth 5 % more."""
FIRST = 10
"""Children whose median cost is the target, where nobody says one."""
MEASURED = (*QUANTITIES, "train_seconds")
"""What can be weighed against accuracy."""


@dataclass(frozen=True, slots=True)
class Objective:
    """A cost to be low beside an accuracy to be high. ``target`` is the cost at which the accuracy counts as it is."""

    quantity: str
    target: float | None = None

    def __str__(self) -> str:
        return f"accuracy · ({self.quantity} / target)^{WEIGHT}, target {self._target_words()}"

    def _target_words(self) -> str:
        if self.target is None:
            return f"the median of the first {FIRST} children's"
        return str(Target(QUANTITIES[self.quantity], self.target)) if self.quantity in QUANTITIES else f"{self.target:,g} s"


def read_objective(text: str) -> Objective:
    """The objective of ``accuracy,macs`` or, with a target, ``accuracy,macs@5M``, ``latency@8ms`` or ``train_seconds@8``.

    Raises:
        ConfigError: it is none of these.
    """
    found = re.fullmatch(rf"\s*accuracy\s*,\s*({'|'.join(MEASURED)})(?:@([^\s,@]+))?\s*", text)
    if not found:
        raise ConfigError(
            f"objective must be accuracy and one of {', '.join(MEASURED)}, such as accuracy,macs or accuracy,macs@5M, but got {text!r}"
        )
    return Objective(found[1], None if found[2] is None else parse_cost(found[1], found[2], "objective"))


def parse_cost(quantity: str, text: str, flag: str) -> float:
    """A cost such as ``5M``, ``300k`` or ``8ms``; seconds of a training as a plain number. Raises ConfigError."""
    if quantity in QUANTITIES:
        return float(_target(quantity, text, flag).value)
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) or not float(text):
        raise ConfigError(f"{flag}: {quantity} must be a number of seconds above 0, but got {text!r}")
    return float(text)


def _target(name: str, text: str, flag: str) -> Target:
    """What a person's ``name`` and ``text`` say. Raises ConfigError."""
    read = parse_time if name == "latency" else parse_number
    return Target(QUANTITIES[name], read(text, f"{flag}: {name}"))


def match_width(architecture: Architecture, match: Match, stopwatch: "Stopwatch | None" = None) -> Scaled:
    """The network of the width that comes closest to a cost, depth fixed; who needs it near looks at ``off``.

    A latency takes a ``stopwatch``, and is measured no more often than it needs to be within ``match.tolerance``.

    Raises:
        ConfigError: the skeleton has no width to choose.
    """
    depth = getattr(architecture.skeleton, "cells", None)
    if depth is None:
        raise ConfigError(f"match solves for the width of networks of cells, but {architecture.skeleton_name} has stages of blocks")
    if not match.measured:
        return scale_to(architecture, match.target, cells=depth, limit=math.inf)
    from nas.networks.stopwatch import match_latency

    assert stopwatch is not None
    return match_latency(architecture, match.target, stopwatch, cells=depth, tolerance=match.tolerance)


# ---------------------------------------------------------------------------------------------------- where latency is measured

PLACES = ("auto", "cpu", "cuda", "onnx")


def check_place(text: str) -> str:
    """Where latency is measured: ``auto``, a thread of the CPU, a GPU (``cuda:1``), or onnxruntime on a thread. Raises ConfigError."""
    if text not in PLACES and not re.fullmatch(r"cuda:[0-9]{1,3}", text):
        raise ConfigError(f"latency_on must be {', '.join(PLACES[:-1])}, cuda:N or {PLACES[-1]}, but got {text!r}")
    return text


def chosen_place(text: str, gpu: bool) -> str:
    """The place that ``auto`` stands for: the GPU where that is what networks are trained on, else a thread of the CPU."""
    return ("cuda" if gpu else "cpu") if text == "auto" else text


def place_words(place: str) -> str:
    """A place in words."""
    return {"cpu": "one CPU thread", "onnx": "onnxruntime on one CPU thread"}.get(place, place)
