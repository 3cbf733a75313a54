"""Gathers what is handed over: a genotype, the network around it, its weights, input and classes. No torch at import."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nas.architectures import Architecture, choose_architecture
from nas.description import describe_untrained, from_metadata
from nas.errors import ConfigError
from search_spaces.genotype import Genotype

if TYPE_CHECKING:
    from torch import Tensor

    from search_spaces.network import Network


class ExportError(ConfigError):
    """An export cannot be made as asked, or did not read back as the network it came from. Choose another format, or report it."""


@dataclass(frozen=True)
class Handover:
    """A network, the input it expects, what its outputs mean, and its weights.

    Attributes:
        architecture: genotype in a skeleton at a resolution.
        mean: per channel, of pixels scaled to [0, 1]; subtracted from them.
        std: per channel; they are divided by it afterwards.
        class_names: one for each output, or empty where they are not known.
        facts: what else is worth knowing, such as the data set and the accuracy.
        crop_fraction: share of the shorter side that scoring sees.
        interpolation: how images are resized.
        weights: the network's parameters and buffers by name, without those that only training uses; None: untrained.
    """

    architecture: Architecture
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...] = ()
    facts: Mapping[str, str | int | float] = field(default_factory=dict)
    crop_fraction: float = 1.0
    interpolation: str = "bicubic"
    weights: "Mapping[str, Tensor] | None" = None

    def network(self) -> "Network":
        """The network in evaluation mode. Without weights it has random ones (seed 0), also in norms and layer scales.

        Raises:
            UserError: the genotype does not fit the skeleton, or the weights do not fit the network.
        """
        from nas.export.verify import fill_at_random
        from search_spaces.network import build_network

        chosen = self.architecture
        network = build_network(
            chosen.genotype, chosen.skeleton, classes=chosen.classes, channels=chosen.channels, image_size=chosen.image_size
        ).eval()
        if self.weights is None:
            fill_at_random(network)
        else:
            network.load_state_dict(dict(self.weights), strict=False)  # they were checked when they were read
        return network


TRAINING_ONLY = ("progress", "auxiliary.")
"""Beginnings of the names of tensors that only training uses."""


def gather(genotype: Genotype | None, weights: Path | None, chosen: Mapping[str, int | str | None]) -> Handover:
    """What is to be handed over.

    Args:
        genotype: the one named; None takes the weights file's own.
        weights: a weights file, or None for an untrained network. One that describes itself needs no other settings.
        chosen: arguments of ``choose_architecture``: skeleton, cells, filters, classes, channels, image_size; None is as published.

    Raises:
        UserError: something named does not exist, does not fit together, or is damaged.
    """
    if weights is None:
        if genotype is None:
            raise ConfigError("an export needs a genotype or a weights file that describes itself, but got neither")
        description = describe_untrained(choose_architecture(genotype, **chosen))  # type: ignore[arg-type]
        return Handover(description.architecture, description.mean, description.std)
    from nas.weights.files import read_metadata, read_weights

    described = from_metadata(read_metadata(weights), str(weights)) if weights.suffix.lower() == ".safetensors" else None
    if described is None:
        if genotype is None:
            raise ConfigError(f"{weights}: these weights do not say which network they belong to; name its genotype")
        described = describe_untrained(choose_architecture(genotype, **chosen))  # type: ignore[arg-type]
    elif genotype is not None and genotype != described.architecture.genotype:
        name = described.architecture.genotype.name or "unnamed"
        raise ConfigError(f"{weights}: these weights belong to another genotype ({name}) than {genotype.name or 'the one named'}")
    architecture = described.architecture
    fitted = _fit(read_weights(weights), architecture, weights)
    return Handover(architecture, described.mean, described.std, described.class_names, described.facts, weights=fitted)


def _fit(weights: "Mapping[str, Tensor]", architecture: Architecture, path: Path) -> "dict[str, Tensor]":
    """The weights without what only training uses, if they are the network's: names and shapes. Raises WeightsError."""
    import torch

    from nas.weights.files import WeightsError
    from search_spaces.network import build_network

    with torch.device("meta"):
        network = build_network(
            architecture.genotype,
            architecture.skeleton,
            classes=architecture.classes,
            channels=architecture.channels,
            image_size=architecture.image_size,
        )
    shapes = {name: tuple(t.shape) for name, t in network.state_dict().items() if not name.startswith(TRAINING_ONLY)}
    fitted = {name: tensor for name, tensor in weights.items() if not name.startswith(TRAINING_ONLY)}
    problems = {
        "are missing": [name for name in shapes if name not in fitted],
        "have no place in the network": [name for name in fitted if name not in shapes],
        "have another shape": [name for name in shapes if name in fitted and tuple(fitted[name].shape) != shapes[name]],
    }
    for problem, names in problems.items():
        if names:
            some = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
            raise WeightsError(f"{path}: the weights do not fit {architecture.name}: {len(names)} tensors {problem}: {some}")
    return fitted
