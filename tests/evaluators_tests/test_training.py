"""Training a child: the recipe step by step, equal seeds, and every way in which it can end."""

import math
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.children import finish
from torch import nn

from controllers.controller import Completed, Failed
from nas.data.batches import Resident, scoring_batches
from nas.data.dataset import ArrayPart, Dataset
from nas.data.embedded import load_digits, make_synthetic
from nas.data.pixels import channel_statistics
from nas.data.prepared import PreparedData
from nas.evaluators.child import out_of_memory, train_child
from nas.evaluators.evaluator import Evaluation, Report
from nas.evaluators.settings import child_training
from nas.training.numerics import flushed_denormals, resolve_precision
from nas.training.optimisation import make_schedule, parameter_groups
from nas.training.recipe import OptimizerSettings, Recipe, ScheduleSettings, TrainingSettings
from nas.training.scoring import Mirrored, score
from search_spaces.networks.network import Network


class Tiny(Network):
    """Convolution, batch norm, ReLU, pooling, linear; an auxiliary head on the pooled map; records the progress it is told."""

    def __init__(self, classes: int = 10, channels: int = 1, width: int = 8, auxiliary: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.head = nn.Linear(2 * width * 16, classes)
        self.extra = nn.Linear(2 * width * 16, classes) if auxiliary else None
        self.told: list[float] = []
        self.batches: list[int] = []

    def set_progress(self, fraction: float) -> None:
        super().set_progress(fraction)
        self.told.append(fraction)

    def forward_with_auxiliary(self, images):
        if self.training:
            self.batches.append(len(images))
        x = F.relu(self.second(F.relu(self.norm(self.conv(images)))))
        x = F.adaptive_avg_pool2d(x, 4).flatten(1)
        return self.head(x), self.extra(x) if self.extra is not None and self.training else None


CPU = torch.device("cpu")


def prepared(dataset: Dataset, train: int = 400, validation: int = 200) -> PreparedData:
    parts = dataset.train.take(range(train)), dataset.train.take(range(train, train + validation))
    for part in parts:
        part.images.setflags(write=False)
        part.labels.setflags(write=False)
    mean, std = channel_statistics(parts[0].images)
    return PreparedData(dataset.name, *parts, None, dataset.class_names, dataset.channels, dataset.side, mean, std, dataset.mirrors)


def pixels(data: PreparedData, part: ArrayPart) -> torch.Tensor:
    """The images as networks see them, by plain arithmetic."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (data.mean, data.std))
    return (torch.from_numpy(part.images.copy()).permute(0, 3, 1, 2) / 255 - mean) / std


@pytest.fixture(scope="module")
def digits() -> PreparedData:
    return prepared(load_digits(), 900, 400)


def tiny(seed: int = 0, **options) -> Tiny:
    torch.manual_seed(seed)
    return Tiny(**options)


def settings(**changes) -> TrainingSettings:
    """A child's, by the short names that a search takes."""
    return TrainingSettings.model_validate(child_training({"batch_size": 64, "augmentation": "shift_flip", "learning_rate": 0.1} | changes))


def recipe(epochs: int, training: TrainingSettings | None = None) -> Recipe:
    return Recipe(epochs=epochs, **dict(training or settings()))


def run(network, data, training=None, epochs=2, seed=0, time_limit=None) -> tuple[list[Report], Evaluation]:
    """All reports and the evaluation."""
    child = train_child(network, data, recipe(epochs, training), seed, time_limit)
    return finish(child)


def watch(network: Tiny) -> list[torch.Tensor]:
    """A list that fills with the batches the network is trained on."""
    seen: list[torch.Tensor] = []
    original = network.forward_with_auxiliary

    def watched(images):
        if network.training:
            seen.append(images.clone())
        return original(images)

    network.forward_with_auxiliary = watched
    return seen


# ---------------------------------------------------------------------------------------------------- the recipe


def test_a_child_learns_and_reports_after_every_epoch(digits):
    reports, evaluation = run(tiny(), digits, epochs=6)
    assert [report.epoch for report in reports] == [1, 2, 3, 4, 5, 6]
    assert evaluation.outcome == Completed(reports[-1].reward), "the last epoch's accuracy, not the best"
    assert reports[-1].reward > 0.85
    assert reports[-1].metrics["train_loss"] < 0.5 * reports[0].metrics["train_loss"]
    assert evaluation.metrics["train_seconds"] > 0 and evaluation.metrics["images_per_second"] > 0
    assert reports[0].metrics["seconds"] < reports[-1].metrics["seconds"]


def test_the_reward_is_the_accuracy_on_the_validation_images(digits):
    network = tiny()
    _, evaluation = run(network, digits)
    with torch.no_grad():
        chosen = network.eval()(pixels(digits, digits.validation)).argmax(1)
    accuracy = (chosen.numpy() == digits.validation.labels).mean()
    assert isinstance(evaluation.outcome, Completed) and evaluation.outcome.reward == pytest.approx(accuracy)


def test_the_steps_are_those_of_a_plain_reference():
    """Two epochs without augmentation against hand-written SGD: momentum, cosine, decay of matrices only, clipping."""
    training = settings(augmentation="none", momentum=0.9, weight_decay=0.05, clip_norm=0.5, label_smoothing=0.1, auxiliary_weight=0.4)
    network, reference = tiny(auxiliary=True), tiny(auxiliary=True)
    batches = watch(network)
    data = prepared(load_digits(), 330, 100)
    run(network, data, training, epochs=2)
    keys = (bytes((image * 1000).round().to(torch.int32).numpy()) for image in pixels(data, data.train))
    lookup = dict(zip(keys, torch.tensor(data.train.labels), strict=True))
    velocity = {name: torch.zeros_like(p) for name, p in reference.named_parameters()}
    steps = 10
    assert len(batches) == steps
    for step, images in enumerate(batches):
        labels = torch.stack([lookup[bytes((image.contiguous() * 1000).round().to(torch.int32).numpy())] for image in images])
        reference.train().zero_grad()
        logits, extra = reference.forward_with_auxiliary(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=0.1) + 0.4 * F.cross_entropy(extra, labels, label_smoothing=0.1)
        loss.backward()
        norm = math.sqrt(sum(float(p.grad.double().square().sum()) for p in reference.parameters()))
        with torch.no_grad():
            for name, p in reference.named_parameters():
                gradient = p.grad * min(1.0, 0.5 / norm) + (0.05 * p if p.ndim > 1 else 0)
                velocity[name] = 0.9 * velocity[name] + gradient
                p -= 0.1 * 0.5 * (1 + math.cos(math.pi * step / steps)) * velocity[name]
    for (name, ours), theirs in zip(network.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5, msg=name)


def test_progress_goes_from_0_to_1_by_steps(digits):
    network = tiny()
    run(network, digits, epochs=3)
    steps = 3 * (900 // 64)
    assert network.told == [step / steps for step in range(steps)]


def test_learning_rate_is_one_cosine():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.2)
    schedule, rates = make_schedule(optimizer, ScheduleSettings(), 2, 5), []
    for step in range(11):
        schedule.step_update(step)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[0] == 0.2 and rates[5] == pytest.approx(0.1) and rates[10] == pytest.approx(0)
    assert rates == sorted(rates, reverse=True)


def test_only_weights_of_convolutions_and_linear_layers_decay():
    network = tiny()
    groups = parameter_groups(network, OptimizerSettings(weight_decay=0.3))
    (decayed,), (others,) = ([group for group in groups if group["weight_decay"] == decay] for decay in (0.3, 0))
    assert {id(p) for p in decayed["params"]} == {id(network.conv.weight), id(network.second.weight), id(network.head.weight)}
    assert len(decayed["params"]) + len(others["params"]) == len(list(network.parameters()))


@pytest.mark.parametrize(("examples", "batches"), [(130, [64, 64]), (129, [64, 64]), (128, [64, 64]), (65, [64]), (50, [50]), (2, [2])])
def test_an_incomplete_batch_is_left_out_unless_it_is_the_only_one(examples, batches):
    network = tiny()
    _, evaluation = run(network, prepared(load_digits(), examples, 50), epochs=1)
    assert network.batches == batches and isinstance(evaluation.outcome, Completed)


def test_every_epoch_sees_other_images_in_another_order(digits):
    network = tiny()
    firsts = watch(network)
    run(network, digits, settings(augmentation="none"), epochs=2)
    half = len(firsts) // 2
    assert not torch.equal(firsts[0], firsts[half])
    epoch = torch.cat(firsts[:half]).flatten(1)
    assert len(torch.unique(epoch, dim=0)) >= len(epoch) - 2, "no image twice in an epoch (the set itself holds few equal ones)"


# ---------------------------------------------------------------------------------------------------- seeds and sharing


@pytest.mark.parametrize("changes", [{}, {"augmentation": "paper", "cutout": 4}])
def test_equal_seeds_give_equal_rewards_bit_for_bit(digits, changes):
    first = run(tiny(3), digits, settings(**changes), seed=3)
    torch.manual_seed(99)
    torch.rand(7)  # what ran before must not matter
    again = run(tiny(3), digits, settings(**changes), seed=3)
    losses = [[report.metrics["train_loss"] for report in reports] for reports, _ in (first, again)]
    assert losses[0] == losses[1] and first[1].outcome == again[1].outcome
    assert losses[0] != [report.metrics["train_loss"] for report in run(tiny(3), digits, settings(**changes), seed=4)[0]]


def test_random_numbers_drawn_at_a_report_do_not_matter(digits):
    class Noisy(Tiny):
        def forward_with_auxiliary(self, images):
            logits, extra = super().forward_with_auxiliary(images)
            return (logits + 0.1 * torch.randn_like(logits) if self.training else logits), extra

    def losses(disturb: bool) -> list[float]:
        torch.manual_seed(0)
        found = []
        for report in train_child(Noisy(), digits, recipe(3), 0):
            found.append(report.metrics["train_loss"])
            if disturb:
                torch.rand(100)
        return found

    assert losses(disturb=True) == losses(disturb=False)


def test_the_data_stay_where_they_are_and_as_they_are(digits):
    before = digits.train.images.copy()
    resident = Resident(CPU)
    images, _ = resident.tensors(digits.train)
    assert images.data_ptr() == digits.train.images.ctypes.data, "a view of the shared array, not a copy"
    assert resident.tensors(digits.train)[0] is images, "one tensor for all children of a worker"
    run(tiny(), digits, settings(cutout=4))
    np.testing.assert_array_equal(digits.train.images, before)


def test_read_only_arrays_give_no_warning(digits, recwarn):
    Resident(CPU).tensors(digits.train)
    assert not recwarn.list


def test_colour_images_of_another_size_train_as_well():
    data = prepared(make_synthetic(image_size=12), 256, 100)
    _, evaluation = run(tiny(channels=3), data, settings(augmentation="paper"), epochs=1)
    assert isinstance(evaluation.outcome, Completed)


# ---------------------------------------------------------------------------------------------------- failures


def test_a_loss_that_is_no_number_is_diverged_at_once(digits):
    network = tiny()
    with torch.no_grad():
        network.head.weight.fill_(float("nan"))
    reports, evaluation = run(network, digits, epochs=5)
    assert reports == [] and isinstance(evaluation.outcome, Failed) and evaluation.outcome.reason == "diverged"
    assert network.batches == [64], "no second step"


def test_a_huge_learning_rate_diverges(digits):
    _, evaluation = run(tiny(), digits, settings(learning_rate=1e12, clip_norm=None), epochs=2)
    assert isinstance(evaluation.outcome, Failed) and evaluation.outcome.reason == "diverged"


def test_validation_logits_that_are_no_numbers_are_diverged(digits):
    class Late(Tiny):
        def forward_with_auxiliary(self, images):
            logits, extra = super().forward_with_auxiliary(images)
            return (logits if self.training else logits * float("nan")), extra

    reports, evaluation = run(Late(), digits)
    assert reports == [] and isinstance(evaluation.outcome, Failed) and evaluation.outcome.reason == "diverged"


def test_the_time_limit_is_kept_within_a_batch(digits):
    class Slow(Tiny):
        def forward_with_auxiliary(self, images):
            time.sleep(0.05)
            return super().forward_with_auxiliary(images)

    network = Slow()
    _, evaluation = run(network, digits, epochs=100, time_limit=0.2)
    assert isinstance(evaluation.outcome, Failed) and evaluation.outcome.reason == "time_limit"
    assert len(network.batches) <= 5, "a batch takes 0.05 s at least"


@pytest.mark.parametrize("allowed", [True, False])
def test_a_child_scored_by_mirror_images_too_gets_the_mean_of_both_where_the_data_allow_it(digits, allowed):
    data = replace(digits, mirrors=allowed)
    plain = tiny()
    _, alone = run(plain, data)
    _, both = finish(train_child(tiny(), data, recipe(2), 0, mirrored=True))
    network = Mirrored(plain) if allowed else plain
    expected = score(network, scoring_batches(data, data.validation, Resident(torch.device("cpu"))))
    assert isinstance(both.outcome, Completed) and both.outcome.reward == pytest.approx(expected.top1, abs=1e-9)
    assert (both.outcome == alone.outcome) is not allowed


def test_waiting_at_a_report_does_not_use_up_the_time(digits):
    started = time.monotonic()
    child = train_child(tiny(), digits, recipe(2), 0)
    next(child)
    time.sleep(2)
    second = next(child)
    with pytest.raises(StopIteration) as end:
        next(child)
    waited = time.monotonic() - started
    assert second.metrics["seconds"] < waited - 1.9
    assert isinstance(end.value.value.outcome, Completed)


@pytest.mark.parametrize(
    "problem",
    [
        MemoryError(),
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:75] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4000 bytes."),
    ],
)
def test_running_out_of_memory_is_an_outcome(digits, problem):
    class Large(Tiny):
        def forward_with_auxiliary(self, images):
            raise problem

    network = Large()
    _, evaluation = run(network, digits)
    assert isinstance(evaluation.outcome, Failed) and evaluation.outcome.reason == "out_of_memory" and evaluation.outcome.detail
    assert all(p.grad is None for p in network.parameters())


