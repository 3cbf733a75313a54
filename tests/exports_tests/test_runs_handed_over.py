"""A run handed over as a network: by its newest training, else untrained and for its own images; never with CIFAR's classes by accident."""

import os
from pathlib import Path

import pytest

import nas
from nas.data.settings import DataSettings
from nas.errors import ConfigError
from nas.evaluators.objective import synthetic_reward
from nas.networks.description import skeleton_document
from nas.training.config import TrainConfig
from nas.training.recipe import load_recipe
from nas.training.session import train_network
from search_spaces.genotype import Genotype
from search_spaces.skeletons import NASNetSkeleton


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search on digits in runs/found, and two trainings of its best cell in trained/."""
    folder = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        settings = {"data.name": "digits"}
        run = nas.search("nasnet", budget=2, evaluator=synthetic_reward, controller="random", run="runs/found", settings=settings)
        for number, name in enumerate(("old", "new")):
            train(run.best, Path("trained") / name)
            os.utime(Path("trained") / name / "best.safetensors", (number, number))
    return folder


def train(genotype: Genotype, folder: Path) -> None:
    small = skeleton_document(NASNetSkeleton(1, 2), "small")
    recipe = load_recipe("fast", {"epochs": 1, "batch_size": 256})
    train_network(genotype, TrainConfig(skeleton=small, data=DataSettings(name="digits"), recipe=recipe), folder)


def test_the_newest_training_is_taken_and_said(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    for number, source in enumerate(("last", "runs/found")):
        done = nas.export(source, "safetensors", f"net{number}.safetensors")
        assert "weights of trained/new, the newest training of this run" in str(done)
        assert nas.load_network(done.files[0]).description.class_names == tuple("0123456789")
    title = (place / "net0.safetensors.README.md").read_text().splitlines()
    assert any(line.startswith("# digits nasnet ") for line in title), "not named by the hour in which the search began"


def test_without_a_training_it_is_said_how_and_classes_are_the_runs(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run, given = str(place / "runs" / "found"), []

    def write(handover, format_, output):
        given.append(handover)
        return [], ""

    monkeypatch.setattr("nas.exports.formats.export_files", write)
    done = nas.export(run, "python", "net.py")
    assert f"untrained (random weights): what a run found is trained by `nas train {run}`" in done.network
    chosen = given[0].architecture
    assert (chosen.classes, chosen.channels, chosen.image_size) == (10, 1, 8)
    nas.export(run, "python", "net.py", classes=7, image_size=16)
    assert (given[1].architecture.classes, given[1].architecture.channels, given[1].architecture.image_size) == (7, 1, 16)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="nothing trained was named: name a training"):
        nas.export(run, "safetensors", "net.safetensors")


def test_a_size_that_is_asked_for_is_built_anew(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr("nas.exports.formats.export_files", lambda handover, *_: ([], ""))
    assert "untrained (random weights)" in nas.export("last", "python", "net.py", cells=1, filters=2).network
