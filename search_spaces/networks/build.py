"""Builds the network of a genotype in a skeleton: the one way from data to ``nn.Module``, for searched and fixed genotypes."""

from search_spaces.errors import SkeletonError
from search_spaces.genotype import Genotype, validate
from search_spaces.networks.network import Network
from search_spaces.residual_skeletons import ResidualSkeleton
from search_spaces.skeletons import NASBench201Skeleton, Skeleton


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
    # The builders import this module for its base class, so they are imported when one is needed.
    if isinstance(skeleton, ResidualSkeleton):
        from search_spaces.networks.residual_network import build_residual_network

        return build_residual_network(validate(genotype), skeleton, classes=classes, channels=channels)
    if isinstance(skeleton, NASBench201Skeleton):
        from search_spaces.networks.nasbench201_network import NASBench201Network

        return NASBench201Network(validate(genotype), skeleton, classes=classes, channels=channels)
    from search_spaces.networks.cell_network import CellNetwork

    return CellNetwork(validate(genotype), skeleton, classes=classes, channels=channels, image_size=image_size)
