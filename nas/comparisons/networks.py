"""Trains many genotypes under one recipe at one size and tables how they do: who is compared, their trainings, the figures."""

import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.comparisons.folder import UNFINISHED, CompareFolder, is_unfinished
from nas.comparisons.pictures import Front, Point, draw_front
from nas.comparisons.sizes import latency_ms, size_of
from nas.errors import ConfigError, RunError, UserError
from nas.networks.architecture import Architecture
from nas.networks.description import skeleton_document
from nas.networks.matching import check_place, place_words
from nas.networks.scaling import Target
from nas.networks.stopwatch import RUNS
from nas.runs.genotypes import resolve_genotype
from nas.settings.reading import validated
from nas.tools.environment import add_data
from nas.tools.files import check_room, write_atomically
from nas.tools.intervals import wilson
from nas.tools.stages import doing
from nas.tools.words import counted, duration, kind_and_line, sentence
from nas.training.config import TrainConfig, preparation
from nas.training.setup import Request, choose_skeleton
from search_spaces.genotype import Genotype
from search_spaces.registry import load_space
from search_spaces.space import sample_actions

if TYPE_CHECKING:
    from nas.data.prepared import PreparedData
    from nas.networks.scaling import Scaled
    from nas.training.session import TrainResult


@dataclass(frozen=True)
class Member:
    """A genotype that takes part, and the name it has in the table and in folders."""

    label: str
    genotype: Genotype


@dataclass(frozen=True)
class Images:
    """What a network must know of everybody's images."""

    classes: int
    channels: int
    image_size: int


@dataclass(frozen=True)
class Row:
    """What is known of a member. Accuracies are in [0, 1], one a seed; ``reason`` says why there are none, or fewer.

    ``images`` are the test images that they are of; 0 where an earlier version did not keep how many.
    """

    label: str
    network: str
    parameters: int = 0
    macs: int = 0
    off: float = 0.0
    test: tuple[float, ...] = ()
    validation: tuple[float, ...] = ()
    latency_ms: float = math.nan
    cpu_seconds: float = 0.0
    reason: str = ""
    on_front: bool = field(default=False)
    images: int = 0

    @property
    def unfinished(self) -> bool:
        """Whether trainings are left to do: somebody stopped them, or their turn has not come."""
        return is_unfinished(self.reason)

    @property
    def without(self) -> str:
        """Why there is no accuracy, in words: nothing failed where somebody stopped the comparison."""
        return self.reason if self.unfinished else f"failed: {self.reason}"

    @property
    def mean(self) -> float:
        """Mean test accuracy over the seeds; NaN where no training finished."""
        return statistics.fmean(self.test) if self.test else math.nan

    @property
    def deviation(self) -> float:
        """Standard deviation over the seeds (n - 1); NaN for fewer than two."""
        return statistics.stdev(self.test) if len(self.test) > 1 else math.nan


@dataclass(frozen=True)
class Plan:
    """One comparison: everybody's size, recipe, data and seeds. ``base`` is the training of all but skeleton and seed.

    ``cells`` is everybody's N, networks of blocks excepted; None leaves it to the rule of ``scale_to``, and is 1 where a latency is
    matched. ``workers`` train at once; None: as many as there are cores, or GPUs. ``place`` is where latency is measured
    (``nas.networks.matching.check_place``). ``classes`` is 0 until the data have been looked at.
    """

    target: Target
    base: TrainConfig
    seeds: int
    folder: Path
    cells: int | None = None
    workers: int | None = None
    classes: int = 0
    place: str = "cpu"

    def training_folder(self, entry: "_Entry", seed: int) -> Path:
        """Of a member's training with one of the seeds."""
        return self.folder / f"{entry.member.label}-seed{self.base.seed + seed}"

    def config(self, entry: "_Entry", seed: int) -> TrainConfig:
        """Of that training; the member has a size."""
        assert entry.size is not None
        architecture = entry.size.architecture
        skeleton = skeleton_document(architecture.skeleton, architecture.skeleton_name)
        return self.base.model_copy(update={"skeleton": skeleton, "seed": self.base.seed + seed})


