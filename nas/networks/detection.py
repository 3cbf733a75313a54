"""Any built network as a detection backbone: its feature maps under a feature pyramid, inside torchvision's Faster R-CNN.

The ResNeXt and NASNet papers both report detection on COCO with their networks. ``nas cost GENOTYPE --detection CLASSES`` says what
such a detector costs; ``load_detector`` makes one of a trained network, to be trained on boxes by torchvision's own recipes::

    detector = load_detector(Path("trained/NAME"), classes=91)
    losses = detector.train()(images, targets)  # as torchvision documents them
"""

from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from nas.networks.architecture import Architecture
from nas.networks.weights.described import CLASSIFIERS, TRAINING_ONLY, load_into, read_description
from nas.networks.weights.files import WeightsError, read_weights
from search_spaces.errors import SkeletonError
from search_spaces.networks.cost import count_parameters
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


def load_detector(trained: str | Path, classes: int, **options: object) -> FasterRCNN:
    """A detector whose backbone is a trained network without its classifier; images are normalised as the network was trained.

    Args:
        trained: folder of a training, whose best weights are taken, or a weights file that says its network.
        classes: object classes and the background.
        options: further arguments of ``faster_rcnn``.

    Raises:
        UserError: there are no such weights, or the network has no map of stride 4 or more.
    """
    place = Path(trained)
    file = place / "best.safetensors" if place.is_dir() else place
    if not file.is_file():
        raise WeightsError(f"{file}: there is no such file; name the folder of a training, or a file of weights")
    description = read_description(file)
    network = replace(description.architecture, classes=0).build()
    load_into(network, read_weights(file), file, without=(TRAINING_ONLY, "progress", *CLASSIFIERS))
    return faster_rcnn(network, classes, **{"image_mean": list(description.mean), "image_std": list(description.std), **options})  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class DetectorCost:
    """What Faster R-CNN on a network's feature pyramid has: trainable scalars, and the strides of the pyramid's levels."""

    backbone: int
    parameters: int
    strides: tuple[int, ...]
    classes: int

    def __str__(self) -> str:
        levels = ", ".join(str(stride) for stride in self.strides)
        return (
            f"{self.parameters:,} parameters with Faster R-CNN for {self.classes} classes (the background is one) on a feature pyramid of "
            f"strides {levels}; {self.backbone:,} of them in the backbone"
        )


def detector_cost(architecture: Architecture, classes: int) -> DetectorCost:
    """Count a detector on the architecture without allocating its weights. Raises UserError where it cannot be a backbone."""
    with torch.device("meta"):
        network = replace(architecture, classes=0).build()
        model = faster_rcnn(network, classes)
    backbone = model.backbone
    assert isinstance(backbone, PyramidBackbone)
    return DetectorCost(count_parameters(network), count_parameters(model), backbone.strides, classes)
