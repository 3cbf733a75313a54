"""What suits a set of images: the settings of a training that follow from their number, size and classes and from the machine. No torch.

One place for the rules; each choice carries its reason, for the plan. The figures were chosen by ``benchmarks/small_sets.py``.
"""

import json
import math
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from nas.data.prepared import training_side
from nas.data.registry import DATASETS, peek
from nas.data.settings import LARGE_SIDE, DataSettings
from nas.data.split import own_validation, planned_parts
from nas.networks.architecture import Architecture
from nas.networks.scaling import Target, scale_to
from nas.tools.hardware import Hardware
from nas.training.recipe import Recipe

FITTED_RECIPE = "fast"
"""The recipe whose length follows the data; the published ones stay as published."""
LEAST_STEPS = 600
STEPS_A_THOUSAND = 45
"""Steps that a training has at least, and how many more for a thousand training images."""
FEW, MANY = 2_000, 20_000
"""Training images: below ``FEW`` a step takes 32 of them, below ``MANY`` 64."""
CPU_SIDE = 48
"""Side in pixels of large images that are trained on without a GPU, where there are fewer than ``MANY``."""
MACS_A_CORE, MACS_A_CORE_AN_IMAGE = 2.5e11, 4e7
"""Multiply-accumulates of a training's forward passes together on one core: minutes for few images, a quarter of an hour for CIFAR-10's."""
MACS_A_GPU = 1e16
DESERVED_MACS, DESERVED_MACS_AN_IMAGE = 3e7, 3e4
"""Multiply-accumulates of a network for one image, at most: larger ones learn few images by heart, or diverge in their few steps."""
LEAST_SIDE = 12
"""Side in pixels below which images are not made smaller for the first epochs."""
HELD_OUT = 8
"""One of so many images of a small set is held out by a training: it only chooses its epoch, where a search compares cells."""
DEPTH_OF_SMALL = 2
"""N of a network of cells that is cut down to these: deeper and narrower ones are slower for the same number of MACs."""


@dataclass(frozen=True)
class Amount:
    """What there is to learn from: images trained on and held out for choosing, their own side in pixels, classes, channels.

    ``own_validation`` says that the images to choose by are a part of their own, not taken from those to train on.
    """

    train: int
    validation: int
    side: int
    classes: int
    channels: int = 3
    own_validation: bool = False


@dataclass(frozen=True)
class Choice:
    """A setting, the value that suits the images, and why."""

    setting: str
    value: Any
    reason: str

    def __str__(self) -> str:
        return f"{self.setting}={json.dumps(self.value)}  {self.reason}"


def amount_of(data: DataSettings) -> Amount:
    """What is known of the images before they are read. Raises DataError."""
    shape = peek(data)
    train, validation = planned_parts(shape.images, shape.classes, shape.own_test, data, shape.validation)
    own = bool(shape.validation) and own_validation(shape.validation, data)
    return Amount(train, validation, shape.side, shape.classes, shape.channels, own)


def own_images(data: DataSettings) -> bool:
    """Whether it is a set that nobody has tuned settings to: a folder, or one from outside."""
    return data.name == "folder" or data.name not in DATASETS.built_in


def batch_for(images: int) -> int | None:
    """Images of a step that suit so many training images; None: as the recipe says. Steps are what is scarce in small sets."""
    return 32 if images < FEW else 64 if images < MANY else None


def epochs_for(steps: int, batch: int, images: int) -> int:
    """Passes over the images that make so many steps at least."""
    return math.ceil(steps / math.ceil(images / batch))


def fit_recipe(recipe: Recipe, amount: Amount, said: Container[str]) -> tuple[Choice, ...]:
    """Batch size and epochs of a training on so many images; none where the recipe's own suit, or where they were ``said``."""
    batch, choices = batch_for(amount.train), []
    if batch is None or batch >= recipe.batch_size or "batch_size" in said:
        batch = recipe.batch_size
    else:
        choices.append(Choice("batch_size", batch, f"{amount.train:,} training images: steps are scarce"))
    steps = LEAST_STEPS + amount.train * STEPS_A_THOUSAND // 1000
    epochs = epochs_for(steps, batch, amount.train)
    if epochs > recipe.epochs and "epochs" not in said:
        choices.append(Choice("epochs", epochs, f"at least {steps:,} steps, in repeated passes"))
    return tuple(choices)


def fit_sizes(recipe: Recipe, side: int, said: Container[str]) -> Choice | None:
    """Images as they are from the beginning, where they are so small that smaller ones would show nothing; None elsewhere."""
    if recipe.resolution.start == 1 or side * recipe.resolution.start >= LEAST_SIDE or "resolution.start" in said:
        return None
    return Choice("resolution.start", 1.0, f"images of {side} pixels are not made smaller to begin with")


def fit_validation(amount: Amount, data: DataSettings) -> Choice | None:
    """How many images a training of few holds out; None where the images have a part for it, or it was said."""
    total = amount.train + amount.validation
    held_out = max(1, total // HELD_OUT)
    if amount.own_validation or data.validation_examples is not None or held_out >= amount.validation:
        return None
    return Choice("data.validation_examples", held_out, f"not {amount.validation:,}: they only choose the epoch, and images are scarce")


def fit_framing(data: DataSettings) -> Choice | None:
    """What becomes of images that are no squares: people's own show what they show anywhere, not only in their middle."""
    return Choice("crop_mode", "squash", "nothing of an image is cut off, whatever its shape") if own_images(data) else None


def fit_side(amount: Amount, recipe: Recipe, hardware: Hardware) -> Choice | None:
    """The side at which large images are trained on without a GPU; None where that of ``nas.data.prepared`` suits."""
    usual = training_side(amount.side, recipe.image_size or LARGE_SIDE)
    if hardware.gpus or recipe.image_size is not None or amount.train >= MANY or usual <= CPU_SIDE:
        return None
    return Choice("image_size", CPU_SIDE, f"no GPU: {usual} pixels would take {(usual / CPU_SIDE) ** 2:.0f} times as long")


def fit_network(architecture: Architecture, recipe: Recipe, amount: Amount, hardware: Hardware) -> tuple[Architecture, Choice | None]:
    """The architecture, cut down where training it on this machine would take much longer than so few images deserve."""
    budget = len(hardware.gpus) * MACS_A_GPU or hardware.cores * (MACS_A_CORE + amount.train * MACS_A_CORE_AN_IMAGE)
    seen = recipe.epochs * math.ceil(amount.train / recipe.batch_size) * recipe.batch_size  # a short step costs about a whole one
    target = int(min(budget / seen, DESERVED_MACS + amount.train * DESERVED_MACS_AN_IMAGE))
    if architecture.cost().macs <= target:
        return architecture, None
    of_cells = hasattr(architecture.skeleton, "cells")
    chosen = scale_to(architecture, Target("macs", target), cells=DEPTH_OF_SMALL if of_cells else None).architecture
    return chosen, Choice("network", chosen.name, "cut down to what so few images can teach, and this machine learn in time")
