"""Skeletons of residual networks (ResNet, ResNeXt, ConvNeXt and the road between them) as frozen data. No torch; anyone may import it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from search_spaces.errors import SkeletonError
from search_spaces.genotype import CellGenotype, Edge, Genotype, Node
from search_spaces.reference import load_reference
from search_spaces.vocabulary import OptionValue


def require(rule_holds: bool, rule: str, value: object) -> None:
    """Raise SkeletonError with the rule and the value unless the rule holds."""
    if not rule_holds:
        raise SkeletonError(f"{rule}, but got {value!r}")


@dataclass(frozen=True, slots=True)
class ResidualSkeleton:
    """A stem, stages of blocks and a classifier: the macro network of ResNeXt and of ConvNeXt.

    The genotype's normal cell is the block, of one input and one operation. The first block of a stage has the stage's
    stride and changes the width, as every operation can; a genotype with a reduction cell uses that one there. (ConvNeXt's
    separate downsampling layer belongs to the block's strided form, so it needs no reduction cell.)

    Attributes:
        depths: blocks of each stage.
        widths: channels of each stage's output.
        stem: ``imagenet`` is a strided 7×7 convolution and 3×3 max pooling, ``cifar`` a 3×3 convolution,
            ``patch`` a convolution of non-overlapping patches.
        stem_filters: channels of the stem's output; None takes the first stage's width.
        patch: side of a patch in pixels, for ``patch``.
        stem_norm: ``batch`` is BatchNorm and an activation after a convolution without bias; ``layer`` is LayerNorm alone
            after one with bias; ``none`` has neither.
        activation: of the stem, where it has one.
        head_norm: LayerNorm between the global pooling and the classifier.
        drop_path_keep: stochastic depth: the last block's probability to keep its residual branch; the first block
            always keeps it, those between are linear. 1 is off.
        dropout: probability to drop a feature before the classifier.

    Raises:
        SkeletonError: a value breaks its rule.
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    stem: Literal["imagenet", "cifar", "patch"] = "imagenet"
    stem_filters: int | None = 64
    patch: int = 4
    stem_norm: Literal["batch", "layer", "none"] = "batch"
    activation: Literal["relu", "gelu"] = "relu"
    head_norm: bool = False
    drop_path_keep: float = 1.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        require(1 <= len(self.depths) <= 8, "`depths` must have 1..8 stages", self.depths)
        require(len(self.widths) == len(self.depths), "`widths` must have one width for each of `depths`", self.widths)
        require(all(1 <= depth <= 200 for depth in self.depths), "every one of `depths` must be 1..200", self.depths)
        require(all(1 <= width <= 16384 for width in self.widths), "every one of `widths` must be 1..16384", self.widths)
        require(self.stem in ("imagenet", "cifar", "patch"), "`stem` must be imagenet, cifar or patch", self.stem)
        require(self.stem_filters is None or 1 <= self.stem_filters <= 16384, "`stem_filters` must be 1..16384", self.stem_filters)
        require(1 <= self.patch <= 64, "`patch` must be 1..64", self.patch)
        require(self.stem_norm in ("batch", "layer", "none"), "`stem_norm` must be batch, layer or none", self.stem_norm)
        require(self.activation in ("relu", "gelu"), "`activation` must be relu or gelu", self.activation)
        require(0 < self.drop_path_keep <= 1, "`drop_path_keep` must be above 0 and at most 1", self.drop_path_keep)
        require(0 <= self.dropout < 1, "`dropout` must be at least 0 and below 1", self.dropout)

    @property
    def blocks(self) -> int:
        """Number of blocks of all stages."""
        return sum(self.depths)

    @property
    def stem_stride(self) -> int:
        """How much smaller than the image the stem's output is."""
        return {"imagenet": 4, "cifar": 1, "patch": self.patch}[self.stem]


def resnet_skeleton(depths: tuple[int, ...], drop_path_keep: float = 1.0) -> ResidualSkeleton:
    """The ImageNet skeleton of ResNet and ResNeXt: block outputs 256, 512, 1024, 2048 (Xie et al. 2017, arXiv 1611.05431, table 1)."""
    return ResidualSkeleton(depths, (256, 512, 1024, 2048), drop_path_keep=drop_path_keep)


def convnext_skeleton(depths: tuple[int, ...], width: int, patch: int = 4, drop_path_keep: float = 1.0) -> ResidualSkeleton:
    """ConvNeXt's skeleton: patches, LayerNorm, widths that double from ``width`` (Liu et al. 2022, arXiv 2201.03545)."""
    widths = tuple(width << stage for stage in range(len(depths)))
    return ResidualSkeleton(
        depths, widths, "patch", None, patch, stem_norm="layer", activation="gelu", head_norm=True, drop_path_keep=drop_path_keep
    )


def isotropic_skeleton(depth: int, width: int, drop_path_keep: float = 1.0) -> ResidualSkeleton:
    """ConvNeXt's isotropic skeleton: 16-pixel patches without a norm, one stage (arXiv 2201.03545, section 3.3)."""
    return replace(convnext_skeleton((depth,), width, 16, drop_path_keep), stem_norm="none")


_PUBLISHED: Mapping[str, ResidualSkeleton] = {
    "resnet-50": resnet_skeleton((3, 4, 6, 3)),
    "resnet-101": resnet_skeleton((3, 4, 23, 3)),
    "resnet-152": resnet_skeleton((3, 8, 36, 3)),
    "resnet-29-cifar": ResidualSkeleton((3, 3, 3), (256, 512, 1024), "cifar"),
    "convnext-t": convnext_skeleton((3, 3, 9, 3), 96, drop_path_keep=0.9),
    "convnext-s": convnext_skeleton((3, 3, 27, 3), 96, drop_path_keep=0.6),
    "convnext-b": convnext_skeleton((3, 3, 27, 3), 128, drop_path_keep=0.5),
    "convnext-l": convnext_skeleton((3, 3, 27, 3), 192, drop_path_keep=0.5),
    "convnext-xl": convnext_skeleton((3, 3, 27, 3), 256, drop_path_keep=0.8),
    "convnext-cifar": convnext_skeleton((2, 2, 6), 64, patch=2),
    "convnext-isotropic-s": isotropic_skeleton(18, 384, drop_path_keep=0.9),
    "convnext-isotropic-b": isotropic_skeleton(18, 768, drop_path_keep=0.8),
    "convnext-isotropic-l": isotropic_skeleton(36, 1024, drop_path_keep=0.5),
}


def block_genotype(name: str, operation: str, **options: OptionValue) -> Genotype:
    """A genotype whose cell is one block."""
    edge = Edge(0, operation, tuple(sorted(options.items())))
    return Genotype(CellGenotype((Node((edge,)),), outputs=(1,), inputs=1), name=name)


def resnext_genotype(cardinality: int, width: int, form: str = "c") -> Genotype:
    """ResNeXt's block ``cardinality × width d``; ``1×64d`` is ResNet's bottleneck."""
    return block_genotype(f"resnext-{cardinality}x{width}d", "resnext_block", cardinality=cardinality, width=width, form=form)


# ------------------------------------------------------------------------------------------------ ConvNeXt's roadmap


@dataclass(frozen=True, slots=True)
class RoadmapStep:
    """One step from ResNet-50 to ConvNeXt-T: the genotype and the skeleton are both called ``name``."""

    name: str
    change: str
    skeleton: ResidualSkeleton

    @property
    def genotype(self) -> Genotype:
        """The step's block, read from its file."""
        return load_reference(self.name)


def _roadmap() -> tuple[RoadmapStep, ...]:
    recipe = replace(_PUBLISHED["resnet-50"], drop_path_keep=0.9)
    ratio = replace(recipe, depths=(3, 3, 9, 3))
    patchify = replace(ratio, stem="patch")
    wide = replace(patchify, stem_filters=96, widths=(384, 768, 1536, 3072))
    inverted = replace(wide, widths=(96, 192, 384, 768))
    gelu = replace(inverted, activation="gelu")
    steps = (
        ("0", "ResNet-50 with the modern recipe", recipe),
        ("1", "stage ratio 3-3-9-3", ratio),
        ("2", "patchify stem", patchify),
        ("3", "depthwise convolution", patchify),
        ("4", "width 96", wide),
        ("5", "inverted bottleneck", inverted),
        ("6", "depthwise convolution moved up", inverted),
        ("7a", "kernel 5", inverted),
        ("7", "kernel 7", inverted),
        ("7b", "kernel 9", inverted),
        ("7c", "kernel 11", inverted),
        ("8", "GELU for ReLU", gelu),
        ("9", "fewer activations", gelu),
        ("10", "fewer norms", gelu),
        ("11", "LayerNorm for BatchNorm", gelu),
        ("12", "separate downsampling, which makes it ConvNeXt-T", _PUBLISHED["convnext-t"]),
    )
    return tuple(RoadmapStep(f"convnext-roadmap-{step}", change, skeleton) for step, change, skeleton in steps)


CONVNEXT_ROADMAP = _roadmap()
"""The steps 0 to 12 of table 10 of arXiv 2201.03545, with the kernel sizes tried at step 7 and not adopted (7a, 7b, 7c).

All have the stochastic depth of the paper's roadmap recipe (0.1). What the paper leaves open is chosen so that the published
counts hold: the patch stem keeps BatchNorm and an activation (the blocks' one) until step 12 has LayerNorm alone there.
"""

RESIDUAL_SKELETONS: Mapping[str, ResidualSkeleton] = {**_PUBLISHED, **{step.name: step.skeleton for step in CONVNEXT_ROADMAP}}
"""The published networks' skeletons, the roadmap's and, for 32-pixel images, ResNeXt's own and a small ConvNeXt (ours).

Stochastic depth is that of the published 1K training (XL: of its 22K training).
"""


# ------------------------------------------------------------------------------------------------ names


def literature_name(genotype: Genotype, skeleton: ResidualSkeleton) -> str:
    """The network's name as the literature writes it, such as ``ResNeXt-50 (32×4d)``, ``ResNet-101`` or ``ConvNeXt-T``.

    A network that the literature does not name is called by its genotype, depths and widths.
    """
    edge = genotype.normal.nodes[0].edges[0]
    options = dict(edge.options)
    bare = replace(skeleton, drop_path_keep=1.0, dropout=0.0)
    if genotype.reduction is None and edge.operation == "resnext_block" and _is_resnet(bare):
        depth = 3 * skeleton.blocks + 2
        cardinality, width = options.get("cardinality", 32), options.get("width", 4)
        if (cardinality, width) == (1, 64):
            return f"ResNet-{depth}"
        return f"ResNe{'X' if cardinality != 1 else ''}t-{depth} ({cardinality}×{width}d)"
    standard = (options.get("kernel", 7), options.get("expansion", 4)) == (7, 4)
    if genotype.reduction is None and edge.operation == "convnext_block" and standard:
        for size in ("t", "s", "b", "l", "xl"):
            if replace(RESIDUAL_SKELETONS[f"convnext-{size}"], drop_path_keep=1.0) == bare:
                return f"ConvNeXt-{size.upper()}"
        for size in ("s", "b", "l"):
            if replace(RESIDUAL_SKELETONS[f"convnext-isotropic-{size}"], drop_path_keep=1.0) == bare:
                return f"ConvNeXt-{size.upper()} (isotropic)"
    return f"{genotype.name or edge.operation} ({'-'.join(map(str, skeleton.depths))} @ {'-'.join(map(str, skeleton.widths))})"


def _is_resnet(skeleton: ResidualSkeleton) -> bool:
    widths = (256, 512, 1024, 2048) if skeleton.stem == "imagenet" else (256, 512, 1024)
    if skeleton.stem == "patch" or len(skeleton.depths) != len(widths):
        return False
    return skeleton == ResidualSkeleton(skeleton.depths, widths, skeleton.stem)
