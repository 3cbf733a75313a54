"""Describes a built network completely (genotype, skeleton, input, classes), so that a weights file speaks for itself. No torch."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from nas.errors import ConfigError, UserError
from nas.networks.architecture import Architecture
from search_spaces.genotype import from_document as genotype_from_document
from search_spaces.genotype import to_document as genotype_document
from search_spaces.skeletons import FAMILIES, Skeleton, kind_of

SCHEMA = "nas.network/1"
METADATA_KEY = "network"
"""Key of a safetensors file's or ONNX model's metadata under which the description stands."""
MAX_CLASSES = 100_000

_KEYS = ("schema", "genotype", "skeleton", "classes", "channels", "image_size", "mean", "std", "class_names", "facts")

IMAGENET_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of ImageNet's pixels scaled to [0, 1], as torchvision and timm use them."""
CIFAR10_STATISTICS = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
"""Mean and deviation of CIFAR-10's training pixels scaled to [0, 1]."""


@dataclass(frozen=True)
class NetworkDescription:
    """A network, the input it expects and what its outputs mean.

    Attributes:
        architecture: genotype in a skeleton at a resolution.
        mean: per channel, of pixels scaled to [0, 1]; subtracted from them.
        std: per channel; they are divided by it afterwards.
        class_names: one for each output, or empty where they are not known.
        facts: what else is worth knowing, such as the data set and the accuracy.
    """

    architecture: Architecture
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...] = ()
    facts: Mapping[str, str | int | float] = field(default_factory=dict)

    @property
    def crop_fraction(self) -> float:
        """The share of the shorter side that scoring sees; all of it where the facts say nothing sensible."""
        found = self.facts.get("crop_fraction", 1.0)
        return float(found) if isinstance(found, int | float) and 0 < found <= 1 else 1.0

    @property
    def crop_mode(self) -> Literal["center", "squash"]:
        """Whether the middle of an image that is no square is seen, or the whole of it, squashed."""
        return "squash" if self.facts.get("crop_mode") == "squash" else "center"

    @property
    def interpolation(self) -> str:
        """How images are resized; the word comes from a file and goes into generated code, so only known ones pass."""
        found = self.facts.get("interpolation")
        return found if isinstance(found, str) and found in ("box", "bilinear", "bicubic") else "bicubic"


def describe_untrained(architecture: Architecture) -> NetworkDescription:
    """The description of a network without weights: the usual normalisation of its resolution, no class names."""
    if architecture.channels != 3:
        return NetworkDescription(architecture, (0.5,) * architecture.channels, (0.5,) * architecture.channels)
    return NetworkDescription(architecture, *(CIFAR10_STATISTICS if architecture.image_size <= 64 else IMAGENET_STATISTICS))


# ---------------------------------------------------------------------------------------------------- writing


def to_document(description: NetworkDescription) -> dict[str, Any]:
    """The description as plain dictionaries, lists, strings and numbers, ready for JSON."""
    chosen = description.architecture
    return {
        "schema": SCHEMA,
        "genotype": genotype_document(chosen.genotype),
        "skeleton": skeleton_document(chosen.skeleton, chosen.skeleton_name),
        "classes": chosen.classes,
        "channels": chosen.channels,
        "image_size": chosen.image_size,
        "mean": list(description.mean),
        "std": list(description.std),
        "class_names": list(description.class_names),
        "facts": dict(description.facts),
    }


def skeleton_document(skeleton: Skeleton, name: str) -> dict[str, Any]:
    """A skeleton as plain data: its kind, its name and all its numbers; ``read_skeleton`` reads it."""
    return {"kind": kind_of(skeleton), "name": name, **asdict(skeleton)}


def readable_name(description: NetworkDescription) -> str:
    """What to call the network: a found cell by its data set, space and trial rather than by the hour in which its search began."""
    genotype = description.architecture.genotype
    if genotype.provenance is None:
        return genotype.name or "found cell"
    return " ".join(filter(None, (str(description.facts.get("data", "")), genotype.space or "cell", str(genotype.provenance.trial))))


def to_metadata(description: NetworkDescription) -> dict[str, str]:
    """Texts for a weights file's header: the description, and ``format`` as other readers of safetensors expect it."""
    return {"format": "pt", METADATA_KEY: json.dumps(to_document(description), allow_nan=False)}


