"""What a search may learn from before its first child: packaged tables of trainings, tables that a person has, earlier runs. No torch.

A source is a name in ``nas/experience``, a CSV file with a column ``reward`` and one of architectures (``genotype``, ``actions`` or
``arch``, as ``nas export RUN --format csv`` and ``evaluator: table`` have them), or a run. Of a run, or of a table with a column
``rung``, the children that were trained to the end count, on the first rung. What was learnt from goes into the run's ledger.
"""

from collections.abc import Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from controllers.controller import Earlier
from controllers.registry import check_learning
from nas.errors import ConfigError, DataError, RunError, UserError
from nas.evaluators.table import read_trainings
from nas.runs import folder as run_folder
from nas.runs.config import SearchConfig
from search_spaces.plugins import guess
from search_spaces.space import SearchSpace

LEAST = 3
"""Architectures that a source must have: of fewer no order can be learnt."""
MOST = 600
"""Architectures that are learnt from, of every source: an even choice by reward of more. The cost grows with the cube of their number."""


def packaged() -> dict[str, Traversable]:
    """The tables that come with the package, by name."""
    found = resources.files("nas").joinpath("experience").iterdir()
    return {entry.name.removesuffix(".csv"): entry for entry in sorted(found, key=lambda entry: entry.name) if entry.name.endswith(".csv")}


def source_of(name: str) -> str:
    """The source by a name that stays true wherever and whenever it is read: files and runs absolute. Raises UserError for none."""
    if name in packaged():
        return name
    if _is_table(name):
        return str(Path(name).expanduser().absolute())
    try:
        return str(run_folder.find(name).path.absolute())
    except RunError as error:
        known = packaged()
        raise ConfigError(
            f"learn_from: {name!r} is no packaged table ({', '.join(known)}), no CSV file and no run{guess(name, known)}; {error}"
        ) from None


def experience_of(config: SearchConfig, space: SearchSpace) -> list[Earlier]:
    """What the search is to learn from, in the order named: the last counts most.

    Raises:
        UserError: the controller learns from nothing, a source is named twice, cannot be read, is of another space, has too few
            trainings, or no order.
    """
    if config.learn_from:
        check_learning(config.controller.name, config.controller.options)
    places = [name if name in packaged() else str(Path(source_of(name)).resolve()) for name in config.learn_from]
    if twice := [name for name, place in zip(config.learn_from, places, strict=True) if places.count(place) > 1]:
        raise ConfigError(f"learn_from must name each source once, but got {', '.join(map(repr, twice))}")
    return [_read(name, space) for name in config.learn_from]


def changed_sources(config: SearchConfig, space: SearchSpace, earlier: Sequence[Earlier]) -> list[str]:
    """What of a search's sources is not what it learnt from, in words, a line each."""
    lines = []
    for name in config.learn_from:
        try:
            now = _read(name, space)
        except UserError as problem:
            lines.append(f"cannot be learnt from any more, as a search made again must: {problem}")
        else:
            if earlier and now not in earlier:
                lines.append(f"other trainings than the search learnt from are in {name} now: it will find other cells")
    return lines


def experience_words(earlier: Sequence[Earlier]) -> str:
    """What was learnt from, for people."""
    return ", ".join(f"{search.source} ({len(search.trained)} cells)" for search in earlier)


def _is_table(name: str) -> bool:
    return name.lower().endswith((".csv", ".csv.gz"))


def _read(name: str, space: SearchSpace) -> Earlier:
    tables = packaged()
    try:
        if name in tables:
            with resources.as_file(tables[name]) as path:
                trained = read_trainings(path, space, name)
        elif _is_table(name):
            trained = read_trainings(Path(name), space)
        else:
            trained = _children(run_folder.find(name), space)
    except DataError as problem:
        raise ConfigError(f"learn_from: {problem}") from None
    if len(trained) < LEAST:
        raise ConfigError(f"learn_from: {name} must have at least {LEAST} trained cells of the space {space.name}, but has {len(trained)}")
    if len({reward for _, reward in trained}) == 1:
        raise ConfigError(f"learn_from: {name} must have rewards that differ, but all {len(trained)} are {trained[0][1]:g}")
    ranked = sorted(trained, key=lambda cell: (-cell[1], cell[0]))
    return Earlier(name, tuple(ranked[place * len(ranked) // MOST] for place in range(MOST)) if len(ranked) > MOST else tuple(trained))


def _children(run: run_folder.RunFolder, space: SearchSpace) -> list[tuple[tuple[int, ...], float]]:
    if [decision.choices for decision in run.space(run.config()).decisions] != [decision.choices for decision in space.decisions]:
        raise ConfigError(f"learn_from: {run.path} must be a run of the space {space.name}, but is one of {run.config().space}")
    return [(trial.proposal.actions, trial.reward) for trial in run.state().ranked() if trial.reward is not None]
