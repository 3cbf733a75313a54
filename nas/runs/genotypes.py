"""Finds the genotype a person means: a reference's name, a genotype file, a text in another notation, or a run's best. No torch."""

import logging
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from nas.data.settings import DataSettings
from nas.errors import ConfigError, GenotypeError, RunError
from nas.runs import folder as run_folder
from nas.runs.sizing import Sizing
from nas.runs.standings import best_known
from nas.tools.words import quoted
from nas.training.setup import Matched
from search_spaces.genotype import Genotype, read_genotype
from search_spaces.notations import is_notation, read_notation
from search_spaces.plugins import guess
from search_spaces.reference import load_reference, reference_names
from search_spaces.space import Actions, SearchSpace
from search_spaces.strict_yaml import load_text

logger = logging.getLogger(__name__)

_DOCUMENTS, _TEXT = (".yaml", ".yml", ".json"), ".txt"
_RANKED = re.compile(r"(?P<run>.+):(?P<rank>[1-9]\d{0,5})")
BEGUN_WITH = 6
"""The best known of a run that a search begins with that is to begin with the run."""


def is_genotype(name: str) -> bool:
    """Whether the name is a reference genotype, a genotype file or a genotype written out rather than a run."""
    return name in reference_names() or is_notation(name) or Path(name).suffix.lower() in (*_DOCUMENTS, _TEXT)


def resolve_genotype(name: str | Genotype, rank: int = 1) -> Genotype:
    """The reference genotype of that name, the genotype in that file, or the ``rank``-th best known of that run; a genotype is itself.

    A ``.txt`` file holds a genotype in DARTS', ENAS' or NAS-Bench-201's notation (see ``search_spaces.notations``); such a text
    may also stand in the place of a name. Which trial of a run that is, and who says so, goes to the log.

    Raises:
        UserError: there is none, or it is damaged.
    """
    if isinstance(name, Genotype):
        return name
    if name in reference_names():
        return load_reference(name)
    if is_notation(name):
        return read_notation(name)
    if Path(name).suffix.lower() == _TEXT:
        return _read_text_file(Path(name))
    if is_genotype(name):
        return read_genotype(Path(name))
    folder = _run_named(name)
    state = folder.state()
    config = folder.config()
    space = folder.space(config)
    known = best_known(space, state)
    ranked = known.trials
    if not ranked:
        raise RunError(f"{folder.path}: no child of this run has been trained to the end yet; `nas resume {quoted(folder.path)}` goes on")
    if rank > len(ranked):
        raise RunError(f"{folder.path}: --rank must be at most {len(ranked)} (completed trials of this run), but got {rank}")
    trial, believed = known.head(rank)[-1]
    logger.info("%s: trial %d, %s", folder.path, trial.number, known.how(rank))
    return run_folder.found_genotype(space, trial, folder.path.name, config.controller.name, believed)


def beginnings(name: str) -> list[str]:
    """What a search that is to begin with this does begin with: a genotype is itself, a run stands for its best known, ``RUN:1`` onwards.

    Raises UserError where there is neither.
    """
    if is_genotype(name) or _RANKED.fullmatch(name):
        return [name]
    folder = _run_named(name)
    known = best_known(folder.space(folder.config()), folder.state())
    return [f"{folder.path}:{rank}" for rank in range(1, min(BEGUN_WITH, len(known.trials)) + 1)] or [name]


def resolve_beginning(name: str) -> Genotype:
    """The genotype that a search is to begin with: as ``resolve_genotype``, or ``RUN:2``. Raises UserError where there is none."""
    ranked = _RANKED.fullmatch(name)
    return resolve_genotype(name) if ranked is None else resolve_genotype(ranked["run"], int(ranked["rank"]))


def begun_with(space: SearchSpace, name: str) -> tuple[Actions, bool]:
    """The actions of the genotype that a search is to begin with, and whether its cells put out other states there than published.

    What cells put out is no decision of a space but its rule. The released NASNet-A and AmoebaNet-A put out an input, too: they begin
    without it.

    Raises:
        UserError: there is no such genotype.
        ConfigError: it lies outside the space for another reason.
    """
    genotype = resolve_beginning(name)
    try:
        return space.encode(genotype), False
    except GenotypeError as problem:
        normal = replace(genotype.normal, outputs=genotype.normal.loose_ends())
        reduction = genotype.reduction and replace(genotype.reduction, outputs=genotype.reduction.loose_ends())
        with suppress(GenotypeError):
            return space.encode(replace(genotype, normal=normal, reduction=reduction)), True
        raise ConfigError(f"warm_start: {name} must lie in the space {space.name}, but {problem}") from None


def check_source(name: str | Genotype) -> None:
    """Raise GenotypeError where there is neither a genotype nor a run of that name; neither is read."""
    if not isinstance(name, Genotype) and not is_genotype(name):
        _run_named(name)


def _run_named(name: str) -> run_folder.RunFolder:
    try:
        return run_folder.find(name)
    except RunError as error:
        near = guess(name, reference_names())
        message = f"{name!r} is no run, genotype file or reference genotype{near}; `nas list genotypes` shows the reference genotypes"
        raise GenotypeError(f"{message}; {error}") from None


def matched_of(name: str | Genotype, rank: int = 1) -> Matched | None:
    """The size that the run of that name matched its network of that rank to; None where it matched none. Raises UserError."""
    if isinstance(name, Genotype) or is_genotype(name):
        return None
    folder = run_folder.find(name)
    config = folder.config()
    if config.match is None:
        return None
    space = folder.space(config)
    found = best_known(space, folder.state()).trials[rank - 1 : rank]
    size = found[0].size if found else None
    if size is None or size.filters is None:
        return None
    sizing = Sizing(config, space)
    return Matched(config.match, sizing.depth, size.filters, sizing.side, sizing.place)


def data_of(name: str | Genotype) -> DataSettings | None:
    """The data set of the run of that name; None where a genotype is named. Raises RunError."""
    return None if isinstance(name, Genotype) or is_genotype(name) else run_folder.find(name).config().data


def _read_text_file(path: Path) -> Genotype:
    text = load_text(path, GenotypeError)
    try:
        return read_notation(text)
    except GenotypeError as error:
        raise GenotypeError(f"{path}: {error}") from None
