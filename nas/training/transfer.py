"""From a found cell to a network for another data set: stacked to a size, with the recipe it was published with. No ray."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nas.data.layouts import is_data_file
from nas.data.registry import DATASETS
from nas.errors import ConfigError, DataError
from nas.networks.architecture import Architecture
from nas.networks.description import read_skeleton, skeleton_document
from nas.networks.scaling import describe_shape, read_target, scale_to
from nas.settings.reading import Overrides, validated
from nas.tools.hardware import detect, wanted_threads
from nas.training.config import TrainConfig
from nas.training.fitting import FITTED_RECIPE, MANY, Choice, amount_of
from nas.training.setup import Matched, Request, assigned_data, configure, data_settings, planned_side
from search_spaces.genotype import Genotype
from search_spaces.plugins import guess

ALIASES = {"mobile": "nasnet-mobile", "large": "nasnet-large", "cifar": "nasnet-cifar"}
"""Short names of the NASNet paper's skeletons."""
_RECIPES = (
    ("nasnet-mobile", "nasnet-mobile"),
    ("pnasnet-mobile", "nasnet-mobile"),
    ("darts-imagenet", "nasnet-mobile"),
    ("nasnet-large", "nasnet-large"),
    ("pnasnet-large", "nasnet-large"),
    ("amoebanet-large", "nasnet-large"),
    ("resnet-29", "resnext-cifar"),
    ("resnet", "resnext-imagenet"),
    ("convnext-cifar", "fast"),
    ("convnext", "convnext"),
)
"""The recipe that a skeleton was published with, by the start of its name; the others take NASNet's for CIFAR."""
ILSVRC_FOLDERS = ("", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", "ILSVRC2012", "imagenet")
"""Where train/ and val/ may lie below the folder that a person names."""


@dataclass(frozen=True)
class Wish:
    """What a person asked for; None where they did not say."""

    genotype: Genotype
    data: dict[str, Any]
    skeleton: str | None = None
    matched: Matched | None = None
    cells: int | None = None
    filters: int | None = None
    macs: str | None = None
    params: str | None = None
    recipe: str | None = None
    recipe_flags: dict[str, Any] = field(default_factory=dict)
    assignments: Sequence[str] | Overrides = ()
    settings: dict[str, Any] = field(default_factory=dict)
    workers: int = 1
    imagenet: bool = False
    """Whether the data are ImageNet's, however many of them there are."""


def configure_transfer(wish: Wish) -> tuple[Genotype, TrainConfig, str, tuple[Choice, ...]]:
    """The genotype, the configuration, in words which network was chosen, and what was chosen to suit the images.

    With a target (``--macs``, ``--params``) N and F are solved for, those given kept. Where no recipe is named, many images are
    trained on by the one that the skeleton was published with, few by one whose length follows their number.

    Raises:
        UserError: a name or a value breaks a rule.
    """
    target = read_target(wish.macs, wish.params)
    name = ALIASES.get(wish.skeleton or "", wish.skeleton)
    threads = wish.settings.get("threads") or max(1, wanted_threads() // wish.workers)
    few = not wish.imagenet and amount_of(data_settings(None, wish.data, assigned_data(wish.assignments))).train < MANY
    request = Request(
        genotype=wish.genotype,
        skeleton=name,
        cells=wish.cells,
        filters=wish.filters,
        matched=wish.matched if target is None else None,
        data=wish.data,
        recipe=wish.recipe or FITTED_RECIPE,
        recipe_flags=wish.recipe_flags,
        assignments=wish.assignments if wish.recipe or few else (),
        sized=target is not None or not few,
        settings={**wish.settings, "threads": threads},
    )
    genotype, config, choices = configure(request)
    if wish.recipe is None and not few:
        published = default_recipe(config.skeleton["name"])
        genotype, config, choices = configure(replace(request, recipe=published, assignments=wish.assignments))
    architecture = planned_architecture(genotype, config)
    if target is None:
        return genotype, config, f"{architecture.name}: {describe_shape(architecture)}", choices
    scaled = scale_to(architecture, target, cells=wish.cells, filters=wish.filters)
    skeleton = skeleton_document(scaled.architecture.skeleton, config.skeleton["name"])
    return genotype, validated(TrainConfig, {**config.model_dump(), "skeleton": skeleton}), str(scaled), choices


def planned_architecture(genotype: Genotype, config: TrainConfig) -> Architecture:
    """The network that will be trained, from what can be known before the images are checked."""
    name, skeleton = read_skeleton(config.skeleton, "the configuration")
    amount = amount_of(config.data)
    side = config.image_size or planned_side(amount, config.data, config.recipe)
    return Architecture(genotype, skeleton, name, amount.classes, amount.channels, side)


def default_recipe(skeleton: str) -> str:
    """The recipe that the skeleton was published with."""
    return next((recipe for start, recipe in _RECIPES if skeleton.startswith(start)), "nasnet-cifar")


def target_data(to: str, data_dir: str | None) -> dict[str, Any]:
    """``--to`` and ``--data-dir`` as settings of the data.

    Raises:
        UserError: there is no such data set, or ImageNet is not where it should be.
    """
    if to in DATASETS and to != "folder":
        return {"data.name": to, "data.root": data_dir}
    if to == "imagenet":
        if data_dir is None:
            raise DataError("ImageNet cannot be fetched by this program: name its folder (with train/ and val/ below) with --data-dir")
        return {"data.name": "folder", "data.root": find_ilsvrc(Path(data_dir))}
    if Path(to).expanduser().is_dir():
        return {"data.name": "folder", "data.root": find_ilsvrc(Path(to).expanduser().resolve())}
    if is_data_file(Path(to).expanduser()):
        return {"data.name": "folder", "data.root": str(Path(to).expanduser().resolve())}
    names = ["imagenet", *(name for name in DATASETS if name != "folder")]
    raise ConfigError(f"--to must be {', '.join(names)} or an existing folder or file of images, but got {to!r}{guess(to, names)}")


def find_ilsvrc(root: Path) -> str:
    """The folder with train/ below, in the places where ILSVRC's archives put it; else ``root`` itself."""
    found = next((root / inner for inner in ILSVRC_FOLDERS if (root / inner / "train").is_dir()), root)
    return str(found)


def default_workers(workers: int | None, device: str | None, address: str | None) -> tuple[int, bool]:
    """Processes that train together, and whether each has a GPU: one a GPU of this machine, else one, unless somebody says."""
    gpus = 0 if device == "cpu" else len(detect().gpus)
    if address is not None and workers is None:
        raise ConfigError("--address needs --workers: how many processes train together on the cluster")
    return workers or max(1, gpus), gpus > 0
