"""Builds the network of a genotype in a skeleton: the one way from data to ``nn.Module``, for searched and fixed genotypes."""

from collections.abc import Callable, Mapping

from search_spaces.errors import SkeletonError
from search_spaces.genotype import Genotype, validate
from search_spaces.networks.cell_network import CellNetwork
from search_spaces.networks.nasbench201_network import NASBench201Network
from search_spaces.networks.network import Network
from search_spaces.networks.residual_network import build_residual_network
from search_spaces.skeletons import FAMILIES, Skeleton, kind_of


def build_network(genotype: Genotype, skeleton: Skeleton, *, classes: int, channels: int = 3, image_size: int) -> Network:
    """Build the network of a genotype in a skeleton.

    Args:
        genotype: the cells or blocks.
        skeleton: the macro network around them.
        classes: number of classes; 0 builds no classifier, and ``forward`` returns pooled features.
        channels: channels of the images.
        image_size: pixels a side of the training images. Other sizes can be run afterwards.

    Raises:
        GenotypeError: the genotype breaks a rule, or names an operation that the skeleton cannot build.
        SkeletonError: a number is out of range.
    """
    if classes < 0 or channels < 1 or image_size < 8:
        raise SkeletonError(
            f"`classes` must be at least 0, `channels` at least 1 and `image_size` at least 8, but got {classes}, {channels}, {image_size}"
        )
    kind = kind_of(skeleton)
    build = BUILDERS.get(kind) or FAMILIES[kind].build
    if build is None:
        raise SkeletonError(f"skeletons of the family {kind!r} cannot be built: it has no `build`")
    network: Network = build(validate(genotype), skeleton, classes=classes, channels=channels, image_size=image_size)
    return network


BUILDERS: Mapping[str, Callable[..., Network]] = {
    "nasnet": CellNetwork,
    "nasbench201": NASBench201Network,
    "residual": build_residual_network,
}
"""What makes the network of each built-in family of skeletons."""