def choose_members(sources: Sequence[str | Genotype], randoms: int, space: str, seed: int) -> list[Member]:
    """The genotypes named and ``randoms`` drawn uniformly from a space, each under a name of its own.

    Raises:
        UserError: a name is none, or fewer than two take part.
    """
    drawn = random.Random(seed)  # noqa: S311 - not for secrets
    members = []
    for source in sources:
        genotype = resolve_genotype(source)
        members.append(Member(_label(genotype.name or (Path(source).stem if isinstance(source, str) else "")), genotype))
    found = load_space(space) if randoms else None
    for i in range(randoms):
        assert found is not None
        genotype = found.decode(sample_actions(found, drawn))
        members.append(Member(f"random-{i + 1}", replace(genotype, name=f"random-{i + 1}", space=found.name)))
    if len(members) < 2:
        raise ConfigError(f"a comparison must have at least two members, counting --random, but got {len(members)}")
    twice = sorted({m.label for m in members if sum(other.label == m.label for other in members) > 1})
    if twice:
        raise ConfigError(f"every member must have a name of its own, but {twice[0]!r} is named twice")
    return members


def _label(name: str) -> str:
    """A genotype's name as a folder may have it; a text in its place is cut short."""
    return "".join(letter if letter.isalnum() or letter in "-._" else "-" for letter in name.lower())[:80].strip(".") or "unnamed"


def run_comparison(
    members: Sequence[Member], plan: Plan, tell: Callable[[str], None], stop: Callable[[], bool] = lambda: False
) -> tuple[list[Row], bool]:
    """Size every member, train it with every seed, and keep the table up to date in the folder after each.

    Every training has a folder of its own and goes on where it was stopped; a finished one is read back. A member that cannot
    be built, diverges or breaks is a row with its reason.

    Args:
        members: who takes part.
        plan: how.
        tell: takes a line for a person.
        stop: asked after every step; True ends the comparison after a checkpoint.

    Returns:
        The rows, best first, and whether all trainings that could be done are done.

    Raises:
        UserError: the data cannot be used, or a folder holds another training.
    """
    check_comparison(plan)
    _tell_all(heading(members, plan), tell)
    data, place = images_of(plan), CompareFolder(plan.folder)
    plan = replace(plan, classes=data.classes)
    _tell_all(about_images(data, plan), tell)
    with place.held({member.label: member.genotype for member in members}, _terms(plan)):
        add_data(place.environment_file, data.fingerprint())
        return _train_all([_sized(member, plan, data, tell) for member in members], plan, data, tell, stop)


def _tell_all(lines: Sequence[str], tell: Callable[[str], None]) -> None:
    for line in lines:
        tell(line)


def _train_all(
    found: "Sequence[_Entry]", plan: Plan, data: "PreparedData", tell: Callable[[str], None], stop: Callable[[], bool]
) -> tuple[list[Row], bool]:
    from nas.comparisons.timing import at_once_of, expect_trainings, seconds_left
    from nas.runners.side_by_side import Training, train_side_by_side
    from nas.training.folder import TrainFolder
    from nas.training.session import finished

    # seed by seed, so that a comparison cut short compares like with like
    wanted = [(entry, seed) for seed in range(plan.seeds) for entry in found if entry.size is not None]
    places = {plan.training_folder(entry, seed): (entry, seed) for entry, seed in wanted}
    trainings = [Training(entry.member.genotype, plan.config(entry, seed), place) for place, (entry, seed) in places.items()]
    # finished ones are read back here: that needs no other process, and one table for all
    over = [training for training in trainings if finished(TrainFolder(training.folder)) is not None]
    left = [training for training in trainings if training.folder not in {one.folder for one in over}]
    sized = {entry.member.label: entry.size.architecture for one in left if (entry := places[one.folder][0]).size is not None}
    if expected := expect_trainings(sized, plan.base, data, len(left), plan.workers):
        tell(f"time:   {expected}")
    at_once, began = at_once_of(len(left), plan.base, plan.workers), time.monotonic()
    with doing("training") as far:
        outcomes = chain(train_side_by_side(over, 1, data, stop), train_side_by_side(left, plan.workers, data, stop))
        for done, (training, outcome) in enumerate(outcomes, start=1):
            if isinstance(outcome, RunError):
                raise outcome
            entry, seed = places[training.folder]
            entry.outcomes[seed] = outcome
            if not isinstance(outcome, Exception) and outcome.test is not None:
                said = f"{outcome.test.top1:.2%} of the test images, {outcome.cpu_seconds:,.0f} s of CPU time"
                rest = seconds_left(done - len(over), len(left), at_once, time.monotonic() - began)
                more = f"; about {duration(rest)} left" if rest else ""
                tell(f"{entry.member.label}, seed {training.config.seed}: {said}{more}")
            far(done, len(trainings))
            if len(over) <= done < len(trainings):
                write_table([_row(entry, plan) for entry in found], plan)
    rows = [_row(entry, plan) for entry in found]
    write_table(rows, plan)
    return ranked(rows), not any(row.unfinished for row in rows)


