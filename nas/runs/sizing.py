"""How wide a child of a search is and whether it may be trained at all, by what its network costs. Decided before it is trained. No ray."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from controllers.controller import random_for
from nas.errors import ConfigError
from nas.evaluators.settings import Fidelity
from nas.networks.architecture import Architecture, searched_skeleton
from nas.networks.matching import QUANTITIES, FeatureLimit, Limit, match_width, place_words, read_limits, read_match, read_objective
from nas.networks.scaling import milliseconds, short_number
from nas.networks.stopwatch import SCREEN, Stopwatch, stopwatch_at
from nas.runs.config import SearchConfig, latency_place, space_of, target_rung
from nas.runs.state import redrawn_words
from nas.runs.trials import Size
from nas.tools.stages import doing
from nas.training.fitting import amount_of
from search_spaces.canonical import canonical_key, digest
from search_spaces.genotype import Genotype
from search_spaces.plugins import guess
from search_spaces.space import Actions, SearchSpace, sample_actions

TRIED = 64
"""Cells drawn to see whether any can be trained: 64 misses mean that fewer than one of twenty can, with 95 % confidence."""
SHOWN = 8
"""Cells drawn to show what the rules do."""
SHOWN_MEASURED = 4
"""The same where each of them takes seconds to measure."""

Decision = Size | str
"""The size of a child, or why it may not be trained."""


@dataclass(frozen=True)
class Decisions:
    """What was decided before of cells, by their key, and how a new decision is kept: where latency is measured, none is made twice."""

    known: Mapping[str, Decision]
    keep: Callable[[str, Decision], None]

    @classmethod
    def passing(cls) -> "Decisions":
        """Kept as long as this object: of no run."""
        known: dict[str, Decision] = {}
        return cls(known, known.__setitem__)


def network_key(genotype: Genotype) -> str:
    """What genotypes have in common whose networks cost the same: a space's own key may say no more than that they are worth the same."""
    return digest(f"{genotype.skeleton} {canonical_key(genotype)}")


class Sizing:
    """The rules of a search by which its children are sized. Their *target network* is the one at the side of the highest rung.

    A child is its target network on fewer pixels and images: the same N and F at every rung. What is said of a cell is a function of
    its actions alone, so a resumed search decides as it did before. A measured latency is no such function: there what was decided is kept,
    in the run's ledger before anybody goes by it.

    Raises:
        ConfigError: the space has no feature of a name that is limited.
        DataError: the images, whose shape decides on costs, cannot be found.
    """

    def __init__(self, config: SearchConfig, space: SearchSpace, decisions: Decisions | None = None) -> None:
        self._config, self._space = config, space
        self._decisions = decisions or Decisions.passing()
        self.place = latency_place(config) if config.measures else None
        """Where latency is measured; None where it is not."""
        self.match = None if config.match is None else read_match(config.match)
        limits = () if config.limit is None else read_limits(config.limit)
        self.limits = tuple(limit for limit in limits if isinstance(limit, Limit))
        self.features = tuple(limit for limit in limits if isinstance(limit, FeatureLimit))
        check_features(self.features, space)
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
        decided = self._once(genotype, lambda: self._size(genotype, math.inf), "nearest-")
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

    @property
    def stopwatch(self) -> Stopwatch:
        """What measures latency here."""
        assert self.place is not None
        return stopwatch_at(self.place)

    def _decide(self, actions: Actions) -> Decision:
        genotype = self._space.decode(actions)
        return self._once(genotype, lambda: self._judged(genotype))

    def _once(self, genotype: Genotype, decide: Callable[[], Decision], kind: str = "") -> Decision:
        """What is decided of a genotype; what takes a measurement is decided once for all genotypes that are the same network."""
        if self.place is None:
            return decide()
        key = kind + network_key(genotype)
        if key not in self._decisions.known:
            from nas.training.numerics import own_threads

            with own_threads(1):
                decided = decide()
            self._decisions.keep(key, decided)
        return self._decisions.known[key]

    def _judged(self, genotype: Genotype) -> Decision:
        if unlike := self._unlike(genotype):
            return unlike
        size = self._size(genotype, math.inf if self.match is None else self.match.tolerance)
        return size if isinstance(size, str) else self._broken(size.costs) or size

    def _unlike(self, genotype: Genotype) -> str | None:
        """The first limit of a feature that the cells break."""
        found = _features_of(self._space, genotype) if self.features else {}
        return next((reason for limit in self.features if (reason := limit.broken(found[limit.name]))), None)

    def _broken(self, costs: Mapping[str, float]) -> str | None:
        """The first limit that a network of these costs breaks; what is not among them breaks none."""
        broken = (limit.broken(costs[limit.name]) for limit in self.limits if limit.name in costs)
        return next((reason for reason in broken if reason), None)

    def _size(self, genotype: Genotype, enough: float) -> Decision:
        """The size of a genotype, or that it has none within ``enough``, a share of the matched cost."""
        architecture, filters, latency = self.target(genotype), None, math.nan
        if self.match is not None:
            scaled = match_width(architecture, self.match, self.stopwatch if self.match.measured else None)
            if abs(scaled.off) > enough:
                return f"no width within {enough:.0%} of {self.match}"
            architecture, filters, latency = scaled.architecture, width_of(scaled.architecture), scaled.latency
        counted = architecture.cost()
        costs = {"params": float(counted.parameters), "macs": float(counted.macs)}
        if self.place is not None:
            costs["latency"] = self._latency(architecture, costs) if math.isnan(latency) else latency
        return Size(filters, costs)

    def _latency(self, architecture: Architecture, costs: Mapping[str, float]) -> float:
        """Seconds of an image, measured; as the model has it where that, or another cost, breaks a limit beyond doubt."""
        predicted = self.stopwatch.predicted(architecture)
        if self._broken({**costs, "latency": predicted / SCREEN}):
            return predicted
        return self.stopwatch.seconds(architecture)


