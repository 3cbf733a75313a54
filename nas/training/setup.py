"""From what a person asks for (a genotype, a data set, a recipe, sizes) to what is trained, and where. No torch, no ray."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from nas.data.prepared import training_side
from nas.data.registry import DATASETS
from nas.data.settings import LARGE_SIDE, DataSettings
from nas.errors import UserError
from nas.loggers.registry import check_installed
from nas.networks.architecture import Architecture, default_skeleton, with_size
from nas.networks.description import skeleton_document
from nas.networks.matching import read_match
from nas.settings.reading import Overrides, parse_assignments, validated
from nas.tools.hardware import detect, wanted_threads
from nas.tools.shelves import TRAINED
from nas.training.config import TrainConfig, skeleton_of
from nas.training.fitting import (
    FITTED_RECIPE,
    Amount,
    Choice,
    amount_of,
    fit_framing,
    fit_network,
    fit_recipe,
    fit_side,
    fit_sizes,
    fit_validation,
    own_images,
)
from nas.training.folder import TrainFolder, differences
from nas.training.recipe import Recipe, load_recipe
from search_spaces.genotype import Genotype
from search_spaces.skeletons import Skeleton, has_size, load_skeleton, network_name

SMALL_STEM_SIDE = 64
"""Up to this side a network keeps its first stage at full resolution; above, its stem halves it three times."""
LONGEST_PART = 32
"""Letters that the name of a cell, of a data set and of a recipe take in a folder's name at most."""
_FOR_LARGE = {"nasnet-cifar": "nasnet-mobile", "darts-cifar": "darts-imagenet", "amoebanet-cifar": "nasnet-mobile"}
_FOR_SMALL = {"pnasnet-large": "nasnet-cifar", "convnext-t": "convnext-cifar", "resnet-50": "resnet-29-cifar"}


@dataclass(frozen=True)
class Matched:
    """The size of a network whose search gave all its networks one cost (``match``): N, F, and the side in pixels it is for."""

    match: str
    cells: int
    filters: float
    side: int
    place: str | None = None
    """Where the latency is measured that was matched."""


@dataclass(frozen=True)
class Request:
    """What a person asked for; None where they did not say."""

    genotype: Genotype | None = None
    own_data: DataSettings | None = None
    """What the run that the genotype comes from was searched on: taken where ``data`` names nothing else."""
    skeleton: str | None = None
    cells: int | None = None
    filters: int | None = None
    matched: Matched | None = None
    """The size that the genotype's search matched it to: taken at the same side where nobody says another."""

    @property
    def size_said(self) -> bool:
        """Whether a person says anything of the network's size."""
        return bool(self.skeleton or self.cells or self.filters)

    def matched_at(self, side: Callable[[], int]) -> Matched | None:
        """The size that the search matched, for images of this side in pixels; None where nothing was matched, or a person says another."""
        found = None if self.size_said else self.matched
        return found if found is not None and found.side == side() else None
    sized: bool = False
    """Whether the caller solves for the network's size: then it is not cut down to the images."""
    data: dict[str, Any] | None = None
    recipe: str = "fast"
    recipe_flags: dict[str, Any] | None = None
    assignments: Sequence[str] | Overrides = ()
    settings: dict[str, Any] | None = None


@dataclass(frozen=True)
class Fitted:
    """How is trained and on what, with what was chosen to suit the images (``nas.training.fitting``).

    ``image_size`` is as asked or as fitted; None leaves it to the images and the recipe.
    """

    recipe: Recipe
    data: DataSettings
    image_size: int | None
    amount: Callable[[], Amount]
    choices: tuple[Choice, ...]


