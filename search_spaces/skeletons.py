"""Skeletons: the macro network around a genotype (stem, stages, widths, heads) as frozen data. No torch; anyone may import it."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeVar

from search_spaces.errors import SkeletonError
from search_spaces.genotype import CellGenotype, Genotype
from search_spaces.plugins import Registry, guess, instance_of, is_code
from search_spaces.residual_skeletons import RESIDUAL_SKELETONS, ResidualSkeleton, literature_name, require

# ---------------------------------------------------------------------------------------------------- cell networks


@dataclass(frozen=True, slots=True)
class Conventions:
    """How a code base builds what its paper leaves open. One instance per tradition, so that every choice is in one place.

    The defaults are NASNet's: the released TensorFlow graph (tensorflow/models, research/slim/nets/nasnet) where it says,
    and AmoebaNet's (tensorflow/tpu, by the same authors on the same library) for the operations that NASNet-A never
    selected. Nobody published how the NASNet *search* built those, so this is a choice, made for two reasons: it is the
    only code of these operations by these authors, and AmoebaNet-A's printed sizes fit it exactly.

    A state combined by ``concat`` has twice the filters. Every operation that consumes it maps it back to the cell's
    filters (a pooling or identity by a 1×1 convolution, as for any other width), and the cell's output takes it as it is:
    the paper inserts 1×1 convolutions only where shapes must match, and a concatenation needs no equal widths.

    Attributes:
        padding: ``same`` is TensorFlow's, with the odd pixel at the bottom and right; ``symmetric`` is PyTorch's.
        bottleneck: the 3×3, 5×5, dilated, 1×7–7×1 (1×3–3×1) convolutions run in a quarter (three eighths) of the filters
            between two 1×1 convolutions, unless that is less than one, and a pair has batch norm and ReLU in between;
            else they are ReLU, convolution(s), batch norm.
        dilated: ``plain`` convolves as above with rate 2; ``separable`` is depthwise with rate 2, then 1×1.
        strided_identity: a strided identity becomes a strided 1×1 ``conv`` or a ``factorized`` reduction.
        adjust_always: every cell adjusts PREVIOUS by a 1×1 convolution; else one of the right shape is taken as it is, and so
            is the stem's output in the first cell, whatever its width.
        drop_by_depth: ScheduledDropPath also grows with the cell's depth.
        drop_strided_identity: drop path may drop an identity that had to become a convolution.
        head_relu: a ReLU comes before the global pooling.
        auxiliary_after: the auxiliary head reads the last cell of ``stage_2``, or the second reduction (``reduction_2``).
        average_counts_padding: a strided average takes the padding's zeros into its mean. TensorFlow does not; timm's
            ports do, so their logits differ slightly from the released networks'.
    """

    padding: Literal["same", "symmetric"] = "same"
    bottleneck: bool = True
    dilated: Literal["plain", "separable"] = "plain"
    strided_identity: Literal["conv", "factorized"] = "conv"
    adjust_always: bool = False
    drop_by_depth: bool = True
    drop_strided_identity: bool = False
    head_relu: bool = True
    auxiliary_after: Literal["stage_2", "reduction_2"] = "stage_2"
    average_counts_padding: bool = False


NASNET_CONVENTIONS = Conventions()
"""NASNet and PNASNet: tensorflow/models."""

AMOEBANET_CONVENTIONS = replace(NASNET_CONVENTIONS, drop_by_depth=False)
"""AmoebaNet: tensorflow/tpu, whose drop path grows with training only."""

TIMM_CONVENTIONS = replace(NASNET_CONVENTIONS, average_counts_padding=True)
"""NASNet as timm's port computes it; for comparing with it to rounding."""

DARTS_CONVENTIONS = Conventions(
    padding="symmetric",
    bottleneck=False,
    dilated="separable",
    strided_identity="factorized",
    adjust_always=True,
    drop_by_depth=False,
    drop_strided_identity=True,
    head_relu=False,
    auxiliary_after="reduction_2",
)
"""DARTS (quark0/darts), for its cells and those that others trained with its code."""


