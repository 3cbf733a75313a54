"""Builds the network of a genotype in a skeleton: the one way from data to ``nn.Module``, for searched and fixed genotypes."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from search_spaces.errors import SkeletonError
from search_spaces.genotype import Genotype, validate
from search_spaces.residual_skeletons import ResidualSkeleton
from search_spaces.skeletons import NASBench201Skeleton, Skeleton


@dataclass(frozen=True, slots=True)
class FeatureInfo:
    """One multi-scale feature map: how much smaller than the image it is, and how many channels it has."""

    stride: int
    channels: int


class Network(nn.Module):
    """What every built network offers, whatever its genotype and skeleton.

    ``progress`` is the share of training done, in [0, 1]: ScheduledDropPath grows with it. It is a buffer, so it
    survives a checkpoint.
    """

    progress: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("progress", torch.zeros(()))

    def set_progress(self, fraction: float) -> None:
        """Tell the network the share of training done. Raises ValueError outside [0, 1]."""
        if not 0 <= fraction <= 1:
            raise ValueError(f"the share of training done must be in [0, 1], but got {fraction}")
        self.progress.fill_(fraction)

    @property
    def feature_info(self) -> tuple[FeatureInfo, ...]:
        """One entry per map that ``features`` returns."""
        raise NotImplementedError

    def features(self, images: Tensor) -> list[Tensor]:
        """Multi-scale feature maps of images (batch, channels, height, width), finest first, one per resolution."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes) of images (batch, channels, height, width)."""
        return self.forward_with_auxiliary(images)[0]

    def forward_with_auxiliary(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits, and the auxiliary head's logits where there is one and the network is in training mode."""
        raise NotImplementedError


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
        from search_spaces.residual_networks import build_residual_network

        return build_residual_network(validate(genotype), skeleton, classes=classes, channels=channels)
    if isinstance(skeleton, NASBench201Skeleton):
        from search_spaces.nasbench201_network import NASBench201Network

        return NASBench201Network(validate(genotype), skeleton, classes=classes, channels=channels)
    from search_spaces.cell_networks import CellNetwork

    return CellNetwork(validate(genotype), skeleton, classes=classes, channels=channels, image_size=image_size)
