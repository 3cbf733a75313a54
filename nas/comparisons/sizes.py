"""The size of everybody in a comparison: solved for MACs or parameters, which are counted, or for a latency, measured once and kept."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from nas.errors import ConfigError
from nas.networks.architecture import Architecture
from nas.networks.description import read_skeleton, skeleton_document
from nas.networks.matching import LATENCY_TOLERANCE, place_words
from nas.networks.scaling import Scaled, Target, describe_shape, milliseconds, scale_to
from nas.networks.stopwatch import RUNS, Stopwatch, match_latency, stopwatch_at
from nas.tools.files import write_atomically
from search_spaces.canonical import canonical_key
from search_spaces.skeletons import has_size
from search_spaces.strict_yaml import dump_document, load_document

SIZES = "sizes.yaml"
"""What a comparison at equal latency has measured, in its folder."""


def size_of(label: str, whole: Architecture, target: Target, cells: int | None, place: str, folder: Path) -> Scaled:
    """A member's network of the comparison's size.

    Args:
        label: the member's name.
        whole: the member's network as it is.
        target: what everybody costs.
        cells: everybody's N, networks of blocks excepted; None: solved for, and 1 where the cost is a latency.
        place: where latency is measured.
        folder: of the comparison, which keeps what was measured: it goes on with the sizes that it began with.

    Raises:
        UserError: no network of this family comes near the target, or the place does not exist.
    """
    of_cells = has_size(whole.skeleton)
    if target.quantity != "latency":
        return scale_to(whole, target, cells=cells if of_cells else None)
    depth = (cells or 1) if of_cells else None
    file, asked = folder / SIZES, f"{target} on {place}, N={depth}: {canonical_key(whole.genotype)}"
    kept = _kept(file)
    known = kept.get(label, {})
    if known.get("asked") == asked:
        architecture = replace(whole, skeleton=read_skeleton(known.get("skeleton"), str(file))[1])
        cost = architecture.cost()
        return Scaled(architecture, target, cost.parameters, cost.macs, known["latency"])
    scaled = _measured(whole, target, depth, place)
    skeleton = skeleton_document(scaled.architecture.skeleton, whole.skeleton_name)
    if not folder.is_dir():
        return scaled  # whoever only asks what would be done makes no folder
    entry = {"asked": asked, "skeleton": skeleton, "latency": scaled.latency}
    write_atomically(file, dump_document({**kept, label: entry}))
    return scaled


def _kept(file: Path) -> dict[str, Any]:
    """The sizes measured before, by label. Raises ConfigError where the file is damaged."""
    found = load_document(file, ConfigError) if file.is_file() else {}
    if not isinstance(found, dict) or not all(isinstance(size, dict) and isinstance(size.get("latency"), float) for size in found.values()):
        raise ConfigError(f"{file}: must have the sizes of networks by name; without the file they are measured again")
    return found


def _measured(whole: Architecture, target: Target, cells: int | None, place: str) -> Scaled:
    """The network of the width whose latency is measured to be the target's. Raises ConfigError where no width is near it."""
    from nas.training.numerics import own_threads

    with own_threads(1):
        scaled = match_latency(whole, target, stopwatch_at(place), cells=cells, tolerance=LATENCY_TOLERANCE)
    if abs(scaled.off) > LATENCY_TOLERANCE:
        raise ConfigError(
            f"no width within {LATENCY_TOLERANCE:.0%} of {target} on {place_words(place)}; the closest, "
            f"{describe_shape(scaled.architecture)}, takes about {milliseconds(scaled.latency)}"
        )
    return scaled


def latency_ms(architecture: Architecture, place: str) -> float:
    """Milliseconds for one image, measured by itself; on a CPU with one thread."""
    from nas.training.numerics import own_threads

    with own_threads(1):
        return 1000 * Stopwatch(place).time_network(architecture, RUNS)
