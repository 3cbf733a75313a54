"""What has to hold on a GPU: the same training, scoring, resuming and exporting as on a CPU, within the rounding of another processor."""

import importlib.util
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support.children import finish
from torch import nn
from typer.testing import CliRunner

from controllers.controller import Completed, Failed
from nas.cli.main import app
from nas.data.batches import Resident, scoring_batches
from nas.data.embedded import make_synthetic
from nas.data.prepared import PreparedData, prepare_dataset
from nas.data.settings import DataSettings, Preparation
from nas.errors import ConfigError
from nas.evaluators.child import train_child
from nas.evaluators.evaluator import FRESH, Attempt, Evaluation, Report
from nas.evaluators.registry import build_evaluator
from nas.evaluators.settings import child_training
from nas.networks.description import skeleton_document
from nas.networks.latency import LatencyError, measure_latency
from nas.networks.random_weights import fill_at_random
from nas.networks.weights.described import load_described
from nas.runs.config import config_from_document
from nas.training.config import TrainConfig
from nas.training.measure import evaluate_weights
from nas.training.numerics import resolve_precision
from nas.training.recipe import Recipe, TrainingSettings, load_recipe
from nas.training.scoring import score
from nas.training.session import TrainResult, Watcher, choose_device, train_network
from nas.training.trainer import Ending
from search_spaces.networks.build import build_network
from search_spaces.networks.network import Network
from search_spaces.reference import load_reference
from search_spaces.skeletons import NASNetSkeleton

pytestmark = pytest.mark.gpu

DEVICE = "cuda"
CELLS = load_reference("nasnet-a")
SAME = 0.005
"""How far losses of the same training may lie apart: a GPU adds up gradients of pooling in no fixed order, and steps amplify it.

Momenta that are lost on the way show with 0.008 after one epoch and 0.024 after two.
"""


@pytest.fixture(autouse=True)
def own_switches() -> Iterator[None]:
    """Fixed algorithms and plain float32 for a test, and no switch left as a test or the engine set it."""
    cudnn, precision = torch.backends.cudnn, torch.get_float32_matmul_precision()
    before = cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32
    cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32 = True, False, False
    yield
    cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32 = before
    torch.set_float32_matmul_precision(precision)


@pytest.fixture(scope="module")
def images() -> PreparedData:
    wanted = Preparation(train_examples=512, test=False)
    return prepare_dataset(make_synthetic(1000, 10, image_size=16), DataSettings(name="synthetic", validation_examples=200), wanted)


def child_network(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return build_network(CELLS, NASNetSkeleton(1, 4), classes=10, image_size=16).to(DEVICE)


def settings(**changes) -> TrainingSettings:
    return TrainingSettings.model_validate(child_training({"batch_size": 64, "augmentation": "shift_flip", "learning_rate": 0.1} | changes))


def run(network: nn.Module, data: PreparedData, training: TrainingSettings, attempt: Attempt = FRESH) -> tuple[list[Report], Evaluation]:
    child = train_child(network, data, Recipe(epochs=3, **dict(training)), 0, None, attempt, Resident(torch.device(DEVICE)))
    return finish(child)


def losses(reports: list[Report]) -> list[float]:
    return [report.metrics["train_loss"] for report in reports]


# ---------------------------------------------------------------------------------------------------- children


@pytest.mark.parametrize("precision", ["float32", "auto", "float16"])
def test_a_child_is_finite_learns_and_can_be_repeated(images: PreparedData, precision: str) -> None:
    first, evaluation = run(child_network(), images, settings(precision=precision))
    again, _ = run(child_network(), images, settings(precision=precision))
    assert isinstance(evaluation.outcome, Completed) and all(math.isfinite(loss) for loss in losses(first))
    assert losses(first)[-1] < losses(first)[0]
    assert losses(again) == pytest.approx(losses(first), rel=SAME)


def test_auto_computes_in_16_bits_and_keeps_weights_in_32(images: PreparedData) -> None:
    network, seen = child_network(), set()
    convolution = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    convolution.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    run(network, images, settings(precision="auto"))
    chosen = resolve_precision("auto", torch.device(DEVICE))
    assert seen == {chosen}
    assert chosen == (torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_child_goes_on_from_its_checkpoint(images: PreparedData, precision: str) -> None:
    training = settings(precision=precision)
    whole, _ = run(child_network(), images, training, Attempt(keep=lambda epoch: epoch == 1))
    rest, evaluation = run(child_network(seed=1), images, training, Attempt(checkpoint=whole[0].checkpoint))
    assert [report.epoch for report in rest] == [2, 3] and isinstance(evaluation.outcome, Completed)
    assert losses(rest) == pytest.approx(losses(whole)[1:], rel=SAME)


def test_too_little_memory_is_an_outcome_and_the_next_child_trains(images: PreparedData) -> None:
    class Large(Network):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3, 3))

        def forward_with_auxiliary(self, images):
            torch.empty(1 << 50, dtype=torch.uint8, device=images.device)
            raise AssertionError("so much memory there is not")

    reports, evaluation = run(Large().to(DEVICE), images, settings())
    assert reports == [] and isinstance(evaluation.outcome, Failed) and evaluation.outcome.reason == "out_of_memory"
    assert isinstance(run(child_network(), images, settings())[1].outcome, Completed)


