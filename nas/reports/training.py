"""The report of a training: curves, the one reading of the test set, and, where they were measured, confusion and classes. No torch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.data.settings import data_words
from nas.errors import RunError
from nas.reports.folders import environment_facts
from nas.reports.parts import Figure, Listing, Picture, Report, Section, Table, Value
from nas.tools.intervals import wilson
from nas.tools.words import counted, duration, top5_words
from nas.training.folder import TrainFolder, config_yaml, test_facts
from nas.training.measured import CLASS_COLUMNS, Answers, Measured

CONFUSED = 60
"""Classes up to which a confusion matrix is drawn whole; of more, those are shown that are confused most."""
CURVES = (
    ("Loss", (("train_loss", "training"), ("validation_loss", "validation")), "loss", ".4~g"),
    ("Accuracy on the validation part", (("validation_top1", "top-1"), ("validation_top5", "top-5")), "accuracy", "~%"),
    ("Learning rate", (("learning_rate", "learning rate"),), "learning rate", ".4~g"),
    ("Images a second", (("images_per_second", "training"),), "images a second", "~s"),
)
"""A training's figures by epoch: the columns of metrics.jsonl as series, the name of the axis, and how its numbers are written."""


@dataclass(frozen=True)
class History:
    """What a training's folder has of its epochs, one mapping each, and of its end."""

    epochs: tuple[Mapping[str, Any], ...]
    result: Mapping[str, Any]


