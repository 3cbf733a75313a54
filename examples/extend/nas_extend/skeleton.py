"""The family of skeletons ``mobile``: everything that the engine asks of a macro network, in one row. No torch until it is built."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nas_extend.space import MOBILE
from search_spaces.errors import SkeletonError
from search_spaces.genotype import Genotype
from search_spaces.skeletons import Family, Plane

if TYPE_CHECKING:
    from nas_extend.network import MobileNetwork


@dataclass(frozen=True)
class MobileSkeleton:
    """A stem, the genotype's layers and a head. The layers at ``strided`` halve the resolution and double the width.

    Its fields are what can be set: a search gives ``filters`` (F), a recipe ``dropout``.
    """

    filters: int = 8
    strided: tuple[int, ...] = (2, 5)
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.filters <= 1024:
            raise SkeletonError(f"`filters` must be 1..1024, but got {self.filters}")


def build(genotype: Genotype, skeleton: MobileSkeleton, **sizes: int) -> MobileNetwork:
    """The network; see ``search_spaces.networks.build.build_network``."""
    from nas_extend.network import MobileNetwork

    return MobileNetwork(genotype, skeleton, **sizes)


FAMILY = Family(
    skeleton=MobileSkeleton,
    named={"mobile-tiny": MobileSkeleton(), "mobile-wide": MobileSkeleton(filters=24)},
    build=build,
    name=lambda genotype, skeleton: f"{genotype.name or 'mobile'} (F={skeleton.filters})",
    shape=lambda genotype, skeleton: f"F={skeleton.filters} filters in the first layers",
    plane=lambda skeleton: Plane(1, skeleton.filters, 1, 1, lambda depth, width: replace(skeleton, filters=width)),
    image=lambda name: (32, 10),
    genotype=MOBILE.decode((0,) * len(MOBILE.decisions)),
)