def test_a_searchs_evaluator_takes_the_gpu() -> None:
    document = {
        "data": {"name": "synthetic"},
        "fidelity": {"epochs": 1, "cells": 1, "filters": 4, "train_examples": 128, "validation_examples": 50},
        "training": {"batch_size": 64},
        "runner": {"gpus_per_child": 1.0},
    }
    config = config_from_document(document)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.max_memory_allocated()
    data = prepare_dataset(make_synthetic(1000, 10), config.data, config.preparation())
    child = build_evaluator(config, data).evaluate(CELLS, 0, None)
    assert 0 <= next(child).reward <= 1
    with pytest.raises(StopIteration) as end:
        next(child)
    assert isinstance(end.value.value.outcome, Completed) and end.value.value.metrics["macs"] > 0
    assert torch.cuda.max_memory_allocated() > before


# ---------------------------------------------------------------------------------------------------- scoring and measuring


def test_scoring_equals_the_cpus(images: PreparedData) -> None:
    network = build_network(CELLS, NASNetSkeleton(1, 8), classes=10, image_size=16)
    fill_at_random(network)
    here, there = (
        score(network.to(device), scoring_batches(images, images.validation, Resident(torch.device(device)))) for device in ("cpu", DEVICE)
    )
    assert there.loss == pytest.approx(here.loss, rel=1e-4)
    assert there.top1 == pytest.approx(here.top1, abs=1 / here.images) and there.images == here.images == 200


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_latency_is_measured_in_every_precision(dtype: str) -> None:
    measured = measure_latency(child_network(), image_size=16, batch_size=4, device=DEVICE, dtype=dtype, runs=5, warmup=2)
    assert measured.device.startswith(DEVICE) and measured.dtype == dtype and 0 < measured.fastest <= measured.median


@pytest.mark.parametrize("name", ["gpu", "meta", "cuda:99", "cuda:-1"])
def test_devices_that_are_not_there_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="--device must be auto, cpu or one of this machine's"):
        choose_device(name)
    with pytest.raises(LatencyError, match=r"device"):
        measure_latency(nn.Identity(), image_size=8, device=name)


def test_devices_that_are_there_are_taken() -> None:
    assert choose_device("auto").type == choose_device("cuda:0").type == "cuda"


# ---------------------------------------------------------------------------------------------------- networks


def training_data() -> PreparedData:
    dataset = make_synthetic(600, 100, 10, 16)
    first, second = (dataset.train.take(part) for part in (range(400), range(400, 600)))
    return PreparedData("synthetic", first, second, dataset.test, dataset.class_names, 3, 16, (0.5,) * 3, (0.25,) * 3, mirrors=False)


def train(folder: Path, stop_after: int | None = None, recipe: str = "fast", **overrides) -> TrainResult:
    """Train NASNet-A's cells small on the GPU; with ``stop_after``, stop after so many steps."""
    chosen = load_recipe(recipe, {"epochs": 2, "batch_size": 50, **overrides})
    skeleton = skeleton_document(NASNetSkeleton(1, 4), "small")
    config = TrainConfig(skeleton=skeleton, recipe=chosen, data=DataSettings(name="synthetic"), device=DEVICE)
    steps = iter(range(1, 1000))
    return train_network(CELLS, config, folder, Watcher(stop=lambda: next(steps) == stop_after), data=training_data())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "network"
    assert train(folder).ending is Ending.FINISHED
    return folder


@pytest.mark.parametrize(
    ("recipe", "overrides"),
    [
        ("fast", {"precision": "float32"}),
        ("fast", {"precision": "float16"}),
        ("nasnet-mobile", {"optimizer.learning_rate": 0.05, "regularisation.norm_momentum": 0.1}),
    ],
    ids=["float32", "float16", "rmsprop and average"],
)
def test_a_stopped_training_goes_on_as_if_it_had_not_been(tmp_path: Path, recipe: str, overrides: dict[str, object]) -> None:
    whole = train(tmp_path / "whole", None, recipe, **overrides)
    for stop_after in (3, 7, None):
        parts = train(tmp_path / "parts", stop_after, recipe, **overrides)
        assert parts.ending is (Ending.INTERRUPTED if stop_after else Ending.FINISHED)
    found = [[record.train_loss for record in result.history] for result in (whole, parts)]
    assert found[1] == pytest.approx(found[0], rel=SAME) and all(math.isfinite(loss) for loss in found[0])
    assert parts.test is not None and whole.test is not None and parts.test.images == whole.test.images == 100


def test_weights_trained_on_the_gpu_evaluate_alike_on_both(trained: Path) -> None:
    data = {"data.name": "synthetic"}
    here, there = (evaluate_weights(trained / "best.safetensors", data=data, device=device, threads=1) for device in ("cpu", DEVICE))
    assert there.device.startswith(DEVICE) and there.scores.loss == pytest.approx(here.scores.loss, rel=1e-4)


@pytest.mark.parametrize(("name", "suffix"), [("safetensors", "safetensors"), ("python", "py"), ("torch-export", "pt2"), ("onnx", "onnx")])
def test_weights_trained_on_the_gpu_are_exported_and_read_back(trained: Path, tmp_path: Path, name: str, suffix: str) -> None:
    done = CliRunner().invoke(app, ["export", str(trained), "--format", name, "--output", str(tmp_path / f"network.{suffix}")])
    assert done.exit_code == 0, done.output
    assert "read back" in done.output


def test_an_exported_file_computes_the_same_on_the_gpu(trained: Path, tmp_path: Path) -> None:
    file = tmp_path / "network.py"
    assert CliRunner().invoke(app, ["export", str(trained), "--format", "python", "--output", str(file)]).exit_code == 0
    spec = importlib.util.spec_from_file_location("exported", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    batch = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = load_described(trained / "best.safetensors")[0](batch)
        found = module.load(file.with_suffix(".safetensors")).to(DEVICE)(batch.to(DEVICE))
    assert (found.cpu() - expected).abs().max() <= 1e-4 * expected.abs().max()
