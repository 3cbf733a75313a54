"""The networks of timm and torchvision that ours are, by name, to load exported weights into the library that they are named for."""

import re
from importlib.util import find_spec
from typing import TYPE_CHECKING

from nas.networks.architecture import Architecture

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

_SIZES = {"T": "tiny", "S": "small", "B": "base", "L": "large", "XL": "xlarge"}
_NASNETS = {"NASNet-A (6 @ 4032)": "nasnetalarge", "PNASNet-5 (N=4, F=216)": "pnasnet5large"}


def published_name(name: str) -> str | None:
    """What timm and torchvision call the network that the literature calls so, such as ``resnext50_32x4d``; None for others."""
    if name in _NASNETS:
        return _NASNETS[name]
    resnet = re.fullmatch(r"ResNet-(\d+)", name)
    if resnet is not None:
        return f"resnet{resnet[1]}"
    resnext = re.fullmatch(r"ResNeXt-(\d+) \((\d+)×(\d+)d\)", name)
    if resnext is not None:
        return f"resnext{resnext[1]}_{resnext[2]}x{resnext[3]}d"
    convnext = re.fullmatch(r"ConvNeXt-(\w+)", name)
    return f"convnext_{_SIZES[convnext[1]]}" if convnext is not None else None


def published_in(library: str, architecture: Architecture) -> str | None:
    """The name by which timm or torchvision has the network; None where it is not installed or has none."""
    name = published_name(architecture.name)
    if name is None or find_spec(library) is None:
        return None
    if library == "timm":
        import timm

        return name if timm.is_model(name) else None
    from torchvision import models

    return name if name in models.list_models() and architecture.channels == 3 else None


def load_published(architecture: Architecture, library: str, state: "Mapping[str, Tensor]") -> "tuple[str, nn.Module | None]":
    """The library's own network with the weights, loaded strictly, and the call that makes it; or why there is none, and None.

    Raises:
        RuntimeError: the library has the network, and the weights do not fit it.
    """
    if library == "facebook":
        return "read back here alone: the released code is no package", None
    if find_spec(library) is None:
        return f"not loaded by {library}, which is not installed", None
    name = published_in(library, architecture)
    if name is None:
        return f"not loaded by {library}, which has no network {architecture.name} for {architecture.channels} channels", None
    options: dict[str, int] = {"num_classes": architecture.classes}
    if library == "timm":
        import timm

        network = timm.create_model(name, **options, in_chans=architecture.channels)
        call = f"timm.create_model({name!r})"
    else:
        from torchvision import models

        network, call = models.get_model(name, **options), f"torchvision.models.{name}()"
    network.load_state_dict(dict(state), strict=True)
    return call, network.eval()
