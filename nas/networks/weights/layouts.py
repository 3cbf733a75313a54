"""Whose names a weight file has: published layouts recognised by them, translated to ours, and written.

A layout says more than names: how the published networks' images were prepared, which a file without a description does not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from nas.networks.architecture import choose_architecture
from nas.networks.description import IMAGENET_STATISTICS, NetworkDescription, describe_untrained
from nas.networks.weights import nasnet, residual
from nas.networks.weights.files import WeightsError
from search_spaces.genotype import Genotype
from search_spaces.networks.cell_network import CellNetwork
from search_spaces.networks.network import Network
from search_spaces.networks.residual_network import ResidualNetwork
from search_spaces.residual_skeletons import ResidualSkeleton
from search_spaces.skeletons import Skeleton

STAGES = 4
"""Stages of every ResNet, ResNeXt and ConvNeXt in timm and torchvision."""


@dataclass(frozen=True, slots=True)
class Layout:
    """One library's names of one family of networks.

    Attributes:
        library: timm, torchvision, or facebook for the code released with ConvNeXt.
        family: resnet (ResNeXt too), convnext, nasnet or pnasnet.
        title: for a person.
        stem: name of the first convolution's weight.
        mark: a name that every file of the layout has and no other layout, ours included, knows.
        head: start of the classifier's names.
        mean: of the published networks' pixels scaled to [0, 1], the same for all channels where it is one number.
        std: as ``mean``.
        crop_fraction: share of the shorter side that scoring saw.
        interpolation: how images were resized.
    """

    library: str
    family: str
    title: str
    stem: str
    mark: str
    head: str
    mean: tuple[float, ...] = IMAGENET_STATISTICS[0]
    std: tuple[float, ...] = IMAGENET_STATISTICS[1]
    crop_fraction: float = 0.875
    interpolation: str = "bicubic"

    def classes(self, weights: Mapping[str, Tensor]) -> int | None:
        """Classes that the file's classifier knows, a background class of 1001 left out; None where it has no classifier."""
        bias = weights.get(f"{self.head}.bias")
        count = None if bias is None or bias.ndim != 1 else bias.shape[0]
        return 1000 if count == 1001 and self.family in ("nasnet", "pnasnet") else count

    def channels(self, weights: Mapping[str, Tensor]) -> int:
        """Channels of the images that the file's stem takes."""
        stem = weights.get(self.stem)
        return stem.shape[1] if stem is not None and stem.ndim == 4 else 3


_HALF = (0.5, 0.5, 0.5)
LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "timm", "resnet", "ResNet and ResNeXt as torchvision and timm name them", "conv1.weight", "layer1.0.conv1.weight", "fc",
        interpolation="bilinear",
    ),
    Layout("timm", "convnext", "ConvNeXt as timm names it", "stem.0.weight", "stages.0.blocks.0.conv_dw.weight", "head.fc"),
    Layout(
        "torchvision", "convnext", "ConvNeXt as torchvision names it", "features.0.0.weight", "features.1.0.block.0.weight", "classifier.2",
        crop_fraction=0.949, interpolation="bilinear",
    ),
    Layout(
        "facebook", "convnext", "ConvNeXt as its released code names it", "downsample_layers.0.0.weight", "stages.0.0.dwconv.weight", "head"
    ),
    Layout("timm", "nasnet", "NASNet-A as timm names it", "conv0.conv.weight", "conv0.conv.weight", "last_linear", _HALF, _HALF, 0.911),
    Layout("timm", "pnasnet", "PNASNet-5 as timm names it", "conv_0.conv.weight", "conv_0.conv.weight", "last_linear", _HALF, _HALF, 0.911),
)  # fmt: skip
"""Every layout that is recognised; preparation of images as in timm 1.0's and torchvision 0.29's settings of the first weights."""


# ---------------------------------------------------------------------------------------------------- in


def recognise(weights: Mapping[str, Tensor]) -> Layout | None:
    """The layout whose names the weights have; None for ours, and for names that nobody knows."""
    return next((layout for layout in LAYOUTS if layout.mark in weights), None)


