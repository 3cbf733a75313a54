"""A training goes on with the images it began with, wherever they are now, and with no others."""

import json
from pathlib import Path

import pytest
from support.commands import nas
from support.image_trees import CLASSES, make_tree, picture

from nas.data.prepared import prepare
from nas.errors import ConfigError, DataError
from nas.runs.folder import RunFolder
from nas.training.config import preparation
from nas.training.folder import TrainFolder
from nas.training.session import Watcher, train_network
from nas.training.trainer import Ending

SMALL = ["--cells", "1", "--filters", "2", "--image-size", "16"]
TRAIN = ["train", "nasnet-a", "--epochs", "2", "--batch-size", "16", "--threads", "1", *SMALL]


@pytest.fixture
def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A training of two epochs that was stopped after its first step."""
    make_tree(tmp_path / "images", damaged=False)
    nas([*TRAIN, "--data", str(tmp_path / "images"), "--dry-run", "-o", "net"], tmp_path, monkeypatch)
    genotype, config = planned(tmp_path)
    result = train_network(genotype, config, tmp_path / "net", Watcher(stop=lambda: True))
    assert result.ending is Ending.INTERRUPTED
    return tmp_path


def planned(folder: Path):
    from nas.api.wishes import training_wish

    given = {"data": folder / "images", "epochs": 2, "batch_size": 16, "image_size": 16, "threads": 1, "cells": 1, "filters": 2}
    genotype, config, *_ = training_wish("nasnet-a", {**given, "output": folder / "net"})
    return genotype, config


def test_moved_images_are_found_by_data_and_give_the_same_result(stopped, tmp_path_factory, monkeypatch):
    genotype, config = planned(stopped)
    straight = train_network(genotype, config, tmp_path_factory.mktemp("straight") / "net")
    (stopped / "images").rename(stopped / "elsewhere")
    with pytest.raises(DataError, match=r"must exist, but .*images does not"):
        nas(["train", "--resume", "net"], stopped, monkeypatch)
    make_tree(stopped / "others", train=4, damaged=False)
    with pytest.raises(DataError, match="a training must go on with the images it began with"):
        nas(["train", "--resume", "net", "--data", "others"], stopped, monkeypatch)
    assert TrainFolder(stopped / "net").config().data.root == str(stopped / "images"), "a wrong place is not remembered"
    nas(["train", "--resume", "net", "--data", "elsewhere"], stopped, monkeypatch)
    result = json.loads((stopped / "net" / "result.json").read_text())
    assert straight.test is not None and result["test"]["loss"] == straight.test.loss
    assert TrainFolder(stopped / "net").config().data.root == str(stopped / "elsewhere")
    nas(["evaluate", "net"], stopped, monkeypatch)


@pytest.mark.parametrize("change", ["exchanged", "added", "removed"])
def test_other_images_are_refused(change, stopped, monkeypatch):
    file = stopped / "images" / "train" / CLASSES[0] / "000.jpg"
    match change:
        case "exchanged":
            picture(1, 77).save(file)
        case "added":
            picture(1, 77).save(file.with_name("new.jpg"))
        case "removed":
            file.unlink()
    before = (stopped / "net" / "checkpoint.safetensors").read_bytes()
    with pytest.raises(DataError, match=r"go on with the images it began with .*1 (changed|new|missing) \("):
        nas(["train", "--resume", "net"], stopped, monkeypatch)
    assert (stopped / "net" / "checkpoint.safetensors").read_bytes() == before, "nothing is lost"


def test_a_checkpoint_of_other_images_is_refused_whatever_the_list_says(stopped):
    """The list of images may be gone: the checkpoint knows what it was trained on."""
    picture(1, 77).save(stopped / "images" / "train" / CLASSES[0] / "000.jpg")
    (stopped / "net" / "images.json").unlink()
    genotype, config = planned(stopped)
    with pytest.raises(DataError, match=r"must go on with the images it began with"):
        train_network(genotype, config, stopped / "net")


def test_another_data_set_cannot_be_named_on_resuming(stopped, monkeypatch):
    with pytest.raises(ConfigError, match="the data set that this began with is folder, but --data names digits"):
        nas(["train", "--resume", "net", "--data", "digits"], stopped, monkeypatch)


def test_a_search_refuses_other_images_and_finds_moved_ones(tmp_path, monkeypatch):
    make_tree(tmp_path / "images", damaged=False)
    search = ["search", "--preset", "laptop", "--budget", "1", "--epochs", "1", "--runner", "local", "--run", "run", "--data", "images"]
    nas([*search, "--set", "data.validation_examples=12", "--set", "fidelity.image_size=8"], tmp_path, monkeypatch)
    nas(["search", "--resume", "run", "--budget", "2"], tmp_path, monkeypatch)
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    config = (tmp_path / "run" / "config.yaml").read_text().replace("budget: 2", "budget: 3")
    (tmp_path / "run" / "config.yaml").write_text(config)
    nas(["resume", "run", "--data-dir", "elsewhere"], tmp_path, monkeypatch)
    picture(1, 77).save(tmp_path / "elsewhere" / "train" / CLASSES[0] / "000.jpg")
    (tmp_path / "run" / "config.yaml").write_text((tmp_path / "run" / "config.yaml").read_text().replace("budget: 3", "budget: 4"))
    with pytest.raises(DataError, match="a search or a training must go on with the images it began with"):
        nas(["resume", "run"], tmp_path, monkeypatch)


def test_the_fingerprint_knows_files_from_pixels(tmp_path):
    """In memory it is of the pixels, streamed of the files' bytes; either tells the same images from others."""
    make_tree(tmp_path / "images", damaged=False)
    _, config = planned(tmp_path)
    wanted = preparation(config)
    first = prepare(config.data, wanted).fingerprint()
    assert first == prepare(config.data, wanted).fingerprint()
    picture(1, 77).save(tmp_path / "images" / "train" / CLASSES[0] / "000.jpg")
    assert first != prepare(config.data, wanted).fingerprint()