def check_comparison(plan: Plan) -> None:
    """Refuse in no time what cannot be compared: no such device, no room, or a place that is no folder. Raises UserError."""
    from nas.training.session import choose_device

    choose_device(plan.base.device)
    check_room(plan.folder)


def images_of(plan: Plan) -> "PreparedData":
    """Everybody's images. Raises UserError."""
    from nas.data.prepared import prepare

    with doing("reading the images") as tell:
        return prepare(plan.base.data, preparation(plan.base), progress=tell)


def about_images(data: "PreparedData", plan: Plan) -> list[str]:
    """What was noticed of everybody's images, in lines for a person."""
    from nas.training.plan import describe_data  # brings torch

    return describe_data(data, plan.base.recipe)


def heading(members: Sequence[Member], plan: Plan) -> list[str]:
    """How many are compared, at which size, by which recipe and where, in lines for a person."""
    from nas.training.plan import describe_recipe  # brings torch

    return [
        f"compare: {len(members)} networks of about {plan.target}, {counted(plan.seeds, 'training')} each, in {plan.folder}",
        f"recipe: {describe_recipe(plan.base.recipe)}",
    ]


def sized_member(member: Member, plan: Plan, data: "PreparedData | Images") -> "Scaled":
    """A member's architecture at everybody's size. Raises UserError."""
    name, skeleton = choose_skeleton(member.genotype, Request(), lambda: data.image_size)
    whole = Architecture(member.genotype, skeleton, name, data.classes, data.channels, data.image_size)
    return size_of(member.label, whole, plan.target, plan.cells, plan.place, plan.folder)


@dataclass
class _Entry:
    """A member on its way: its size (None, and why not), latency in milliseconds, and what came of its trainings by seed."""

    member: Member
    size: "Scaled | None"
    reason: str = ""
    latency_ms: float = math.nan
    outcomes: "dict[int, TrainResult | Exception]" = field(default_factory=dict)


def _sized(member: Member, plan: Plan, data: "PreparedData", tell: Callable[[str], None]) -> _Entry:
    """Solve a member's size, and measure its latency now, while nothing trains beside it."""
    try:
        scaled = sized_member(member, plan, data)
        latency = latency_ms(scaled.architecture, plan.place)
    except UserError as problem:
        tell(f"{member.label}: {problem}")
        return _Entry(member, None, str(problem))
    except Exception as problem:  # a broken member is a row, whatever broke it
        return _Entry(member, None, kind_and_line(problem))
    tell(f"{member.label}: {scaled}")
    return _Entry(member, scaled, latency_ms=latency)


