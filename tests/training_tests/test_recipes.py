"""Every recipe's schedule at chosen steps, against values computed here by hand from what the papers and released codes state."""

import math

import pytest
import timm.optim
import torch
from torch import nn

from nas.errors import ConfigError
from nas.training.config import trained_skeleton
from nas.training.muon import Muon
from nas.training.optimisation import (
    WeightAverage,
    layer_ids,
    make_mixup,
    make_optimizer,
    make_schedule,
    mixing_weights,
    parameter_groups,
    peak_learning_rate,
)
from nas.training.recipe import EmaSettings, OptimizerSettings, Recipe, load_recipe, recipe_names, recipe_yaml
from nas.training.trainer import image_side
from search_spaces.networks.build import build_network
from search_spaces.networks.drop_path import scheduled_keep
from search_spaces.networks.network import Network
from search_spaces.reference import load_reference
from search_spaces.skeletons import NASNetSkeleton, load_skeleton


class Small(Network):
    """A network with one weight of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)


def rates(recipe: Recipe, steps_an_epoch: int, at_epochs: list[float]) -> list[float]:
    """The learning rate before the steps at these (fractional) epochs."""
    optimizer = make_optimizer(Small(), recipe.optimizer, recipe.batch_size)
    schedule = make_schedule(optimizer, recipe.schedule, recipe.epochs, steps_an_epoch)
    found = []
    for epoch in at_epochs:
        schedule.step_update(round(epoch * steps_an_epoch))
        found.append(optimizer.param_groups[0]["lr"])
    return found


def test_nasnet_cifar_is_one_cosine_from_0_025_to_0_over_600_epochs() -> None:
    recipe = load_recipe("nasnet-cifar")
    assert (recipe.epochs, recipe.batch_size, recipe.optimizer.clip_norm, recipe.augmentation.cutout) == (600, 32, 5.0, 16)
    assert recipe.regularisation.auxiliary_weight == 0.4 and recipe.optimizer.weight_decay == 5e-4 and not recipe.optimizer.nesterov
    at = [0.0, 150.0, 300.0, 450.0, 599.5]
    assert rates(recipe, 10, at) == pytest.approx([0.0125 * (1 + math.cos(math.pi * epoch / 600)) for epoch in at], rel=1e-9)
    assert rates(recipe, 10, [300.0])[0] == pytest.approx(0.0125)


@pytest.mark.parametrize(
    ("name", "start", "decay", "keep", "side"), [("nasnet-mobile", 2.0, 4e-5, 1.0, 224), ("nasnet-large", 1.5, 5e-5, 0.7, 331)]
)
def test_nasnet_imagenet_decays_by_0_97_every_2_4_epochs(name: str, start: float, decay: float, keep: float, side: int) -> None:
    recipe = load_recipe(name)
    assert (recipe.optimizer.name, recipe.optimizer.epsilon, recipe.optimizer.decay) == ("rmsprop", 1.0, 0.9)
    assert (recipe.optimizer.weight_decay, recipe.optimizer.clip_norm, recipe.regularisation.label_smoothing) == (decay, 10.0, 0.1)
    assert (recipe.regularisation.auxiliary_weight, recipe.regularisation.dropout, recipe.image_size) == (0.4, 0.5, side)
    assert recipe.ema == EmaSettings(decay=0.9999, warmup=True) and recipe.regularisation.norm_momentum == pytest.approx(1 - 0.9997)
    assert recipe.regularisation.drop_path_keep == keep
    expected = {0.0: start, 2.3: start, 2.4: start * 0.97, 4.7: start * 0.97, 4.8: start * 0.97**2, 240.0: start * 0.97**100}
    assert rates(recipe, 10, list(expected)) == pytest.approx(list(expected.values()), rel=1e-9)
    assert recipe.epochs * 1_281_167 / 1600 == pytest.approx(250_000, rel=0.002)


def test_resnext_divides_by_ten_at_150_and_225_and_at_30_60_90() -> None:
    cifar, imagenet = load_recipe("resnext-cifar"), load_recipe("resnext-imagenet")
    assert rates(cifar, 7, [0, 149.9, 150, 224.9, 225, 299]) == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    assert rates(imagenet, 7, [0, 29.9, 30, 59.9, 60, 89.9, 90, 99]) == pytest.approx([0.1, 0.1, 0.01, 0.01, 1e-3, 1e-3, 1e-4, 1e-4])
    assert (cifar.optimizer.weight_decay, imagenet.optimizer.weight_decay) == (5e-4, 1e-4)
    assert cifar.optimizer.nesterov and imagenet.optimizer.nesterov and (cifar.batch_size, imagenet.batch_size) == (128, 256)
    assert [peak_learning_rate(cifar.optimizer, images) for images in (128, 64, 32)] == pytest.approx([0.1, 0.05, 0.025])
    assert all(group["weight_decay"] == 5e-4 for group in parameter_groups(Small(), cifar.optimizer)), "Torch's optimiser decays everything"


def test_convnext_warms_up_for_20_epochs_then_falls_by_a_cosine_to_1e_6() -> None:
    recipe = load_recipe("convnext")
    assert (recipe.optimizer.name, recipe.optimizer.betas, recipe.optimizer.weight_decay) == ("adamw", (0.9, 0.999), 0.05)
    expected = {0: 0.0, 5: 1e-3, 10: 2e-3, 20: 4e-3}
    expected |= {epoch: 1e-6 + (4e-3 - 1e-6) * 0.5 * (1 + math.cos(math.pi * (epoch - 20) / 280)) for epoch in (90, 160, 299)}
    assert rates(recipe, 13, list(expected)) == pytest.approx(list(expected.values()), rel=1e-9, abs=1e-12)
    assert peak_learning_rate(recipe.optimizer, 1024) == pytest.approx(1e-3)
    groups = {group["weight_decay"]: {tuple(p.shape) for p in group["params"]} for group in parameter_groups(Small(), recipe.optimizer)}
    assert groups == {0.05: {(4, 3, 3, 3), (2, 4)}, 0.0: {(4,), (2,)}}
    mixup = make_mixup(recipe, 1000)
    assert (mixup.mixup_alpha, mixup.cutmix_alpha, mixup.mix_prob, mixup.switch_prob, mixup.label_smoothing) == (0.8, 1.0, 1.0, 0.5, 0.1)
    assert (recipe.augmentation.rand_augment, recipe.augmentation.random_erasing) == ("rand-m9-mstd0.5-inc1", 0.25)


def test_convnexts_layer_wise_decay_has_the_released_groups() -> None:
    """S and larger: 12 = third layer between stages and stage 4, 13 = head; stage 3's 27 blocks in threes from 3 to 11."""
    recipe = load_recipe("convnext-finetune")
    with torch.device("meta"):
        network = build_network(load_reference("convnext"), load_skeleton("convnext-s"), classes=10, image_size=224)
    ids, head = layer_ids(network)
    assert head == 13
    expected = {
        "stem.conv.weight": 0,
        "stages.0.2.expand.weight": 1,
        "stages.1.0.0.1.weight": 2,
        "stages.1.2.expand.weight": 2,
        "stages.2.0.0.1.weight": 3,
        "stages.2.0.1.expand.weight": 3,
        "stages.2.2.expand.weight": 3,
        "stages.2.3.expand.weight": 4,
        "stages.2.26.expand.weight": 11,
        "stages.3.0.0.1.weight": 12,
        "stages.3.2.expand.weight": 12,
        "head.norm.weight": 13,
        "head.classifier.weight": 13,
    }
    assert {name: ids[name] for name in expected} == expected
    optimizer = make_optimizer(network, recipe.optimizer, 512)
    make_schedule(optimizer, recipe.schedule, recipe.epochs, 10).step_update(0)
    by_name = {id(parameter): name for name, parameter in network.named_parameters()}
    for group in optimizer.param_groups:
        layers = {ids[by_name[id(parameter)]] for parameter in group["params"]}
        assert len(layers) == 1
        assert group["lr"] == pytest.approx(5e-5 * 0.8 ** (13 - layers.pop()))


