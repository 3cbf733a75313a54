"""The results of a comparison as files: raw runs in JSON, from which tables and curves are made again; finished controllers are kept."""

import json
import math
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from controllers.registry import check_options
from nas.comparisons.controllers import Arm, BenchWatcher, Result, Run, Terms, compare, draw_curves, summary
from nas.comparisons.suite import Comparison
from nas.errors import RunError
from nas.settings.base import Settings
from nas.tools.files import write_atomically

MAX_BYTES = 1 << 28
"""Largest file of results read."""


class RunRecord(Settings):
    """One run; ``changes`` lists [training, report, reward column] of the incumbent whenever it changed, ``told`` all claimed rewards."""

    changes: list[list[float]] = Field(min_length=1)
    told: list[float | None] = Field(default_factory=list)
    trained: int = Field(ge=1)
    distinct: int = Field(ge=0)
    simulated_seconds: float | None = Field(ge=0)
    controller_seconds: float = Field(ge=0)


class ResultRecord(Settings):
    """All runs of a controller, whose options are complete, with so many in flight."""

    label: str
    controller: str
    options: dict[str, Any]
    repeats: str
    crown: str = "reward"
    in_flight: int = Field(ge=1)
    runs: list[RunRecord] = Field(min_length=1)


class ResultsFile(Settings):
    """A comparison's file: on what terms, and every controller's runs."""

    schema_: Literal["nas.bench/1"] = Field(alias="schema")
    terms: dict[str, Any]
    optimum: float
    best_reward: float | None = None
    results: list[ResultRecord]


@dataclass(frozen=True)
class Kept:
    """What is known of a comparison, and the file it is kept in, if it is."""

    comparison: Comparison
    path: Path | None
    records: list[ResultRecord]
    optimum: float | None
    best_reward: float | None = None
    """None where it is not known."""

    def find(self, arm: Arm, terms: Terms) -> ResultRecord | None:
        """The results of that line of the comparison."""
        return next((record for record in self.records if (record.label, record.in_flight) == (arm.label, terms.in_flight)), None)

    def missing(self, terms: Terms) -> list[Arm]:
        """The controllers still to be run on these terms."""
        return [arm for arm in self.comparison.arms if self.find(arm, terms) is None]

    def runs_left(self) -> int:
        """Runs still to be done."""
        return sum(len(self.missing(terms)) for terms in self.comparison.terms) * len(self.comparison.seeds)

    def results(self) -> list[Result]:
        """All results, controller by controller. Everything must have been run."""
        assert self.optimum is not None
        found = []
        for arm in self.comparison.arms:
            for terms in self.comparison.terms:
                record = self.find(arm, terms)
                assert record is not None
                label = f"{arm.label}, {terms.in_flight} in flight" if len(self.comparison.terms) > 1 else arm.label
                runs = tuple(_run(run, terms.budget) for run in record.runs)
                found.append(Result(replace(arm, label=label), terms, runs, self.optimum, _infinite(self.best_reward)))
        return found


def load(comparison: Comparison, folder: Path | None, force: bool = False) -> Kept:
    """What a folder holds of a comparison; nothing where there is no folder, no file, or with ``force``.

    Raises:
        RunError: the file is damaged, or holds results on other terms or of other options under the same label.
    """
    if folder is None:
        return Kept(comparison, None, [], None)
    path = folder / f"{comparison.name}.json"
    if force or not path.exists():
        return Kept(comparison, path, [], None)
    file = read_results(path)
    wanted = _terms(comparison)
    for name in sorted({*wanted, *file.terms}):
        if wanted.get(name) != file.terms.get(name):
            raise RunError(_other(path, name, file.terms.get(name), wanted.get(name)))
    kept = Kept(comparison, path, file.results, file.optimum, file.best_reward)
    for arm in comparison.arms:
        for terms in comparison.terms:
            record = kept.find(arm, terms)
            if record is not None:
                _check_same(record, arm, path)
    return kept


def run_missing(kept: Kept, tables: Path, processes: int, watcher: BenchWatcher) -> Kept:
    """Run what is missing of a comparison. Raw runs are written after every controller, so an interrupted comparison can go on.

    Raises:
        UserError: a table cannot be used, or a process died.
    """
    if not kept.runs_left():
        return kept
    task = kept.comparison.problem.task(tables)
    for terms in kept.comparison.terms:
        missing = kept.missing(terms)
        if not missing:
            continue
        if processes == 1:
            import torch

            torch.set_num_threads(1)

        def keep(result: Result) -> None:
            nonlocal kept
            best = result.best_reward if math.isfinite(result.best_reward) else None
            kept = replace(kept, records=[*kept.records, _record(result)], optimum=result.optimum, best_reward=best)
            _write(kept)
            watcher.on_result(result)

        try:
            compare(missing, task, terms, kept.comparison.seeds, processes, replace(watcher, on_result=keep))
        except BrokenProcessPool:
            raise RunError("a process died, out of memory perhaps; choose fewer --processes (what had finished is kept)") from None
    return kept


