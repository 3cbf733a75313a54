"""The commands that make a search, a training or a comparison again, from what its folder keeps. No torch."""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path
from typing import Any

from nas.api.things import Thing
from nas.comparisons.folder import CompareFolder
from nas.errors import ConfigError, UserError
from nas.evaluators.registry import EVALUATORS
from nas.evaluators.settings import RungSettings
from nas.runs.config import GIVEN
from nas.runs.experience import changed_sources
from nas.runs.finalists import rung_options
from nas.runs.folder import RunFolder
from nas.runs.genotypes import resolve_beginning
from nas.runs.state import RunState
from nas.tools.environment import PACKAGE, changes, environment, read_environment
from nas.tools.words import checksum_words, quoted
from nas.training.folder import TrainFolder
from search_spaces.plugins import TRUST_VARIABLE, is_code, trusted
from search_spaces.strict_yaml import dump_value

FIRST = ("python", "commit", "platform", "hardware")
"""What is said of another environment, beside its packages."""


@dataclass(frozen=True)
class Reproduction:
    """How a thing is made again: ``words`` of the command, in the folder ``into``; ``facts`` are lines that a person should know.

    ``then`` are further commands: a search that had ended, and was given more children or another rung, is given them again.
    """

    thing: Thing
    into: Path
    words: tuple[str, ...]
    facts: tuple[str, ...]
    then: tuple[tuple[str, ...], ...] = ()

    @property
    def commands(self) -> tuple[tuple[str, ...], ...]:
        """All that make it again, and then the one that says in what both differ."""
        return (self.words, *self.then, self.look())

    def look(self) -> tuple[str, ...]:
        """The command that says in what both differ."""
        return ("nas", "show", "--compare", str(self.thing.path), str(self.into))


def reproduction(thing: Thing, into: Path | None = None) -> Reproduction:
    """How the thing is made again.

    The command goes by the effective configuration in the folder, not by what was typed: presets, hardware and the newest run may be
    others today. It is made in ``into``; None: beside it, in a folder that does not exist.

    Raises:
        UserError: the folder is damaged, ``into`` holds something, or parts of the search were objects in Python.
    """
    target = into or _free(thing.path)
    if target.exists() and any(target.iterdir() if target.is_dir() else [target]):
        raise ConfigError(f"what is made again needs a folder of its own, but {target} holds something")
    then: list[tuple[str, ...]] = []
    facts: list[str] = []
    match thing.folder:
        case RunFolder() as folder:
            words = _search_words(folder, target)
            then, lacking = _later_words(folder, target)
            facts = [*lacking, *_lost(folder)]
        case TrainFolder() as folder:
            folder.config()
            words = ["nas", "train", "--again", str(folder.path), "-o", str(target)]
        case CompareFolder() as folder:
            folder.members()
            words = ["nas", "compare", "--again", str(folder.path), "-o", str(target)]
    known = _facts(read_environment(thing.folder.environment_file))
    return Reproduction(thing, target, tuple(words), (*known, *facts), tuple(then))


def _free(path: Path) -> Path:
    names = (path.with_name(f"{path.absolute().name}-again{'' if number == 1 else f'-{number}'}") for number in count(1))
    return next(name for name in names if not name.exists())


def _search_words(folder: RunFolder, into: Path) -> list[str]:
    config = folder.config()
    given = [name for name, value in (("evaluator", config.evaluator), ("controller", config.controller.name)) if value == GIVEN]
    if given:
        call = f"nas.search(preset={str(folder.config_file)!r}, run={str(into)!r}, {', '.join(f'{name}=…' for name in given)})"
        raise ConfigError(f"{folder.path}: the {' and the '.join(given)} of this search came from Python; there it is made again: {call}")
    space = ["--space", str(folder.space_file)] if folder.space_file.is_file() else []
    mirror = ["--set", "runner.sync=null"] if config.runner.sync is not None else []  # the mirror is the first run's
    budget, ladder = _wanted(folder)[0]
    rungs = ["--set", f"ladder={dump_value([rung.model_dump(mode='json') for rung in ladder])}"] if list(ladder) != config.ladder else []
    children = ["--budget", str(budget)] if budget != config.budget else []
    return ["nas", "search", "--preset", str(folder.config_file), *space, *mirror, *children, *rungs, "--run", str(into)]


