"""What suits a set of images that no preset was made for: the settings of a search's children, each with its reason. No torch.

The figures were chosen by ``benchmarks/small_sets.py``.
"""

import math
from collections.abc import Container, Mapping
from dataclasses import replace
from typing import Any

from nas.data.prepared import training_side
from nas.evaluators.settings import FOLDER_SIDE, EvaluationConfig
from nas.settings.reading import flat
from nas.tools.hardware import Hardware
from nas.training.fitting import Amount, Choice, batch_for, epochs_for

CPU_STEPS, GPU_STEPS = 120, 500
"""Steps of a child at least: below, its reward is chance."""
CPU_IMAGES = 8_000
"""Training images of a child at most, without a GPU."""
SCORED = 2_000
"""Validation images scored at most: a reward is then known to a point."""
_CPU_SIZES = ((12, 8, 8), (47, 16, 8), (10**9, 24, 6))
"""Without a GPU, for images up to a side: the side in pixels of a child's, and F."""
VERY_FEW = 500
"""Training images below which a step takes 16 of them."""
GPU_SIDE, GPU_CELLS, GPU_FILTERS = 64, 2, 16
LEARNING_RATE = 0.1
OFTEN = 12
"""Passes over the images from which on a child learns them by heart unless they are varied."""
FEWEST_CHILDREN, MOST_CHILDREN = 40, 500


def fit_children(amount: Amount, hardware: Hardware, said: Mapping[str, Any], framing: Choice | None = None) -> tuple[Choice, ...]:
    """Settings of a search on these images on this machine, with a training's ``framing`` of them.

    None of those that were ``said``, nor a width where that of every network is solved for.
    """
    told = flat(said)
    on_gpu = bool(hardware.gpus)
    largest, filters = _size(amount.side, on_gpu)
    side = max(8, min(largest, amount.side // 4 * 4))
    seen = min(told.get("fidelity.train_examples", None if on_gpu else CPU_IMAGES) or amount.train, amount.train)
    usual = 16 if amount.train < VERY_FEW else batch_for(amount.train) or (256 if on_gpu else 64)
    batch = told.get("training.batch_size") or usual
    epochs = told.get("fidelity.epochs") or epochs_for(GPU_STEPS if on_gpu else CPU_STEPS, batch, seen)
    children = min(MOST_CHILDREN, max(FEWEST_CHILDREN, amount.validation // 2))
    steps = epochs * math.ceil(seen / batch)
    told_apart = f"{amount.validation:,} validation images tell no more cells apart" if children < MOST_CHILDREN else "enough to learn from"
    choices = [
        Choice("budget", children, told_apart),
        Choice("fidelity.cells", GPU_CELLS if on_gpu else 1, "shallow: a child takes seconds"),
        Choice("fidelity.filters", GPU_FILTERS if on_gpu else filters, "narrow, for the same reason"),
        Choice("fidelity.image_size", side, f"of the images' {amount.side}"),
        Choice("fidelity.epochs", epochs, f"{steps:,} steps: far fewer leave rewards at chance"),
        Choice("training.batch_size", batch, f"{amount.train:,} training images"),
        Choice("training.optimizer.learning_rate", LEARNING_RATE, "as in the presets, for such batches"),
        *_augmentation(epochs),
        _at_most("fidelity.train_examples", seen, amount.train, "what there is time for"),
        _at_most("fidelity.validation_examples", SCORED, amount.validation, "a reward is known to a point"),
        *([replace(framing, setting=f"training.{framing.setting}")] if framing is not None else []),
    ]
    solved = {"fidelity.filters"} if told.get("match") is not None else set()
    return tuple(choice for choice in choices if choice.setting not in solved and not named(choice.setting, said))


def _size(side: int, on_gpu: bool) -> tuple[int, int]:
    if on_gpu:
        return GPU_SIDE, GPU_FILTERS
    return next((child, filters) for up_to, child, filters in _CPU_SIZES if side <= up_to)


def _augmentation(epochs: int) -> tuple[Choice, ...]:
    if epochs < OFTEN:
        reason = "so short, it costs more than it gives"
        return Choice("training.augmentation.crop", "none", reason), Choice("training.augmentation.flip", False, reason)
    reason = f"{epochs} passes over the same images"
    return Choice("training.augmentation.crop", "shift", reason), Choice("training.augmentation.flip", True, "where the images allow it")


def _at_most(setting: str, count: int, there: int, reason: str) -> Choice:
    return Choice(setting, count, f"of {there:,}: {reason}") if there > count else Choice(setting, None, f"all {there:,} of them")


def named(setting: str, said: Container[str]) -> bool:
    """Whether a person has said this setting, by its name, a short one, or the group that it is in."""
    parts = setting.split(".")
    groups = [".".join(parts[:length]) for length in range(1, len(parts) + 1)]
    return any(name in said for name in (*groups, f"{parts[0]}.{parts[-1]}"))


def images_used(config: EvaluationConfig, amount: Amount) -> tuple[int, int, int]:
    """Images that a child is trained on and scored on, and their side in pixels."""
    fidelity = config.fidelity
    usual = training_side(amount.side, FOLDER_SIDE) if config.data.name == "folder" else amount.side
    return (
        min(fidelity.train_examples or amount.train, amount.train),
        min(fidelity.validation_examples or amount.validation, amount.validation),
        fidelity.image_size or config.data.image_size or usual,
    )