def _row(entry: _Entry, plan: Plan) -> Row:
    """What is known of a member by now."""
    if entry.size is None:
        return Row(entry.member.label, entry.member.genotype.name, reason=entry.reason)
    architecture = entry.size.architecture
    size = architecture.name, entry.size.parameters, entry.size.macs, entry.size.off
    ended = [entry.outcomes.get(seed) for seed in range(plan.seeds)]
    results = [outcome for outcome in ended if outcome is not None and not isinstance(outcome, Exception)]
    scored = [result for result in results if result.test is not None]
    reasons = [f"seed {plan.base.seed + seed}: {why}" for seed, outcome in enumerate(ended) if (why := _why_not(outcome))]
    return Row(
        entry.member.label,
        *size,
        test=tuple(result.test.top1 for result in scored if result.test),
        validation=tuple(result.validation_top1 for result in scored),
        latency_ms=entry.latency_ms,
        cpu_seconds=sum(result.cpu_seconds for result in results),
        reason=UNFINISHED if any(outcome is None or _is_interrupted(outcome) for outcome in ended) else "; ".join(reasons),
        images=next((result.test.images for result in scored if result.test), 0),
    )


def _why_not(outcome: "TrainResult | Exception | None") -> str:
    """Why a training has no accuracy; empty where it has one, or is not done."""
    if isinstance(outcome, Exception):
        return kind_and_line(outcome)
    return "" if outcome is None or outcome.test is not None else f"{outcome.ending.value} {outcome.detail}".strip()


def _is_interrupted(outcome: "TrainResult | Exception") -> bool:
    return not isinstance(outcome, Exception) and outcome.ending.value == "interrupted"


# ---------------------------------------------------------------------------------------------------- the table


def ranked(rows: Sequence[Row]) -> list[Row]:
    """The rows by mean test accuracy, those without one last; who is on the Pareto front of accuracy and latency is marked."""
    marked = [Row(**{**asdict(row), "on_front": _on_front(row, rows)}) for row in rows]
    return sorted(marked, key=lambda row: (not row.test, -row.mean if row.test else 0.0))


def _on_front(row: Row, rows: Sequence[Row]) -> bool:
    """Whether nobody is at least as accurate and as fast, and better in one of both."""
    if not row.test:
        return False
    own = (row.mean, row.latency_ms)
    others = [(other.mean, other.latency_ms) for other in rows if other.test]
    return not any(mean >= own[0] and latency <= own[1] and (mean, latency) != own for mean, latency in others)


def told_apart(rows: Sequence[Row]) -> str:
    """How sure the best accuracy is with so many test images, and whom they do not tell from it; empty where that is not known."""
    done = [row for row in ranked(rows) if row.test and row.images]
    if not done:
        return ""
    best, *others = done
    low, high = wilson(best.mean, best.images)
    alike = [row.label for row in others if row.mean >= low]
    text = f"with {best.images:,} test images {best.label} has {100 * low:.1f} to {100 * high:.1f} % (95 %, Wilson)"
    return text + (f"; so many do not tell it from {', '.join(alike)}" if alike else "")


