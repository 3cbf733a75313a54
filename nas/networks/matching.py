"""What networks may or should cost, as a person says it: ``macs=5M``, ``params<=3M,macs<=8M``, ``accuracy,macs``. No torch."""

import math
import re
from dataclasses import dataclass
from typing import Literal

from nas.errors import ConfigError
from nas.networks.architecture import Architecture
from nas.networks.scaling import Scaled, Target, parse_number, scale_to, short_number

TOLERANCE = 0.05
"""A network further than this from the cost that all shall have (as a share of it) is not compared with the others."""

Quantity = Literal["macs", "params"]
QUANTITIES: tuple[Quantity, ...] = ("macs", "params")
"""What is known of a network before it is trained."""
_WORDS: dict[str, str] = {"macs": "MACs", "params": "parameters"}


@dataclass(frozen=True, slots=True)
class Match:
    """The cost that every network shall have: its width is solved for it. Multiply-accumulates for one image, or parameters."""

    quantity: Quantity
    value: int
    side: int | None = None
    """Side of the images in pixels at which it costs that, where it is said."""

    def __str__(self) -> str:
        return f"{short_number(self.value)} {_WORDS[self.quantity]}"

    @property
    def target(self) -> Target:
        """As ``scale_to`` takes it."""
        return Target("macs" if self.quantity == "macs" else "parameters", self.value)


@dataclass(frozen=True, slots=True)
class Limit:
    """The most that a network may cost."""

    quantity: Quantity
    value: int

    def __str__(self) -> str:
        return f"at most {short_number(self.value)} {_WORDS[self.quantity]}"

    def broken(self, cost: float) -> str | None:
        """Why a network of this cost may not be trained; None where it may."""
        return f"more than {short_number(self.value)} {_WORDS[self.quantity]}" if cost > self.value else None


def read_match(text: str) -> Match:
    """The cost of ``macs=5M`` or ``params=300k``, at a side in pixels of ``macs=5M@32``. Raises ConfigError."""
    found = re.fullmatch(rf"\s*({'|'.join(QUANTITIES)})\s*=\s*([^\s,=<>@]+)(?:@([0-9]{{1,4}}))?\s*", text)
    if not found:
        raise ConfigError(f"match must be one cost for all networks, such as macs=5M or params=300k, but got {text!r}")
    return Match(_quantity(found[1]), parse_number(found[2], f"match: {found[1]}"), int(found[3]) if found[3] else None)


def read_limits(text: str) -> tuple[Limit, ...]:
    """The limits of ``params<=3M,macs<=8M``. Raises ConfigError."""
    limits = []
    for part in text.split(","):
        found = re.fullmatch(rf"\s*({'|'.join(QUANTITIES)})\s*<=\s*([^\s,=<>]+)\s*", part)
        if not found:
            rule = f"limit must be upper limits of {' or '.join(QUANTITIES)}, such as params<=3M,macs<=8M"
            raise ConfigError(f"{rule}, but got {part.strip()!r}")
        limits.append(Limit(_quantity(found[1]), parse_number(found[2], f"limit: {found[1]}")))
    return tuple(limits)


WEIGHT = -0.07
"""w of MnasNet's product accuracy · (cost / target)^w (Tan et al. 2019, arXiv 1807.11626, section 3): a doubled cost is worth 5 % more."""
FIRST = 10
"""Children whose median cost is the target, where nobody says one."""
MEASURED = ("params", "macs", "train_seconds")
"""What can be weighed against accuracy."""


@dataclass(frozen=True, slots=True)
class Objective:
    """A cost to be low beside an accuracy to be high. ``target`` is the cost at which the accuracy counts as it is."""

    quantity: str
    target: float | None = None

    def __str__(self) -> str:
        target = f"the median of the first {FIRST} children's" if self.target is None else f"{self.target:,g}"
        return f"accuracy · ({self.quantity} / target)^{WEIGHT}, target {target}"


def read_objective(text: str) -> Objective:
    """The objective of ``accuracy,macs`` or, with its target, ``accuracy,macs@5M`` or ``train_seconds@8``. Raises ConfigError."""
    found = re.fullmatch(rf"\s*accuracy\s*,\s*({'|'.join(MEASURED)})(?:@([^\s,@]+))?\s*", text)
    if not found:
        raise ConfigError(
            f"objective must be accuracy and one of {', '.join(MEASURED)}, such as accuracy,macs or accuracy,macs@5M, but got {text!r}"
        )
    return Objective(found[1], None if found[2] is None else parse_cost(found[1], found[2], "objective"))


def parse_cost(quantity: str, text: str, flag: str) -> float:
    """A cost such as ``5M`` or ``300k``; seconds as a plain number. Raises ConfigError."""
    if quantity in QUANTITIES:
        return float(parse_number(text, f"{flag}: {quantity}"))
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) or not float(text):
        raise ConfigError(f"{flag}: {quantity} must be a number of seconds above 0, but got {text!r}")
    return float(text)


def _quantity(text: str) -> Quantity:
    return next(name for name in QUANTITIES if name == text)


def match_width(architecture: Architecture, match: Match) -> Scaled:
    """The network of the width that comes closest to a cost, depth fixed; who needs it near looks at ``off``.

    Raises:
        ConfigError: the skeleton has no width to choose.
    """
    depth = getattr(architecture.skeleton, "cells", None)
    if depth is None:
        raise ConfigError(f"match solves for the width of networks of cells, but {architecture.skeleton_name} has stages of blocks")
    return scale_to(architecture, match.target, cells=depth, limit=math.inf)
