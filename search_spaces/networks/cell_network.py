"""Networks of cells: a cell genotype in a NASNet skeleton, with the stems and auxiliary heads of the literature."""

from dataclasses import dataclass
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.canonical import read_inputs
from search_spaces.errors import GenotypeError
from search_spaces.genotype import CellGenotype, Genotype
from search_spaces.networks import fast
from search_spaces.networks.cell import Cell, State, StateShape
from search_spaces.networks.drop_path import scheduled_keep
from search_spaces.networks.network import FeatureInfo, Network
from search_spaces.networks.operations import Convolution, FreshReLU, Layers
from search_spaces.skeletons import CellPlan, NASNetSkeleton, auxiliary_position, cell_output_filters, plan_cells, rounded_width

AUXILIARY_FILTERS = (128, 768)
"""Filters of the auxiliary head's two convolutions."""


@dataclass(frozen=True, slots=True)
class Step:
    """A cell that is built: its place in the plan, the network states it reads, and those that no later cell reads."""

    index: int
    name: str
    previous: int
    current: int
    done_with: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Wiring:
    """Which cells a network has, and the shapes of its network states (the stem's, then those of all planned cells).

    ``first`` is the number of the first cell's state, ``auxiliary`` that of the one which the auxiliary head reads.
    """

    plans: tuple[CellPlan, ...]
    steps: tuple[Step, ...]
    shapes: tuple[StateShape, ...]
    first: int
    auxiliary: int


def wire(genotype: Genotype, skeleton: NASNetSkeleton, with_auxiliary: bool) -> Wiring:
    """Stack a genotype's cells by a skeleton, as data."""
    plans = plan_cells(skeleton)
    shapes = list(stem_shapes(skeleton))
    first = len(shapes)
    last, auxiliary = first + len(plans) - 1, first + auxiliary_position(skeleton)
    for plan in plans:
        channels = cell_output_filters(genotype_of(genotype, plan), plan.filters)
        shapes.append(StateShape(channels, shapes[plan.current].stride * plan.stride))
    steps = _steps(genotype, plans, first, {last, auxiliary} if with_auxiliary else {last})
    return Wiring(plans, steps, tuple(shapes), first, auxiliary)


