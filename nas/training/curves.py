"""Draws the curves of a training: loss and accuracy by epoch, as a PNG."""

from collections.abc import Sequence
from pathlib import Path

from nas.training.trainer import EpochRecord


def draw_curves(history: Sequence[EpochRecord], path: Path) -> None:
    """Write the picture; ``history`` has at least one epoch."""
    from matplotlib.figure import Figure

    epochs = [record.epoch for record in history]
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    losses, accuracies = figure.subplots(1, 2)
    losses.plot(epochs, [record.train_loss for record in history], label="training")
    losses.plot(epochs, [record.validation_loss for record in history], label="validation")
    losses.set(xlabel="epoch", ylabel="loss")
    losses.legend(frameon=False)
    accuracies.plot(epochs, [100 * record.validation_top1 for record in history], color="C1")
    accuracies.set(xlabel="epoch", ylabel="validation accuracy, %")
    best = max(history, key=lambda record: record.validation_top1)
    accuracies.set_title(f"best {100 * best.validation_top1:.2f} % after epoch {best.epoch}", fontsize="medium")
    for axes in (losses, accuracies):
        axes.spines[["top", "right"]].set_visible(False)
    scratch = path.with_name(f".{path.name}.part")
    figure.savefig(scratch, dpi=120, format="png")
    scratch.replace(path)
