"""From a recipe to what changes the weights: timm's optimisers, schedules, weight averages and mixup, and the groups of parameters."""

import logging
import re
from typing import Any

import torch
from timm.data import Mixup
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler, MultiStepLRScheduler, PolyLRScheduler, StepLRScheduler
from timm.scheduler.scheduler import Scheduler
from timm.utils import ModelEmaV3
from torch import nn

from nas.training.muon import Muon
from nas.training.recipe import EmaSettings, OptimizerSettings, Recipe, ScheduleSettings
from search_spaces.networks.network import Network
from search_spaces.networks.residual_network import ResidualNetwork

# Of trainings of a single step timm says in a log that the schedule has no effect: true, and nobody's business.
logging.getLogger("timm.scheduler").setLevel(logging.ERROR)

LEAST_SIDE = 4
"""Matrices with fewer rows or columns are left to AdamW."""

BLOCKS_A_GROUP = 3
"""Blocks of ConvNeXt's long third stage that share a learning rate under layer-wise decay."""


def peak_learning_rate(settings: OptimizerSettings, batch_size: int) -> float:
    """The schedule's largest learning rate for steps of ``batch_size`` images: linear in them where the recipe says for how many it is."""
    return settings.learning_rate * (batch_size / settings.per_images if settings.per_images else 1.0)


def make_optimizer(network: Network, settings: OptimizerSettings, batch_size: int) -> torch.optim.Optimizer:
    """Timm's optimiser, or Muon, over the network's parameter groups.

    RMSProp is timm's port of TensorFlow's (epsilon inside the square root, mean of squares starting at 1, learning rate
    inside the momentum), which a published epsilon of 1.0 needs. Muon takes what mixes channels, AdamW (with
    Nesterov's momentum) the rest, at the same learning rate.
    """
    groups = parameter_groups(network, settings)
    common: dict[str, Any] = {"lr": peak_learning_rate(settings, batch_size), "weight_decay": 0.0}
    match settings.name:
        case "adamw":
            name, own = "adamw", {"betas": settings.betas, "eps": settings.epsilon, "fused": True}
        case "rmsprop":
            name, own = "rmsproptf", {"momentum": settings.momentum, "alpha": settings.decay, "eps": settings.epsilon}
        case "sgd":
            # timm calls SGD with Nesterov's momentum `sgd`, and the other `momentum`.
            nesterov = settings.nesterov and settings.momentum > 0
            name, own = "sgd" if nesterov else "momentum", {"momentum": settings.momentum, "fused": True}
        case "muon":
            own = {"betas": settings.betas, "eps": settings.epsilon}
            return Muon(groups, momentum=settings.momentum, nesterov=settings.nesterov, **own, **common)
    optimizer: torch.optim.Optimizer = create_optimizer_v2(groups, name, **own, **common)
    return optimizer