def configure(request: Request) -> tuple[Genotype, TrainConfig, tuple[Choice, ...]]:
    """The genotype, the effective configuration, and what of it was chosen to suit the images.

    ``--set`` names a setting of the recipe (``optimizer.learning_rate``) or, with ``data.`` in front, of the data.

    Raises:
        UserError: a name or a value breaks a rule.
    """
    genotype = request.genotype
    assert genotype is not None
    fitted = fit_request(request)
    name, skeleton, choices = _fit_skeleton(genotype, request, fitted)
    document = {
        "skeleton": skeleton_document(skeleton, name),
        "data": fitted.data.model_dump(),
        "recipe": fitted.recipe.model_dump(),
        "threads": wanted_threads(),
        **_given(request.settings),
        "image_size": fitted.image_size,
    }
    config = validated(TrainConfig, document)
    check_installed(config.log)
    return genotype, config, fitted.choices + choices


def fit_request(request: Request) -> Fitted:
    """Recipe, data and resolution: flags and ``--set`` assignments each in their place, and what nobody said as suits the images.

    Raises:
        UserError: a name or a value breaks a rule, or the data set cannot be used.
    """
    assigned = parse_assignments(request.assignments)
    for_recipe = {name: value for name, value in assigned.items() if not name.startswith("data.")}
    said = {**for_recipe, **_given(request.recipe_flags)}
    recipe, data = load_recipe(request.recipe, said), data_settings(request.own_data, request.data, assigned_data(assigned))
    choices: tuple[Choice, ...] = ()
    if request.recipe == FITTED_RECIPE and own_images(data) and (held_out := fit_validation(amount_of(data), data)):
        data, choices = data.model_copy(update={"validation_examples": held_out.value}), (held_out,)
    amount, side = cache(lambda: amount_of(data)), _given(request.settings).get("image_size")
    if request.recipe == FITTED_RECIPE:
        framing = fit_framing(data) if "crop_mode" not in said else None
        sizes = fit_sizes(recipe, side or planned_side(amount(), data, recipe), said)
        of_recipe = (*fit_recipe(recipe, amount(), said), *(choice for choice in (sizes, framing) if choice))
        recipe = load_recipe(request.recipe, {**{choice.setting: choice.value for choice in of_recipe}, **said})
        choices += of_recipe
    if side is None and own_images(data) and (fitted := fit_side(amount(), recipe, detect())):
        side, choices = fitted.value, (*choices, fitted)
    return Fitted(recipe, data, side, amount, choices)


def _fit_skeleton(genotype: Genotype, request: Request, fitted: Fitted) -> tuple[str, Skeleton, tuple[Choice, ...]]:
    """The skeleton with its name; of a size that suits own images where nobody says one."""
    data, recipe, amount = fitted.data, fitted.recipe, fitted.amount

    def side() -> int:
        return fitted.image_size or planned_side(amount(), data, recipe)

    name, skeleton = choose_skeleton(genotype, request, side)
    sized = request.sized or request.size_said or request.matched_at(side)
    if sized or request.recipe != FITTED_RECIPE or not own_images(data):
        return name, skeleton, _lost_match(genotype, skeleton, request, side)
    whole = Architecture(genotype, skeleton, name, amount().classes, amount().channels, side())
    chosen, choice = fit_network(whole, recipe, amount(), detect())
    lost = _lost_match(genotype, chosen.skeleton, request, side)
    return name, chosen.skeleton, (choice, *lost) if choice else lost


def _lost_match(genotype: Genotype, skeleton: Skeleton, request: Request, side: Callable[[], int]) -> tuple[Choice, ...]:
    """That the cost which the search matched does not hold for these images, why, and what keeps the size; nothing where it holds."""
    matched = request.matched
    if matched is None or request.size_said or not has_size(skeleton) or matched.side == side():
        return ()
    filters = max(1, round(matched.filters))
    cost, about = read_match(matched.match).target, "" if filters == matched.filters else "about "
    reason = (
        f"not of the {cost} that the search matched: that was for images of {matched.side} pixels, and these have {side()}; "
        f"--cells {matched.cells} --filters {filters} keeps {about}the search's size"
    )
    return (Choice("network", network_name(genotype, skeleton), reason),)