def in_our_names(network: Network, weights: Mapping[str, Tensor], path: str | Path) -> Mapping[str, Tensor]:
    """The weights by the network's own names and shapes, whatever layout they are in; a tensor without a place keeps its name.

    Raises:
        WeightsError: the layout is one of another kind of network.
    """
    layout = recognise(weights)
    if layout is None:
        return weights
    try:
        if layout.family in ("nasnet", "pnasnet"):
            translated = nasnet.in_our_names(network, weights, layout.family)
            check_average(network)
            return translated
        if isinstance(network, ResidualNetwork) and residual.family(network) == layout.family:
            return residual.in_our_names(network, weights, layout.library)
    except WeightsError as problem:
        raise WeightsError(f"{path}: these are weights of {layout.title}: {problem}") from None
    raise WeightsError(f"{path}: these are weights of {layout.title}, but the genotype and skeleton named make another kind of network")


def check_average(network: Network) -> None:
    """Raise WeightsError for a NASNet-A that averages otherwise than timm's, so that the same weights compute something else."""
    if not isinstance(network, CellNetwork) or network.skeleton.reductions == "in_place":
        return  # PNASNet-5 has no average
    if not network.skeleton.conventions.average_counts_padding:
        raise WeightsError(
            "timm's NASNet counts the padding's zeros into its strided averages, the released network and the skeleton nasnet-large do "
            "not, so that these weights compute something else there: the skeleton nasnet-large-timm is meant"
        )


def describe_weights(weights: Mapping[str, Tensor], genotype: Genotype, chosen: Mapping[str, Any]) -> NetworkDescription:
    """The description that weights without one get: the architecture named, and what is known of a published layout's images.

    Args:
        weights: in whatever layout.
        genotype: whose they are.
        chosen: further arguments of ``choose_architecture``; classes and channels that are not said are the published file's own.

    Raises:
        UserError: a name or a number breaks a rule.
    """
    layout = recognise(weights)
    if layout is None:
        return describe_untrained(choose_architecture(genotype, **chosen))
    classes, channels = chosen.get("classes") or layout.classes(weights), layout.channels(weights)
    architecture = choose_architecture(genotype, **{**chosen, "classes": classes, "channels": channels})
    facts: dict[str, str | int | float] = {
        "weights": layout.title,
        "crop_fraction": layout.crop_fraction,
        "interpolation": layout.interpolation,
    }
    if channels != len(layout.mean):  # nobody published such a network: half, as for an untrained one
        return NetworkDescription(architecture, (0.5,) * channels, (0.5,) * channels, (), facts)
    return NetworkDescription(architecture, layout.mean, layout.std, (), facts)


# ---------------------------------------------------------------------------------------------------- out


def in_layout(network: Network, skeleton: Skeleton, library: str) -> dict[str, Tensor]:
    """The network's weights with the names and shapes of a library, sharing memory where nothing had to be rearranged.

    Args:
        network: with its weights.
        skeleton: that it was built in.
        library: timm, torchvision, or facebook for the code released with ConvNeXt.

    Raises:
        WeightsError: the library has no such network.
    """
    if isinstance(network, ResidualNetwork) and isinstance(skeleton, ResidualSkeleton):
        _check_stages(skeleton, residual.family(network), library)
        return residual.export_weights(network, library)
    if library != "timm":
        raise WeightsError(f"{library} has no network of cells, only residual ones; timm has NASNet-A and PNASNet-5")
    found = nasnet.to_timm(network)
    check_average(network)
    return found


def _check_stages(skeleton: ResidualSkeleton, family: str, library: str) -> None:
    stem = {"resnet": skeleton.stem == "imagenet", "convnext": skeleton.stem == "patch" and skeleton.patch == STAGES}
    if len(skeleton.depths) != STAGES or not stem.get(family, True):
        raise WeightsError(
            f"{library} has networks of {STAGES} stages after a stem for ImageNet, but this has {len(skeleton.depths)} stages after a "
            f"{skeleton.stem} stem"
        )
