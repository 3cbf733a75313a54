"""The report of a comparison: of networks trained by one recipe (compare.json), or of controllers (``nas bench``). No torch."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from nas.comparisons.folder import TABLE_FILE, CompareFolder
from nas.comparisons.networks import Row
from nas.comparisons.results import ResultRecord, ResultsFile, read_results
from nas.errors import RunError
from nas.reports.folders import environment_facts
from nas.reports.parts import Figure, Listing, Option, Picture, Report, Section, Table, Value
from nas.reports.training import History, curve_figures, history_of
from nas.tools.intervals import TWO_SIDED
from nas.training.folder import TrainFolder

DRAWN = 3
"""Members whose cells are drawn, the best first."""
_TYPES = {"label": str, "network": str, "reason": str, "parameters": int, "macs": int, "off": float, "cpu_seconds": float, "on_front": bool}
"""What the entries of a row are, those aside that are read as numbers."""
POINTS = 60
"""Trainings at which a controller's curve is shown."""


def comparison_report(folder: Path) -> Report:
    """All that there is to show of a comparison of networks. Raises RunError where its file is damaged."""
    document = CompareFolder(folder).document()
    rows = [_row(row) for row in document["rows"]]
    done = [row for row in rows if row.test]
    trainings = _trainings(folder, rows)
    reasons = Table.of(("member", "reason"), [(row.label, row.reason) for row in rows if row.reason and not row.unfinished])
    sections = (
        Section("What was asked, and on what", facts=_asked(folder, document, trainings), texts=_settings(document)),
        Section("Accuracy", figures=(_accuracies(done),), listings=(Listing("Everybody, the best first", _table(rows)),)),
        Section("Accuracy and cost", figures=_costs(done)),
        Section("Curves", figures=curve_figures([(name, history) for name, _, history in trainings])),
        Section("The cells of the best", pictures=_pictures(done, trainings)),
        Section("What failed", notes=() if reasons.rows else ("Nothing failed.",), listings=(Listing("Reasons", reasons),)),
    )
    best = done[0] if done else None
    heads = (
        ("best", "none yet" if best is None else f"{best.label}: {best.mean:.2%}"),
        ("members", f"{len(done)} of {len(rows)} trained"),
        ("seeds", str(document.get("seeds", "?"))),
    )
    return Report(f"Comparison {folder.resolve().name}", "Report of a comparison of networks", heads, sections)


def _row(document: object) -> Row:
    try:
        values: dict[str, Any] = dict(document)  # type: ignore[call-overload]
        for name, kind in _TYPES.items():
            if not isinstance(values.get(name, kind()), (kind, int) if kind is float else kind):
                raise TypeError(f"{name} is {values[name]!r:.80}")
        test, validation = (tuple(map(float, values.pop(name, ()))) for name in ("test", "validation"))
        latency = values.pop("latency_ms", None)
        return Row(**values, test=test, validation=validation, latency_ms=math.nan if latency is None else float(latency))
    except (TypeError, ValueError) as error:
        raise RunError(f"{TABLE_FILE}: a row must be as `nas compare` wrote it, but {error}") from None


