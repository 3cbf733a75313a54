"""The network of the skeletons ``mobile``."""

import torch.nn.functional as F
from torch import Tensor, nn

from nas_extend.operations import InvertedResidual
from nas_extend.skeleton import MobileSkeleton
from search_spaces.errors import GenotypeError
from search_spaces.genotype import Genotype
from search_spaces.networks.network import FeatureInfo, Network


class MobileNetwork(Network):
    """Stem, layers, global pooling and classifier; one feature map for every resolution."""

    def __init__(self, genotype: Genotype, skeleton: MobileSkeleton, *, classes: int, channels: int, image_size: int) -> None:
        super().__init__()
        edges = [node.edges[0] for node in genotype.normal.nodes]
        if any(edge.operation != "mbconv" or edge.source != i for i, edge in enumerate(edges)):
            raise GenotypeError("skeletons of the family 'mobile' take a chain of mbconv layers, but the genotype has something else")
        width, stride = skeleton.filters, 1
        self.stem = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU6())
        self.layers = nn.ModuleList()
        self.info: list[FeatureInfo] = []
        self.last: list[int] = []
        for i, edge in enumerate(edges):
            step = 2 if i in skeleton.strided else 1
            if step == 2:
                self.info.append(FeatureInfo(stride, width))
                self.last.append(i - 1)
            self.layers.append(InvertedResidual(width, width * step, step, **dict(edge.options)))
            width, stride = width * step, stride * step
        self.info.append(FeatureInfo(stride, width))
        self.last.append(len(edges) - 1)
        self.dropout = skeleton.dropout
        self.classifier = nn.Linear(width, classes) if classes else nn.Identity()

    @property
    def feature_info(self) -> tuple[FeatureInfo, ...]:
        """One entry per map that ``features`` returns."""
        return tuple(self.info)

    def features(self, images: Tensor) -> list[Tensor]:
        """The last map of every resolution, finest first."""
        x, maps = self.stem(images), []
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i in self.last:
                maps.append(x)
        return maps

    def forward_with_auxiliary(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits, and None: there is no auxiliary head."""
        x = F.dropout(self.features(images)[-1].mean((2, 3)), self.dropout, self.training)
        return self.classifier(x), None