def test_a_real_allocation_that_fails_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert out_of_memory(caught.value).reason == "out_of_memory"


def test_other_exceptions_pass(digits):
    class Broken(Tiny):
        def forward_with_auxiliary(self, images):
            raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        run(Broken(), digits)


def test_closing_the_generator_stops_the_child(digits):
    network = tiny()
    child = train_child(network, digits, recipe(50), 0)
    next(child)
    child.close()
    assert len(network.batches) == 14
    with pytest.raises(StopIteration):
        next(child)


def test_precision():
    assert resolve_precision("auto", torch.device("cpu")) == torch.float32
    assert resolve_precision("bfloat16", torch.device("cpu")) == torch.bfloat16


def test_bfloat16_trains_on_a_cpu(digits):
    reports, evaluation = run(tiny(), digits, settings(precision="bfloat16"), epochs=3)
    assert isinstance(evaluation.outcome, Completed) and reports[-1].reward > 0.6


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["auto", "float32", "float16", "bfloat16"])
def test_training_on_a_gpu(digits, precision):
    network = tiny().cuda()
    child = train_child(network, digits, recipe(6, settings(precision=precision)), 0)
    assert max(report.reward for report in child) > 0.8


def test_denormal_numbers_are_flushed_only_while_a_child_trains() -> None:
    smallest = torch.tensor([1e-39])
    with flushed_denormals(torch.device("cpu")):
        assert (smallest * 1).item() == 0
    assert (smallest * 1).item() > 0