@dataclass(frozen=True, slots=True)
class NASNetSkeleton:
    """Three stages of ``cells`` cells with a reduction between them (Zoph et al. 2018, arXiv 1707.07012, figure 2).

    PNASNet and DARTS stack their cells the same way, with other conventions.

    Attributes:
        cells: N, normal cells a stage.
        filters: F, filters of the first stage's cells; every reduction doubles them. A fraction is for matching costs: the
            stages have F, 2F and 4F, each rounded, so between two whole numbers lie several networks (only with stems that do not
            split F).
        stem: ``cifar`` keeps the resolution; ``imagenet`` is a strided 3×3 convolution without padding and two
            reduction cells with F/4 and F/2 filters; ``darts_imagenet`` is DARTS' three strided 3×3 convolutions.
        stem_filters: filters of the stem's convolution; None is 3F for ``cifar``, 32 for ``imagenet``, F for DARTS.
        reductions: ``inserted`` between stages, or ``in_place``: the first cell of the next stage is strided (PNASNet).
        skip_reduction_input: the cell after a reduction takes as PREVIOUS what the reduction took as PREVIOUS, not the
            reduction's input (the large ImageNet network's; only with inserted reductions).
        auxiliary: an auxiliary classifier two thirds of the way up, for training.
        drop_path_keep: ScheduledDropPath's final probability to keep a path; 1 is off.
        dropout: probability to drop a feature before the classifier.
        norm_eps: batch norm's epsilon (the released ImageNet weights need 1e-3).
        norm_momentum: share of a batch's statistics in the moving ones (1 − TensorFlow's decay).
        conventions: how the tradition builds what its paper leaves open.

    Raises:
        SkeletonError: a value breaks its rule.
    """

    cells: int = 6
    filters: float = 32
    stem: Literal["cifar", "imagenet", "darts_imagenet"] = "cifar"
    stem_filters: int | None = None
    reductions: Literal["inserted", "in_place"] = "inserted"
    skip_reduction_input: bool = False
    auxiliary: bool = False
    drop_path_keep: float = 1.0
    dropout: float = 0.0
    norm_eps: float = 1e-5
    norm_momentum: float = 0.1
    conventions: Conventions = NASNET_CONVENTIONS

    def __post_init__(self) -> None:
        require(self.stem in ("cifar", "imagenet", "darts_imagenet"), "`stem` must be cifar, imagenet or darts_imagenet", self.stem)
        require(1 <= self.cells <= 50, "`cells` must be 1..50", self.cells)
        lowest = {"imagenet": 4, "darts_imagenet": 2}.get(self.stem, 1)
        require(lowest <= self.filters <= 4096, f"`filters` must be {lowest}..4096 with the {self.stem} stem", self.filters)
        object.__setattr__(self, "filters", _plain(self.filters))
        whole = self.stem == "cifar" or isinstance(self.filters, int)
        require(whole, f"`filters` must be a whole number with the {self.stem} stem", self.filters)
        require(self.stem_filters is None or 1 <= self.stem_filters <= 4096, "`stem_filters` must be 1..4096", self.stem_filters)
        require(self.reductions in ("inserted", "in_place"), "`reductions` must be inserted or in_place", self.reductions)
        require(0 < self.drop_path_keep <= 1, "`drop_path_keep` must be above 0 and at most 1", self.drop_path_keep)
        require(0 <= self.dropout < 1, "`dropout` must be at least 0 and below 1", self.dropout)


def _plain(filters: float) -> float:
    """A whole number as an int, so that documents and names say 32, not 32.0."""
    return int(filters) if float(filters).is_integer() else filters


def rounded_width(filters: float) -> int:
    """A number of filters as a layer can have it: rounded, halves up, at least one."""
    return max(1, math.floor(filters + 0.5))


def stage_filters(filters: float) -> tuple[int, int, int]:
    """Filters of the three stages of a skeleton of cells: F, 2F and 4F, each rounded."""
    return rounded_width(filters), rounded_width(2 * filters), rounded_width(4 * filters)


@dataclass(frozen=True, slots=True)
class CellPlan:
    """One cell of a cell network. Network states are numbered: the stem's outputs first, then the cells' in order.

    ``genotype`` says which of the genotype's cells it is; ``previous`` and ``current`` are the network states it reads,
    ``previous`` being None where there is only one so far.
    """

    name: str
    genotype: Literal["normal", "reduction"]
    filters: int
    stride: int
    previous: int | None
    current: int


