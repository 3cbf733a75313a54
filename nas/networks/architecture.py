"""From what a person names (a genotype, a skeleton, N, F, a resolution) to the network it means. No torch, no ray."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.errors import ConfigError
from search_spaces.genotype import Genotype
from search_spaces.skeletons import NASBench201Skeleton, NASNetSkeleton, Skeleton, adapted, family_of, has_size, load_skeleton, network_name

if TYPE_CHECKING:
    from search_spaces.networks.cost import Cost
    from search_spaces.networks.network import Network

_FAMILIES = (
    ("convnext-roadmap-", None),
    ("convnext", "convnext-t"),
    ("resnext", "resnet-50"),
    ("resnet", "resnet-50"),
    ("darts", "darts-cifar"),
    ("pnasnet", "pnasnet-large"),
    ("amoebanet", "amoebanet-cifar"),
)
"""The skeleton a family of reference genotypes is known in, by the start of the genotype's name; None is its own name."""
_SPACES = {"nasbench201": "nasbench201", "darts": "darts-cifar"}
"""The skeleton that the cells of a space are known in."""

LIMITS = {
    "cells": (1, 50),
    "filters": (1, 4096),
    "classes": (2, 1_000_000),
    "channels": (1, 1024),
    "image_size": (8, 4096),
}
"""What may be asked for: beyond it counting and drawing take minutes to hours, and no network is published."""


@dataclass(frozen=True)
class Architecture:
    """A genotype in a skeleton, at a resolution: all that ``build_network`` needs."""

    genotype: Genotype
    skeleton: Skeleton
    skeleton_name: str
    classes: int
    channels: int
    image_size: int

    @property
    def name(self) -> str:
        """As the literature writes it."""
        return network_name(self.genotype, self.skeleton)

    def build(self) -> "Network":
        """The network, initialised at random. Raises UserError where the genotype does not fit the skeleton."""
        from search_spaces.networks.build import build_network

        return build_network(self.genotype, self.skeleton, classes=self.classes, channels=self.channels, image_size=self.image_size)

    def cost(self) -> "Cost":
        """Parameters and MACs. Raises UserError where the genotype does not fit the skeleton."""
        from search_spaces.networks.pieces import network_cost

        return network_cost(self.genotype, self.skeleton, classes=self.classes, channels=self.channels, image_size=self.image_size)


def default_skeleton(genotype: Genotype) -> str:
    """The name of the skeleton that the genotype names or its family is known in; ``nasnet-cifar`` for cells found by a search."""
    if genotype.skeleton:
        return genotype.skeleton
    if genotype.space in _SPACES:
        return _SPACES[genotype.space]
    name = genotype.name.lower()
    for start, skeleton in _FAMILIES:
        if name.startswith(start):
            return skeleton or name
    return "nasnet-cifar"


def choose_architecture(
    genotype: Genotype,
    skeleton: str | None = None,
    cells: int | None = None,
    filters: int | None = None,
    classes: int | None = None,
    channels: int = 3,
    image_size: int | None = None,
) -> Architecture:
    """The architecture asked for; what is left out is as published (skeleton, N, F, resolution and classes).

    Raises:
        UserError: a name or a number breaks a rule.
    """
    given = {"cells": cells, "filters": filters, "classes": classes, "channels": channels, "image_size": image_size}
    for flag, value in given.items():
        low, high = LIMITS[flag]
        if value is not None and not low <= value <= high:
            raise ConfigError(f"--{flag.replace('_', '-')} must lie between {low:,} and {high:,}, but got {value}")
    name = skeleton or default_skeleton(genotype)
    chosen = load_skeleton(name)
    published_side, published_classes = family_of(chosen).image(name)
    return Architecture(
        genotype,
        with_size(chosen, name, cells, filters),
        name,
        published_classes if classes is None else classes,
        channels,
        published_side if image_size is None else image_size,
    )


def with_size(skeleton: Skeleton, name: str, cells: int | None, filters: float | None) -> Skeleton:
    """The skeleton with N and F as asked. Raises ConfigError where it has none."""
    if not has_size(skeleton) and (cells is not None or filters is not None):
        raise ConfigError(f"--cells and --filters go with skeletons of cells, but {name} has stages of blocks")
    return adapted(skeleton, cells=cells, filters=filters)


def searched_skeleton(genotype: Genotype, **values: int | float | bool) -> Skeleton:
    """The macro network of a search's children: the genotype's own, else NAS-Bench-201's for cells with one input, else NASNet's.

    Args:
        genotype: of the child.
        values: what the search says of it (cells, filters, drop_path_keep, auxiliary), taken as far as the skeleton has such a field.

    Raises:
        UserError: the genotype's own skeleton is unknown, or a value breaks its rule.
    """
    skeleton: Skeleton = NASBench201Skeleton() if genotype.normal.inputs == 1 else NASNetSkeleton()
    if genotype.skeleton:
        skeleton = load_skeleton(genotype.skeleton)
    return adapted(skeleton, **values)
