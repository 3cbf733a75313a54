"""Weight files with the network's description in their header: written after training, read back as a network that is ready to use."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from nas.networks.description import NetworkDescription, from_metadata, to_metadata
from nas.networks.weights.files import WeightsError, read_metadata, read_weights, write_weights
from nas.networks.weights.layouts import in_our_names
from nas.tools.words import quoted
from search_spaces.networks.network import Network
from search_spaces.skeletons import adapted

TRAINING_ONLY = "auxiliary."
"""Start of the names of weights that only training uses: they are not written."""
CLASSIFIERS = ("classifier.", "head.classifier.")
"""Starts of the names of classifiers' weights, which a network built as a backbone lacks."""


def write_described(path: str | Path, weights: Mapping[str, Tensor], description: NetworkDescription) -> None:
    """Write the weights with their description; those of an auxiliary head are left out.

    Raises:
        WeightsError: the file cannot be written.
    """
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith(TRAINING_ONLY)}
    write_weights(path, kept, to_metadata(without_auxiliary(description)))


def without_auxiliary(description: NetworkDescription) -> NetworkDescription:
    """The description of the network as it is handed over: the auxiliary head stays with the training."""
    architecture = description.architecture
    return replace(description, architecture=replace(architecture, skeleton=adapted(architecture.skeleton, auxiliary=False)))


def read_description(path: str | Path) -> NetworkDescription:
    """The description in a weight file's header.

    Raises:
        UserError: the file has none, or it is damaged.
    """
    path = Path(path)
    found = from_metadata(read_metadata(path), str(path)) if path.suffix.lower() == ".safetensors" else None
    if found is None:
        raise WeightsError(
            f"{path}: it does not say which network it belongs to: `nas evaluate` is told by --genotype and --skeleton, and "
            f"`nas export GENOTYPE --weights {quoted(path)} --format safetensors -o FILE` writes a file that says it"
        )
    return found


def load_described(path: str | Path) -> tuple[Network, NetworkDescription]:
    """The network of a weight file, with its weights, in evaluation mode.

    Raises:
        UserError: the file has no description, or its weights do not fit it.
    """
    description = read_description(path)
    network = description.architecture.build()
    load_into(network, read_weights(path), path)
    return network.eval(), description


def load_into(
    network: Network, weights: Mapping[str, Tensor], path: str | Path, *, without: tuple[str, ...] = (TRAINING_ONLY, "progress")
) -> None:
    """Copy weights into a network, whatever layout they are in; names that start with one of ``without`` may be missing.

    Raises:
        WeightsError: a name or a shape does not fit.
    """
    weights = in_our_names(network, weights, path)
    own = network.state_dict()
    missing = [name for name in own if name not in weights and not name.startswith(without)]
    unknown = [name for name in weights if name not in own and not name.startswith(without)]
    wrong = [name for name, tensor in weights.items() if name in own and own[name].shape != tensor.shape]
    if missing or unknown or wrong:
        kinds = {"missing": missing, "unknown": unknown, "of another shape": wrong}
        parts = [f"{len(found)} {what} (such as {found[0]})" for what, found in kinds.items() if found]
        raise WeightsError(f"{path}: its weights must be the network's, but there are {', '.join(parts)}")
    network.load_state_dict({name: tensor for name, tensor in weights.items() if name in own}, strict=False)