def write_report(kept: Kept) -> None:
    """The table as NAME.md and the curves as NAME.png, beside the raw runs."""
    assert kept.path is not None
    results, comparison = kept.results(), kept.comparison
    write_atomically(kept.path.with_suffix(".md"), f"{comparison.title()}\n\n{summary(results, comparison.checkpoints)}")
    draw_curves(results, kept.path.with_suffix(".png"), comparison.name)


def _write(kept: Kept) -> None:
    if kept.path is None:
        return
    assert kept.optimum is not None
    best, terms = kept.best_reward, _terms(kept.comparison)
    file = ResultsFile(schema="nas.bench/1", terms=terms, optimum=kept.optimum, best_reward=best, results=kept.records)
    write_atomically(kept.path, json.dumps(file.model_dump(by_alias=True), separators=(",", ":")) + "\n")


def read_results(path: str | Path) -> ResultsFile:
    """A file of results. Raises RunError where it is none, or damaged."""
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RunError(f"{path}: a file of results must be at most {MAX_BYTES:,} bytes")
        return ResultsFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise RunError(f"{path}: not results of a comparison: {place} {first['msg']}; --force runs it again") from None


def _terms(comparison: Comparison) -> dict[str, Any]:
    """What must be the same for results to be put side by side, as JSON gives it back."""
    terms, seeds = comparison.terms[0], comparison.seeds
    named = {"budget": terms.budget, "noisy": terms.noisy, "search_fidelity": terms.fidelity, "promote": terms.promote}
    injected = {name: share for name, share in (("failures", terms.failures), ("false_highs", terms.false_highs)) if share}
    document = {**named, **injected, "first_seed": seeds.start, "seeds": len(seeds), "problem": comparison.problem.model_dump()}
    result: dict[str, Any] = json.loads(json.dumps(document))
    return result


def _options(arm: Arm) -> dict[str, Any]:
    """All options, the defaults too: results from before a default changed are not taken for results of now."""
    return asdict(check_options(arm.controller, arm.options))


def _check_same(record: ResultRecord, arm: Arm, path: Path) -> None:
    there = {"controller": record.controller, "repeats": record.repeats, "crown": record.crown, **record.options}
    here = {"controller": arm.controller, "repeats": arm.repeats, "crown": arm.crown, **_options(arm)}
    for name in sorted({*there, *here}):
        if there.get(name) != here.get(name):
            raise RunError(_other(path, f"{name} of {arm.label!r}", there.get(name), here.get(name)))


def _other(path: Path, name: str, there: object, here: object) -> str:
    return f"{path}: holds other results: {name} is {there!r} there and {here!r} now; name another --output, or replace them with --force"


def _record(result: Result) -> ResultRecord:
    arm = result.arm
    runs = [
        RunRecord(
            changes=_changes(run),
            told=[None if reward is None else round(reward, 6) for reward in run.told],
            trained=run.trained,
            distinct=run.distinct,
            simulated_seconds=run.simulated_seconds,
            controller_seconds=round(run.controller_seconds, 6),
        )
        for run in result.runs
    ]
    return ResultRecord(
        label=arm.label,
        controller=arm.controller,
        options=_options(arm),
        repeats=arm.repeats,
        crown=arm.crown,
        in_flight=result.terms.in_flight,
        runs=runs,
    )


def _changes(run: Run) -> list[list[float]]:
    changed = (np.diff(run.report, prepend=np.nan) != 0) | (np.diff(run.reward, prepend=np.nan) != 0)
    return [[int(at) + 1, round(float(run.report[at]), 8), round(float(run.reward[at]), 8)] for at in np.flatnonzero(changed)]


def _run(record: RunRecord, budget: int) -> Run:
    at = np.array([int(change[0]) for change in record.changes])
    last = np.searchsorted(at, np.arange(1, budget + 1), side="right") - 1
    report = np.array([change[1] for change in record.changes])[last]
    reward = np.array([change[2] if len(change) > 2 else -np.inf for change in record.changes])[last]  # not kept by earlier versions
    return Run(report, reward, tuple(record.told), record.trained, record.distinct, record.simulated_seconds, record.controller_seconds)


def _infinite(best_reward: float | None) -> float:
    return math.inf if best_reward is None else best_reward
