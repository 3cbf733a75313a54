"""What is a cheap evaluation of a cell worth? Its rank correlation with the training that counts, over cells of equal cost.

    python benchmarks/validity.py train --data-dir DIR          # hours; stop and start it as you like: a row a training
    python benchmarks/validity.py train --data-dir DIR --share 0/2   # one of two processes side by side
    python benchmarks/validity.py train --data-dir DIR --device cuda --at-once 6 --rows FILE   # on a GPU, six at once
    python benchmarks/validity.py report                        # the tables, of the rows that there are
    python benchmarks/validity.py optimisers --rows benchmarks/data/validity_optimisers.csv   # accuracies, cell by cell
    python benchmarks/validity.py noise --rows benchmarks/data/validity*.csv   # cells apart against trainings of one cell
    python benchmarks/validity.py climbed --rows benchmarks/data/validity*.csv   # cells that searches sent up their ladders

The *truth* is the target: every cell's width is solved for 5M MACs at 32×32 (N=1) and the network trained by the recipe ``fast``
for two passes over 45,000 images of CIFAR-10. A *candidate* is the same network, of the same width, on fewer pixels and images in
one pass (and, as it was until now, 16 filters on 8×8 pixels whatever they cost). All are scored on the same 5,000 images.

``benchmarks/data/validity.csv`` has a row a training: the cell (r: random, m: a mutation of the best of these, or a reference's
name), what it was trained as, the seed, CPU seconds, F and MACs of the target, accuracy and loss on the validation images, both also
with mirrored images, mean training loss of the last pass and the sum over passes. Rows of trainings that diverged have no accuracy. On a
GPU (float32, streams of one process) several trainings share the clock: the seconds are then of the wall, and tell nothing of a CPU.
"""

import argparse
import csv
import json
import os
import random
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from proxy_tasks import signal_and_noise
from sampled_objectives import read_trainings
from scipy.stats import rankdata, spearmanr

from controllers.moves import mutate
from nas.data.batches import scoring_batches
from nas.data.dataset import Dataset
from nas.data.prepared import PreparedData, prepare_dataset
from nas.data.registry import load_dataset
from nas.data.settings import DataSettings
from nas.networks.architecture import Architecture
from nas.networks.scaling import Target, scale_to
from nas.runners.threads import own_stream
from nas.runs.genotypes import resolve_genotype
from nas.settings.reading import apply_overrides, validated
from nas.training.building import seeded_network
from nas.training.config import trained_skeleton
from nas.training.numerics import own_threads
from nas.training.recipe import Recipe, load_recipe
from nas.training.scoring import Mirrored, score
from nas.training.trainer import DivergedError, Trainer
from search_spaces.genotype import Genotype
from search_spaces.nasnet import NASNET
from search_spaces.skeletons import NASNetSkeleton
from search_spaces.space import Actions, Draws, favouring, sample_actions

ROWS = Path(__file__).parent / "data" / "validity.csv"
REFERENCES = ("nasnet-a", "darts-v2", "amoebanet-a", "pnasnet-5", "enas-micro", "darts-v1")
SEARCHED = Path(__file__).parent / "data" / "searched_cells.json"
"""Actions of cells that a search by the first of these evaluations had found (six of the best of 88): what selection by it does."""
CLIMBED = ("searched_by_features_1", "searched_by_features_2")
"""Searches whose cells that went up have been trained as the target is."""
RANDOM_CELLS, FIRST_CELL_SEED = 48, 3000
MUTATED, PARENTS = 10, 5
TARGET, TARGET_SIDE = Target("macs", 5_000_000), 32
SCORED = 5000
CHILD = {
    "batch_size": 64,
    "optimizer": {"learning_rate": 0.1, "clip_norm": 5.0},
    "augmentation": {"crop": "none", "flip": False},
}