class CellNetwork(Network):
    """A genotype's cells stacked by a NASNet skeleton; see ``build_network``.

    A cell whose output nobody reads is not built: where a genotype's normal cell, say, reads PREVIOUS alone, the reduction
    before it may feed nothing.
    """

    rectified_stages: frozenset[int] = frozenset()
    """Stages of the stem that end with a ReLU, since nobody reads what is before it: in a network folded for inference."""

    def __init__(self, genotype: Genotype, skeleton: NASNetSkeleton, *, classes: int, channels: int, image_size: int) -> None:
        super().__init__()
        layers = Layers(skeleton.conventions, skeleton.norm_eps, skeleton.norm_momentum)
        self.genotype = genotype
        self.skeleton = skeleton
        self.stem = build_stem(skeleton, channels, layers)
        with_auxiliary = skeleton.auxiliary and classes > 0
        wiring = wire(genotype, skeleton, with_auxiliary)
        plans, shapes, first = wiring.plans, wiring.shapes, wiring.first
        self._last_state = first + len(plans) - 1
        self._auxiliary_state = wiring.auxiliary
        self._steps = wiring.steps
        self.cells = nn.ModuleDict()
        for step in self._steps:
            plan = plans[step.index]
            try:
                self.cells[step.name] = Cell(
                    genotype_of(genotype, plan),
                    filters=plan.filters,
                    stride=plan.stride,
                    previous=None if plan.previous is None else shapes[plan.previous],
                    current=shapes[plan.current],
                    layers=layers,
                )
            except GenotypeError as error:
                raise GenotypeError(f"cell '{plan.genotype}', {error}") from None
        built = [*range(first), *(first + step.index for step in self._steps)]
        self._first_cell, self._planned = first, len(plans)
        self._feature_states = tuple({shapes[state].stride: state for state in built}.values())
        self._feature_info = tuple(FeatureInfo(shapes[state].stride, shapes[state].channels) for state in self._feature_states)
        self.auxiliary: AuxiliaryHead | None = None
        if with_auxiliary:
            side = sides(skeleton, plans, image_size)[self._auxiliary_state]
            self.auxiliary = AuxiliaryHead(shapes[self._auxiliary_state].channels, side, classes, skeleton, layers)
        self.classifier = nn.Linear(shapes[-1].channels, classes) if classes else nn.Identity()

    @property
    def feature_info(self) -> tuple[FeatureInfo, ...]:
        """One entry per map that ``features`` returns."""
        return self._feature_info

    @property
    def wiring(self) -> tuple[tuple[str, int, int, int], ...]:
        """Each cell built, in order: its name, the network state that it makes, and those it reads as PREVIOUS and as CURRENT."""
        return tuple((step.name, self._first_cell + step.index, step.previous, step.current) for step in self._steps)

    @property
    def feature_states(self) -> tuple[int, ...]:
        """The network states behind ``features``."""
        return self._feature_states

    def features(self, images: Tensor) -> list[Tensor]:
        """The last map (batch, channels, height, width) of every resolution, finest first, activated as the head takes it."""
        states = self._run(images, self._feature_states)
        return [self._for_head(states[index]) for index in self._feature_states]

    def forward_with_auxiliary(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits, and the auxiliary head's logits where there is one and the network is in training mode."""
        head = self.auxiliary if self.training else None
        states = self._run(images, (self._last_state,) if head is None else (self._last_state, self._auxiliary_state))
        logits = self.forward_head(self._for_head(states[self._last_state]))
        return logits, None if head is None else head(states[self._auxiliary_state].activated)

    def forward_head(self, features: Tensor) -> Tensor:
        """Logits of the last feature map; with no classes, the pooled map (batch, channels)."""
        pooled = F.dropout(features.mean((2, 3)), self.skeleton.dropout, self.training)
        return self.classifier(pooled)  # type: ignore[no-any-return]

    def _for_head(self, state: State) -> Tensor:
        return state.activated if self.skeleton.conventions.head_relu else state.raw

    def _run(self, images: Tensor, wanted: tuple[int, ...]) -> dict[int, State]:
        """Run stem and cells; return the wanted network states."""
        states: dict[int, State] = {}
        x = images
        for i, stage in enumerate(self.stem):
            x = fast.run_sequence(cast(nn.Sequential, stage), x)
            states[i] = State(x, rectified=i in self.rectified_stages)
        drops = self.training and self.skeleton.drop_path_keep < 1
        by_depth = self.skeleton.conventions.drop_by_depth
        for step in self._steps:
            keep = scheduled_keep(self.skeleton.drop_path_keep, step.index, self._planned, self.progress, by_depth) if drops else None
            states[self._first_cell + step.index] = self.cells[step.name](states[step.previous], states[step.current], keep)
            # So that inference holds a few states and not the whole network's.
            for state in step.done_with:
                if state not in wanted:
                    del states[state]
        return states


def genotype_of(genotype: Genotype, plan: CellPlan) -> CellGenotype:
    """The cell that a planned one is."""
    return genotype.normal if plan.genotype == "normal" else genotype.reduction or genotype.normal


def _steps(genotype: Genotype, plans: tuple[CellPlan, ...], first: int, wanted: set[int]) -> tuple[Step, ...]:
    """The cells that the wanted network states depend on, in order. ``first`` is the number of the first cell's state."""
    needed, seen = set(wanted), set(wanted)
    steps: list[Step] = []
    for index in reversed(range(len(plans))):
        if first + index not in needed:
            continue
        plan = plans[index]
        cell = genotype_of(genotype, plan)
        read = read_inputs(cell)
        current, previous = plan.current, plan.current if plan.previous is None else plan.previous
        if cell.inputs - 1 not in read:  # it stands for the other, so that both exist
            current = previous
        elif cell.inputs == 1 or 0 not in read:
            previous = current
        needed |= {previous, current}
        steps.append(Step(index, plan.name, previous, current, tuple(sorted({previous, current} - seen))))
        seen |= {previous, current}
    return tuple(reversed(steps))


class AuxiliaryHead(nn.Module):
    """Auxiliary classifier: average pooling, 1×1 convolution, a convolution as large as the map that remains, linear.

    A map smaller than the 5×5 window is pooled whole, which leaves the published sizes as they are and lets the head work
    on any image. On images larger than it was built for, the last convolution's positions are averaged.
    """

    def __init__(self, channels: int, side: int, classes: int, skeleton: NASNetSkeleton, layers: Layers) -> None:
        super().__init__()
        darts_imagenet = skeleton.stem == "darts_imagenet"
        self.window = min(5, side)
        self.stride = 2 if darts_imagenet else 3
        remaining = (side - self.window) // self.stride + 1
        first, second = AUXILIARY_FILTERS
        self.conv_1 = layers.conv(channels, first, 1)
        self.norm_1 = layers.norm(first)
        self.conv_2 = Convolution(first, second, remaining, padding="valid")
        # DARTS' ImageNet head has no second batch norm (its code leaves it out "for consistency with the experiments").
        self.norm_2 = nn.Identity() if darts_imagenet else layers.norm(second)
        self.classifier = nn.Linear(second, classes)

    def forward(self, activated: Tensor) -> Tensor:
        """Logits (batch, classes) of the ReLU of a network state (batch, channels, height, width)."""
        x = F.avg_pool2d(activated, self.window, self.stride)
        x = F.relu_(self.norm_1(self.conv_1(x)))
        x = F.relu_(self.norm_2(self.conv_2(x)))
        return self.classifier(x.mean((2, 3)))  # type: ignore[no-any-return]


def stem_shapes(skeleton: NASNetSkeleton) -> tuple[StateShape, ...]:
    """The shapes of the network states that the stem makes."""
    width = _stem_width(skeleton)
    strides = {"cifar": (1,), "imagenet": (2,), "darts_imagenet": (4, 8)}[skeleton.stem]
    return tuple(StateShape(width, stride) for stride in strides)


def _stem_width(skeleton: NASNetSkeleton) -> int:
    if skeleton.stem == "imagenet":
        return skeleton.stem_filters or 32
    return skeleton.stem_filters or rounded_width(skeleton.filters * (3 if skeleton.stem == "cifar" else 1))


def build_stem(skeleton: NASNetSkeleton, channels: int, layers: Layers) -> nn.ModuleList:
    """The stem's modules, each giving one network state from the one before."""
    width = _stem_width(skeleton)
    if skeleton.stem == "cifar":
        return nn.ModuleList([nn.Sequential(layers.conv(channels, width, 3), layers.norm(width))])
    if skeleton.stem == "imagenet":
        conv = Convolution(channels, width, 3, 2, padding="valid")
        return nn.ModuleList([nn.Sequential(conv, layers.norm(width))])
    half = width // 2
    first = [layers.conv(channels, half, 3, 2), layers.norm(half), FreshReLU(), layers.conv(half, width, 3, 2), layers.norm(width)]
    second = [nn.ReLU(), layers.conv(width, width, 3, 2), layers.norm(width)]
    return nn.ModuleList([nn.Sequential(*first), nn.Sequential(*second)])


def sides(skeleton: NASNetSkeleton, plans: tuple[CellPlan, ...], image_size: int) -> list[int]:
    """Pixels a side of every network state."""
    if skeleton.stem == "cifar":
        sides = [image_size]
    elif skeleton.stem == "imagenet":
        sides = [(image_size - 3) // 2 + 1]
    else:
        sides = [-(-image_size // 4), -(-image_size // 8)]
    for plan in plans:
        sides.append(-(-sides[plan.current] // plan.stride))
    return sides