SEARCH = ["search", "--preset", "cpu", "--runner", "local", "--budget", "1", "--epochs", "1", "--cells", "1", "--filters", "2"]


def test_a_search_goes_on_with_the_images_it_began_with(tmp_path, monkeypatch):
    make_tree(tmp_path / "images", train=8, damaged=False)
    small = ["--set", "fidelity.image_size=8", "--set", "ladder=[]", "--controller", "random"]
    nas([*SEARCH, "--data", str(tmp_path / "images"), *small, "--run", "found"], tmp_path, monkeypatch)
    listed = json.loads((tmp_path / "found" / "images.json").read_text())
    assert len(listed["files"]) == 3 * (8 + 6)
    resumed = ["search", "--resume", "found", "--budget", "2"]
    with pytest.raises(ConfigError, match="the data set that this began with is folder, but --data names digits"):
        nas([*resumed, "--data", "digits"], tmp_path, monkeypatch)

    (tmp_path / "images").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"must exist, but .*images does not"):
        nas(resumed, tmp_path, monkeypatch)
    file = tmp_path / "elsewhere" / "train" / CLASSES[0] / "000.jpg"
    kept = file.read_bytes()
    picture(1, 77).save(file)
    with pytest.raises(DataError, match=r"a search or a training must go on with the images.* 1 changed \(train/n01/000.jpg\)"):
        nas([*resumed, "--data", "elsewhere"], tmp_path, monkeypatch)
    file.write_bytes(kept)
    nas([*resumed, "--data", "elsewhere"], tmp_path, monkeypatch)
    assert RunFolder(tmp_path / "found").state().spent == 2
    assert RunFolder(tmp_path / "found").config().data.root == str(tmp_path / "elsewhere")


def test_a_search_that_is_refused_leaves_no_folder(tmp_path, monkeypatch):
    make_tree(tmp_path / "images", train=1, val=1, damaged=False)
    with pytest.raises(DataError):
        nas([*SEARCH, "--data", str(tmp_path / "images"), "--run", "found"], tmp_path, monkeypatch)
    assert not (tmp_path / "found").exists()
