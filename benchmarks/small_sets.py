"""What suits a small set of pictures? Four small sets as folders of files, and candidates of a child's settings on each.

    python benchmarks/small_sets.py make FOLDER [--cifar10 DIR] [--cifar100 DIR]     # writes the sets; without the real ones, two
    python benchmarks/small_sets.py measure FOLDER --output rows.csv                 # resumable: a row a training
    python benchmarks/small_sets.py table rows.csv

Every random cell is trained with two seeds by every candidate, and once by the *target*: about what `nas train` does there. The
table says, for each set and candidate: CPU seconds a child; the mean reward, and chance; the share of children within two standard
errors of chance; the rank correlation of the rewards of two seeds; and that of the rewards (mean of two seeds) with the target's.

``--cifar10`` and ``--cifar100`` name folders where ``nas`` finds those data sets.
"""

import argparse
import csv
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from proxy_tasks import configure, train_once
from scipy.stats import spearmanr

from nas.data.dataset import ArrayPart
from nas.data.prepared import prepare_dataset
from nas.data.registry import load_dataset
from nas.data.settings import DataSettings
from nas.evaluators.child import TrainingEvaluator

SHAPES = ("circle", "square", "triangle")
FIRST_CELL_SEED = 2000
SMALL = 2000
KEYS = ("fidelity.image_size", "fidelity.filters", "steps", "training.batch_size", "training.augmentation")
TARGET = {"steps": 250, "training.batch_size": 32, "training.augmentation": "shift_flip", "fidelity.filters": 8}
TARGET_SIDE = {"shapes": 32, "digits": 8, "cifar10": 16, "cifar100": 16}
CANDIDATES = {
    "digits": ((8, 16, 15, 64, "none"), (8, 8, 120, 32, "none"), (8, 8, 120, 32, "shift_flip")),
    "shapes": ((8, 16, 3, 64, "none"), (16, 8, 120, 32, "shift_flip"), (24, 6, 120, 16, "none"), (24, 6, 120, 16, "shift_flip")),
    "cifar10": ((8, 16, 18, 64, "none"), (8, 16, 120, 32, "none"), (16, 8, 120, 32, "none"), (16, 8, 120, 32, "shift_flip")),
    "cifar100": ((8, 16, 18, 64, "none"), (8, 16, 120, 32, "none"), (16, 8, 120, 32, "none"), (16, 8, 120, 32, "shift_flip")),
}
"""Side in pixels, F, steps, images a step, augmentation; the first is what a search took before its settings followed the images."""


