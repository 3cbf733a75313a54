"""How many images a second come out of the loader, against decoding them and nothing else.

    python benchmarks/loader.py FOLDER                 # an image folder of large pictures, as `nas data` reads them
    python benchmarks/loader.py FOLDER --workers 0 2 --repeats 5

The same files, in turn, a line each: Pillow alone (opened and made RGB); ImageNet's training crops at 224 pixels; the same with
distorted colours (the recipe nasnet-mobile's); the middle of each image as scoring sees it. Medians, after one round to warm up.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from PIL import Image

from nas.data.batches import Resident, Share, TrainingBatches, scoring_batches
from nas.data.dataset import ImageFiles
from nas.data.prepared import PreparedData, prepare
from nas.data.settings import AugmentationSettings, DataSettings
from nas.training.recipe import load_recipe

BATCH = 32
CPU = torch.device("cpu")


def bare(files: ImageFiles) -> Iterator[int]:
    """Pillow alone."""
    for name in files.names:
        with Image.open(files.root / name) as image:
            image.convert("RGB").load()
        yield 1


def training(data: PreparedData, settings: AugmentationSettings, workers: int) -> Iterator[int]:
    """An epoch of a training's batches."""
    batches = TrainingBatches(data, settings, 0, Resident(CPU), workers)
    for passes in batches.epoch(1, Share(BATCH, BATCH), 0, len(data.train) // BATCH):
        yield sum(len(labels) for _, labels in passes)


def scoring(data: PreparedData, workers: int) -> Iterator[int]:
    """The training part as scoring sees it."""
    for _, labels in scoring_batches(data, data.train, Resident(CPU), workers):
        yield len(labels)


def rate(images: Callable[[], Iterator[int]]) -> float:
    """Images a second, from the first to the last."""
    started = time.perf_counter()
    return sum(images()) / (time.perf_counter() - started)


def main() -> None:
    """Measure in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    recipe = load_recipe("nasnet-mobile")
    data = prepare(DataSettings(name="folder", root=str(arguments.folder)), recipe.preparation())
    files, plain = data.train, load_recipe("convnext").augmentation.model_copy(update={"rand_augment": None, "random_erasing": 0.0})
    assert isinstance(files, ImageFiles)
    ways: dict[str, Callable[[], Iterator[int]]] = {"Pillow alone": lambda: bare(files)}
    for workers in arguments.workers:
        ways[f"training crops, {workers} workers"] = lambda w=workers: training(data, plain, w)  # type: ignore[misc]
        ways[f"and colours, {workers} workers"] = lambda w=workers: training(data, recipe.augmentation, w)  # type: ignore[misc]
        ways[f"scoring, {workers} workers"] = lambda w=workers: scoring(data, w)  # type: ignore[misc]
    rates = {name: [rate(way) for _ in range(arguments.repeats + 1)][1:] for name, way in ways.items()}
    first = statistics.median(rates["Pillow alone"])
    print(f"{len(files)} images\n\n| way | images/s | of Pillow alone |\n|---|---|---|")
    for name, found in rates.items():
        print(f"| {name} | {statistics.median(found):.0f} | {statistics.median(found) / first:.2f} |")


if __name__ == "__main__":
    main()