def _wanted(folder: RunFolder) -> list[tuple[int, tuple[RungSettings, ...]]]:
    """What the search was to come to, one after another; the last is what its settings say, begun or not."""
    config = folder.config()
    found = folder.state().wanted if folder.ledger_file.is_file() else []
    last = (config.budget, tuple(config.ladder))
    return found if found and found[-1] == last else [*found, last]


def _later_words(folder: RunFolder, into: Path) -> tuple[list[tuple[str, ...]], list[str]]:
    """The commands that give the search made again what this one was given when it had ended; and what no command says, in words."""
    commands: list[tuple[str, ...]] = []
    config, wanted = folder.config(), _wanted(folder)
    for (before, below), (budget, ladder) in pairwise(wanted):
        for place in range(len(below), len(ladder)):
            options = rung_options(config.model_copy(update={"budget": before, "ladder": list(ladder[:place])}), ladder[place])
            if options is None:
                said = f"`nas finalists {quoted(into)} --top {ladder[place].children} --seeds {ladder[place].seeds} --recipe FILE`"
                lacking = f"rung {place + 1} was added later, and what it was trained by is no packaged recipe"
                return commands, [f"{lacking}: the commands below end before it; {said} adds it, by the recipe of then"]
            flags = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
            commands.append(("nas", "finalists", str(into), *flags))
        if budget > before:
            commands.append(("nas", "search", "--budget", str(budget), "--resume", str(into)))
    return commands, []


def _lost(folder: RunFolder) -> list[str]:
    """What the search read that is not there any more, or is another today, in words, a line each."""
    config, state = folder.config(), folder.state() if folder.ledger_file.is_file() else RunState()
    table = () if config.table is None or config.evaluator != "table" else (config.table.path, *config.table.more)
    images = (config.data.root,) if config.data.name == "folder" and EVALUATORS[config.evaluator].needs_data else ()
    lines = [f"not there any more, and needed: {path}" for path in (*table, *images) if path is not None and not Path(path).exists()]
    for name in config.warm_start:
        try:
            resolve_beginning(name)
        except UserError as problem:
            lines.append(f"cannot be begun with any more, as a search made again must: {problem}")
    return [*lines, *changed_sources(config, folder.space(config), state.earlier)]


def check_trusted(thing: Thing) -> None:
    """Raise ConfigError where the thing's folder names code to import that nobody has said to trust: a command would take it for said."""
    if not isinstance(thing.folder, RunFolder):
        return  # trainings and comparisons are read as folders, which import nothing that is not trusted
    config = thing.folder.config()
    for name in (config.space, config.evaluator, config.controller.name, config.data.name):
        module = name.partition(":")[0]
        if is_code(name) and module not in trusted():
            raise ConfigError(f"{thing.path}: names code to import, {name!r}; if you know it and trust it: {TRUST_VARIABLE}={module} nas …")


def _facts(known: Mapping[str, Any]) -> list[str]:
    """Who made it with what, and what is another here than then, a line each."""
    if not known:
        return ["there is no environment.json: with which versions it was made is not known"]
    lines = []
    if isinstance(typed := known.get("command"), list):
        lines.append(f"was made by: {shlex.join(map(str, typed))}")
    if isinstance(held := known.get("defaults"), list) and held:
        lines.append(f"with these from variables and files of defaults, which the commands below do without: {shlex.join(map(str, held))}")
    if isinstance(set_ := known.get("variables"), Mapping):
        unlike = {name: str(value) for name, value in set_.items() if os.environ.get(str(name)) != value}
        lines += ["set then, and not so here: " + " ".join(f"{name}={quoted(value)}" for name, value in unlike.items())] if unlike else []
    if known.get("directory"):
        lines.append(f"in {known['directory']}, {known.get('time', '')}")
    if known.get("data"):
        lines.append(f"data: {checksum_words(known['data'])}")
    now = environment()
    other = changes(known, now)
    lines += [f"another {name} here: {other[name] or 'unknown'}; then {known.get(name) or 'unknown'}" for name in FIRST if name in other]
    packages = {name: then for name in other.get("packages", {}) if (then := known.get("packages", {}).get(name)) and name != PACKAGE}
    if packages:
        lines.append("other packages here; those of then: pip install " + shlex.join(f"{name}=={then}" for name, then in packages.items()))
    if later := known.get("later"):
        lines.append(f"sessions after the first: {len(later)}")
    return lines
