"""The epochs of a training, and its one reading of the test set, as points for loggers. No torch."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nas.loggers.logger import Point

if TYPE_CHECKING:
    from nas.training.scoring import Scores
    from nas.training.trainer import EpochRecord


def epoch_points(history: Sequence["EpochRecord"]) -> list[Point]:
    """A point for every epoch, the last of which has just ended: losses, accuracies in [0, 1], learning rate, images a second."""
    points, ended = [], time.time()
    for record in reversed(history):
        scalars = {
            "loss/train": record.train_loss,
            "loss/validation": record.validation_loss,
            "accuracy/top1": record.validation_top1,
            "accuracy/top5": record.validation_top5,
            "learning_rate": record.learning_rate,
            "images_per_second": record.images_per_second,
        }
        points.append(Point(record.epoch, ended, scalars))
        ended -= record.seconds
    return points[::-1]


def test_point(scores: "Scores", epochs: int) -> Point:
    """How the best epoch's weights do on the test set, at the step of the last epoch."""
    return Point(epochs, time.time(), {"test/top1": scores.top1, "test/top5": scores.top5, "test/loss": scores.loss})
