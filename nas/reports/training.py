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
from nas.tools.words import duration, top5_words
from nas.training.folder import TrainFolder, config_yaml
from nas.training.measured import CLASS_COLUMNS, Answers, Measured

CONFUSED = 60
"""Classes up to which a confusion matrix is drawn whole; of more, those are shown that are confused most."""
CURVES = (
    ("Loss", (("train_loss", "training"), ("validation_loss", "validation")), "loss", "~g"),
    ("Accuracy on the validation part", (("validation_top1", "top-1"), ("validation_top5", "top-5")), "accuracy", ".0%"),
    ("Learning rate", (("learning_rate", "learning rate"),), "learning rate", "~g"),
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


def _heads(history: History) -> tuple[tuple[str, str], ...]:
    result, facts = history.result, []
    test = result.get("test")
    if isinstance(test, dict):
        low, high = wilson(float(test["top1"]), int(test["images"]))
        facts.append(("test accuracy, read once", f"{float(test['top1']):.2%} ({low:.1%} to {high:.1%})"))
    best = max((float(epoch.get("validation_top1", 0.0)) for epoch in history.epochs), default=None)
    facts.append(("best on the validation part", "none yet" if best is None else f"{best:.2%}"))
    facts.append(("epochs", str(len(history.epochs))))
    facts.append(("how it ended", str(result.get("ending", "not ended"))))
    return tuple(facts)


def _asked(place: TrainFolder, history: History) -> tuple[tuple[str, str], ...]:
    config, result = place.config(), history.result
    recipe, origin = config.recipe, place.genotype().provenance
    facts = [
        ("network", ", ".join(f"{name} {value}" for name, value in config.skeleton.items() if isinstance(value, str | int | float))),
        *((("found by", f"run {origin.run}, trial {origin.trial}"),) if origin is not None else ()),
        *((("parameters, MACs", f"{result['parameters']:,}, {result['macs']:,}"),) if "parameters" in result and "macs" in result else ()),
        ("data", data_words(config.data)),
        ("recipe", f"{recipe.name}: {recipe.epochs} epochs, {recipe.batch_size} images a step, {recipe.optimizer.name}"),
        ("seed", str(config.seed)),
    ]
    test = result.get("test")
    if isinstance(test, dict):
        top5 = top5_words(float(test.get("top5", 0.0)), int(result.get("classes", 0)))
        facts.append(
            (
                "test",
                f"{float(test['top1']):.2%} top-1{top5} of {int(test['images']):,} images, weights of epoch {result.get('best_epoch')}",
            )
        )
    if "seconds" in result:
        facts.append(("time", f"{duration(float(result['seconds']))}, {duration(float(result.get('cpu_seconds', 0.0)))} of CPU time"))
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
        ("speed", f"{measured.scores.images_per_second:,.0f} images a second ({measured.device}, {measured.threads} threads)"),
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
        Figure("Accuracy by class", "bars", bars, "The worst first.", options={"y": "accuracy", "format": ".0%"}),
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
