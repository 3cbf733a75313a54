"""Residual networks: a stem, stages of blocks, a classifier, built from a one-block genotype and a ``ResidualSkeleton``."""

from collections import OrderedDict
from typing import cast

from torch import Tensor, nn

from search_spaces.errors import GenotypeError
from search_spaces.genotype import CellGenotype, Edge, Genotype
from search_spaces.networks.blocks import (
    BLOCKS,
    LAYER_NORM_EPS,
    ChannelNorm,
    PatchConv,
    build_block,
    initialise_he,
    initialise_truncated,
    make_activation,
    make_norm,
    stochastic_depth_rates,
)
from search_spaces.networks.network import FeatureInfo, Network
from search_spaces.residual_skeletons import ResidualSkeleton


class ResidualNetwork(Network):
    """A stem, stages that each halve the resolution (but the first), global average pooling and a linear classifier.

    ``classes=0`` leaves the classifier out: the network then returns its pooled (and normed) features.
    """

    def __init__(self, stem: nn.Module, stages: list[nn.Sequential], head: nn.Module, feature_info: tuple[FeatureInfo, ...]) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.ModuleList(stages)
        self.head = head
        self._feature_info = feature_info

    @property
    def feature_info(self) -> tuple[FeatureInfo, ...]:
        """One entry per stage."""
        return self._feature_info

    def features(self, images: Tensor) -> list[Tensor]:
        """The stages' outputs (batch, width, height / stride, width / stride), finest first."""
        maps = []
        x = self.stem(images)
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def forward_with_auxiliary(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits (batch, classes); there is no auxiliary head."""
        x = self.stem(images)
        for stage in self.stages:
            x = stage(x)
        return self.head(x), None


def build_residual_network(
    genotype: Genotype, skeleton: ResidualSkeleton, *, classes: int, channels: int, image_size: int = 0
) -> ResidualNetwork:
    """The network of a one-block genotype in a residual skeleton; ``build_network`` checks the arguments and calls it.

    Args:
        genotype: its cells have one input, one node, one edge: a block.
        skeleton: stem, depths, widths, head.
        classes: of the classifier; 0 leaves it out.
        channels: of an image.
        image_size: does not matter: a map smaller than the next kernel is padded.

    Raises:
        GenotypeError: a cell is not one block.
    """
    normal = _only_block(genotype.normal, "normal")
    starting = normal if genotype.reduction is None else _only_block(genotype.reduction, "reduction")
    rates = iter(stochastic_depth_rates(1 - skeleton.drop_path_keep, skeleton.blocks))
    stages, info = [], []
    width, stride = skeleton.stem_filters or skeleton.widths[0], skeleton.stem_stride
    for stage, (depth, stage_width) in enumerate(zip(skeleton.depths, skeleton.widths, strict=True)):
        blocks = []
        for i in range(depth):
            edge, step = (starting, 2 if stage else 1) if i == 0 else (normal, 1)
            blocks.append(build_block(edge.operation, width, stage_width, step, dict(edge.options), drop_rate=next(rates)))
            width = stage_width
        stages.append(nn.Sequential(*blocks))
        stride *= 2 if stage else 1
        info.append(FeatureInfo(stride, width))
    return ResidualNetwork(_build_stem(skeleton, channels), stages, _build_head(skeleton, width, classes), tuple(info))


def _only_block(cell: CellGenotype, name: str) -> Edge:
    edge = cell.nodes[0].edges[0]
    if cell.inputs != 1 or len(cell.nodes) != 1 or len(cell.nodes[0].edges) != 1 or cell.outputs != (1,) or edge.operation not in BLOCKS:
        raise GenotypeError(
            f"cell '{name}': a residual skeleton needs inputs [current], one node with one edge [0, block] and outputs [1]; "
            f"valid blocks: {', '.join(BLOCKS)}"
        )
    return edge


def _build_stem(skeleton: ResidualSkeleton, channels: int) -> nn.Module:
    filters = skeleton.stem_filters or skeleton.widths[0]
    bias = skeleton.stem_norm != "batch"
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if skeleton.stem == "patch":
        layers["conv"] = PatchConv(channels, filters, skeleton.patch, bias=bias)
    else:
        kernel, stride = (7, 2) if skeleton.stem == "imagenet" else (3, 1)
        layers["conv"] = nn.Conv2d(channels, filters, kernel, stride, padding=kernel // 2, bias=bias)
    if skeleton.stem_norm == "batch":
        layers["norm"] = make_norm("batch", filters)
        layers["activation"] = make_activation(skeleton.activation)
    elif skeleton.stem_norm == "layer":
        layers["norm"] = ChannelNorm(filters, eps=LAYER_NORM_EPS)
    if skeleton.stem == "imagenet":
        layers["pool"] = nn.MaxPool2d(3, 2, padding=1)
    stem = nn.Sequential(layers)
    (initialise_he if skeleton.stem_norm == "batch" else initialise_truncated)(stem)
    return stem


def _build_head(skeleton: ResidualSkeleton, width: int, classes: int) -> nn.Module:
    layers: OrderedDict[str, nn.Module] = OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten())
    if skeleton.head_norm:
        layers["norm"] = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
    if skeleton.dropout > 0:
        layers["dropout"] = nn.Dropout(skeleton.dropout)
    if classes:
        layers["classifier"] = nn.Linear(width, classes)
    head = nn.Sequential(layers)
    if skeleton.head_norm:
        initialise_truncated(head)
    elif classes:
        nn.init.zeros_(cast(nn.Linear, layers["classifier"]).bias)
    return head
