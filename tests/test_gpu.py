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
from nas.evaluators.child import TrainingEvaluator, train_child
from nas.evaluators.evaluator import FRESH, Attempt, Evaluation, Report
from nas.evaluators.registry import build_evaluator
from nas.evaluators.settings import child_training
from nas.networks.description import skeleton_document
from nas.networks.latency import LatencyError, measure_latency
from nas.networks.random_weights import fill_at_random
from nas.networks.weights.described import load_described
from nas.runners.local import LocalRunner
from nas.runners.runner import Ended, Job, Reported
from nas.runners.threads import ThreadedRunner, stream_of
from nas.runs.config import config_from_document
from nas.runs.streams import measure_at_once, open_question
from nas.training.config import TrainConfig
from nas.training.fitting import Amount
from nas.training.graphs import SWITCH, WARM_UP
from nas.training.measure import evaluate_weights
from nas.training.numerics import resolve_precision
from nas.training.recipe import Recipe, TrainingSettings, load_recipe
from nas.training.scoring import score
from nas.training.session import TrainResult, Watcher, choose_device, train_network
from nas.training.trainer import Ending, Hooks, Trainer
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


# ---------------------------------------------------------------------------------------------------- recorded steps


def trainer(images: PreparedData, epochs: int = 4, **changes) -> Trainer:
    """The training of a network that drops paths and units, so that every step draws."""
    torch.manual_seed(0)
    network = build_network(CELLS, NASNetSkeleton(1, 4, drop_path_keep=0.7, dropout=0.2), classes=10, image_size=16).to(DEVICE)
    return Trainer(network, images, Recipe(epochs=epochs, **dict(settings(**changes))), seed=0, device=torch.device(DEVICE))


def history(one: Trainer) -> list[float]:
    one.run(lambda is_best: None)
    return [record.train_loss for record in one.position.history]


ADAMW = {"optimizer": {"name": "adamw"}, "learning_rate": 0.003}


@pytest.mark.parametrize(
    "changes",
    [{"precision": "float32"}, {}, {"precision": "float32", **ADAMW}, {"precision": "float32", "ema": {"decay": 0.9}}],
    ids=["float32", "auto", "adamw", "average"],
)
def test_recorded_steps_train_as_steps_operation_by_operation(
    images: PreparedData, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]
) -> None:
    recorded = trainer(images, **changes)
    assert recorded.plain == ""
    found = history(recorded)
    assert recorded.replays is not None and recorded.replays.refused == "" and recorded.replays.replayed == 32 - WARM_UP
    monkeypatch.setenv(SWITCH, "off")
    plain = trainer(images, **changes)
    assert plain.replays is None and found == pytest.approx(history(plain), rel=10 * SAME if "precision" not in changes else 2 * SAME)


def test_replays_draw_by_the_seed_of_their_step(images: PreparedData) -> None:
    one = trainer(images, precision="float32")
    assert one.replays is not None
    passes = next(one.batches.epoch(1, one.share, 0, 8))
    one.network.train()
    with one.replays.stream():
        for _ in range(WARM_UP + 1):
            one.step(passes)
        before = {name: value.clone() for name, value in one.tensors().items()}
        losses = []
        for step in (5, 6, 5):
            for name, value in one.tensors().items():
                value.copy_(before[name])
            one.position.step = step
            losses.append(one.step(passes).item())
    assert one.replays.replayed == 4 and losses[0] == pytest.approx(losses[2], rel=1e-5) and losses[0] != pytest.approx(losses[1], rel=1e-4)


def test_every_side_of_growing_images_is_recorded(images: PreparedData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.training.trainer.LEAST_REPLAYS", 5)
    growing = {"precision": "float32", "resolution": {"start": 0.5}}
    recorded = trainer(images, **growing)
    found = history(recorded)
    assert recorded.replays is not None and recorded.replays.replayed >= 32 - 3 * WARM_UP - 5
    monkeypatch.setenv(SWITCH, "off")
    assert found == pytest.approx(history(trainer(images, **growing)), rel=2 * SAME)


def test_a_step_never_waits_for_the_gpu(images: PreparedData) -> None:
    one = trainer(images)
    assert one.replays is not None
    one.network.train()
    with one.replays.stream():
        for number, passes in enumerate(one.batches.epoch(1, one.share, 0, 8)):
            torch.cuda.set_sync_debug_mode("error" if number > WARM_UP else "default")
            try:
                one.step(passes)
            finally:
                torch.cuda.set_sync_debug_mode("default")
    assert one.replays.replayed == 8 - WARM_UP


def test_recorded_steps_go_on_from_a_checkpoint(images: PreparedData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.training.trainer.LEAST_REPLAYS", 4)
    for changes in ({"precision": "float32"}, {"precision": "float32", **ADAMW}):
        whole, first, second = (trainer(images, 2, **changes) for _ in range(3))
        losses = history(whole)
        first.run_epoch(Hooks())
        kept = {name: value.cpu().clone() for name, value in first.tensors().items()}
        second.load(kept, first.state(), "here")
        assert history(second) == pytest.approx(losses, rel=SAME)


def test_a_compiled_training_has_the_same_names_and_learns(images: PreparedData) -> None:
    torch.manual_seed(0)
    chosen = Recipe(epochs=2, **dict(settings(precision="bfloat16")))
    one = Trainer(child_network(), images, chosen, seed=0, device=torch.device(DEVICE), compiled=True)
    found = history(one)
    assert found[1] < found[0] and not any("_orig_mod" in name for name in one.tensors())


def test_children_train_at_once_on_streams_of_their_own(images: PreparedData) -> None:
    document = {
        "fidelity": {"epochs": 4, "cells": 1, "filters": 4},
        "training": {"batch_size": 64, "precision": "float32", "drop_path_keep": 0.7},
        "runner": {"kind": "local"},
    }
    config = config_from_document(document)
    evaluator = TrainingEvaluator(images, config, DEVICE)
    runners = LocalRunner(evaluator), ThreadedRunner(evaluator, 4, place=stream_of(config.runner))
    found: list[dict[int, list[float]]] = []
    for runner in runners:
        told: dict[int, list[float]] = {trial: [] for trial in range(4)}
        for trial in told:
            runner.submit(Job(trial, 1, CELLS, trial))
        ends: list[Ended] = []
        while len(ends) < 4:
            for event in runner.poll(60.0):
                if isinstance(event, Reported):
                    told[event.trial].append(event.report.metrics["train_loss"])
                elif isinstance(event, Ended):
                    ends.append(event)
        runner.close()
        assert all(isinstance(end.evaluation.outcome, Completed) and end.evaluation.metrics["replayed_share"] > 0.5 for end in ends), ends
        found.append(told)
    for trial in found[0]:
        assert found[1][trial] == pytest.approx(found[0][trial], rel=2 * SAME)


def test_the_number_of_children_at_once_is_measured() -> None:
    document = {
        "data": {"name": "synthetic"},
        "fidelity": {"epochs": 1, "cells": 1, "filters": 4, "train_examples": 128, "validation_examples": 50},
        "training": {"batch_size": 64},
        "runner": {"kind": "local"},
    }
    config = config_from_document(document)
    assert open_question(config)
    layout = measure_at_once(config, Amount(128, 50, 16, 10))
    assert layout.workers in (1, 2, 4, 8, 16) and "at once on streams of one GPU" in layout.words


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
