"""Transfer: stacked to a size, with the published recipe; on two workers the same as on one, also when one is killed."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.image_trees import make_tree

from nas.data.settings import DataSettings
from nas.errors import ConfigError, DataError, UserError
from nas.networks.description import skeleton_document
from nas.training.checkpoint import read_checkpoint
from nas.training.config import TrainConfig
from nas.training.fitting import amount_of
from nas.training.recipe import load_recipe
from nas.training.session import train_network
from nas.training.transfer import Wish, configure_transfer, default_recipe, default_workers, target_data
from search_spaces.reference import load_reference
from search_spaces.residual_skeletons import ResidualSkeleton


@pytest.fixture(scope="module")
def ilsvrc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images") / "imagenet"
    make_tree(root / "ILSVRC/Data/CLS-LOC", train=5, val=2, side=230, damaged=False)
    return root


def test_564_million_macs_of_nasnet_a_in_the_mobile_skeleton_are_4_at_1056(ilsvrc: Path) -> None:
    data = target_data("imagenet", str(ilsvrc))
    wish = Wish(load_reference("nasnet-a"), data, skeleton="mobile", macs="564M", imagenet=True)
    genotype, config, choice, _ = configure_transfer(wish)
    assert genotype.name == "NASNet-A" and choice.startswith("NASNet-A (4 @ 1056): N=4")
    assert (config.skeleton["cells"], config.skeleton["filters"], config.skeleton["stem"]) == (4, 44, "imagenet")
    assert config.recipe.name == "nasnet-mobile" and config.data.root == str(ilsvrc / "ILSVRC/Data/CLS-LOC")


def test_a_target_keeps_what_is_given_and_the_recipe_can_be_chosen(ilsvrc: Path) -> None:
    wish = Wish(load_reference("nasnet-a"), target_data(str(ilsvrc), None), cells=2, params="2M", recipe="fast", recipe_flags={"epochs": 3})
    _, config, choice, _ = configure_transfer(wish)
    assert config.skeleton["cells"] == 2 and "the 2M parameters asked for" in choice
    assert (config.recipe.name, config.recipe.epochs) == ("fast", 3)


def test_a_few_pictures_are_not_trained_on_for_hundreds_of_published_epochs(ilsvrc: Path) -> None:
    _, config, _, choices = configure_transfer(Wish(load_reference("nasnet-a"), target_data(str(ilsvrc), None)))
    images = amount_of(config.data).train
    steps = config.recipe.epochs * math.ceil(images / config.recipe.batch_size)
    assert config.recipe.name == "fast" and 600 <= steps < 700 and {"epochs", "batch_size"} <= {choice.setting for choice in choices}


@pytest.mark.parametrize(
    ("skeleton", "recipe"),
    [
        ("nasnet-mobile", "nasnet-mobile"),
        ("nasnet-large", "nasnet-large"),
        ("nasnet-cifar", "nasnet-cifar"),
        ("resnet-50", "resnext-imagenet"),
        ("resnet-29-cifar", "resnext-cifar"),
        ("convnext-t", "convnext"),
    ],
)
def test_a_skeleton_brings_the_recipe_it_was_published_with(skeleton: str, recipe: str) -> None:
    assert default_recipe(skeleton) == recipe


def test_nonsense_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="name its folder"):
        target_data("imagenet", None)
    with pytest.raises(ConfigError, match="--to must be imagenet"):
        target_data("mars", None)
    with pytest.raises(ConfigError, match="--address needs --workers"):
        default_workers(None, "cpu", "auto")
    with pytest.raises(UserError, match="exclude each other"):
        configure_transfer(Wish(load_reference("nasnet-a"), {"data.name": "cifar10"}, macs="5M", params="5M"))
    with pytest.raises(UserError, match="at least 2 classes"):
        configure_transfer(Wish(load_reference("nasnet-a"), {"data.name": "folder", "data.root": str(tmp_path)}))


OPTIONS = [
    "--cells",
    "1",
    "--filters",
    "4",
    "--skeleton",
    "nasnet-cifar",
    "--recipe",
    "nasnet-cifar",
    "--epochs",
    "3",
    "--batch-size",
    "16",
]


def launch(tree: Path, output: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "nas.cli.main", "transfer", "nasnet-a", "--to", str(tree), *OPTIONS, "--image-size", "16"]
    command += ["--workers", "2", "--threads", "1", "--checkpoint-steps", "2", "--device", "cpu", "-o", str(output), *more]
    environment = {**os.environ, "COLUMNS": "200", "RAY_worker_niceness": "0"}
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)


def history(folder: Path) -> list[dict[str, float]]:
    file = folder / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


@pytest.mark.slow
def test_two_workers_one_of_them_killed_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    """The loss curve is the one of a training in which nobody was killed; corrupt, grey and CMYK images are among the images."""
    tree = make_tree(tmp_path / "tree", train=60, val=10, side=32)
    whole = launch(tree, tmp_path / "whole")
    output, _ = whole.communicate(timeout=600)
    assert whole.returncode == 0, output
    killed = launch(tree, tmp_path / "killed")
    deadline = time.monotonic() + 300
    while not history(tmp_path / "killed"):
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    victim = int((tmp_path / "killed/workers/1.pid").read_text())
    os.kill(victim, signal.SIGKILL)
    output, _ = killed.communicate(timeout=600)
    assert killed.returncode == 0, output
    log = (tmp_path / "killed/log.txt").read_text()
    assert log.count("session: epoch") == 2, "the workers began twice"
    assert "session: epoch 1, step 0" in log and "session: epoch 2" in log, "the second time at the checkpoint, not at the beginning"
    assert [record["train_loss"] for record in history(tmp_path / "killed")] == [
        record["train_loss"] for record in history(tmp_path / "whole")
    ]
    first, second = (load_file(tmp_path / name / "last.safetensors") for name in ("whole", "killed"))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
@pytest.mark.parametrize("signals", [1, 2])
def test_ctrl_c_stops_two_workers_after_the_same_step(signals: int, tmp_path: Path) -> None:
    """One step an epoch: the first Ctrl-C makes a checkpoint, a second one does not wait for it."""
    tree = make_tree(tmp_path / "tree", train=12, val=4, side=32, damaged=False)
    more = ["--epochs", "400", "--batch-size", "1000"]
    process = launch(tree, tmp_path / "stopped", *more)
    deadline = time.monotonic() + 300
    while not history(tmp_path / "stopped"):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.01)
    for _ in range(signals):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in output, output
    assert "stopping after this step" in output
    if signals == 1:
        position = read_checkpoint(tmp_path / "stopped/checkpoint.safetensors")[1]["position"]
        assert position["step"] == 1 and position["epoch"] == len(history(tmp_path / "stopped")) + 1 < 400
        assert "session ended: interrupted" in (tmp_path / "stopped/log.txt").read_text()


@pytest.mark.slow
def test_two_workers_make_the_same_steps_as_one(tmp_path: Path) -> None:
    """With LayerNorm, whose result does not depend on who else is in the batch, up to rounding."""
    from nas.runners.distributed import Group, train_distributed

    tree = make_tree(tmp_path / "tree", train=20, val=6, side=32)
    skeleton = ResidualSkeleton((1, 1), (8, 16), "patch", None, 4, stem_norm="layer", activation="gelu", head_norm=True)
    recipe = load_recipe(
        "convnext-finetune", {"epochs": 2, "batch_size": 15, "optimizer.learning_rate": 0.001, "optimizer.per_images": None}
    )
    settings = TrainConfig(
        skeleton=skeleton_document(skeleton, "tiny"), recipe=recipe, data=DataSettings(name="folder", root=str(tree)), image_size=16
    )
    alone = train_network(load_reference("convnext"), settings, tmp_path / "alone")
    together = train_distributed(load_reference("convnext"), settings, tmp_path / "together", Group(2))
    assert [record.train_loss for record in together.history] == pytest.approx([record.train_loss for record in alone.history], rel=0.2)
    first, second = (load_file(tmp_path / name / "last.safetensors") for name in ("alone", "together"))
    assert all(torch.allclose(first[name], second[name], atol=2e-4) for name in first)
    assert together.test is not None and alone.test is not None and together.test.images == alone.test.images
