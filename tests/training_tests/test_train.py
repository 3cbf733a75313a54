"""Final training: exact resume from any step and after ``kill -9``, one reading of the test set, folders that describe themselves."""

import json
import random
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.commands import nas
from support.processes import launch, wait_until

from nas.api.training import divergence
from nas.data.dataset import ArrayPart
from nas.data.embedded import make_synthetic
from nas.data.prepared import PreparedData, prepare
from nas.data.settings import DataSettings
from nas.errors import ConfigError, DataError, RunError, UserError
from nas.networks.description import read_skeleton, skeleton_document
from nas.networks.weights.described import load_described, read_description
from nas.networks.weights.files import WeightsError, write_weights
from nas.training.checkpoint import read_checkpoint
from nas.training.config import TrainConfig
from nas.training.folder import TrainFolder
from nas.training.measure import evaluate_weights
from nas.training.plan import describe_result
from nas.training.recipe import Recipe, load_recipe
from nas.training.scoring import Scores
from nas.training.session import TrainResult, Watcher, build_for_training, make_trainer, train_network
from nas.training.trainer import Ending, EpochRecord, Position, Trainer, plan_share
from search_spaces.reference import load_reference
from search_spaces.residual_skeletons import ResidualSkeleton
from search_spaces.skeletons import SKELETONS, NASNetSkeleton

CELLS = load_reference("nasnet-a")
SMALL = skeleton_document(NASNetSkeleton(1, 2), "small")
CONVNEXT = skeleton_document(
    ResidualSkeleton((1, 1), (8, 16), "patch", None, 2, stem_norm="layer", activation="gelu", head_norm=True), "tiny"
)
SHORT = {"epochs": 2, "batch_size": 32}


def tiny_data(train: int = 96, classes: int = 3, side: int = 8) -> PreparedData:
    dataset = make_synthetic(train + 60, 60, classes, side)
    parts = (slice(0, train), slice(train, train + 60))
    first, second = (ArrayPart(dataset.train.images[part], dataset.train.labels[part]) for part in parts)
    return PreparedData("tiny", first, second, dataset.test, dataset.class_names, 3, side, (0.5,) * 3, (0.25,) * 3, mirrors=True)