def test_networks_of_cells_decay_by_cell() -> None:
    with torch.device("meta"):
        network = build_network(load_reference("nasnet-a"), load_skeleton("nasnet-cifar"), classes=10, image_size=32)
    ids, head = layer_ids(network)
    assert head == 21, "a stem, 20 cells, a classifier"
    assert ids["stem.0.0.weight"] == 0 and ids["classifier.weight"] == 21
    cells = {name.split(".")[1]: number for name, number in ids.items() if name.startswith("cells.")}
    assert (cells["cell_0"], cells["cell_5"], cells["reduction_0"], cells["cell_17"]) == (1, 6, 7, 20)


def test_drop_path_follows_depth_and_step() -> None:
    """NASNet-A 6 @ 768: cell 19 of 20 at the end of training keeps 0.6; the first cell half-way 1 − 0.5 · 0.4 / 20."""
    skeleton = trained_skeleton(load_skeleton("nasnet-cifar"), load_recipe("nasnet-cifar"))
    assert skeleton.auxiliary and skeleton.drop_path_keep == 0.6
    assert float(scheduled_keep(skeleton.drop_path_keep, 19, 20, 1.0)) == pytest.approx(0.6)
    assert float(scheduled_keep(skeleton.drop_path_keep, 0, 20, 0.5)) == pytest.approx(1 - 0.5 * 0.4 / 20)
    large = trained_skeleton(load_skeleton("nasnet-large"), load_recipe("nasnet-large"))
    assert large.drop_path_keep == 0.7 and large.dropout == 0.5 and large.auxiliary
    convnext = load_skeleton("convnext-s")
    assert trained_skeleton(convnext, load_recipe("convnext")).drop_path_keep == 0.6, "stochastic depth 0.4 is the skeleton's"


