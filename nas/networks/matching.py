"""What a network may cost, as a person says it: ``--match macs=5M``, ``--limit params<=3M,macs<=8M``. No torch."""

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