def check_features(limits: Sequence[FeatureLimit], space: SearchSpace) -> None:
    """Raise ConfigError where the space has no feature of that name."""
    if not limits:
        return
    known = _features_of(space, space.decode(sample_actions(space, random_for(0, "features"))))
    for limit in limits:
        if limit.name not in known:
            there = ", ".join(known) or "no features of its cells"
            rule = f"limit must be of a cost ({', '.join(QUANTITIES)}) or of what space {space.name!r} says of its cells"
            raise ConfigError(f"{rule}, but got {limit.name!r}{guess(limit.name, (*QUANTITIES, *known))}; it says: {there}")


def _features_of(space: SearchSpace, genotype: Genotype) -> Mapping[str, float]:
    found: Mapping[str, float] = space.features(genotype) if hasattr(space, "features") else {}
    return found


def sizing_of(config: SearchConfig, space: SearchSpace | None = None, decisions: Decisions | None = None) -> Sizing | None:
    """The rules of a search that has any."""
    if config.match is None and config.limit is None and config.objective is None:
        return None
    return Sizing(config, space or space_of(config), decisions)


@dataclass(frozen=True)
class Reach:
    """What became of cells drawn at random by a search's rules: the sizes of those that may be trained, and why the others may not."""

    drawn: int
    sizes: tuple[Size, ...]
    refused: Counter[str]


@doing("sizing random cells")
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
        if sizes and drawn >= (SHOWN if sizing.place is None else SHOWN_MEASURED):
            return Reach(drawn, tuple(sizes), refused)
    raise ConfigError(_nothing_left(sizing, space, seed, refused))


def _nothing_left(sizing: Sizing, space: SearchSpace, seed: int, refused: Counter[str]) -> str:
    """What to tell a person whose rules let nothing through: why, and what networks do cost."""
    rng = random_for(seed, "reach")
    drawn = [sizing.target(space.decode(sample_actions(space, rng))) for _ in range(8)]
    own = [architecture.cost() for architecture in drawn]
    macs, params = sorted(cost.macs for cost in own), sorted(cost.parameters for cost in own)
    latency = ""
    if sizing.place is not None:
        seconds = sorted(map(sizing.stopwatch.predicted, drawn))
        latency = f", and take about {milliseconds(seconds[0])} to {milliseconds(seconds[-1])} an image on {place_words(sizing.place)}"
    return (
        f"match and limit leave nothing to train: of {refused.total()} cells drawn at random are {redrawn_words(refused)}. "
        f"At {sizing.side} pixels and the fidelity's own width cells have {short_number(macs[0])} to {short_number(macs[-1])} MACs "
        f"and {short_number(params[0])} to {short_number(params[-1])} parameters{latency}"
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
            f"match:  every network within {sizing.match.tolerance:.0%} of {sizing.match} at {sizing.side}×{sizing.side} pixels, "
            f"N={sizing.depth}: F from {widths[0]:g} to {widths[-1]:g} in {len(widths)} random cells"
        )
    if sizing.limits or sizing.features:
        lines.append(f"limit:  {', '.join(map(str, (*sizing.limits, *sizing.features)))}")
    if config.objective is not None:
        lines.append(f"told:   {read_objective(config.objective)}; the result is the Pareto front")
    if sizing.place is not None:
        lines.append(f"timed:  latency of one image, on {place_words(sizing.place)}, once for every cell, before it is trained")
    if found.refused:
        lines.append(f"redraw: {found.refused.total()} of {found.drawn} random cells are drawn again, free: {redrawn_words(found.refused)}")
    return lines


def sized(config: SearchConfig, genotype: Genotype) -> SearchConfig:
    """The configuration with the width that a child is matched to; as it is where none is."""
    if config.match is None:
        return config
    sizing = Sizing(config, space_of(config))
    return with_size(config, sizing.nearest(genotype))


def with_size(config: SearchConfig, size: Size | None) -> SearchConfig:
    """The configuration with the width of a child of this size."""
    if size is None or size.filters is None:
        return config
    return config.model_copy(update={"fidelity": config.fidelity.model_copy(update={"filters": size.filters})})


def width_of(architecture: Architecture) -> float:
    """F of a network of cells."""
    return float(architecture.skeleton.filters)  # type: ignore[union-attr]  # it was solved for