def history_of(place: TrainFolder) -> History:
    """The epochs and the result of a training; empty where there are none yet. Raises RunError where a file is damaged."""
    epochs: list[Mapping[str, Any]] = []
    if place.metrics_file.is_file():
        try:
            epochs = [json.loads(line) for line in place.metrics_file.read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{place.metrics_file}: cannot be read: {error}") from None
    return History(tuple(epoch for epoch in epochs if isinstance(epoch, dict)), place.result() or {})


def training_report(place: TrainFolder, measured: Measured | None = None) -> Report:
    """All that there is to show of a training; ``measured`` is what ``nas evaluate`` found of its weights.

    Raises:
        UserError: the folder is no training, or damaged.
    """
    config, genotype, history = place.config(), place.genotype(), history_of(place)
    sections = [
        Section(
            "What was trained, and on what", facts=_asked(place, history), texts=(("config.yaml: every setting", config_yaml(config)),)
        ),
        Section("Curves", figures=curve_figures([("", history)]), listings=(_epochs(history),)),
        *(_measured(measured) if measured is not None else (_not_measured(place.path),)),
        Section("The cells", pictures=(Picture(genotype.name or "genotype", genotype),)),
    ]
    name = place.path.resolve().name
    return Report(f"Training {name}", "Report of a training", _heads(history), tuple(sections))


def _number(found: Mapping[str, Any], name: str) -> float | None:
    """What a file says under a name, where that is a number."""
    value = found.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _test_words(history: History) -> str | None:
    """The one reading of the test set with its interval; None where there is none."""
    facts = test_facts(history.result.get("test"))
    if "test_top1" not in facts or "test_images" not in facts:
        return None
    low, high = wilson(facts["test_top1"], int(facts["test_images"]))
    top5 = top5_words(facts.get("test_top5", 0.0), int(_number(history.result, "classes") or 0))
    return f"{facts['test_top1']:.2%} ({low:.1%} to {high:.1%}){top5} of {facts['test_images']:,} images"


def _heads(history: History) -> tuple[tuple[str, str], ...]:
    accuracies = [accuracy for epoch in history.epochs if (accuracy := _number(epoch, "validation_top1")) is not None]
    test, kept = _test_words(history), int(_number(history.result, "best_epoch") or 0)
    there = (("kept weights on the validation part", f"{accuracies[kept - 1]:.2%} (epoch {kept})"),) if 0 < kept <= len(accuracies) else ()
    return (
        *((("test accuracy, read once", test),) if test else ()),
        *(there or (("most accurate on the validation part", f"{max(accuracies):.2%}" if accuracies else "none yet"),)),
        ("epochs", str(len(history.epochs))),
        ("how it ended", str(history.result.get("ending", "not ended"))),
    )


def _asked(place: TrainFolder, history: History) -> tuple[tuple[str, str], ...]:
    config, result = place.config(), history.result
    recipe, origin = config.recipe, place.genotype().provenance
    parameters, macs, seconds = (_number(result, name) for name in ("parameters", "macs", "seconds"))
    facts = [
        ("network", ", ".join(f"{name} {value}" for name, value in config.skeleton.items() if isinstance(value, str | int | float))),
        *((("found by", f"run {origin.run}, trial {origin.trial}"),) if origin is not None else ()),
        *((("size", f"{parameters:,.0f} parameters, {macs:,.0f} MACs"),) if parameters is not None and macs is not None else ()),
        ("data", data_words(config.data)),
        ("recipe", f"{recipe.name}: {counted(recipe.epochs, 'epoch')}, {recipe.batch_size} images a step, {recipe.optimizer.name}"),
        ("seed", str(config.seed)),
        *(
            (("time", f"{duration(seconds)}, {duration(_number(result, 'cpu_seconds') or 0.0)} of CPU time"),)
            if seconds is not None
            else ()
        ),
    ]
    return (*facts, *environment_facts(place.path / "environment.json"))


def curve_figures(trainings: Sequence[tuple[str, History]]) -> tuple[Figure, ...]:
    """The figures by epoch; of several trainings each series is named by its own."""
    found = []
    for title, series, axis, format in CURVES:
        rows = [
            (int(epoch["epoch"]), float(epoch[column]), f"{name}, {said}" if name and len(series) > 1 else name or said)
            for name, history in trainings
            for column, said in series
            for epoch in history.epochs
            if isinstance(epoch.get(column), int | float) and isinstance(epoch.get("epoch"), int)
        ]
        options = {"x": "epoch", "x format": "d", "y": axis, "format": format}
        found.append(Figure(title, "lines", Table.of(("epoch", axis, "series"), rows), options=options))
    return tuple(found)


def _epochs(history: History) -> Listing:
    columns = list(dict.fromkeys(name for epoch in history.epochs for name in epoch))
    rows = [[_plain(epoch.get(name)) for name in columns] for epoch in history.epochs]
    return Listing("Every epoch", Table.of(columns, rows), folded=True)


def _plain(value: object) -> Value:
    return value if isinstance(value, str | int | float | bool) else None


# ------------------------------------------------------------------------------------------------ what was measured


def _not_measured(place: Path) -> Section:
    return Section("Classes", notes=(f"Accuracy by class and confusion are measured for the report with: nas report {place} --evaluate",))


def _measured(measured: Measured) -> tuple[Section, ...]:
    low, high = measured.interval
    facts = (
        ("images", f"{measured.scores.images:,}: {measured.said}"),
        ("accuracy", f"{measured.scores.top1:.2%} ({low:.1%} to {high:.1%}), loss {measured.scores.loss:.4f}"),
        ("speed", f"{measured.scores.images_per_second:,.0f} images a second ({measured.device}, {counted(measured.threads, 'thread')})"),
    )
    classes = Table.of(
        CLASS_COLUMNS, [(c.name, c.images, c.correct, c.accuracy, *c.interval, c.taken_for, c.taken) for c in measured.answers.by_class()]
    )
    bars = Table.of(("class", "accuracy", "series"), [(row[0], row[3], "accuracy") for row in classes.rows[:CONFUSED]])
    figures = (
        Figure(
            "Confusion",
            "heat",
            _confusion(measured.answers),
            "Rows: what the images are. Columns: what they were taken for. Shares of a row.",
        ),
        Figure("Accuracy by class", "bars", bars, "The worst first.", options={"y": "accuracy", "format": "~%"}),
    )
    return (Section("Classes", notes=measured.notes, facts=facts, figures=figures, listings=(Listing("By class", classes),)),)


def _confusion(answers: Answers) -> Table:
    """Shares of each row; of very many classes those with the most mistakes."""
    counts = answers.confusion()
    mistakes = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
    shown = sorted(sorted(range(len(answers.names)), key=lambda i: -int(mistakes[i]))[:CONFUSED])
    rows: list[tuple[Value, ...]] = []
    for i in shown:
        total = int(counts[i].sum())
        rows += [(answers.names[j], answers.names[i], int(counts[i, j]) / max(total, 1), int(counts[i, j])) for j in shown]
    return Table.of(("taken for", "is", "share", "images"), rows)