@dataclass(frozen=True)
class Way:
    """One way to evaluate a cell: ``filters`` is F whatever it costs, None the target's; ``changes`` are to a child's usual settings."""

    name: str
    side: int
    images: int | None
    epochs: int = 1
    filters: float | None = None
    truth: bool = False
    changes: tuple[tuple[str, object], ...] = ()
    tested: bool = False
    """Scored on the 10,000 test images, which no search has seen."""

    def recipe(self) -> Recipe:
        """The target's, or that of a search's children."""
        if self.truth:
            return load_recipe("fast", {"epochs": self.epochs, "precision": "float32", **dict(self.changes)})
        return validated(Recipe, apply_overrides({**CHILD, "epochs": self.epochs, "precision": "float32"}, dict(self.changes)))


HALF_BATCH = (("batch_size", 32), ("optimizer.learning_rate", 0.07))
TRUTH = Way("truth", TARGET_SIDE, None, epochs=2, truth=True)
TEST = replace(TRUTH, name="test", tested=True)
LONG = Way("long", TARGET_SIDE, None, epochs=16, truth=True)
LONGER = tuple(Way(f"16px {passes} passes", 16, None, epochs=passes, truth=True) for passes in (4, 8))
"""The target's recipe on fewer pixels: how long is long enough to tell sprinters from stayers?"""
MUON = (
    ("optimizer.name", "muon"),
    ("optimizer.learning_rate", 0.02),
    ("optimizer.nesterov", True),
    ("optimizer.betas", [0.9, 0.95]),
    ("optimizer.weight_decay", 0.0),
)
LINEAR = (("schedule.kind", "linear"), ("schedule.warmup_epochs", 0.1))
LARGE_BATCH = (("batch_size", 128), ("optimizer.learning_rate", 0.03))
ADAMW = (("optimizer.name", "adamw"), ("optimizer.learning_rate", 0.01), ("optimizer.weight_decay", 0.0))
FIRST = Way("16px 8k", 16, 8000)
SECOND = Way("16px 45k", 16, None)
CANDIDATES = (
    FIRST,
    Way("8px 8k F=16", 8, 8000, filters=16),
    Way("8px 32k", 8, 32_000),
    Way("12px 16k", 12, 16_000),
    Way("16px 8k batch 16", 16, 8000, changes=(("batch_size", 16), ("optimizer.learning_rate", 0.05))),
    Way("32px 4k batch 16", 32, 4000, changes=(("batch_size", 16), ("optimizer.learning_rate", 0.05))),
    Way("12px 16k batch 32", 12, 16_000, changes=HALF_BATCH),
    Way("12px 45k", 12, None),
    Way("16px 16k batch 32", 16, 16_000, changes=HALF_BATCH),
    Way("24px 8k batch 32", 24, 8000, changes=HALF_BATCH),
    Way("12px 45k twice", 12, None, epochs=2),
    Way("8px 45k twice", 8, None, epochs=2),
    Way("32px 8k batch 32", 32, 8000, changes=HALF_BATCH),
    Way("16px 16k", 16, 16_000),
    SECOND,
    Way("24px 20k", 24, 20_000),
)
"""About 5, 10 and 30 CPU seconds each."""