def parameter_groups(network: Network, settings: OptimizerSettings) -> list[dict[str, Any]]:
    """Groups by weight decay and, with layer-wise decay, by depth; ``lr_scale`` is the factor that timm's schedules apply.

    Vectors (biases, norms, layer scales) do not decay unless the recipe says so. Under Muon ``orthogonal`` says what AdamW does not take.
    """
    ids, head = layer_ids(network) if settings.layer_decay is not None else ({}, 0)
    mixing = mixing_weights(network) if settings.name == "muon" else set()
    groups: dict[tuple[int, bool, bool], dict[str, Any]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        decays = parameter.ndim >= 2 or settings.decay_vectors
        layer = ids.get(name, head)
        group = groups.setdefault(
            (layer, decays, name in mixing),
            {
                "params": [],
                "weight_decay": settings.weight_decay if decays else 0.0,
                "lr_scale": 1.0 if settings.layer_decay is None else settings.layer_decay ** (head - layer),
                **({"orthogonal": True} if name in mixing else {}),
            },
        )
        group["params"].append(parameter)
    return [groups[key] for key in sorted(groups)]


def mixing_weights(network: nn.Module) -> set[str]:
    """Names of the weights that mix channels: of convolutions in one group and of linear layers, but for the classifiers' and the smallest.

    A depthwise kernel is a row for each channel and no matrix; what ends in classes is left to AdamW (Jordan et al. 2024).
    """
    layers = ((name, layer) for name, layer in network.named_modules() if isinstance(layer, (nn.Conv2d, nn.Linear)))
    whole = ((name, layer) for name, layer in layers if getattr(layer, "groups", 1) == 1 and name.rsplit(".", 1)[-1] != "classifier")
    return {f"{name}.weight" for name, layer in whole if min(layer.weight.flatten(1).shape) >= LEAST_SIDE}


def layer_ids(network: Network) -> tuple[dict[str, int], int]:
    """The layer group of every parameter, 0 at the images, and the head's.

    Networks of four stages follow ConvNeXt's released code: 0 the stem; 1 the first stage; 2 the first layer between stages and
    the second stage; 3 the second one; from 3 on, three blocks of the third stage each; then the third one with the last
    stage; last the final norm and the classifier. Other residual networks have a group for every stage, networks of cells one
    for every cell.
    """
    if isinstance(network, ResidualNetwork):
        depths = [len(stage) for stage in network.stages]  # type: ignore[arg-type]
        return _residual_ids(network, depths)
    cells = list(dict.fromkeys(match.group(0) for name, _ in network.named_parameters() if (match := _CELL.match(name))))
    places = {cell: place for place, cell in enumerate(cells, start=1)}
    head = len(cells) + 1
    ids = {}
    for name, _ in network.named_parameters():
        match = _CELL.match(name)
        ids[name] = places[match.group(0)] if match else 0 if name.startswith("stem") else head
    return ids, head


_CELL = re.compile(r"(?:cells|stages)\.[^.]+(?=\.)")
_BLOCK = re.compile(r"stages\.(\d+)\.(\d+)\.(?:(\d)\.)?")


def _residual_ids(network: Network, depths: list[int]) -> tuple[dict[str, int], int]:
    four = len(depths) == 4
    groups = -(-depths[2] // BLOCKS_A_GROUP) if four else 0
    head = 4 + groups if four else len(depths) + 1
    ids = {}
    for name, _ in network.named_parameters():
        match = _BLOCK.match(name)
        if match is None:
            ids[name] = 0 if name.startswith("stem") else head
            continue
        stage, block = int(match.group(1)), int(match.group(2))
        between = block == 0 and match.group(3) == "0"  # ConvNeXt's first block of a stage: (layer between stages, block)
        if not four or stage < 2:
            ids[name] = stage + 1
        elif stage == 2:
            ids[name] = 3 if between else 3 + block // BLOCKS_A_GROUP
        else:
            ids[name] = 3 + groups
    return ids, head


def make_schedule(optimizer: torch.optim.Optimizer, settings: ScheduleSettings, epochs: int, steps_an_epoch: int) -> Scheduler:
    """Timm's schedule in steps of the optimiser; call ``step_update(n)`` before the step number n (from 0)."""
    total = epochs * steps_an_epoch
    warmup = min(round(settings.warmup_epochs * steps_an_epoch), total - 1)
    common: dict[str, Any] = {"warmup_t": warmup, "warmup_lr_init": 0.0, "warmup_prefix": True, "t_in_epochs": False}
    match settings.kind:
        case "cosine":
            return CosineLRScheduler(optimizer, t_initial=total - warmup, lr_min=settings.final, **common)
        case "linear":
            return PolyLRScheduler(optimizer, t_initial=total - warmup, power=1.0, lr_min=settings.final, **common)
        case "step":
            every = max(1, int(settings.every_epochs * steps_an_epoch))
            return StepLRScheduler(optimizer, decay_t=every, decay_rate=settings.factor, **common)
        case "milestones":
            # timm's schedule multiplies one step before its milestone; and its milestones count from the end of the warm-up.
            after = [round(share * total) - warmup + 1 for share in sorted(settings.milestones)]
            return MultiStepLRScheduler(optimizer, decay_t=after, decay_rate=settings.factor, **common)
        case "constant":
            return StepLRScheduler(optimizer, decay_t=total + 1, decay_rate=1.0, **common)


class WeightAverage:
    """The moving average of weights and batch norm statistics by which a network is scored."""

    def __init__(self, network: Network, settings: EmaSettings) -> None:
        # gamma 9 and power 1 make timm's warm-up TensorFlow's: 1 - 1 / (1 + (1 + n) / 9) = (1 + n) / (10 + n).
        self._average = ModelEmaV3(network, decay=settings.decay, use_warmup=settings.warmup, warmup_gamma=9.0, warmup_power=1.0)
        self._warmup = settings.warmup

    @property
    def network(self) -> Network:
        """The network with the averaged weights."""
        module = self._average.module
        assert isinstance(module, Network)
        return module

    def decay(self, updates: int) -> float:
        """The share of the old average in the new one, after ``updates`` steps of the optimiser."""
        return float(self._average.get_decay(updates + 2 if self._warmup else None))

    def update(self, network: Network, updates: int) -> None:
        """Take the weights after ``updates`` steps of the optimiser in."""
        self._average.update(network, updates + 2 if self._warmup else None)


def make_mixup(recipe: Recipe, classes: int) -> Mixup | None:
    """Timm's mixup and CutMix for whole batches (always one of the two, each half of the time where both are on), or None.

    It draws from numpy's global generator, and its label smoothing replaces the loss's.
    """
    if not recipe.augmentation.mixes:
        return None
    settings = recipe.augmentation
    smoothing = recipe.regularisation.label_smoothing
    return Mixup(settings.mixup, settings.cutmix, prob=1.0, switch_prob=0.5, mode="batch", label_smoothing=smoothing, num_classes=classes)


def set_norm_momentum(network: nn.Module, momentum: float | None) -> None:
    """Give every batch norm this share of a batch in its moving statistics; None leaves them."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and momentum is not None:
            module.momentum = momentum