def assigned_data(assignments: Sequence[str] | Overrides) -> dict[str, Any]:
    """What ``--set`` says of the data. Raises ConfigError."""
    assigned = parse_assignments(assignments)
    return {name.removeprefix("data."): value for name, value in assigned.items() if name.startswith("data.")}


def data_settings(own: DataSettings | None, flags: dict[str, Any] | None, assigned: dict[str, Any]) -> DataSettings:
    """The data set asked for; where nothing is asked, the run's own; else CIFAR-10."""
    given = {name.removeprefix("data."): value for name, value in _given(flags).items()}
    base: dict[str, Any] = {}
    if "name" not in given and own is not None:
        base = {"name": own.name, "root": own.root, "split_seed": own.split_seed}
    return validated(DataSettings, {**base, **given, **assigned})


def choose_skeleton(genotype: Genotype, request: Request, side: Any) -> tuple[str, Skeleton]:  # noqa: ANN401 - a function that gives pixels
    """The skeleton by its name, or the one that suits the genotype's family and the images' side; with N and F as asked."""
    name = request.skeleton
    if name is None:
        name = default_skeleton(genotype)
        swap = _FOR_LARGE if name in _FOR_LARGE else _FOR_SMALL if name in _FOR_SMALL else {}
        if swap and (side() > SMALL_STEM_SIDE) == (swap is _FOR_LARGE):
            name = swap[name]
    skeleton = load_skeleton(name)
    if has_size(skeleton) and (matched := request.matched_at(side)):
        return name, with_size(skeleton, name, matched.cells, matched.filters)
    return name, with_size(skeleton, name, request.cells, request.filters)


def planned_side(amount: Amount, data: DataSettings, recipe: Recipe) -> int:
    """The side at which images will be trained on where nobody says, from what can be known before they are read."""
    return amount.side if DATASETS[data.name].shape is not None else training_side(amount.side, recipe.image_size or LARGE_SIDE)


def default_folder(genotype: Genotype, config: TrainConfig) -> Path:
    """A folder named by what is trained: the one where the same training was begun, else the first that is free."""
    root = TRAINED.new()
    name = _short_name(genotype, config)
    number = 1
    while True:
        folder = root / (name if number == 1 else f"{name}-{number}")
        if not folder.exists() or _same(TrainFolder(folder), genotype, config):
            return folder
        number += 1


def _short_name(genotype: Genotype, config: TrainConfig) -> str:
    """The cell, the network's size as tables write it, its skeleton unless it is the usual one, the data, the recipe.

    Of a run that nobody named only the time is taken, and long names are cut: who the cell is stands in the folder.
    """
    origin, skeleton = genotype.provenance, config.skeleton
    cell = genotype.name or "cells"
    if origin is not None and origin.run and (unnamed := re.match(r"[0-9]{8}-[0-9]{6}(?=-)", origin.run)) and cell.startswith(origin.run):
        cell = unnamed[0] + cell.removeprefix(origin.run)
    size = re.search(r"\(([^()]*)\)$", network_name(genotype, skeleton_of(config))) if "filters" in skeleton else None
    where = "" if skeleton["name"] == default_skeleton(genotype) and size is not None else str(skeleton["name"])
    data = Path(config.data.root).name if config.data.name == "folder" and config.data.root else config.data.name
    parts = (cell[-LONGEST_PART:], where, size[1].replace(" ", "") if size else "", data[:LONGEST_PART], config.recipe.name[:LONGEST_PART])
    return re.sub(r"[^\w.+@=-]+", "_", "-".join(filter(None, parts))).lstrip("-") + (f"-seed{config.seed}" if config.seed else "")


def _same(place: TrainFolder, genotype: Genotype, config: TrainConfig) -> bool:
    try:
        return place.exists() and not differences(place.config(), config) and place.genotype().cells() == genotype.cells()
    except UserError:
        return False


def _given(flags: dict[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (flags or {}).items() if value is not None}