RUNG = replace(
    SECOND, name="16px 45k muon 0.1 linear batch 128", changes=(*MUON, *LINEAR, *LARGE_BATCH, ("optimizer.learning_rate", 0.1))
)
"""The first rung of the preset ``cpu``."""
OPTIMISERS = (
    replace(FIRST, name="16px 8k muon", changes=(*MUON, *LINEAR)),
    replace(FIRST, name="16px 8k muon 0.03", changes=(*MUON, *LINEAR, ("optimizer.learning_rate", 0.03))),
    replace(FIRST, name="16px 8k muon 0.1", changes=(*MUON, *LINEAR, ("optimizer.learning_rate", 0.1))),
    replace(FIRST, name="16px 8k muon batch 32", changes=(*MUON, *LINEAR, ("batch_size", 32))),
    replace(FIRST, name="12px 16k muon", side=12, images=16_000, changes=(*MUON, *LINEAR, ("optimizer.learning_rate", 0.03))),
    replace(FIRST, name="12px 16k muon batch 32", side=12, images=16_000, changes=(*MUON, *LINEAR, ("batch_size", 32))),
    replace(SECOND, name="16px 45k adamw", changes=ADAMW),
    replace(SECOND, name="16px 45k muon", changes=MUON),
    replace(SECOND, name="16px 45k muon 0.04", changes=(*MUON, ("optimizer.learning_rate", 0.04))),
    replace(SECOND, name="16px 45k muon batch 128", changes=(*MUON, *LARGE_BATCH)),
    replace(SECOND, name="16px 45k muon linear", changes=(*MUON, ("schedule.kind", "linear"), ("schedule.warmup_epochs", 0.05))),
    replace(SECOND, name="16px 45k muon linear batch 128", changes=(*MUON, *LINEAR, *LARGE_BATCH)),
    RUNG,
    replace(RUNG, name="16px 20k muon 0.1 linear batch 64", images=20_000, changes=(*RUNG.changes, ("batch_size", 64))),
    replace(SECOND, name="16px 45k twice muon", epochs=2, changes=MUON),
    replace(LONGER[0], name="12px 4 passes muon", side=12, changes=(*MUON, *LARGE_BATCH)),
    *(replace(way, name=f"{way.name} muon", changes=(*MUON, *LARGE_BATCH)) for way in (*LONGER, TRUTH, LONG)),
    *(replace(TRUTH, name=f"{passes} passes muon", epochs=passes, changes=(*MUON, *LARGE_BATCH)) for passes in (4, 8)),
    replace(TRUTH, name="8 passes", epochs=8),
)
"""Another optimiser: how much earlier does a training say the same, and of which cells?"""
RUNG_TESTED = replace(RUNG, name=f"{RUNG.name} test", tested=True)


def changed(name: str, **changes: object) -> Way:
    """The first rung with a child's settings changed."""
    return replace(FIRST, name=f"{FIRST.name} {name}", changes=tuple((key.replace("__", "."), value) for key, value in changes.items()))


RECIPES = (
    changed("linear", schedule__kind="linear", schedule__warmup_epochs=0.1),
    changed("nesterov", optimizer__nesterov=True),
    changed("smoothed", regularisation__label_smoothing=0.1),
    changed("fast statistics", regularisation__norm_momentum=0.4),
    changed("averaged", ema={"decay": 0.98, "warmup": True}),
    changed("batch 32", batch_size=32, optimizer__learning_rate=0.07),
    changed("batch 128", batch_size=128, optimizer__learning_rate=0.15),
    changed("faster", optimizer__learning_rate=0.2),
    changed("slower", optimizer__learning_rate=0.05),
)
"""What might make a child say more in the same time: each on ten cells, two seeds."""


@dataclass(frozen=True)
class Row:
    """A training as the file has it."""

    cell: str
    way: str
    seed: int
    cpu_seconds: float
    filters: float
    macs: int
    accuracy: float
    loss: float
    mirrored_accuracy: float
    mirrored_loss: float
    train_loss: float
    train_loss_sum: float


def read_rows(file: Path = ROWS) -> list[Row]:
    """All rows there are."""
    if not file.is_file():
        return []
    with file.open(encoding="utf-8") as opened:
        return [
            Row(**{field.name: field.type(row[field.name]) for field in fields(Row)})  # type: ignore[operator]
            for row in csv.DictReader(opened)
        ]


def append(row: Row, file: Path = ROWS) -> None:
    """One write a row, so that several processes may append."""
    new = not file.is_file()
    file.parent.mkdir(exist_ok=True)
    names = [field.name for field in fields(Row)]
    values = [value if not isinstance(value, float) else f"{value:.6g}" for value in (getattr(row, name) for name in names)]
    text = (",".join(names) + "\n" if new else "") + ",".join(map(str, values)) + "\n"
    with file.open("a", encoding="utf-8") as opened:
        opened.write(text)


# ---------------------------------------------------------------------------------------------------- cells


def random_actions(number: int, draws: Draws = "even") -> Actions:
    """The same every time."""
    return sample_actions(favouring(NASNET, draws), random.Random(FIRST_CELL_SEED + number))


