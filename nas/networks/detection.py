"""Any built network as a detection backbone: its feature maps under a feature pyramid, inside torchvision's Faster R-CNN.

The ResNeXt and NASNet papers both report detection on COCO with their networks.
"""

from collections import OrderedDict

from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from search_spaces.errors import SkeletonError
from search_spaces.networks.network import Network


class PyramidBackbone(nn.Module):
    """A network's feature maps of stride ``finest_stride`` and coarser under a feature pyramid (Lin et al. 2017, arXiv 1612.03144).

    torchvision's own ``BackboneWithFPN`` cuts a network into a chain of children, which a cell network is not; this asks the
    network for its maps. ``out_channels`` is what torchvision's detectors read. Build the network with ``classes=0``, so that
    it has no classifier without gradients.

    Raises:
        SkeletonError: the network has no map as coarse as ``finest_stride``.
    """

    def __init__(self, network: Network, out_channels: int = 256, finest_stride: int = 4) -> None:
        super().__init__()
        info = network.feature_info
        self.levels = tuple(i for i, level in enumerate(info) if level.stride >= finest_stride)
        if not self.levels:
            strides = ", ".join(str(level.stride) for level in info)
            raise SkeletonError(f"the backbone must have a map of stride {finest_stride} or more, but its strides are {strides}")
        self.network = network
        self.out_channels = out_channels
        self.strides = tuple(info[i].stride for i in self.levels)
        self.pyramid = FeaturePyramidNetwork([info[i].channels for i in self.levels], out_channels, LastLevelMaxPool())

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Maps (batch, out_channels, height / stride, width / stride): "0", "1", … from the finest, "pool" at twice the last stride."""
        maps = self.network.features(images)
        named = OrderedDict((str(name), maps[level]) for name, level in enumerate(self.levels))
        return self.pyramid(named)  # type: ignore[no-any-return]


def faster_rcnn(network: Network, classes: int, *, out_channels: int = 256, finest_stride: int = 4, **options: object) -> FasterRCNN:
    """Make torchvision's Faster R-CNN on a network's feature pyramid.

    One anchor size a level, 8 times its stride, in three aspect ratios: 32 to 512 pixels for strides 4 to 64, as in the
    feature-pyramid paper.

    Args:
        network: the backbone; build it with ``classes=0``.
        classes: object classes and the background.
        out_channels: of the pyramid.
        finest_stride: stride of the finest level.
        options: further arguments of torchvision's ``FasterRCNN``.
    """
    backbone = PyramidBackbone(network, out_channels, finest_stride)
    strides = (*backbone.strides, 2 * backbone.strides[-1])
    anchors = AnchorGenerator(tuple((8 * stride,) for stride in strides), ((0.5, 1.0, 2.0),) * len(strides))
    pooler = MultiScaleRoIAlign([str(i) for i in range(len(backbone.levels))], output_size=7, sampling_ratio=2)
    return FasterRCNN(backbone, classes, rpn_anchor_generator=anchors, box_roi_pool=pooler, **options)
