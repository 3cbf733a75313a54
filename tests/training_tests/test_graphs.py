"""Recorded steps: the logic around a CUDA graph, with a recorder that needs no GPU and is as strict as one."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from torch import Tensor

from nas.data.embedded import make_synthetic
from nas.data.prepared import PreparedData
from nas.training import graphs
from nas.training.graphs import WARM_UP, ReplayedSteps, refusal
from nas.training.recipe import Recipe, load_recipe
from nas.training.trainer import Hooks, Position, Trainer, Workers
from search_spaces.networks.build import build_network
from search_spaces.reference import load_reference
from search_spaces.skeletons import NASNetSkeleton

CPU = torch.device("cpu")


class FakeRecorder:
    """Does recorded work when it is replayed, and checks that the tensors which the work reads are where they were."""

    def __init__(self, reason: str = "", fails: str = "") -> None:
        self.reason, self.fails = reason, fails
        self.recordings = self.watched = 0
        self.trainer: Trainer | None = None

    def stream(self) -> AbstractContextManager[object]:
        return nullcontext()

    def watch(self, work: Callable[[], Tensor]) -> tuple[Tensor, str]:
        self.watched += 1
        return work(), self.reason

    def record(self, work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        if self.fails:
            raise RuntimeError(f"{self.fails}\nand more")
        self.recordings += 1
        assert self.trainer is not None
        groups = self.trainer.optimizer.param_groups
        rates = [group["lr"] for group in groups]
        assert all(isinstance(rate, Tensor) for rate in rates), "a number would be recorded as it is now"
        loss, places = torch.zeros((), dtype=torch.float64), self.places()

        def replay() -> None:
            assert self.places() == places and all(isinstance(group["lr"], float) for group in groups)
            before = [group["lr"] for group in groups]
            for group, rate in zip(groups, rates, strict=True):
                assert rate.item() == pytest.approx(group["lr"]), "the rate of this step"
                group["lr"] = rate
            loss.copy_(work())
            for group, rate in zip(groups, before, strict=True):
                group["lr"] = rate

        return loss, replay

    def places(self) -> list[int]:
        assert self.trainer is not None
        tensors = {**self.trainer.tensors(), "progress": self.trainer.network.progress}
        return [value.data_ptr() for name, value in sorted(tensors.items()) if not name.startswith("average.")]


def data(train: int = 48, side: int = 8) -> PreparedData:
    dataset = make_synthetic(train + 30, 10, 3, side)
    first, second = (dataset.train.take(part) for part in (range(train), range(train, train + 30)))
    return PreparedData("tiny", first, second, dataset.test, dataset.class_names, 3, side, (0.5,) * 3, (0.25,) * 3, mirrors=True)


def recipe(name: str = "fast", **changes: object) -> Recipe:
    return load_recipe(name, {"epochs": 4, "batch_size": 8, "precision": "float32", **changes})


def trained(chosen: Recipe, recorder: FakeRecorder | None, images: PreparedData) -> Trainer:
    """A tiny network, trained to the end."""
    torch.manual_seed(0)
    skeleton = NASNetSkeleton(1, 2, drop_path_keep=0.7, dropout=0.2)
    network = build_network(load_reference("nasnet-a"), skeleton, classes=3, image_size=images.image_size)
    trainer = Trainer(network, images, chosen, seed=1, device=CPU, recorder=recorder)
    if recorder is not None:
        recorder.trainer = trainer
    trainer.run(lambda is_best: None)
    return trainer


RECIPES = {
    "sgd, drop path, dropout": ("fast", {"resolution.start": 1.0}),
    "adamw, average, mixing": ("convnext", {"augmentation.rand_augment": None, "augmentation.random_erasing": 0.0, "ema.decay": 0.9}),
}


@pytest.mark.parametrize("case", RECIPES)
def test_replayed_steps_end_where_steps_operation_by_operation_do(case: str) -> None:
    name, changes = RECIPES[case]
    images, recorder = data(), FakeRecorder()
    plain, replayed = (trained(recipe(name, **changes), one, images) for one in (None, recorder))
    assert plain.replays is None and replayed.replays is not None
    assert (replayed.replays.steps, replayed.replays.replayed) == (24, 24 - WARM_UP) and recorder.recordings == 1
    first, second = plain.tensors(), replayed.tensors()
    assert first.keys() == second.keys()
    for key, value in first.items():
        torch.testing.assert_close(second[key], value, rtol=1e-4, atol=1e-5)
    losses = [[record.train_loss for record in one.position.history] for one in (plain, replayed)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert [record.learning_rate for record in replayed.position.history] == [record.learning_rate for record in plain.position.history]


def test_every_side_is_recorded_where_enough_steps_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.training.trainer.LEAST_REPLAYS", 5)
    recorder = FakeRecorder()
    replays = trained(recipe(**{"resolution.start": 0.5}), recorder, data(side=16)).replays
    assert replays is not None and recorder.recordings == 2, "at 12 and at 16 pixels: at 8 there are too few"
    assert recorder.watched == 3 and 8 < replays.replayed <= 24 - 3 * WARM_UP and not replays.refused


def test_a_short_training_is_not_recorded() -> None:
    recorder = FakeRecorder()
    assert str(trained(recipe(epochs=1), recorder, data()).replays) == "0 of 6 steps replayed as CUDA graphs" and not recorder.recordings


@pytest.mark.parametrize("recorder", [FakeRecorder(reason="it waits"), FakeRecorder(fails="it waits")], ids=["watched", "recorded"])
def test_what_cannot_be_recorded_goes_on_operation_by_operation_and_says_why(recorder: FakeRecorder) -> None:
    images = data()
    plain, other = trained(recipe(), None, images), trained(recipe(), recorder, images)
    assert all(torch.equal(value, other.tensors()[name]) for name, value in plain.tensors().items())
    assert str(other.replays) == "0 of 24 steps replayed as CUDA graphs; the others operation by operation: it waits"


def test_a_checkpoint_that_is_loaded_is_recorded_anew() -> None:
    recorder, images = FakeRecorder(), data()
    trainer = trained(recipe(), recorder, images)
    begun = {"position": Position().document()}
    trainer.load({name: value.clone() for name, value in trainer.tensors().items()}, trainer.state() | begun, "here")
    trainer.run_epoch(Hooks())
    assert recorder.recordings == 2


def test_a_batch_of_another_shape_warms_up_anew() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    replays, seen = ReplayedSteps(optimizer, FakeRecorder()), []

    def step(images: Tensor, targets: Tensor) -> Tensor:
        seen.append(len(images))
        return images.sum()

    for size in (4, 4, 3):
        replays.run(step, torch.zeros(size, 1), torch.zeros(size), more=True)
    assert seen == [4, 4, 3] and replays.replayed == 0


@pytest.mark.parametrize(
    ("changes", "terms", "reason"),
    [
        ({}, {}, ""),
        ({}, {"device": CPU}, "CUDA graphs need a GPU"),
        ({}, {"workers": 2}, "workers that train together exchange gradients in every step"),
        ({}, {"passes": 3}, "a step takes 3 passes"),
        ({}, {"precision": torch.float16}, "float16 scales its loss by what it saw before"),
        ({"optimizer.name": "rmsprop"}, {}, "rmsprop as TensorFlow has it takes its learning rate from the host"),
        ({"optimizer.name": "muon"}, {}, "muon's steps have not been recorded yet"),
    ],
)
def test_what_is_never_recorded_is_known_before(changes: dict[str, object], terms: dict[str, object], reason: str) -> None:
    known = {"device": torch.device("cuda"), "precision": torch.bfloat16, **terms}
    assert refusal(recipe(**changes), **known) == reason  # type: ignore[arg-type]


def test_graphs_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(graphs.SWITCH, "off")
    assert refusal(recipe(), torch.device("cuda"), torch.bfloat16) == "NAS_GRAPHS=off is set"


def test_workers_train_operation_by_operation_on_a_cpu() -> None:
    images = data()
    network = build_network(load_reference("nasnet-a"), NASNetSkeleton(1, 2), classes=3, image_size=8)
    trainer = Trainer(network, images, recipe(), seed=0, device=CPU, workers=Workers())
    assert trainer.replays is None and trainer.plain == "CUDA graphs need a GPU"
