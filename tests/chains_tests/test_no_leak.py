"""Whatever command follows another on the same images: no test image is ever trained on, or scored on before the one test."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.commands import nas

from nas.data import batches
from nas.data.prepared import PreparedData

CLASSES, EACH = ("a", "b"), 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of one colour each, which no crop and no resizing changes: a picture's colour is its number. Some have copies."""
    root = tmp_path_factory.mktemp("images") / "plain"
    for label, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for i in range(EACH):
            number = label * EACH + i
            Image.new("RGB", (20 + i % 3, 21), (4 * number, 100 * label, 5)).save(root / name / f"{i}.png")
        for i in (0, 7):
            (root / name / f"copy-{i}.png").write_bytes((root / name / f"{i}.png").read_bytes())
    return root


class Seen:
    """The numbers of the images that were trained on or scored, by what they were used for."""

    def __init__(self) -> None:
        self.trained: set[int] = set()
        self.scored: set[int] = set()
        self.tested: set[int] = set()

    def numbers(self, images: torch.Tensor, data: PreparedData) -> set[int]:
        if data.name == "noise":  # the plan times a few steps on it
            return set()
        middle = images.shape[-1] // 2
        red = images[:, 0, middle, middle] * data.std[0] + data.mean[0]
        return set(np.rint(red.numpy() * 255 / 4).astype(int).tolist())


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Watches the two sources of batches, which are the only ones."""
    watched = Seen()
    epoch, scoring = batches.TrainingBatches.epoch, batches.scoring_batches

    def watch_epoch(self: batches.TrainingBatches, *arguments: object) -> Iterator[list[batches.Batch]]:
        for passes in epoch(self, *arguments):  # type: ignore[arg-type]
            for images, _ in passes:
                watched.trained |= watched.numbers(images, self._data)
            yield passes

    def watch_scoring(data: PreparedData, part: object, *arguments: object) -> Iterator[batches.Batch]:
        used = watched.tested if part is data.test else watched.scored
        for images, labels in scoring(data, part, *arguments):  # type: ignore[arg-type]
            used |= watched.numbers(images, data)
            yield images, labels

    monkeypatch.setattr(batches.TrainingBatches, "epoch", watch_epoch)
    for module in ("nas.training.trainer", "nas.training.measure"):
        monkeypatch.setattr(f"{module}.scoring_batches", watch_scoring)
    return watched


SMALL = ["--cells", "1", "--filters", "4"]


def search(data: Path, seed: int) -> list[str]:
    few = ["--set", "training.augmentation=none", "--set", "fidelity.train_examples=null", "--set", "data.validation_examples=8"]
    few += ["--set", "ladder=[]", "--cards", "none"]  # `finalists` is a rung
    where = ["--data", str(data), "--runner", "local", "--set", f"data.split_seed={seed}", "--set", "fidelity.image_size=8"]
    return ["search", "--preset", "laptop", "--budget", "2", "--epochs", "1", "--run", "run", *few, *where]


def commands(data: Path, seed: int) -> dict[str, list[str]]:
    """Everything that can follow a search on the same images; ``seed`` where a command takes one."""
    quick = ["--epochs", "1", "--threads", "1", *SMALL]
    split, alone = ["--set", f"data.split_seed={seed}"], ["--workers", "1"]
    return {
        "finalists": ["finalists", "run", "--top", "2", "--seeds", "1", "--epochs", "1"],
        "train": ["train", "run", *quick, "--image-size", "12", "-o", "trained"],
        "train named": ["train", "run/best/1.yaml", "--data", str(data), *quick, *split, "-o", "named"],
        "transfer": ["transfer", "run", "--to", str(data), "--recipe", "fast", *quick, *split, "-o", "moved"],
        "compare": ["compare", "run", "nasnet-a", "--data", str(data), "--macs", "1M", "--epochs", "1", *split, *alone, "-o", "table"],
        "evaluate": ["evaluate", "trained", "--part", "test"],
    }


SLOW = pytest.mark.slow


@pytest.mark.parametrize(("search_seed", "later_seed"), [(7, 3), *(pytest.param(*seeds, marks=SLOW) for seeds in ((0, 0), (0, 7), (7, 0)))])
def test_no_test_image_is_ever_trained_or_chosen_on(folder, search_seed, later_seed, seen, tmp_path, monkeypatch):
    nas(search(folder, search_seed), tmp_path, monkeypatch)
    for arguments in commands(folder, later_seed).values():
        nas(arguments, tmp_path, monkeypatch)
    assert seen.trained and seen.scored and seen.tested, "the watcher saw every kind of use"
    assert not seen.tested & (seen.trained | seen.scored)
    assert seen.trained | seen.scored | seen.tested == set(range(2 * EACH)), "every image has its place, copies beside their originals"


PAIRS = list(itertools.combinations(["train named", "transfer", "compare"], 2))


@pytest.mark.parametrize("pair", [PAIRS[0], *(pytest.param(pair, marks=SLOW) for pair in PAIRS[1:])], ids=lambda pair: " then ".join(pair))
def test_commands_that_need_no_search_agree_with_each_other(pair, folder, seen, tmp_path, monkeypatch):
    for seed, name in enumerate(pair):
        arguments = [argument.replace("run/best/1.yaml", "nasnet-a") for argument in commands(folder, seed)[name]]
        nas(["darts-v2" if argument == "run" else argument for argument in arguments], tmp_path, monkeypatch)
    assert seen.tested and not seen.tested & (seen.trained | seen.scored)