# ---------------------------------------------------------------------------------------------------- reading


def from_metadata(metadata: Mapping[str, str], where: str) -> NetworkDescription | None:
    """The description in a weights file's header; None where it has none.

    Args:
        metadata: as ``nas.networks.weights.files.read_metadata`` returns it.
        where: the file, for messages.

    Raises:
        UserError: the description is damaged or breaks a rule.
    """
    if METADATA_KEY not in metadata:
        return None
    try:
        document = json.loads(metadata[METADATA_KEY])
    except (ValueError, RecursionError):
        raise ConfigError(f"{where}: its description of the network is no JSON") from None
    return from_document(document, where)


def from_document(document: object, where: str) -> NetworkDescription:
    """Validate plain data and make it a description. Raises UserError; ``where`` names the source in messages."""
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise ConfigError(f"{where}: the description of a network must be a mapping with `schema` {SCHEMA!r}")
    if set(document) != set(_KEYS):
        raise ConfigError(f"{where}: the description must have the keys {', '.join(_KEYS)}, but got {', '.join(map(str, document))[:200]}")
    name, skeleton = read_skeleton(document["skeleton"], where)
    numbers = {}
    for key, (low, high) in {"classes": (0, MAX_CLASSES), "channels": (1, 1024), "image_size": (8, 8192)}.items():
        numbers[key] = document[key]
        if type(numbers[key]) is not int or not low <= numbers[key] <= high:
            raise ConfigError(f"{where}: `{key}` must be an integer {low}..{high}, but got {str(numbers[key])[:80]!r}")
    return NetworkDescription(
        Architecture(genotype_from_document(document["genotype"]), skeleton, name, **numbers),
        mean=_read_statistics(document["mean"], "mean", numbers["channels"], where),
        std=_read_statistics(document["std"], "std", numbers["channels"], where),
        class_names=_read_class_names(document["class_names"], numbers["classes"], where),
        facts=_read_facts(document["facts"], where),
    )


def read_skeleton(value: object, where: str) -> tuple[str, Skeleton]:
    """Name and skeleton, validated. Raises ConfigError; ``where`` names the source in messages."""
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str) or not isinstance(value.get("name"), str):
        raise ConfigError(f"{where}: `skeleton` must have a `name` and a `kind`, one of {', '.join(FAMILIES)}")
    try:
        type_ = FAMILIES[value["kind"]].skeleton
    except UserError as problem:
        raise ConfigError(f"{where}: `skeleton`: `kind`: {problem}") from None
    content = {key: part for key, part in value.items() if key not in ("kind", "name")}
    known = {f.name for f in fields(type_)}
    unknown = set(content) - known
    if unknown:
        first_unknown = str(min(unknown, key=str))[:80]
        raise ConfigError(f"{where}: `skeleton` has an unknown key {first_unknown!r}; valid keys: {', '.join(sorted(known))}")
    try:  # as JSON, since that is where lists may stand for tuples
        return value["name"][:100], TypeAdapter(type_).validate_json(json.dumps(content), strict=True)
    except ValidationError as problem:
        first = problem.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{where}: `skeleton`: {place}: {first['msg']}") from None


def _read_statistics(value: object, key: str, channels: int, where: str) -> tuple[float, ...]:
    numbers = [float(v) for v in value if type(v) in (int, float) and abs(v) < 1e6] if isinstance(value, list) else []
    if not isinstance(value, list) or not len(numbers) == len(value) == channels or (key == "std" and min(numbers) <= 0):
        rule = "positive" if key == "std" else "finite"
        raise ConfigError(f"{where}: `{key}` must be {channels} {rule} numbers, one a channel, but got {str(value)[:80]}")
    return tuple(numbers)


def _read_class_names(value: object, classes: int, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) not in (0, classes) or not all(isinstance(v, str) and len(v) <= 200 for v in value):
        raise ConfigError(f"{where}: `class_names` must be {classes} texts, or none, but got {str(value)[:80]}")
    return tuple(value)


def _read_facts(value: object, where: str) -> dict[str, str | int | float]:
    plain = (str, int, float)
    if not isinstance(value, dict) or len(value) > 100 or not all(isinstance(k, str) and type(v) in plain for k, v in value.items()):
        raise ConfigError(f"{where}: `facts` must be a mapping of texts to texts and numbers, but got {str(value)[:80]}")
    return dict(value)