def draw_shape(label: int, rng: np.random.Generator) -> Image.Image:
    """A filled circle, square or triangle of any bright colour, size and place on a dark ground, with noise; sides of 64 to 200 pixels.

    With colours of any brightness on any ground, 160 pictures do not suffice: a plain convolutional network learns them by heart and
    stays at chance on others.
    """
    width, height = (int(rng.integers(64, 201)) for _ in range(2))
    ground, colour = (tuple(rng.integers(low, low + 110, 3).tolist()) for low in (0, 140))
    image = Image.new("RGB", (width, height), ground)
    radius = min(width, height) * rng.uniform(0.18, 0.4)
    x, y = rng.uniform(radius, width - radius), rng.uniform(radius, height - radius)
    pen, turn = ImageDraw.Draw(image), rng.uniform(-20, 20)
    if label == 0:
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    else:
        pen.regular_polygon((x, y, radius), 4 if label == 1 else 3, rotation=turn, fill=colour)
    noisy = np.asarray(image).astype(float) + rng.normal(0, rng.uniform(0, 20), (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def make_shapes(folder: Path, count: int, seed: int) -> None:
    """``folder/CLASS/*.jpg``, ``count`` of every class."""
    rng = np.random.default_rng(seed)
    for label, name in enumerate(SHAPES):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            draw_shape(label, rng).save(folder / name / f"{number:03}.jpg", quality=90)


def make_files(folder: Path, settings: DataSettings, count: int | None) -> None:
    """The first images of a data set's training part as ``folder/CLASS/*.png``."""
    dataset = load_dataset(settings)
    assert isinstance(dataset.train, ArrayPart)
    for number, (pixels, label) in enumerate(zip(dataset.train.images[:count], dataset.train.labels[:count], strict=True)):
        place = folder / dataset.class_names[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.squeeze()).save(place / f"{number:05}.png")


def make(folder: Path, cifar10: str | None, cifar100: str | None) -> None:
    """Write the sets that are not there yet."""
    if not (folder / "shapes").is_dir():
        make_shapes(folder / "shapes", 100, 0)
    if not (folder / "digits").is_dir():
        make_files(folder / "digits", DataSettings(name="digits"), None)
    for name, root in (("cifar10", cifar10), ("cifar100", cifar100)):
        if root is not None and not (folder / name).is_dir():
            make_files(folder / name, DataSettings(name=name, root=root, download=False), SMALL)


# ---------------------------------------------------------------------------------------------------- measuring


def evaluator_for(folder: Path, values: dict[str, object]) -> tuple[TrainingEvaluator, int, float]:
    """The evaluator, its validation images, and the accuracy of who always names the commonest class."""
    settings = {key: value for key, value in values.items() if "." in key}
    common: dict[str, object] = {"data.name": "folder", "data.root": str(folder), "fidelity.cells": 1, "training.learning_rate": 0.1}
    common["training.crop_mode"] = "squash"
    config = configure(common | settings)
    data = prepare_dataset(load_dataset(config.data), config.data, config.preparation())
    epochs = max(1, round(int(str(values["steps"])) * config.training.batch_size / len(data.train)))
    config = config.model_copy(update={"fidelity": config.fidelity.model_copy(update={"epochs": epochs})})
    chance = np.bincount(data.validation.labels).max() / len(data.validation)
    return TrainingEvaluator(data, config), len(data.validation), float(chance)


def measure(folder: Path, output: Path, cells: int) -> None:
    """Train what has no row yet."""
    done = {(row["set"], row["task"], row["cell"], row["seed"]) for row in _rows(output)}
    with output.open("a", newline="") as file:
        writer = csv.writer(file)
        if not done:
            writer.writerow(("set", "task", "cell", "seed", "reward", "seconds", "images", "chance"))
        for name in (name for name in CANDIDATES if (folder / name).is_dir()):
            target = TARGET | {"fidelity.image_size": TARGET_SIDE[name]}
            for task, seeds in [(target, 1), *((dict(zip(KEYS, values, strict=True)), 2) for values in CANDIDATES[name])]:
                label = "target" if task is target else _label(task)
                wanted = [(c, s) for c in range(cells) for s in range(seeds) if (name, label, str(c), str(s)) not in done]
                if not wanted:
                    continue
                evaluator, images, chance = evaluator_for(folder / name, task)
                for cell, seed in wanted:
                    reward, seconds = train_once(evaluator, FIRST_CELL_SEED + cell, seed)
                    writer.writerow((name, label, cell, seed, f"{reward:.5f}", f"{seconds:.2f}", images, f"{chance:.4f}"))
                    file.flush()


def _label(task: dict[str, object]) -> str:
    side, filters, steps, batch, augmentation = (task[key] for key in KEYS)
    return f"{side} px, F={filters}, {steps} steps of {batch}, {augmentation}"


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def table(path: Path) -> None:
    """The table that the module's docstring explains, as Markdown."""
    rows = _rows(path)
    print("| set | child | s | reward | chance | at chance | two seeds | with target |\n|---|---|---|---|---|---|---|---|")
    for name, task in dict.fromkeys((row["set"], row["task"]) for row in rows):
        mine = [row for row in rows if (row["set"], row["task"]) == (name, task)]
        rewards = {(int(row["cell"]), int(row["seed"])): float(row["reward"]) for row in mine}
        chance, images = float(mine[0]["chance"]), int(mine[0]["images"])
        error = math.sqrt(chance * (1 - chance) / images)
        cells = sorted({cell for cell, _ in rewards})
        lost = np.mean([not reward > chance + 2 * error for reward in rewards.values()])
        seconds = np.median([float(row["seconds"]) for row in mine])
        target = {int(row["cell"]): float(row["reward"]) for row in rows if (row["set"], row["task"]) == (name, "target")}
        both = [cell for cell in cells if (cell, 1) in rewards and cell in target]
        again = spearmanr([rewards[c, 0] for c in both], [rewards[c, 1] for c in both], nan_policy="omit").statistic if both else math.nan
        means = [(rewards[c, 0] + rewards[c, 1]) / 2 for c in both]
        truth = spearmanr(means, [target[c] for c in both], nan_policy="omit").statistic if both else math.nan
        mean = np.nanmean(list(rewards.values()))
        print(f"| {name} | {task} | {seconds:.1f} | {mean:.3f} | {chance:.3f} | {lost:.0%} | {again:.2f} | {truth:.2f} |")


def main() -> None:
    """Make, measure or show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("make", "measure", "table"))
    parser.add_argument("place", type=Path)
    parser.add_argument("--cifar10")
    parser.add_argument("--cifar100")
    parser.add_argument("--output", type=Path, default=Path("small_sets.csv"))
    parser.add_argument("--cells", type=int, default=6)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.action == "make":
        make(arguments.place, arguments.cifar10, arguments.cifar100)
    elif arguments.action == "measure":
        measure(arguments.place, arguments.output, arguments.cells)
    else:
        table(arguments.place)


if __name__ == "__main__":
    main()