@pytest.mark.parametrize(
    ("warmup", "updates", "expected"), [(True, 0, 1 / 10), (True, 90, 91 / 100), (True, 10**6, 0.9999), (False, 0, 0.9999)]
)
def test_the_average_of_weights_follows_tensorflows_decay(warmup: bool, updates: int, expected: float) -> None:
    network = Small()
    average = WeightAverage(network, EmaSettings(decay=0.9999, warmup=warmup))
    assert average.decay(updates) == pytest.approx(expected)
    before = network.head.weight.detach().clone()
    with torch.no_grad():
        network.head.weight.add_(1.0)
    average.update(network, updates)
    assert torch.allclose(average.network.head.weight, before + (1 - expected), atol=1e-6)


def test_rmsprop_is_tensorflows_with_epsilon_inside_the_root() -> None:
    recipe = load_recipe("nasnet-mobile", {"optimizer.weight_decay": 0.0})
    network = Small()
    weight = network.head.weight
    optimizer = make_optimizer(network, recipe.optimizer, 1600)
    value, mean_square, velocity = weight.detach().double().clone(), torch.ones(2, 4).double(), torch.zeros(2, 4).double()
    for step in range(3):
        gradient = torch.full((2, 4), 0.5 * (step + 1)).double()
        weight.grad = gradient.float()
        optimizer.step()
        mean_square = 0.9 * mean_square + 0.1 * gradient**2
        velocity = 0.9 * velocity + 2.0 * gradient / torch.sqrt(mean_square + 1.0)
        value = value - velocity
    assert torch.allclose(weight.double(), value, atol=1e-5)


