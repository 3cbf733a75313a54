"""Gathers what is handed over: a genotype, the network around it, its weights, input and classes. No torch at import."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nas.errors import ConfigError, RunError
from nas.networks.architecture import Architecture, choose_architecture
from nas.networks.description import NetworkDescription, describe_untrained, from_metadata, to_metadata
from search_spaces.genotype import Genotype

if TYPE_CHECKING:
    from torch import Tensor

    from search_spaces.networks.network import Network


class ExportError(ConfigError):
    """An export cannot be made as asked, or did not read back as the network it came from. Choose another format, or report it."""


@dataclass(frozen=True)
class Handover(NetworkDescription):
    """A described network with its weights.

    ``weights`` are the network's parameters and buffers by name, without those that only training uses; None: untrained.
    """

    weights: "Mapping[str, Tensor] | None" = None

    def network(self) -> "Network":
        """The network in evaluation mode. Without weights it has random ones (seed 0), also in norms and layer scales.

        Raises:
            UserError: the genotype does not fit the skeleton, or the weights do not fit the network.
        """
        from nas.networks.random_weights import fill_at_random

        network = self.architecture.build().eval()
        if self.weights is None:
            fill_at_random(network)
        else:
            network.load_state_dict(dict(self.weights), strict=False)  # they were checked when they were read
        return network

    def metadata_text(self) -> str:
        """The description of the network as JSON, as a weights file has it in its header."""
        return to_metadata(self)["network"]


TRAINING_ONLY = ("progress", "auxiliary.")
"""Beginnings of the names of tensors that only training uses."""


def gather(genotype: Genotype | None, weights: str | Path | None, chosen: Mapping[str, int | str | None]) -> Handover:
    """What is to be handed over.

    Args:
        genotype: the one named; None takes the weights file's own.
        weights: a weights file, or the folder of a training, whose best weights are meant; None for an untrained network. Weights
            that describe themselves need no other settings.
        chosen: arguments of ``choose_architecture``: skeleton, cells, filters, classes, channels, image_size; None is as published.

    Raises:
        UserError: something named does not exist, does not fit together, or is damaged.
    """
    if weights is None:
        if genotype is None:
            raise ConfigError("an export needs a genotype or a weights file that describes itself, but got neither")
        description = describe_untrained(choose_architecture(genotype, **chosen))  # type: ignore[arg-type]
        return Handover(description.architecture, description.mean, description.std)
    facts: dict[str, str | int | float] = {}
    weights = Path(weights)
    if weights.is_dir():
        weights, facts = _of_training(weights)
    described = _described(weights, genotype, chosen)
    known = {**described.facts, **facts}
    held = _fitting(weights, described.architecture)
    return Handover(described.architecture, described.mean, described.std, described.class_names, known, held)


def is_trained(path: str | Path) -> bool:
    """Whether the path is a safetensors file or the folder of a training, which say by themselves which network they hold."""
    path = Path(path)
    return path.suffix.lower() == ".safetensors" or ((path / "genotype.yaml").is_file() and (path / "config.yaml").is_file())


def _of_training(folder: Path) -> tuple[Path, dict[str, str | int | float]]:
    """The best weights of a training's folder, and its reading of the test set. Raises RunError."""
    from nas.training.folder import TrainFolder, test_facts

    place = TrainFolder(folder)
    place.config()  # a message of its own where this is no such folder
    if not place.best_file.is_file():
        raise RunError(f"{folder}: a training's folder has best.safetensors after its first epoch, but this has none yet")
    result = place.result() or {}
    return place.best_file, dict(test_facts(result.get("test")))


def _described(path: Path, genotype: Genotype | None, chosen: Mapping[str, int | str | None]) -> NetworkDescription:
    """What the weights file says of its network, or what the person says, where they agree."""
    from nas.networks.weights.described import without_auxiliary
    from nas.networks.weights.files import read_metadata, read_weights
    from nas.networks.weights.layouts import describe_weights

    described = from_metadata(read_metadata(path), str(path)) if path.suffix.lower() == ".safetensors" else None
    if described is None:
        if genotype is None:
            raise ConfigError(f"{path}: these weights do not say which network they belong to; name its genotype")
        return describe_weights(read_weights(path), genotype, chosen)
    if genotype is not None and genotype != described.architecture.genotype:
        name = described.architecture.genotype.name or "unnamed"
        raise ConfigError(f"{path}: these weights belong to another genotype ({name}) than {genotype.name or 'the one named'}")
    return without_auxiliary(described)


def _fitting(path: Path, architecture: Architecture) -> "dict[str, Tensor]":
    """The weights in a file without what only training uses, if they are the network's: names and shapes. Raises WeightsError."""
    from nas.networks.weights.described import load_into
    from nas.networks.weights.files import read_weights

    network = architecture.build()
    load_into(network, read_weights(path), path)
    return {name: tensor for name, tensor in network.state_dict().items() if not name.startswith(TRAINING_ONLY)}
