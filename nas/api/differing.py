"""In what two searches, trainings or comparisons differ: settings, data, versions, results, time. No torch."""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from nas.api.things import Thing
from nas.comparisons.folder import CompareFolder
from nas.comparisons.networks import read_rows
from nas.errors import ConfigError
from nas.runs.folder import RunFolder
from nas.runs.standings import best_known
from nas.runs.state import RunState
from nas.settings.reading import flat
from nas.tools.environment import read_environment
from nas.training.folder import TrainFolder
from search_spaces.canonical import canonical_key
from search_spaces.genotype import Genotype

Facts = dict[str, Any]
GROUPS = ("settings", "data", "versions", "results", "time")


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same in both; None: the one has no such thing."""

    group: str
    name: str
    first: object
    second: object


def differences(first: Thing, second: Thing) -> list[Difference]:
    """In what two things of a kind differ, by the groups in ``GROUPS``.

    Raises:
        UserError: they are of different kinds, or one is damaged.
    """
    if first.kind != second.kind:
        raise ConfigError(f"only things of a kind can be compared, but {first.path} is a {first.kind} and {second.path} a {second.kind}")
    one, other = _facts(first), _facts(second)
    found = []
    for group in GROUPS:
        before, after = one[group], other[group]
        names = dict.fromkeys([*before, *after])
        found += [Difference(group, name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)]
    return found


def _facts(thing: Thing) -> dict[str, Facts]:
    """All that could differ, by group and name."""
    known = read_environment(thing.folder.environment_file)
    packages = known.get("packages")
    versions = {name: known.get(name) for name in ("python", "commit", "platform", "hardware")}
    versions |= packages if isinstance(packages, dict) else {}
    facts: dict[str, Facts] = {"data": {"checksum": known.get("data")}, "versions": versions}
    match thing.folder:
        case RunFolder() as folder:
            return facts | _of_search(folder)
        case TrainFolder() as folder:
            return facts | _of_training(folder)
        case CompareFolder() as folder:
            return facts | _of_comparison(folder)


def _of_search(folder: RunFolder) -> dict[str, Facts]:
    config = folder.config()
    state = folder.state() if folder.ledger_file.is_file() else RunState()
    space = folder.space(config)
    results: Facts = {"state": folder.condition(state), "trained": state.spent}
    results |= {f"failed: {reason}": number for reason, number in state.failures.items()}
    known = best_known(space, state)
    if known.trials:
        trial, believed = known.head(1)[0]
        results |= {"best trial": trial.number, "its reward": trial.reward, "believed": round(believed, 4)}
        results["its cells"] = _digest(canonical_key(space.decode(trial.proposal.actions)))
    rewards = [(number, state.trials[number].reward) for number in sorted(state.told)]
    results["rewards of all"] = _digest(str(rewards))
    return {
        "settings": flat(config.model_dump(mode="json")),
        "data": {"checksum": state.data},
        "results": results,
        "time": {"seconds": round(state.elapsed())},
    }


def _of_training(folder: TrainFolder) -> dict[str, Facts]:
    result, records = folder.result() or {}, folder.history()
    results: Facts = {"state": folder.condition(), "epochs": len(records)}
    results |= {name: result.get(name) for name in ("best_epoch", "validation_top1", "parameters", "macs")}
    test = result.get("test")
    results |= {f"test {name}": test.get(name) for name in ("top1", "top5", "images")} if isinstance(test, dict) else {}
    settings = flat(folder.config().model_dump(mode="json"))
    return {"settings": {"cells": _cells(folder.genotype()), **settings}, "results": results, "time": {"seconds": result.get("seconds")}}


def _of_comparison(folder: CompareFolder) -> dict[str, Facts]:
    document, rows = folder.document(), read_rows(folder)
    settings = flat({name: document.get(name) for name in ("target", "seeds", "cells", "training", "members")})
    results: Facts = {"state": folder.condition()}
    for row in rows:
        results |= {f"{row.label}: test": list(row.test), f"{row.label}: network": row.network}
    time = {f"{row.label}: CPU seconds": round(row.cpu_seconds) for row in rows}
    return {"settings": settings, "results": results, "time": time}


def _cells(genotype: Genotype) -> str:
    return f"{genotype.name or 'unnamed'} ({_digest(canonical_key(genotype))})"


def _digest(text: str) -> str:
    """Short words that are the same where a long text is."""
    return blake2b(text.encode(), digest_size=4).hexdigest()