def genotype_of(cell: str) -> Genotype:
    """``r7`` is the seventh random cell, ``c7`` that of cheap draws, ``m3-1`` a mutation of ``r3``; ``found_…`` and ``drawn_…`` are files.

    ``searched_by_features_1/44`` is trial 44 of that search in ``benchmarks/data``. All others are references.
    """
    if cell[0] in "rc" and cell[1:].isdigit():
        return NASNET.decode(random_actions(int(cell[1:]), "cheap" if cell[0] == "c" else "even"))
    if cell[0] == "m" and cell[1].isdigit():
        parent, number = map(int, cell[1:].split("-"))
        return NASNET.decode(mutate(NASNET.decisions, random_actions(parent), 3, random.Random(f"{parent}/{number}")))
    if cell.startswith("searched_"):
        name, _, trial = cell.partition("/")
        trials = {row.trial: row.actions for row in read_trainings(ROWS.parent / f"{name}.csv")}
        if trial not in trials:
            raise SystemExit(f"{name}.csv has no trial {trial}; it has {', '.join(trials)}")
        return NASNET.decode(trials[trial])
    if cell in searched():
        return NASNET.decode(searched()[cell])
    return resolve_genotype(str(ROWS.parent / f"{cell}.yaml") if cell.startswith(("found", "drawn_")) else cell)


@cache
def searched() -> dict[str, Actions]:
    """``s0`` to ``s5``."""
    return {cell: tuple(actions) for cell, actions in json.loads(SEARCHED.read_text(encoding="utf-8")).items()}