def config(recipe: str = "fast", skeleton: dict[str, object] = SMALL, overrides: dict[str, object] | None = None, **changes) -> TrainConfig:
    return TrainConfig(skeleton=skeleton, recipe=load_recipe(recipe, SHORT | (overrides or {})), **changes)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Everything in the checkpoint at the end: network, average, optimiser."""
    return read_checkpoint(folder / "checkpoint.safetensors")[0]


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def run(settings: TrainConfig, folder: Path, data: PreparedData, stop_after: int | None = None, genotype=CELLS) -> TrainResult:
    """Train; with ``stop_after``, as somebody would who stops it after so many steps."""
    steps = 0

    def stop() -> bool:
        nonlocal steps
        steps += 1
        return stop_after is not None and steps >= stop_after

    return train_network(genotype, settings, folder, Watcher(stop=stop), data=data)


RECIPES = {
    "fast": ("fast", SMALL, "nasnet-a", {"resolution.start": 1.0}),
    "nasnet": ("nasnet-cifar", SMALL, "nasnet-a", {}),
    "rmsprop and average": ("nasnet-mobile", SMALL, "nasnet-a", {"optimizer.learning_rate": 0.05, "regularisation.norm_momentum": 0.1}),
    "muon": ("fast", SMALL, "nasnet-a", {"resolution.start": 1.0, "optimizer.name": "muon", "optimizer.learning_rate": 0.02}),
    "convnext": ("convnext", CONVNEXT, "convnext", {"optimizer.layer_decay": 0.8, "micro_batch": None}),
}
SAID_BELOW = ("fast", "nasnet")
"""By the next test after every step, and, but for the auxiliary head, by the recipe of the mobile network."""


@pytest.mark.parametrize("case", [pytest.param(case, marks=pytest.mark.slow if case in SAID_BELOW else ()) for case in RECIPES])
def test_a_training_stopped_anywhere_ends_with_the_same_weights(case: str, tmp_path: Path) -> None:
    recipe, skeleton, genotype, overrides = RECIPES[case]
    overrides = {name: value for name, value in overrides.items() if name != "micro_batch"}
    settings = config(recipe, skeleton, overrides, micro_batch=16)
    data, what = tiny_data(), load_reference(genotype)
    whole = run(settings, tmp_path / "whole", data, genotype=what)
    assert whole.ending is Ending.FINISHED and whole.test is not None and whole.epochs == 2
    for number, stop_after in enumerate((1, 1, 3, None)):
        result = run(settings, tmp_path / "parts", data, stop_after, what)
        assert result.ending is (Ending.INTERRUPTED if stop_after else Ending.FINISHED), number
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert same(load_file(tmp_path / "whole/best.safetensors"), load_file(tmp_path / "parts/best.safetensors"))
    losses = [[record.train_loss for record in one.history] for one in (whole, result)]
    assert losses[0] == losses[1] and result.test.top1 == whole.test.top1


@pytest.mark.parametrize("steps_an_epoch", [1, 2])
def test_whoever_stops_a_training_stops_it_after_that_very_step(steps_an_epoch: int, tmp_path: Path) -> None:
    settings, data = config("fast", overrides={"batch_size": 96 // steps_an_epoch, "resolution.start": 1.0}), tiny_data()
    whole = run(settings, tmp_path / "whole", data)
    steps = 2 * steps_an_epoch
    for stop_after in range(1, steps):
        folder = tmp_path / f"stopped-{stop_after}"
        assert run(settings, folder, data, stop_after).ending is Ending.INTERRUPTED
        position = read_checkpoint(folder / "checkpoint.safetensors")[1]["position"]
        assert (position["epoch"] - 1) * steps_an_epoch + position["step"] == stop_after
        resumed = run(settings, folder, data)
        assert resumed.ending is Ending.FINISHED and same(weights(folder), weights(tmp_path / "whole"))
        assert [record.train_loss for record in resumed.history] == [record.train_loss for record in whole.history]
    last = run(settings, tmp_path / "last", data, stop_after=steps)
    assert last.ending is Ending.FINISHED, "after the last step of all there is nothing left to stop"


COMMAND = [
    "train",
    "nasnet-a",
    "--data",
    "digits",
    "--cells",
    "1",
    "--filters",
    "2",
    "--epochs",
    "3",
    "--batch-size",
    "64",
    "--threads",
    "1",
]


def epochs_done(folder: Path) -> int:
    metrics = folder / "metrics.jsonl"
    return metrics.read_text().count("\n") if metrics.is_file() else 0


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        output = nas([*COMMAND, "-o", "whole"], folder, patch)
    assert "test: " in output and "read once" in output and "time:   about" in output
    return folder / "whole"


def test_kill_9_at_two_random_moments_changes_nothing(uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(5)
    folder = tmp_path / "killed"
    for kill in range(2):
        process = launch([*COMMAND, "-o", str(folder)] if kill < 1 else ["train", "--resume", str(folder)], tmp_path)
        before = epochs_done(folder)
        if kill:
            wait_until(lambda before=before: epochs_done(folder) > before, process)
        else:
            wait_until((folder / "config.yaml").is_file, process)
        time.sleep(rng.random() * 0.4)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    nas([*COMMAND, "-o", str(folder)], tmp_path, monkeypatch)
    assert same(weights(uninterrupted), weights(folder))
    assert same(load_file(uninterrupted / "last.safetensors"), load_file(folder / "last.safetensors"))
    results = [json.loads((one / "result.json").read_text()) for one in (uninterrupted, folder)]
    assert results[0]["test"]["top1"] == results[1]["test"]["top1"]
    assert not list(folder.glob(".*.part"))[2:], "at most one part of a file for every kill"


def test_sigterm_writes_a_checkpoint_in_the_middle_of_an_epoch(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "stopped"
    process = launch([*COMMAND, "-o", str(folder)], tmp_path)
    wait_until(lambda: epochs_done(folder) > 0, process)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in output
    assert f"nas train --resume {folder}" in output.replace("\n", "")
    nas(["train", "--resume", str(folder)], tmp_path, monkeypatch)
    assert same(weights(uninterrupted), weights(folder))


def test_a_finished_training_is_not_repeated_and_evaluates_to_the_same_accuracy(
    uninterrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = json.loads((uninterrupted / "result.json").read_text())
    stamp = (uninterrupted / "best.safetensors").stat().st_mtime_ns
    output = nas(["train", "--resume", str(uninterrupted)], uninterrupted, monkeypatch)
    assert f"{100 * result['test']['top1']:.2f} % top-1" in output
    assert (uninterrupted / "best.safetensors").stat().st_mtime_ns == stamp
    assert evaluate_weights(uninterrupted, threads=1).scores.top1 == result["test"]["top1"]
    alone = evaluate_weights(uninterrupted / "best.safetensors", data={"data.name": "digits"}, threads=1)
    assert alone.scores.top1 == result["test"]["top1"] and alone.scores.top5 >= alone.scores.top1
    assert evaluate_weights(uninterrupted, part="validation", threads=1).scores.top1 == pytest.approx(result["validation_top1"])
    assert (uninterrupted / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_weights_describe_their_network(uninterrupted: Path) -> None:
    network, description = load_described(uninterrupted / "best.safetensors")
    assert description.architecture.genotype.cells() == CELLS.cells() and description.architecture.name == "NASNet-A (1 @ 48)"
    assert description.architecture.image_size == 8 and len(description.class_names) == 10
    assert not network.training and network(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
    assert description.facts["recipe"] == "fast"


def test_weights_and_genotype_given_apart(uninterrupted: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.safetensors"
    write_weights(bare, load_file(uninterrupted / "best.safetensors"))
    options = {"genotype": load_reference("nasnet-a"), "cells": 1, "filters": 2, "data": {"data.name": "digits"}, "threads": 1}
    assert evaluate_weights(bare, **options).scores.top1 == evaluate_weights(uninterrupted, threads=1).scores.top1
    with pytest.raises(WeightsError, match="does not say which network"):
        evaluate_weights(bare, data={"data.name": "digits"})
    with pytest.raises(WeightsError, match="weights must be the network's"):
        evaluate_weights(bare, **(options | {"filters": 4}))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"part": "exam"}, ConfigError, "--part must be one of test, validation, train, all"),
        ({"which": "worst"}, ConfigError, "--which must be one of best, last"),
        ({"data": {"data.name": "synthetic"}}, ConfigError, "takes images of 1 channels, but those of synthetic have 3"),
        ({"data": {"data.root": "."}, "source": "best.safetensors"}, ConfigError, "name it with --data"),
        ({"source": "best.safetensors"}, ConfigError, "needs the data"),
        ({"source": "nowhere"}, RunError, "no such trained network"),
        ({"cells": 3}, ConfigError, "go with --genotype"),
        ({"device": "cuda:99"}, ConfigError, "--device must be"),
    ],
)
def test_evaluating_nonsense_is_refused(uninterrupted: Path, arguments: dict[str, object], error: type[Exception], message: str) -> None:
    source = uninterrupted / str(arguments.pop("source", ""))
    with pytest.raises(error, match=message):
        evaluate_weights(source, **arguments)


def test_another_training_in_the_same_folder_is_refused(uninterrupted: Path) -> None:
    with pytest.raises(RunError, match="another training, which differs in recipe"):
        train_network(CELLS, config_of(uninterrupted, {"optimizer": {"learning_rate": 0.3}}), uninterrupted)
    with pytest.raises(RunError, match="differs in genotype"):
        train_network(load_reference("amoebanet-a"), config_of(uninterrupted, {}), uninterrupted)


def config_of(folder: Path, changes: dict[str, dict[str, object]]) -> TrainConfig:
    found = TrainFolder(folder).config()
    document = found.recipe.model_dump()
    for group, values in changes.items():
        document[group] |= values
    return found.model_copy(update={"recipe": Recipe.model_validate(document)})


@pytest.mark.parametrize("change", [{"device": "cuda:99"}, {"weights": "missing.safetensors"}, {"data": DataSettings(name="nope")}])
def test_what_cannot_be_trained_leaves_nothing_behind(tmp_path: Path, change: dict[str, object]) -> None:
    settings = config(data=DataSettings(name="digits")).model_copy(update=change)
    with pytest.raises(UserError):
        train_network(CELLS, settings, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_loss_that_is_no_number_ends_the_training_and_keeps_what_was_good(tmp_path: Path) -> None:
    data = tiny_data()
    settings = config(overrides={"epochs": 3})
    first = run(settings, tmp_path, data, stop_after=4)
    assert first.ending is Ending.INTERRUPTED and first.epochs == 1
    kept = weights(tmp_path)

    def poison(trainer: Trainer, _: PreparedData) -> None:
        with torch.no_grad():
            trainer.network.classifier.bias.fill_(float("nan"))

    result = train_network(CELLS, settings, tmp_path, Watcher(on_start=poison), data=data)
    assert result.ending is Ending.DIVERGED and "the loss became nan" in result.detail and result.test is None
    assert same(kept, weights(tmp_path)), "the checkpoint is the one from before"
    assert (tmp_path / "best.safetensors").is_file()
    assert json.loads((tmp_path / "result.json").read_text())["ending"] == "diverged"


def test_accumulated_passes_make_the_step_of_the_whole_batch() -> None:
    data = tiny_data()
    steps = {}
    for micro in (None, 10):
        settings = config(
            "convnext", CONVNEXT, {"augmentation.mixup": 0.0, "augmentation.cutmix": 0.0, "schedule.warmup_epochs": 0}, micro_batch=micro
        )
        trainer = make_trainer(build_for_training(load_reference("convnext"), settings, data), data, settings)
        passes = next(iter(trainer.batches.epoch(1, trainer.share, 0, 1)))
        assert [len(labels) for _, labels in passes] == ([32] if micro is None else [8, 8, 8, 8])
        trainer.network.train()
        trainer.optimizer.step = lambda *_: None  # the gradients are what is compared
        trainer.optimizer.zero_grad = lambda *_, **__: None
        trainer.step(passes)
        steps[micro] = torch.cat([parameter.grad.flatten() for parameter in trainer.network.parameters()])
    assert torch.allclose(steps[None], steps[10], atol=1e-6) and steps[None].norm() > 0


@pytest.mark.parametrize(
    ("examples", "batch", "world", "micro", "expected"),
    [
        (1000, 128, 1, None, (128, 128, 1)),
        (1000, 128, 1, 50, (128, 43, 3)),
        (1000, 128, 2, 32, (128, 32, 2)),
        (100, 4096, 1, None, (100, 100, 1)),
        (101, 4096, 2, None, (101, 51, 1)),
    ],
)
def test_a_step_is_cut_into_equal_shares_and_passes(
    examples: int, batch: int, world: int, micro: int | None, expected: tuple[int, ...]
) -> None:
    share = plan_share(load_recipe("fast", {"batch_size": batch}), examples, world, micro)
    assert (share.batch_size, share.micro, share.passes) == expected
    places = [place for rank in range(world) for part in replace(share, rank=rank).places(1) for place in part]
    assert sorted(places) == list(range(share.batch_size, 2 * share.batch_size)), "every image of the step once"


def test_too_few_images_are_refused() -> None:
    with pytest.raises(DataError, match="at least 2 images for each of 4 workers"):
        plan_share(load_recipe("fast"), 6, 4, None)


@pytest.mark.parametrize("name", SKELETONS)
def test_every_skeleton_is_written_and_read_without_loss(name: str) -> None:
    assert read_skeleton(json.loads(json.dumps(skeleton_document(SKELETONS[name], name))), "here") == (name, SKELETONS[name])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "tree"}, "unknown skeleton family 'tree'; choose one of"),
        ({"cells": "x"}, "cells"),
        ({"cells": 0}, "1..50"),
        ({"wings": 2}, "unknown key 'wings'"),
    ],
)
def test_damaged_skeletons_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_skeleton({**SMALL, **change}, "here")


def test_damaged_checkpoints_and_weights_are_named(uninterrupted: Path, tmp_path: Path) -> None:
    for content in (b"", b"\x00" * 100, (uninterrupted / "checkpoint.safetensors").read_bytes()[:5000]):
        (tmp_path / "checkpoint.safetensors").write_bytes(content)
        with pytest.raises(RunError, match="checkpoint cannot be read"):
            read_checkpoint(tmp_path / "checkpoint.safetensors")
    with pytest.raises(WeightsError, match="does not say which network"):
        read_description(uninterrupted / "checkpoint.safetensors")


def test_fine_tuning_starts_from_the_weights_and_leaves_a_classifier_of_other_classes_out(uninterrupted: Path) -> None:
    data = prepare(DataSettings(name="digits"), load_recipe("fast").preparation())
    source = load_file(uninterrupted / "best.safetensors")
    settings = config("nasnet-cifar", weights=str(uninterrupted / "best.safetensors"))
    network = build_for_training(CELLS, settings, data).state_dict()
    assert all(torch.equal(network[name], value) for name, value in source.items())
    fewer = replace(data, class_names=data.class_names[:4])
    other = build_for_training(CELLS, settings, fewer).state_dict()
    assert other["classifier.weight"].shape[0] == 4 and torch.equal(other["stem.0.0.weight"], source["stem.0.0.weight"])


@pytest.mark.parametrize(("images", "best"), [(16, 5), (100, 4), (100_000, 2)])
def test_the_best_epoch_is_the_latest_that_is_as_good_as_the_most_accurate(images: int, best: int) -> None:
    position = Position()
    for epoch, top1 in enumerate([0.5, 0.9, 0.8, 0.88, 0.84], start=1):  # a standard error is 0.075, 0.03 or 0.001
        position.add(EpochRecord(epoch, 0.0, 0.0, top1, top1, 0.0, 0.0, 0.0, 0.0), images)
    assert (position.best_epoch, position.best, position.epoch) == (best, position.history[best - 1].validation_top1, 6)


def test_the_validation_part_is_held_out_of_the_training_set() -> None:
    data = prepare(DataSettings(name="digits"), load_recipe("fast").preparation())
    parts = [{image.tobytes() for image in part.images} for part in (data.train, data.validation, data.test)]
    assert [len(part) for part in (data.train, data.validation, data.test)] == [958, 479, 360]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    assert np.bincount(data.validation.labels).min() > 40, "stratified"


def test_a_training_that_diverged_says_which_weights_there_are(tmp_path: Path) -> None:
    """After its first epoch there are some; before, none are promised."""
    place = TrainFolder(tmp_path)
    result = TrainResult(place, Ending.DIVERGED, 0, 0, 0.0, None, 1, 1, 0.0, 0.0, 3, "the loss became nan")
    assert "it was in its first epoch, so there are no weights" in divergence(result)
    place.best_file.touch()
    assert "nan; the best weights of before are kept in" in divergence(result)
    place.checkpoint_file.touch()
    assert "the checkpoint and the best weights of before are kept in" in divergence(result)


@pytest.mark.parametrize(("top5", "classes", "said"), [(1.0, 5, False), (0.9, 6, True), (1.0, 10, True)])
def test_top5_is_said_from_six_classes_on(top5: float, classes: int, said: bool, tmp_path: Path) -> None:
    test = Scores(top1=0.5, top5=top5, loss=1.0, images=10, seconds=1.0)
    result = TrainResult(TrainFolder(tmp_path), Ending.FINISHED, 1, 1, 0.5, test, 1, 1, 0.0, 0.0, classes)
    assert any("top-5" in line for line in describe_result(result)) == said