def plan_cells(skeleton: NASNetSkeleton) -> tuple[CellPlan, ...]:
    """The cells of a skeleton in the order in which they run, stem cells included."""
    stem_states = 2 if skeleton.stem == "darts_imagenet" else 1
    plans: list[CellPlan] = []

    def add(name: str, reduce: bool, filters: int, previous: int | None = None) -> None:
        current = stem_states + len(plans) - 1
        before = current - 1 if current > 0 else None
        genotype: Literal["normal", "reduction"] = "reduction" if reduce else "normal"
        plans.append(CellPlan(name, genotype, filters, 2 if reduce else 1, before if previous is None else previous, current))

    if skeleton.stem == "imagenet":
        add("stem_0", True, int(skeleton.filters) // 4)
        add("stem_1", True, int(skeleton.filters) // 2)
    number = 0
    for stage, filters in enumerate(stage_filters(skeleton.filters)):
        skipped = None
        if stage > 0 and skeleton.reductions == "inserted":
            add(f"reduction_{stage - 1}", True, filters)
            skipped = plans[-1].previous if skeleton.skip_reduction_input else None
        for i in range(skeleton.cells):
            strided = stage > 0 and i == 0 and skeleton.reductions == "in_place"
            add(f"cell_{number}", strided, filters, skipped if i == 0 else None)
            number += 1
    return tuple(plans)


def auxiliary_position(skeleton: NASNetSkeleton) -> int:
    """Index, among the planned cells, of the one whose output the auxiliary head reads."""
    second_reduction = [i for i, plan in enumerate(plan_cells(skeleton)) if plan.stride == 2][-1]
    return second_reduction if skeleton.conventions.auxiliary_after == "reduction_2" else second_reduction - 1


def penultimate_filters(genotype: Genotype, skeleton: NASNetSkeleton) -> int:
    """Channels of the last cell's output: P in "NASNet-A (N @ P)"."""
    last = plan_cells(skeleton)[-1]
    return cell_output_filters(genotype.normal if last.genotype == "normal" else genotype.reduction or genotype.normal, last.filters)


def cell_output_filters(cell: CellGenotype, filters: int) -> int:
    """Channels of the output of a cell with ``filters`` filters: each state has as many, a concat-combined one as often as it has edges."""

    def width(state: int) -> int:
        if state < cell.inputs or cell.nodes[state - cell.inputs].combine == "add":
            return filters
        return filters * len(cell.nodes[state - cell.inputs].edges)

    return sum(width(state) for state in cell.outputs)


@dataclass(frozen=True, slots=True)
class NASBench201Skeleton:
    """NAS-Bench-201's (Dong and Yang 2020, arXiv 2001.00326, section 2.2): three stages of cells, a residual block before the later two.

    The normal cell has one input, which it takes as it is; the residual block halves the resolution and doubles the
    filters, so the genotype needs no reduction cell.

    Attributes:
        cells: cells a stage.
        filters: of the first stage; a fraction as in ``NASNetSkeleton``.

    Raises:
        SkeletonError: a value breaks its rule.
    """

    cells: int = 5
    filters: float = 16

    def __post_init__(self) -> None:
        require(1 <= self.cells <= 50, "`cells` must be 1..50", self.cells)
        require(1 <= self.filters <= 4096, "`filters` must be 1..4096", self.filters)
        object.__setattr__(self, "filters", _plain(self.filters))


# ---------------------------------------------------------------------------------------------------- families

Skeleton = NASNetSkeleton | NASBench201Skeleton | ResidualSkeleton
"""The built-in kinds. One from outside is any frozen dataclass of plain values; ``Family`` says what else is known of it."""


@dataclass(frozen=True, slots=True)
class Plane:
    """A skeleton as a point of a plane: its depth and width, the least width and its step, and the skeleton at any other point.

    ``fraction`` is the finer step that matches a cost where whole steps are too coarse.
    """

    depth: int
    width: float
    lowest: int
    step: int
    make: Callable[[int, float], Any]
    fraction: float | None = None


@dataclass(frozen=True)
class Family:
    """A kind of macro network, as everything else asks for it.

    A skeleton's fields say what can be asked of it: with ``cells`` and ``filters`` it takes ``--cells`` and ``--filters``; with
    ``drop_path_keep``, ``dropout`` and ``auxiliary`` (an extra head for training), a recipe sets them. What needs torch, pictures or
    source code of the built-in families stands where those are made (``search_spaces.networks.build``, ``nas.networks.drawing``,
    ``nas.exports.code``); a family from outside brings it here.

    Attributes:
        skeleton: the frozen dataclass of plain values.
        named: published skeletons by name; the first is what the family's own name means.
        build: from genotype, skeleton, and the keywords classes, channels, image_size: a ``search_spaces.networks.network.Network``.
        name: the network's name, as the literature writes it.
        shape: depth and width in words.
        plane: for ``--macs`` and ``--params``; None cannot be scaled.
        image: side in pixels and classes that a named skeleton was published for.
        parts: for pictures: from genotype, skeleton and the network: ``nas.networks.drawing.draw.Part`` for what lies between image
            and head; None draws the feature maps.
        code: for exports to source files: from the architecture and its network, a ``nas.exports.code.NetworkCode``; None has none.
        genotype: one to count the named skeletons with in ``nas list skeletons``; None leaves them out there.
    """

    skeleton: type[Any]
    named: Mapping[str, Any]
    build: Callable[..., Any] | None = None
    name: Callable[[Genotype, Any], str] = lambda genotype, skeleton: genotype.name or "unnamed network"
    shape: Callable[[Genotype, Any], str] = lambda genotype, skeleton: str(skeleton)
    plane: Callable[[Any], Plane] | None = None
    image: Callable[[str], tuple[int, int]] = lambda name: (32, 10)
    parts: Callable[..., Any] | None = None
    code: Callable[..., Any] | None = None
    genotype: Genotype | None = None


def has_size(skeleton: object) -> bool:
    """Whether a skeleton is sized by N and F."""
    return hasattr(skeleton, "cells") and hasattr(skeleton, "filters")


_S = TypeVar("_S")


def adapted(skeleton: _S, **values: object) -> _S:
    """The skeleton with those of the values that it has a field for; None leaves a field as it is."""
    own = {field.name for field in fields(skeleton)}  # type: ignore[arg-type]
    return replace(skeleton, **{name: value for name, value in values.items() if name in own and value is not None})  # type: ignore[type-var]


def _cells_shape(genotype: Genotype, skeleton: NASNetSkeleton | NASBench201Skeleton) -> str:
    text = f"N={skeleton.cells} cells a stage, F={skeleton.filters} filters in the first stage"
    if isinstance(skeleton, NASNetSkeleton):
        text += f" ({penultimate_filters(genotype, skeleton)} in the penultimate layer)"
    return text


def _cells_plane(skeleton: NASNetSkeleton | NASBench201Skeleton) -> Plane:
    # The stems for ImageNet split the filters; all published F are even there.
    step = 2 if isinstance(skeleton, NASNetSkeleton) and skeleton.stem != "cifar" else 1
    lowest = 2 * step if step > 1 else 1
    fraction = 1 / 8 if step == 1 else None  # 4F, the widest stage, changes at every second eighth; 2F and F in between
    return Plane(
        skeleton.cells, skeleton.filters, lowest, step, lambda depth, width: replace(skeleton, cells=depth, filters=width), fraction
    )


def _residual_plane(skeleton: ResidualSkeleton) -> Plane:
    """Depth is the longest stage's number of blocks, width the first stage's channels, in steps of 2."""
    longest, first = max(skeleton.depths), skeleton.widths[0]

    def make(depth: int, width: float) -> ResidualSkeleton:
        depths = tuple(max(1, math.floor(d * depth / longest + 0.5)) for d in skeleton.depths)
        widths = tuple(max(1, math.floor(w * width / first + 0.5)) for w in skeleton.widths)
        stem = None if skeleton.stem_filters is None else max(1, math.floor(skeleton.stem_filters * width / first + 0.5))
        return replace(skeleton, depths=depths, widths=widths, stem_filters=stem)

    return Plane(longest, first, 4, 2, make)


def _cells_name(genotype: Genotype, skeleton: NASNetSkeleton) -> str:
    """NASNet's papers say "NASNet-A (6 @ 768)" (cells a stage @ filters of the last cell), PNASNet's and AmoebaNet's
    "PNASNet-5 (N=4, F=216)", DARTS' "DARTS-V2 (20 cells, C=36)".
    """  # noqa: D205 - one sentence
    name = genotype.name or "unnamed cell"
    if skeleton.conventions == DARTS_CONVENTIONS:
        return f"{name} ({len(plan_cells(skeleton))} cells, C={skeleton.filters})"
    if name.startswith(("PNASNet", "AmoebaNet")):
        return f"{name} (N={skeleton.cells}, F={skeleton.filters})"
    return f"{name} ({skeleton.cells} @ {penultimate_filters(genotype, skeleton)})"


def _nasbench201_name(genotype: Genotype, skeleton: NASBench201Skeleton) -> str:
    return f"{genotype.name or 'unnamed cell'} (NAS-Bench-201, N={skeleton.cells}, C={skeleton.filters})"


def _published_image(name: str) -> tuple[int, int]:
    if name.endswith("-cifar"):
        return 32, 10
    return (331 if name in ("nasnet-large", "nasnet-large-timm", "pnasnet-large", "amoebanet-large") else 224), 1000


# ---------------------------------------------------------------------------------------------------- named skeletons

_CELL_SKELETONS: Mapping[str, NASNetSkeleton] = {
    "nasnet-cifar": NASNetSkeleton(6, 32, drop_path_keep=0.6),
    "nasnet-mobile": NASNetSkeleton(4, 44, "imagenet", 32, dropout=0.5, norm_eps=1e-3),
    "nasnet-large": NASNetSkeleton(6, 168, "imagenet", 96, skip_reduction_input=True, drop_path_keep=0.7, dropout=0.5, norm_eps=1e-3),
    "nasnet-large-timm": NASNetSkeleton(
        6, 168, "imagenet", 96, skip_reduction_input=True, drop_path_keep=0.7, dropout=0.5, norm_eps=1e-3, conventions=TIMM_CONVENTIONS
    ),
    "pnasnet-mobile": NASNetSkeleton(3, 54, "imagenet", 32, "in_place", dropout=0.5, norm_eps=1e-3),
    "pnasnet-large": NASNetSkeleton(4, 216, "imagenet", 96, "in_place", drop_path_keep=0.6, dropout=0.5, norm_eps=1e-3),
    "amoebanet-cifar": NASNetSkeleton(6, 36, drop_path_keep=0.7, conventions=AMOEBANET_CONVENTIONS),
    "amoebanet-large": NASNetSkeleton(
        6, 190, "imagenet", 32, drop_path_keep=0.7, dropout=0.5, norm_eps=1e-3, conventions=AMOEBANET_CONVENTIONS
    ),
    "darts-cifar": NASNetSkeleton(6, 36, drop_path_keep=0.8, conventions=DARTS_CONVENTIONS),
    "darts-imagenet": NASNetSkeleton(4, 48, "darts_imagenet", conventions=DARTS_CONVENTIONS),
}

FAMILIES: Registry[Family] = Registry(
    "skeleton family",
    "nas.skeletons",
    {
        "nasnet": Family(NASNetSkeleton, _CELL_SKELETONS, name=_cells_name, shape=_cells_shape, plane=_cells_plane, image=_published_image),
        "nasbench201": Family(
            NASBench201Skeleton, {"nasbench201": NASBench201Skeleton()}, name=_nasbench201_name, shape=_cells_shape, plane=_cells_plane
        ),
        "residual": Family(
            ResidualSkeleton,
            RESIDUAL_SKELETONS,
            name=literature_name,
            shape=lambda genotype, skeleton: (
                f"{'-'.join(map(str, skeleton.depths))} blocks of widths {'-'.join(map(str, skeleton.widths))}"
            ),
            plane=_residual_plane,
            image=_published_image,
        ),
    },
    instance_of(Family),
    SkeletonError,
)
"""Every family of skeletons, by the word that a weights file describes it with."""


class _Named(Mapping[str, Any]):
    """The named skeletons of all families; those from outside are imported when a name is not built in, or all are asked for."""

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - any family's skeleton
        if is_code(name):
            return next(iter(FAMILIES[name].named.values()))
        for _, family in FAMILIES.known():
            if name in family.named:
                return family.named[name]
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        for _, family in FAMILIES.known():
            yield from family.named

    def __len__(self) -> int:
        return sum(1 for _ in self)


SKELETONS: Mapping[str, Any] = _Named()
"""Published macro networks by name, with their published drop path and dropout, and without the auxiliary head (which training adds).

``nasnet-large-timm`` differs from ``nasnet-large`` as timm's port of the released network does: see ``Conventions``.
"""


def load_skeleton(name: str) -> Any:  # noqa: ANN401 - any family's skeleton
    """The named skeleton; ``adapted`` changes its N, F and the rest.

    Raises:
        SkeletonError: there is none of that name.
        PluginError: a family from outside cannot be imported.
    """
    if name in SKELETONS:
        return SKELETONS[name]
    raise SkeletonError(f"unknown skeleton {name!r}{guess(name, SKELETONS)}; choose one of {', '.join(SKELETONS)}")


def kind_of(skeleton: object) -> str:
    """The name of a skeleton's family. Raises SkeletonError where there is none."""
    for kind, family in FAMILIES.known():
        if type(skeleton) is family.skeleton:
            return kind
    raise SkeletonError(f"no family of skeletons has {type(skeleton).__name__}; families: {', '.join(FAMILIES)}")


def family_of(skeleton: object) -> Family:
    """A skeleton's family. Raises SkeletonError where there is none."""
    return FAMILIES[kind_of(skeleton)]


def network_name(genotype: Genotype, skeleton: object) -> str:
    """The network's name as the literature writes it."""
    return family_of(skeleton).name(genotype, skeleton)