def cells(rows: list[Row]) -> list[str]:
    """References between the random cells, so that a part of the study has both; mutations once the random ones have a first score."""
    found = [f"r{number}" for number in range(RANDOM_CELLS)]
    for i, cell in enumerate((*REFERENCES, *searched())):
        found.insert(min(4 * i, 16 + i), cell)
    first = {row.cell: row.accuracy for row in rows if row.way == FIRST.name and row.seed == 0 and row.cell.startswith("r")}
    if len(first) >= RANDOM_CELLS:
        best = sorted(first, key=lambda cell: -first[cell])[:PARENTS]
        found += [f"m{cell[1:]}-{number}" for number in range(MUTATED // PARENTS) for cell in best]
    return found


@cache
def target_filters(cell: str) -> tuple[float, int]:
    """F of the cell at the target's cost, and that cost."""
    architecture = Architecture(genotype_of(cell), NASNetSkeleton(1, 8), "nasnet-cifar", 10, 3, TARGET_SIDE)
    scaled = scale_to(architecture, TARGET, cells=1)
    return scaled.architecture.skeleton.filters, scaled.macs


# ---------------------------------------------------------------------------------------------------- training


class Study:
    """The data, prepared once for every way."""

    def __init__(self, dataset: Dataset, device: str = "cpu") -> None:
        self._dataset, self._device = dataset, torch.device(device)
        self._prepared: dict[tuple[int, int | None], PreparedData] = {}
        self._preparing = threading.Lock()

    def data(self, way: Way) -> PreparedData:
        """What a way trains on and is scored on: the validation images are the same for all."""
        key = way.side, way.images
        with self._preparing:
            if key not in self._prepared:
                wanted = way.recipe().preparation(image_size=way.side, train_examples=way.images)
                self._prepared[key] = prepare_dataset(self._dataset, DataSettings(name="cifar10", validation_examples=SCORED), wanted)
            return self._prepared[key]

    def train(self, cell: str, way: Way, seed: int) -> Row:
        """Train a cell a way."""
        data, recipe, genotype = self.data(way), way.recipe(), genotype_of(cell)
        filters, macs = target_filters(cell)
        filters = way.filters or filters
        skeleton = trained_skeleton(NASNetSkeleton(1, filters), recipe)
        network = seeded_network(genotype, skeleton, data, seed)
        clock = time.process_time if self._device.type == "cpu" else time.monotonic
        started = clock()
        trainer = Trainer(network, data, recipe, seed=seed, device=self._device)
        nothing = float("nan")
        try:
            trainer.run(lambda best: None)
        except DivergedError:
            return Row(cell, way.name, seed, clock() - started, filters, macs, *(nothing,) * 6)
        seconds = clock() - started
        history = trainer.position.history
        part = data.test if way.tested and data.test is not None else data.validation
        scored = trainer.scored_network.eval()
        plain, mirrored = (score(network, scoring_batches(data, part, trainer.resident)) for network in (scored, Mirrored(scored)))
        losses = [record.train_loss for record in history]
        scores = plain.top1, plain.loss, mirrored.top1, mirrored.loss
        return Row(cell, way.name, seed, seconds, filters, macs, *scores, losses[-1], sum(losses))


def tasks(rows: list[Row], first: int | None = None) -> Iterator[tuple[str, Way, int]]:
    """What is to be trained, the most telling first: two rungs and the truth cell by cell, recipes, other ways, second seeds, long ones.

    ``first``: of the first so many cells, so that a part of the study is whole.
    """
    every = cells(rows)[:first]
    for cell in every:
        for way in (FIRST, SECOND, TRUTH):
            yield cell, way, 0
    for number, cell in enumerate(every):
        for way in (FIRST, *RECIPES):
            yield cell, way, 0
            if number < 10:
                yield cell, way, 1
    for cell in every:
        for way in CANDIDATES:
            yield cell, way, 0
    for cell in every[:24]:
        for way in (TRUTH, FIRST):
            yield cell, way, 1
    truth = {row.cell: row.accuracy for row in rows if row.way == TRUTH.name and row.seed == 0}
    best = sorted(truth, key=lambda cell: -truth[cell])
    chosen = dict.fromkeys([*best[:6], *REFERENCES[:3], *best[6::8]])
    for cell in list(chosen)[:16] if len(truth) >= len(every) else ():
        yield cell, LONG, 0


def train(arguments: argparse.Namespace) -> None:
    """Train what has no row yet."""
    study = Study(load_dataset(DataSettings(name="cifar10", root=arguments.data_dir)), arguments.device)
    tried: set[tuple[str, str, int]] = set()
    choosing = threading.Lock()

    def work() -> None:
        with own_stream():
            while (task := _choose(arguments, tried, choosing)) is not None:
                row = study.train(*task)
                with choosing:
                    append(row, arguments.rows[0])
                seconds = f"{row.cpu_seconds:.0f} s"
                print(f"{row.cell} {row.way} seed {row.seed}: {row.accuracy:.4f} in {seconds}, F={row.filters:g}", flush=True)

    with own_threads(1), ThreadPoolExecutor(arguments.at_once) as pool:
        for worker in [pool.submit(work) for _ in range(arguments.at_once)]:
            worker.result()


def _choose(
    arguments: argparse.Namespace, tried: set[tuple[str, str, int]], choosing: threading.Lock
) -> tuple[str, Way, int] | None:
    """The next task of this process that nobody has done or begun."""
    mine, shares = map(int, arguments.share.split("/"))
    with choosing:
        rows = read_rows(arguments.rows[0])
        done = {(row.cell, row.way, row.seed) for row in rows} | tried
        every = listed(arguments) if arguments.seeds else (task for task in tasks(rows, arguments.cells) if asked_for(task, arguments))
        wanted = (task for task in every if share_of(task[0], shares) == mine)
        task = next((task for task in wanted if (task[0], task[1].name, task[2]) not in done), None)
        if task is not None:
            tried.add((task[0], task[1].name, task[2]))  # never twice in one process, should a row not be readable
        return task


def listed(arguments: argparse.Namespace) -> Iterator[tuple[str, Way, int]]:
    """What the command line names: seed by seed, way by way."""
    every = {way.name: way for way in (TRUTH, TEST, LONG, *LONGER, *CANDIDATES, *RECIPES, *OPTIMISERS, RUNG_TESTED)}
    for seed, way in product(arguments.seeds, arguments.ways or [TRUTH.name]):
        yield from ((cell, every[way], seed) for cell in arguments.only or cells(read_rows(arguments.rows[0]))[: arguments.cells])


def asked_for(task: tuple[str, Way, int], arguments: argparse.Namespace) -> bool:
    """Whether the command line leaves the task in."""
    cell, way, _ = task
    return (arguments.only is None or cell in arguments.only) and (arguments.ways is None or way.name in arguments.ways)


def share_of(cell: str, shares: int) -> int:
    """Which of so many processes trains a cell."""
    return sum(map(ord, cell)) % shares


# ---------------------------------------------------------------------------------------------------- report

Floats = npt.NDArray[np.float64]
Scores = tuple[float | None, ...]
"""Of a cell at the rungs from 0 on, where it was trained, and then by the target's training."""
SCORES = {
    "accuracy": lambda row: row.accuracy,
    "loss": lambda row: -row.loss,
    "mirrored": lambda row: row.mirrored_accuracy,
    "mirrored loss": lambda row: -row.mirrored_loss,
    "training loss": lambda row: -row.train_loss_sum,
}


def correlation(values: Floats, truth: Floats, draws: int = 2000) -> tuple[float, float, float]:
    """Spearman's rank correlation with its 95 % interval by bootstrap over cells."""
    rng = np.random.default_rng(0)
    samples = [spearmanr(values[rows], truth[rows]).statistic for rows in (rng.integers(0, len(truth), len(truth)) for _ in range(draws))]
    low, high = np.nanquantile(samples, [0.025, 0.975])
    return float(spearmanr(values, truth).statistic), float(low), float(high)


def words(values: Floats, truth: Floats) -> str:
    """The correlation and its interval."""
    return "{:.2f} ({:.2f} to {:.2f})".format(*correlation(values, truth))


def report(arguments: argparse.Namespace) -> None:
    """Print the tables."""
    rows = [row for file in arguments.rows for row in read_rows(file) if row.accuracy == row.accuracy]
    by = {(row.cell, row.way, row.seed): row for row in reversed(rows)}
    truths = truths_of(rows)
    truth = {cell: float(np.mean(values)) for cell, values in truths.items()}
    random_truth = np.array([value for cell, value in truth.items() if cell.startswith("r")])
    mean, sigma = random_truth.mean(), random_truth.std(ddof=1)
    print(f"{len(truth)} cells; random ones {mean:.4f} ± {sigma:.4f} (σ over cells), best {random_truth.max():.4f}")
    for cell in sorted((cell for cell in truth if not cell.startswith("r")), key=lambda cell: -truth[cell]):
        print(f"  {cell}: {truth[cell]:.4f} ({(truth[cell] - mean) / sigma:+.1f} σ; {len(truths[cell])} trainings)")
    for way in (LONG, *reversed(LONGER)):
        for row in sorted((row for row in rows if row.way == way.name), key=lambda row: -row.accuracy):
            print(f"  {row.cell}, {way.side} pixels, {way.epochs} passes: {row.accuracy:.4f}")
    several = [values for values in truths.values() if len(values) > 1]
    if several:
        print(f"one training of the truth: σ {of_one_cell(several):.4f} over trainings of the same cell ({len(several)} cells)")
    for way in (TRUTH, FIRST):
        both = [cell for cell in truth if (cell, way.name, 0) in by and (cell, way.name, 1) in by]
        if len(both) > 3:
            first, second = (np.array([by[cell, way.name, seed].accuracy for cell in both]) for seed in (0, 1))
            noise = (first - second).std(ddof=1) / 2**0.5
            print(f"seed to seed, {way.name}: {words(first, second)}, {len(both)} cells, σ of a seed {noise:.4f}")
    heads = (*SCORES, "rank mean", "truth of its best 8, σ", "cells better than the mean random one", "accuracy", "mirrored")
    print("\n| evaluation | CPU s | cells | " + " | ".join(heads) + " |")
    print("|---" * (len(heads) + 3) + "|")
    for way in (*CANDIDATES, *RECIPES):
        print(line(way, by, truth, random_truth))
    print(recipes_table(by, truth))
    for name, values in fixed_scores(rows, truth).items():
        print(f"{name}: {words(values, np.array(list(truth.values())))}")


def of_one_cell(scores: Sequence[Sequence[float] | Floats]) -> float:
    """Standard deviation of trainings of the same cell, pooled over cells that may have different numbers of them."""
    return float(np.sqrt(np.sum([np.var(values) * len(values) for values in scores]) / np.sum([len(values) - 1 for values in scores])))


def truths_of(rows: Sequence[Row]) -> dict[str, list[float]]:
    """Accuracies of the target trainings of every cell."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row.way == TRUTH.name:
            found.setdefault(row.cell, []).append(row.accuracy)
    return found


def line(way: Way, by: dict[tuple[str, str, int], Row], truth: dict[str, float], random_truth: Floats) -> str:
    """A way's row of the table."""
    both = [cell for cell in truth if (cell, way.name, 0) in by]
    if len(both) < 5:
        return f"| {way.name} | | {len(both)} |"
    there = np.array([truth[cell] for cell in both])
    found = [by[cell, way.name, 0] for cell in both]
    scores = {name: np.array([value(row) for row in found]) for name, value in SCORES.items()}
    ranks = [rankdata(values) for values in scores.values()]
    scores["rank mean"] = np.mean(ranks, axis=0)
    told = [words(values, there) for values in scores.values()]
    best = (there[np.argsort(-scores["rank mean"])[:8]].mean() - random_truth.mean()) / random_truth.std(ddof=1)
    seconds = float(np.mean([row.cpu_seconds for row in found]))
    good = there > random_truth.mean()
    among = [f"{spearmanr(scores[name][good], there[good]).statistic:.2f}" for name in ("accuracy", "mirrored")]
    return f"| {way.name} | {seconds:.1f} | {len(both)} | {' | '.join(told)} | {best:+.2f} | {good.sum()} | {' | '.join(among)} |"


def recipes_table(by: dict[tuple[str, str, int], Row], truth: dict[str, float]) -> str:
    """How far cells lie apart against seeds, and how well they are ordered, by a child's recipe."""
    lines = ["\n| recipe | CPU s | cells | accuracy | signal | noise | ratio | with the truth |", "|---" * 8 + "|"]
    for way in (FIRST, *RECIPES):
        cells = [cell for cell in truth if (cell, way.name, 0) in by and (cell, way.name, 1) in by]
        if len(cells) < 5:
            continue
        found = np.array([[by[cell, way.name, seed].accuracy for seed in (0, 1)] for cell in cells])
        signal, noise = signal_and_noise(found)
        seconds = np.mean([by[cell, way.name, 0].cpu_seconds for cell in cells])
        there = words(found.mean(axis=1), np.array([truth[cell] for cell in cells]))
        spread = f"{signal:.4f} | {noise:.4f} | {signal / noise:.2f}"
        lines.append(f"| {way.name} | {seconds:.1f} | {len(cells)} | {found.mean():.3f} | {spread} | {there} |")
    return "\n".join(lines)


def optimisers(arguments: argparse.Namespace) -> None:
    """Print accuracies (first seed) by optimiser, cell by cell: who learns at once, and who lasts."""
    rows = {(row.cell, row.way): row for file in arguments.rows for row in read_rows(file) if row.seed == 0}
    names = arguments.only or list(dict.fromkeys(cell for cell, _ in rows))
    print(f"| evaluation | CPU s | {' | '.join(names)} |")
    print("|---" * (len(names) + 2) + "|")
    for way in dict.fromkeys(way for _, way in rows):
        found = [rows.get((cell, way)) for cell in names]
        seconds = np.mean([row.cpu_seconds for row in found if row is not None])
        print(f"| {way} | {seconds:.0f} | {' | '.join('' if row is None else f'{100 * row.accuracy:.1f}' for row in found)} |")


def noise(arguments: argparse.Namespace) -> None:
    """Print, way by way, how far cells lie apart and what trainings of one cell differ by, and how the cells' means order the truth.

    The trainings of a cell are scored on the same images, so what these images are to its kind is no part of the noise.
    """
    rows = [row for file in arguments.rows for row in read_rows(file) if row.accuracy == row.accuracy]
    truth = {cell: float(np.mean(values)) for cell, values in truths_of(rows).items()}
    print("| evaluation | score | cells | trainings | between cells | of one cell | ratio | order of the truth | Pearson |")
    print("|---" * 9 + "|")
    for way in arguments.ways or dict.fromkeys(row.way for row in rows):
        found: dict[str, list[Row]] = {}
        for row in rows:
            if row.way == way and row.cell in truth and (arguments.only is None or row.cell in arguments.only):
                found.setdefault(row.cell, []).append(row)
        several = [trainings for trainings in found.values() if len(trainings) > 1]
        for name, value in SCORES.items() if len(several) > 4 else ():
            scores = [np.array([value(row) for row in trainings]) for trainings in several]
            means, there = np.array([one.mean() for one in scores]), np.array([truth[trainings[0].cell] for trainings in several])
            between, within = means.std(ddof=1), of_one_cell(scores)
            order = f"{spearmanr(means, there).statistic:.2f} | {np.corrcoef(means, there)[0, 1]:.2f}"
            spread = f"{between:.4f} | {within:.4f} | {between / within:.2f}"
            print(f"| {way} | {name} | {len(several)} | {sum(map(len, scores))} | {spread} | {order} |")


def climbed(arguments: argparse.Namespace) -> None:
    """Print what cells that went up a search's ladder have at its rungs and by the target's training, and how the rungs order the latter.

    The rank correlations are over those that were trained at the rung, where there are five; *in all* counts the cells of all searches.
    """
    trainings: dict[str, list[float]] = {}
    for cell, values in truths_of([row for file in arguments.rows for row in read_rows(file)]).items():
        if cell.startswith(("found", "searched")):
            trainings.setdefault(NASNET.canonical(genotype_of(cell)), []).extend(values)
    everything: list[Scores] = []
    print("| search | trial | children's rung | rung 1 | rung 2 | target | trainings |", "|---" * 7 + "|", sep="\n")
    for name in arguments.only or CLIMBED:
        rows = read_trainings(ROWS.parent / f"{name}.csv")
        rewards = {(row.origin, row.rung): row.reward for row in rows}
        table: list[Scores] = []
        for trial, actions in {row.origin: row.actions for row in rows if row.rung}.items():
            values = trainings.get(NASNET.canonical(NASNET.decode(actions)))
            if values:
                table.append((*(rewards.get((trial, rung)) for rung in range(3)), float(np.mean(values))))
                told = " | ".join("" if score is None else f"{score:.4f}" for score in table[-1])
                print(f"| {name} | {trial} | {told} | {len(values)} |")
        print(orders(name, table))
        everything += table
    print(orders("in all", everything))


def orders(name: str, table: Sequence[Scores]) -> str:
    """How each rung orders the target's training."""
    told = []
    for rung in range(3):
        both = np.array([(row[rung], row[-1]) for row in table if row[rung] is not None], dtype=np.float64)
        told.append(words(both[:, 0], both[:, 1]) if len(both) > 4 else "")
    spread = np.std(np.array([row[-1] for row in table], dtype=np.float64), ddof=1) if len(table) > 1 else 0.0
    return f"| {name}: order | {len(table)} cells | {' | '.join(told)} | σ {spread:.4f} | |"


def fixed_scores(rows: Sequence[Row], truth: dict[str, float]) -> dict[str, Floats]:
    """What is known of a cell without training it."""
    target = {row.cell: row for row in rows if row.way == TRUTH.name}
    macs = np.array([target[cell].macs for cell in truth], float)
    return {"width at equal cost": np.array([target[cell].filters for cell in truth]), "MACs (all near 5M)": macs}


def main() -> None:
    """Train, or report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "report", "optimisers", "noise", "climbed"])
    parser.add_argument("--rows", type=Path, nargs="+", default=[ROWS], help="files; a training appends to the first")
    parser.add_argument("--data-dir", default=os.environ.get("NAS_DATA"), help="folder that holds CIFAR-10")
    parser.add_argument("--share", default="0/1", metavar="K/N", help="one of N processes side by side")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda")
    parser.add_argument("--at-once", type=int, default=1, help="trainings at once in this process: for a GPU, where each has a stream")
    parser.add_argument("--only", nargs="+", metavar="CELL", help="only these cells")
    parser.add_argument("--ways", nargs="+", metavar="WAY", help="only these ways to train them")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="SEED", help="exactly the cells and ways that are named, with these seeds")
    parser.add_argument("--cells", type=int, metavar="N", help="only the first N cells")
    arguments = parser.parse_args()
    {"train": train, "report": report, "optimisers": optimisers, "noise": noise, "climbed": climbed}[arguments.what](arguments)


if __name__ == "__main__":
    main()
