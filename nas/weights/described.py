"""Weight files that say which network they belong to and how its images are prepared: genotype, skeleton and input in the file's header."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from torch import Tensor

from nas.errors import GenotypeError, UserError
from nas.train_config import read_skeleton, skeleton_document
from nas.weights.files import WeightsError, read_metadata, read_weights, write_weights
from search_spaces.genotype import Genotype, from_document, to_yaml
from search_spaces.network import Network, build_network
from search_spaces.skeletons import NASNetSkeleton, Skeleton, network_name
from search_spaces.strict_yaml import parse_document

SCHEMA = "nas.weights/1"
TRAINING_ONLY = "auxiliary."
"""Start of the names of weights that only training uses: they are not written."""


@dataclass(frozen=True)
class Preparation:
    """How an image becomes the network's input: its shorter side scaled to ``image_size / crop_fraction``, the middle cut out,
    values scaled to [0, 1], then (value − mean) / std for every channel."""  # noqa: D205, D209 - one sentence

    channels: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_fraction: float = 1.0
    interpolation: str = "bicubic"


@dataclass(frozen=True)
class NetworkDescription:
    """All that a weight file's header says: enough to build the network, to feed it and to name its answers."""

    genotype: Genotype
    skeleton: Skeleton
    class_names: tuple[str, ...]
    preparation: Preparation
    results: Mapping[str, float | int | str]

    @property
    def name(self) -> str:
        """As the literature writes it."""
        return network_name(self.genotype, self.skeleton)

    def build(self) -> Network:
        """The network, with fresh weights."""
        prepared = self.preparation
        return build_network(
            self.genotype, self.skeleton, classes=len(self.class_names), channels=prepared.channels, image_size=prepared.image_size
        )


def write_described(path: Path, weights: Mapping[str, Tensor], description: NetworkDescription) -> None:
    """Write the weights with their description; those of an auxiliary head are left out.

    Raises:
        WeightsError: the file cannot be written.
    """
    skeleton = description.skeleton
    if isinstance(skeleton, NASNetSkeleton):
        skeleton = replace(skeleton, auxiliary=False)
    header = {
        "schema": SCHEMA,
        "genotype": to_yaml(description.genotype),
        "skeleton": json.dumps(skeleton_document(skeleton)),
        "class_names": json.dumps(description.class_names),
        "preparation": json.dumps(asdict(description.preparation)),
        "results": json.dumps(dict(description.results)),
    }
    write_weights(path, {name: tensor for name, tensor in weights.items() if not name.startswith(TRAINING_ONLY)}, header)


def read_description(path: Path) -> NetworkDescription:
    """The description in a weight file's header.

    Raises:
        WeightsError: the file has none, or it is damaged.
    """
    if path.suffix.lower() != ".safetensors":
        raise WeightsError(f"{path}: it does not say which network it belongs to: name it with --genotype and --skeleton")
    header = read_metadata(path)
    if header.get("schema") != SCHEMA:
        raise WeightsError(f"{path}: it does not say which network it belongs to: name it with --genotype and --skeleton")
    try:
        prepared = json.loads(header["preparation"])
        preparation = Preparation(
            int(prepared["channels"]),
            int(prepared["image_size"]),
            tuple(float(value) for value in prepared["mean"]),
            tuple(float(value) for value in prepared["std"]),
            float(prepared["crop_fraction"]),
            str(prepared["interpolation"]),
        )
        if not (len(preparation.mean) == len(preparation.std) == preparation.channels):
            raise ValueError("mean and std must have a value for each channel")
        names = tuple(str(name) for name in json.loads(header["class_names"]))
        skeleton = read_skeleton(json.loads(header["skeleton"]))
        results = dict(json.loads(header["results"]))
        genotype = from_document(parse_document(header["genotype"], GenotypeError, str(path)))
        return NetworkDescription(genotype, skeleton, names, preparation, results)
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as problem:
        if isinstance(problem, UserError):
            raise
        raise WeightsError(f"{path}: its header must be as `nas train` wrote it, but {problem or type(problem).__name__}") from None


def load_described(path: Path) -> tuple[Network, NetworkDescription]:
    """The network of a weight file, with its weights, in evaluation mode.

    Raises:
        WeightsError: the file has no description, or its weights do not fit it.
    """
    description = read_description(path)
    network = description.build()
    load_into(network, read_weights(path), path)
    return network.eval(), description


def load_into(
    network: Network, weights: Mapping[str, Tensor], path: Path, *, without: tuple[str, ...] = (TRAINING_ONLY, "progress")
) -> None:
    """Copy weights into a network; names that start with one of ``without`` may be missing.

    Raises:
        WeightsError: a name or a shape does not fit.
    """
    own = network.state_dict()
    missing = [name for name in own if name not in weights and not name.startswith(without)]
    unknown = [name for name in weights if name not in own and not name.startswith(without)]
    wrong = [name for name, tensor in weights.items() if name in own and own[name].shape != tensor.shape]
    if missing or unknown or wrong:
        kinds = {"missing": missing, "unknown": unknown, "of another shape": wrong}
        parts = [f"{len(found)} {what} (such as {found[0]})" for what, found in kinds.items() if found]
        raise WeightsError(f"{path}: its weights must be the network's, but there are {', '.join(parts)}")
    network.load_state_dict({name: tensor for name, tensor in weights.items() if name in own}, strict=False)
