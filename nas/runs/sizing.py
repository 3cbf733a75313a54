"""How wide a child of a search is and whether it may be trained at all, by what its network costs. Decided before it is trained. No ray."""

import math
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from controllers.controller import random_for
from nas.errors import ConfigError
from nas.evaluators.settings import Fidelity
from nas.networks.architecture import Architecture, searched_skeleton
from nas.networks.matching import TOLERANCE, match_width, read_limits, read_match
from nas.networks.scaling import short_number
from nas.runs.config import SearchConfig, target_rung
from nas.runs.state import redrawn_words
from nas.runs.trials import Size
from nas.training.fitting import amount_of
from search_spaces.genotype import Genotype
from search_spaces.registry import load_space
from search_spaces.space import Actions, SearchSpace, sample_actions

TRIED = 64
"""Cells drawn to see whether any can be trained: 64 misses mean that fewer than one of twenty can, with 95 % confidence."""
SHOWN = 16
"""Cells drawn to show what the rules do."""


class Sizing:
    """The rules of a search by which its children are sized. Their *target network* is the one at the side of the highest rung.

    A child is its target network on fewer pixels and images: the same N and F at every rung. What is said of a cell is a function of
    its actions alone, so a resumed search decides as it did before.

    Raises:
        DataError: the images, whose shape decides on costs, cannot be found.
    """

    def __init__(self, config: SearchConfig, space: SearchSpace) -> None:
        self._config, self._space = config, space
        self.match = None if config.match is None else read_match(config.match)
        self.limits = () if config.limit is None else read_limits(config.limit)
        amount = amount_of(config.data)
        top, side = target_rung(config)
        self._fidelity = top.fidelity
        self.side = (self.match.side if self.match is not None else None) or side
        self._classes, self._channels = amount.classes, amount.channels
        self._decided = lru_cache(16_384)(self._decide)

    def of(self, actions: Actions) -> Size | None:
        """The size of a child; None where it may not be trained."""
        decided = self._decided(actions)
        return decided if isinstance(decided, Size) else None

    def refusal(self, actions: Actions) -> str | None:
        """Why a cell is not trained; None where it is."""
        decided = self._decided(actions)
        return decided if isinstance(decided, str) else None

    def nearest(self, genotype: Genotype) -> Size:
        """The size of a genotype that a person wants trained whatever the rules say of it: the width nearest to the cost of all."""
        decided = self._size(genotype, enough=math.inf)
        assert isinstance(decided, Size)
        return decided

    def fidelity(self, size: Size | None, base: Fidelity | None = None) -> Fidelity | None:
        """The fidelity ``base`` (None: the search's own) of a child of this size; None where that is the search's own."""
        if size is None or size.filters is None:
            return base
        return (base or self._config.fidelity).model_copy(update={"filters": size.filters})

    @property
    def depth(self) -> int:
        """N of the target networks."""
        return self._fidelity.cells

    def target(self, genotype: Genotype) -> Architecture:
        """The target network of a genotype, at the fidelity's own width."""
        fidelity = self._fidelity
        skeleton = searched_skeleton(genotype, cells=fidelity.cells, filters=fidelity.filters)
        return Architecture(genotype, skeleton, "searched", self._classes, self._channels, self.side)

    def _decide(self, actions: Actions) -> Size | str:
        size = self._size(self._space.decode(actions), TOLERANCE)
        if isinstance(size, str):
            return size
        return next((reason for limit in self.limits if (reason := limit.broken(size.costs[limit.quantity]))), size)

    def _size(self, genotype: Genotype, enough: float) -> Size | str:
        architecture, filters = self.target(genotype), None
        if self.match is not None:
            scaled = match_width(architecture, self.match)
            if abs(scaled.off) > enough:
                return f"no width within {TOLERANCE:.0%} of {self.match}"
            architecture, filters = scaled.architecture, width_of(scaled.architecture)
        counted = architecture.cost()
        costs = {"params": float(counted.parameters), "macs": float(counted.macs)}
        return Size(filters, costs)


def sizing_of(config: SearchConfig, space: SearchSpace | None = None) -> Sizing | None:
    """The rules of a search that has any."""
    if config.match is None and config.limit is None:
        return None
    return Sizing(config, space or load_space(config.space))


@dataclass(frozen=True)
class Reach:
    """What became of cells drawn at random by a search's rules: the sizes of those that may be trained, and why the others may not."""

    drawn: int
    sizes: tuple[Size, ...]
    refused: Counter[str]


def reach(sizing: Sizing, space: SearchSpace, seed: int) -> Reach:
    """Draw cells to see which of them the rules let through, more where none does. Raises ConfigError where none of ``TRIED`` does."""
    rng = random_for(seed, "reach")
    sizes: list[Size] = []
    refused: Counter[str] = Counter()
    for drawn in range(1, TRIED + 1):
        actions = sample_actions(space, rng)
        size = sizing.of(actions)
        if size is None:
            refused[sizing.refusal(actions) or ""] += 1
        else:
            sizes.append(size)
        if sizes and drawn >= SHOWN:
            return Reach(drawn, tuple(sizes), refused)
    raise ConfigError(_nothing_left(sizing, space, seed, refused))


def _nothing_left(sizing: Sizing, space: SearchSpace, seed: int, refused: Counter[str]) -> str:
    """What to tell a person whose rules let nothing through: why, and what networks do cost."""
    rng = random_for(seed, "reach")
    own = [sizing.target(space.decode(sample_actions(space, rng))).cost() for _ in range(8)]
    macs, params = sorted(cost.macs for cost in own), sorted(cost.parameters for cost in own)
    return (
        f"match and limit leave nothing to train: of {refused.total()} cells drawn at random are {redrawn_words(refused)}. "
        f"At {sizing.side} pixels and the fidelity's own width cells have {short_number(macs[0])} to {short_number(macs[-1])} MACs "
        f"and {short_number(params[0])} to {short_number(params[-1])} parameters"
    )


def describe_sizing(config: SearchConfig, space: SearchSpace) -> list[str]:
    """What the rules are and what they do, in lines for the plan; none without rules. Raises ConfigError where nothing can be trained."""
    sizing = sizing_of(config, space)
    if sizing is None:
        return []
    found = reach(sizing, space, config.seed)
    lines = []
    if sizing.match is not None:
        widths = sorted(size.filters or 0.0 for size in found.sizes)
        lines.append(
            f"match:  every network within {TOLERANCE:.0%} of {sizing.match} at {sizing.side}×{sizing.side} pixels, "
            f"N={sizing.depth}: F from {widths[0]:g} to {widths[-1]:g} in {len(widths)} random cells"
        )
    if sizing.limits:
        lines.append(f"limit:  {', '.join(map(str, sizing.limits))}")
    if found.refused:
        lines.append(f"redraw: {found.refused.total()} of {found.drawn} random cells are drawn again, free: {redrawn_words(found.refused)}")
    return lines


def sized(config: SearchConfig, genotype: Genotype) -> SearchConfig:
    """The configuration with the width that a child is matched to; as it is where none is."""
    if config.match is None:
        return config
    sizing = Sizing(config, load_space(config.space))
    return with_size(config, sizing.nearest(genotype))


def with_size(config: SearchConfig, size: Size | None) -> SearchConfig:
    """The configuration with the width of a child of this size."""
    if size is None or size.filters is None:
        return config
    return config.model_copy(update={"fidelity": config.fidelity.model_copy(update={"filters": size.filters})})


def width_of(architecture: Architecture) -> float:
    """F of a network of cells."""
    return float(architecture.skeleton.filters)  # type: ignore[union-attr]  # it was solved for