def test_muon_turns_matrices_and_leaves_the_rest_to_adamw() -> None:
    """One step from rest: every singular value of a matrix's step is about 0.2 · rate · √(longer side); NAdamW steps by 1.9 rates."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_network(load_reference("nasnet-a"), NASNetSkeleton(1, 8), classes=10, image_size=8)
        images = torch.rand(16, 3, 8, 8)
    settings = OptimizerSettings(name="muon", learning_rate=0.01, weight_decay=0.0)
    mixing = mixing_weights(network)
    convolutions = {f"{name}.weight": layer for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)}
    assert mixing == {name for name, layer in convolutions.items() if layer.groups == 1}, "without depthwise kernels and the classifier"
    assert len(mixing) < len(convolutions)
    optimizer = make_optimizer(network, settings, 16)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    network(images).logsumexp(1).sum().backward()
    gradients = {name: parameter.grad.clone() for name, parameter in network.named_parameters() if parameter.grad is not None}
    optimizer.step()
    for name, parameter in network.named_parameters():
        step, gradient = before[name] - parameter.detach(), gradients.get(name)
        if gradient is None or gradient.norm() < 1e-3:
            continue
        if name in mixing:
            values = torch.linalg.svdvals(step.flatten(1)) / (0.01 * 0.2 * max(step.flatten(1).shape) ** 0.5)
            assert 0.5 < values[0] < 1.4, name
            along = torch.linalg.svdvals(gradient.flatten(1))
            assert torch.all(values[along > 0.3 * along[0]] > 0.5), "as far along every direction that the gradient has"
        else:
            clear = gradient.abs() > 1e-3
            assert torch.allclose(step[clear], 0.019 * gradient[clear].sign(), rtol=0.02), name  # (0.9 · 0.1 + 0.1) / 0.1


def test_muon_leaves_matrices_of_few_rows_or_columns_to_adamw() -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(1, 8, 3))
    assert mixing_weights(network) == {"2.weight", "3.weight"}


@pytest.mark.parametrize("nesterov", [False, True])
def test_muon_steps_as_timms_does_that_turns_one_matrix_after_the_other(nesterov: bool) -> None:
    """The orthogonalised part, over several steps, with weight decay; timm's iterates in bfloat16 and so is right to two digits."""
    shapes = [(8, 8, 1, 1)] * 3 + [(12, 3, 3, 3)]
    weights = [torch.randn(shape, generator=torch.Generator().manual_seed(place)) for place, shape in enumerate(shapes)]
    settings = {"lr": 0.05, "momentum": 0.9, "nesterov": nesterov, "weight_decay": 0.1, "eps": 1e-8, "betas": (0.9, 0.999)}
    ours, theirs = ([nn.Parameter(weight.clone()) for weight in weights] for _ in range(2))
    bias = nn.Parameter(torch.zeros(5))
    mine = Muon([{"params": ours, "orthogonal": True}, {"params": [bias]}], **settings)
    reference = timm.optim.Muon(theirs, **settings, ns_steps=4, adjust_lr_fn="match_rms_adamw")
    for step in range(3):
        for place, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            one.grad = torch.randn(one.shape, generator=torch.Generator().manual_seed(100 * step + place))
            other.grad = one.grad.clone()
        bias.grad = torch.ones(5)
        mine.step()
        reference.step()
    for one, other, weight in zip(ours, theirs, weights, strict=True):
        assert (one - other).norm() < 0.03 * (other - weight).norm()
    moments = [1 - 0.9**step for step in (1, 2, 3)]  # of a gradient of 1, before the correction by themselves
    expected = -0.05 * sum((0.9 * moment + 0.1) / moment for moment in moments)
    assert torch.allclose(bias, torch.full((5,), expected), rtol=0.02), "the rest is NAdamW's"


def test_images_grow_to_their_full_side() -> None:
    recipe = load_recipe("fast", {"resolution.start": 0.5, "resolution.full_from": 0.5})
    assert [image_side(recipe, 32, share) for share in (0.0, 0.125, 0.25, 0.375, 0.5, 1.0)] == [16, 20, 24, 28, 32, 32]
    assert image_side(load_recipe("nasnet-cifar"), 32, 0.0) == 32


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_written_and_read_without_loss(name: str, tmp_path) -> None:
    recipe = load_recipe(name)
    (tmp_path / "copy.yaml").write_text(recipe_yaml(recipe))
    assert load_recipe(str(tmp_path / "copy.yaml")) == recipe


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("nasnet", {}, "unknown recipe 'nasnet'.*choose one of"),
        ("fast", {"epochs": 0}, "epochs: should be greater than or equal to 1, but got 0"),
        ("fast", {"optimizer.lr": 1}, "unknown setting 'optimizer.lr'.*learning_rate"),
        ("fast", {"optimizer.learning_rate": "nan"}, "learning_rate: should be greater than 0, but got nan"),
        ("fast", {"schedule.warmup_epochs": 99}, "warmup_epochs must be below epochs"),
        ("resnext-cifar", {"schedule.milestones": [1.5]}, "shares of the training"),
        ("convnext", {"resolution.start": 0.5}, "whole batches"),
        ("missing.yaml", {}, "missing.yaml"),
    ],
)
def test_bad_recipes_are_refused_with_the_rule(name: str, overrides: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe(name, overrides)


def test_a_warm_up_too_long_for_the_epochs_asked_for_shrinks() -> None:
    assert load_recipe("convnext", {"epochs": 10}).schedule.warmup_epochs == 1.0
    assert load_recipe("convnext", {"epochs": 50}).schedule.warmup_epochs == 20


@pytest.mark.parametrize("recipe", recipe_names())
@pytest.mark.parametrize(("name", "value"), [("epochs", -1), ("epochs", 0), ("batch_size", -1), ("schedule.warmup_epochs", -1.0)])
def test_a_number_out_of_its_range_gets_one_message(recipe: str, name: str, value: float) -> None:
    with pytest.raises(ConfigError) as refused:
        load_recipe(recipe, {name: value})
    assert str(refused.value).startswith(f"{name}: should be greater than") and "\n" not in str(refused.value)