def markdown(rows: Sequence[Row], plan: Plan) -> str:
    """The comparison as a Markdown table."""
    recipe = plan.base.recipe
    measured = ", another measurement than the one that was matched" if plan.target.quantity == "latency" else ""
    lines = [
        f"Recipe `{recipe.name}`, {counted(recipe.epochs, 'epoch')}, data `{plan.base.data.name}`, seeds: {plan.seeds}, "
        f"size: about {plan.target}.",
        "Test accuracy of the weights that were kept by their validation accuracy, read once a training; ± is the standard deviation over",
        f"seeds. Latency: one image, {place_words(plan.place)}, median of {RUNS}{measured}. `*`: nobody is both more accurate and faster.",
        "",
        "| | network | test accuracy % | parameters | MACs | off target | latency ms | CPU s |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in ranked(rows):
        if not row.test:
            lines.append(f"| {row.label} | {row.network} | {row.without.replace('|', '/')} | | | | | |")
            continue
        spread = f" ± {100 * row.deviation:.2f}" if len(row.test) > 1 else ""
        note = f" ({row.reason.replace('|', '/')})" if row.reason else ""
        label, accuracy = f"{row.label}{' *' if row.on_front else ''}", f"{100 * row.mean:.2f}{spread}{note}"
        costs = f"{row.parameters:,} | {row.macs:,} | {row.off:+.1%} | {row.latency_ms:.2f} | {row.cpu_seconds:,.0f}"
        lines.append(f"| {label} | {row.network} | {accuracy} | {costs} |")
    if sure := told_apart(rows):
        lines += ["", sentence(sure)]
    return "\n".join(lines) + "\n"


def _terms(plan: Plan) -> dict[str, Any]:
    """On what terms everybody is trained, as plain data."""
    training = plan.base.model_dump(mode="json", exclude={"skeleton"})
    size = {"target": asdict(plan.target), "cells": plan.cells, "place": plan.place}
    return {**size, "classes": plan.classes, "seeds": plan.seeds, "training": training}


def read_plan(place: CompareFolder, folder: str | Path, workers: int | None = None) -> Plan:
    """The plan of a comparison that was made, for another folder. Raises UserError where it is damaged."""
    document = place.document()
    base = validated(TrainConfig, {**document["training"], "skeleton": {}})
    try:
        size, place_of_latency = Target(**document["target"]), check_place(document.get("place", "cpu"))
        return Plan(size, base, int(document["seeds"]), Path(folder), document.get("cells"), workers, place=place_of_latency)
    except (KeyError, TypeError, ValueError, ConfigError) as problem:
        raise RunError(f"{place.table_file}: must be as `nas compare` wrote it, but {problem}") from None


def read_rows(place: CompareFolder) -> list[Row]:
    """The figures of a comparison that was made, best first. Raises RunError where they are damaged."""
    try:
        return [
            Row(**{**row, "test": tuple(row["test"]), "validation": tuple(row["validation"]), "latency_ms": row["latency_ms"] or math.nan})
            for row in place.document()["rows"]
        ]
    except (KeyError, TypeError) as problem:
        raise RunError(f"{place.table_file}: must be as `nas compare` wrote it, but {problem}") from None


def write_table(rows: Sequence[Row], plan: Plan) -> None:
    """Write compare.json, compare.md and compare.png into the comparison's folder."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    written = [{**asdict(row), "latency_ms": None if math.isnan(row.latency_ms) else row.latency_ms} for row in ranked(rows)]
    CompareFolder(plan.folder).write(_terms(plan), written)
    write_atomically(plan.folder / "compare.md", markdown(rows, plan))
    draw_front(front_of(ranked(rows), plan), plan.folder / "compare.png")


def front_of(rows: Sequence[Row], plan: Plan) -> Front:
    """The comparison as a chart: accuracy over latency, and over what was not matched, parameters or MACs."""
    recipe = plan.base.recipe
    heading = f"{plan.base.data.name}: networks of about {plan.target}"
    note = f"recipe {recipe.name}, {counted(recipe.epochs, 'epoch')}"
    return _front([asdict(row) for row in rows], plan.target.quantity, heading, note, plan.classes, plan.place)


def read_front(folder: str | Path) -> Front:
    """The chart of the comparison in a folder. Raises RunError where its compare.json is damaged."""
    place = CompareFolder(Path(folder))
    document = place.document()
    try:
        training, target = document["training"], Target(**document["target"])
        note = f"recipe {training['recipe']['name']}, {counted(training['recipe']['epochs'], 'epoch')}"
        heading = f"{training['data']['name']}: networks of about {target}"
        classes, where = int(document.get("classes") or 0), check_place(document.get("place", "cpu"))  # older ones do not say
        return _front(document["rows"], target.quantity, heading, note, classes, where)
    except (ValueError, TypeError, KeyError, ConfigError) as problem:
        raise RunError(f"{place.table_file}: must be as `nas compare` wrote it, but {problem}") from None


def _front(rows: Sequence[Mapping[str, Any]], matched: str, heading: str, note: str, classes: int, place: str) -> Front:
    free = "parameters" if matched == "macs" else "macs"
    points = [
        Point(row["label"], tuple(row["test"]), math.nan if row["latency_ms"] is None else row["latency_ms"], row[free], row["on_front"])
        for row in rows
        if row["test"]
    ]
    return Front(points, "parameters" if free == "parameters" else "MACs of one image", heading, note, classes, place_words(place))