def _asked(folder: Path, document: Mapping[str, Any], trainings: Sequence[tuple[str, TrainFolder, History]]) -> tuple[tuple[str, str], ...]:
    training, target = _mapping(document.get("training")), _mapping(document.get("target"))
    recipe, data = _mapping(training.get("recipe")), _mapping(training.get("data"))
    facts = [
        ("recipe", f"{recipe.get('name', 'not said')}, {recipe.get('epochs', '?')} epochs"),
        ("data", Path(str(data["root"])).name if data.get("root") else str(data.get("name", "not said"))),
        ("size", f"about {target.get('value'):,} {target.get('quantity')}" if isinstance(target.get("value"), int) else str(target)),
        ("seeds", str(document.get("seeds"))),
    ]
    machine = environment_facts(trainings[0][1].path / "environment.json") if trainings else []
    return (*facts, *machine)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _settings(document: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return (("Everybody's training: every setting", json.dumps(document.get("training", {}), indent=2)),)


def _trainings(folder: Path, rows: Sequence[Row]) -> list[tuple[str, TrainFolder, History]]:
    """The trainings that the folder has, in the order of the rows: name, folder, history."""
    found = []
    for row in rows:
        for path in sorted(folder.glob(f"{row.label}-seed*")) if _plain_name(row.label) else ():
            place = TrainFolder(path)
            if place.exists():
                found.append((path.name, place, history_of(place)))
    return found


def _plain_name(label: str) -> bool:
    """Whether a label is a part of a path and no pattern, as ``nas compare`` makes them."""
    return all(letter.isalnum() or letter in "-._" for letter in label)


def _pictures(done: Sequence[Row], trainings: Sequence[tuple[str, TrainFolder, History]]) -> tuple[Picture, ...]:
    places = {name: place for name, place, _ in reversed(trainings)}
    found = []
    for row in done[:DRAWN]:
        place = next((place for name, place in places.items() if name.startswith(f"{row.label}-seed")), None)
        if place is not None and place.genotype_file.is_file():
            found.append(Picture(row.label, place.genotype()))
    return tuple(found)


def _accuracies(done: Sequence[Row]) -> Figure:
    rows = [(row.label, accuracy, f"seed {seed}") for row in done for seed, accuracy in enumerate(row.test)]
    table = Table.of(("member", "test accuracy", "series"), rows)
    options: dict[str, Option] = {"format": "~%", "x": ""}
    return Figure("Test accuracy", "strips", table, "A point is a training.", wide=True, options=options)


def _costs(done: Sequence[Row]) -> tuple[Figure, ...]:
    """Mean accuracy against what a network costs, and what its training took."""
    axes = (
        ("latency_ms", "latency of one image, ms", ".4~g"),
        ("macs", "MACs", "~s"),
        ("parameters", "parameters", "~s"),
        ("cpu_seconds", "CPU seconds", "~s"),
    )
    found = []
    for name, title, format in axes:
        rows = []
        for row in sorted(done, key=lambda one: float(getattr(one, name))):
            cost, half = float(getattr(row, name)), row.deviation if len(row.test) > 1 else 0.0
            if math.isfinite(cost):
                rows.append((cost, row.mean, row.label, row.mean - half, row.mean + half, row.on_front and name == "latency_ms"))
        table = Table.of((title, "test accuracy", "series", "low", "high", "front"), rows)
        options: dict[str, Option] = {"format": "~%", "x format": format, "names": len(rows) <= 12}
        found.append(Figure(f"Accuracy against {title}", "scatter", table, "Lines: a standard deviation over seeds.", options=options))
    return tuple(found)


def _table(rows: Sequence[Row]) -> Table:
    columns = ("member", "network", "test accuracy", "deviation", "seeds", "parameters", "MACs", "latency, ms", "CPU, s")
    found: list[tuple[Value, ...]] = []
    for row in rows:
        mean, deviation, latency = (None if math.isnan(value) else value for value in (row.mean, row.deviation, row.latency_ms))
        found.append((row.label, row.network, mean, deviation, len(row.test), row.parameters, row.macs, latency, row.cpu_seconds))
    return Table.of(columns, found)


# ------------------------------------------------------------------------------------------------ controllers


def bench_report(path: Path) -> Report:
    """All that there is to show of a comparison of controllers: what each reports after so many trainings. Raises RunError."""
    file = read_results(path)
    budget = int(file.terms.get("budget") or max(run.trained for record in file.results for run in record.runs))
    curves = [row for record in file.results for row in _curve(record, budget)]
    table = Table.of(("trainings", "reported of the incumbent", "series", "low", "high"), curves)
    ends = Table.of(
        ("controller", "runs", "mean at the end", "deviation", "trained", "distinct", "controller, s a run"),
        [_end(record, file) for record in file.results],
    )
    facts = tuple((name.replace("_", " "), str(value)) for name, value in file.terms.items())
    said = "Means over runs; bands are ± half the width of a 95 % interval of the mean."
    options: dict[str, Option] = {"x": "trainings", "y": "reported of the incumbent"}
    sections = (
        Section("What was asked", facts=(*facts, ("the best there is", f"{file.optimum:.6g}"))),
        Section(
            "Controllers",
            figures=(Figure("The incumbent", "lines", table, said, wide=True, options=options),),
            listings=(Listing("At the end", ends),),
        ),
    )
    best = max(ends.rows, key=lambda row: float(row[2] or 0.0))
    heads = (
        ("best at the end", f"{best[0]}: {float(best[2] or 0.0):.5g}"),
        ("budget", f"{budget:,} trainings"),
        ("controllers", str(len(ends.rows))),
    )
    return Report(f"Comparison {path.stem}", "Report of a comparison of controllers", heads, sections)


def _label(record: ResultRecord, several: bool) -> str:
    return f"{record.label}, {record.in_flight} in flight" if several else record.label


def _curve(record: ResultRecord, budget: int) -> list[tuple[Value, ...]]:
    """Mean of what was reported of the incumbent after so many trainings, and its interval."""
    found: list[tuple[Value, ...]] = []
    for count in sorted({round(budget ** (i / POINTS)) for i in range(POINTS + 1)}):
        values = [_at(run.changes, count) for run in record.runs]
        half = TWO_SIDED * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
        found.append((count, fmean(values), f"{record.label} ({record.in_flight} in flight)", fmean(values) - half, fmean(values) + half))
    return found


def _at(changes: Sequence[Sequence[float]], count: int) -> float:
    """The report that holds after so many trainings."""
    return next((change[1] for change in reversed(changes) if change[0] <= count), changes[0][1])


def _end(record: ResultRecord, file: ResultsFile) -> tuple[Value, ...]:
    last = [run.changes[-1][1] for run in record.runs]
    several = len({one.in_flight for one in file.results}) > 1
    spread = stdev(last) if len(last) > 1 else None
    runs = record.runs
    means = (fmean(run.trained for run in runs), fmean(run.distinct for run in runs), fmean(run.controller_seconds for run in runs))
    return (_label(record, several), len(last), fmean(last), spread, *means)
