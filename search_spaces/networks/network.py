"""Builds the network of a genotype in a skeleton: the one way from data to ``nn.Module``, for searched and fixed genotypes."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


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
