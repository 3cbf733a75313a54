"""How good weights are, in all its parts: accuracy with its interval, by class, and which classes are taken for which. No torch."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nas.data.dataset import Labels
from nas.tools.intervals import CONFIDENCE, wilson
from nas.tools.words import TOP5_FROM, counted

if TYPE_CHECKING:
    from nas.training.scoring import Scores


@dataclass(frozen=True)
class ClassAccuracy:
    """One class: its images, and how many were recognised; ``taken_for`` is the class that most of the others were taken for."""

    name: str
    images: int
    correct: int
    taken_for: str = ""
    taken: int = 0

    @property
    def accuracy(self) -> float:
        """In [0, 1]."""
        return self.correct / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's, of the accuracy."""
        return wilson(self.accuracy, self.images)


@dataclass(frozen=True)
class Answers:
    """What the network said of every image: labels and predictions, both (images,), count ``names``."""

    names: tuple[str, ...]
    labels: Labels
    predicted: Labels

    def confusion(self) -> npt.NDArray[np.int64]:
        """(classes, classes): how many images of the row's class were taken for the column's."""
        count = len(self.names)
        return np.bincount(self.labels * count + self.predicted, minlength=count * count).reshape(count, count)

    def by_class(self) -> tuple[ClassAccuracy, ...]:
        """The classes of which there were images, the worst first."""
        found = []
        for label in np.unique(self.labels).tolist():
            said = self.predicted[self.labels == label]
            others = np.bincount(said[said != label], minlength=len(self.names))
            most = int(others.argmax())
            taken = (self.names[most], int(others[most])) if others[most] else ("", 0)
            found.append(ClassAccuracy(self.names[label], len(said), int((said == label).sum()), *taken))
        return tuple(sorted(found, key=lambda one: one.accuracy))


@dataclass(frozen=True)
class Measured:
    """What ``nas evaluate`` found. ``said`` tells which images were scored, ``classes_said`` how their classes were matched."""

    name: str
    weights: Path
    data: str
    part: str
    said: str
    notes: tuple[str, ...]
    classes_said: str
    side: int
    flip: bool
    folded: bool
    device: str
    threads: int
    scores: "Scores"
    with_reading: float
    answers: Answers
    converted: str = ""
    """Which published layout the weights had, and how such a network's images were prepared; empty for our own."""

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's, of the top-1 accuracy: where that on further images of the kind lies with 95 % confidence."""
        return wilson(self.scores.top1, self.scores.images)

    @property
    def top5(self) -> float | None:
        """None where there are five classes or fewer, of which the right one is always among five."""
        return self.scores.top5 if len(self.answers.names) >= TOP5_FROM else None

    def lines(self) -> list[str]:
        """For a person."""
        found, (low, high) = self.scores, self.interval
        top5 = f", {100 * self.top5:.2f} % top-5" if self.top5 is not None else ""
        speed = f"{found.images_per_second:,.0f} images/s by the network alone, {found.images / self.with_reading:,.0f} with reading them"
        return [
            f"{self.name}, weights {self.weights}",
            *([f"converted:  {self.converted}"] if self.converted else []),
            *(f"note:       {note}" for note in self.notes),
            f"data:       {self.data}: {self.said}",
            f"images:     {found.images:,} at {self.side}×{self.side}{', each with its mirror image (mean of both)' if self.flip else ''}",
            *([f"classes:    {self.classes_said}"] if self.classes_said else []),
            f"accuracy:   {100 * found.top1:.2f} % top-1{top5}, loss {found.loss:.4f}",
            f"interval:   {100 * low:.1f} to {100 * high:.1f} % top-1 ({100 * CONFIDENCE:g} %, Wilson)",
            f"throughput: {speed}",
            f"            ({self.device}, {counted(self.threads, 'thread')}{', folded for inference' if self.folded else ''})",
        ]

    def document(self) -> dict[str, Any]:
        """All of it as plain data."""
        found = self.scores
        return {
            "network": self.name,
            "weights": str(self.weights),
            "converted": self.converted,
            "data": self.data,
            "part": self.part,
            "scored": self.said,
            "notes": list(self.notes),
            "matched": self.classes_said,
            "images": found.images,
            "image_size": self.side,
            "flip": self.flip,
            "folded": self.folded,
            "top1": found.top1,
            "top1_interval": {"low": self.interval[0], "high": self.interval[1], "confidence": CONFIDENCE, "method": "wilson"},
            "top5": self.top5,
            "loss": found.loss,
            "images_per_second": found.images_per_second,
            "images_per_second_with_reading": found.images / self.with_reading,
            "device": self.device,
            "threads": self.threads,
            "classes": [dict(zip(CLASS_COLUMNS, _row(one), strict=True)) for one in self.answers.by_class()],
        }

    def table(self) -> str:
        """The classes as CSV, the worst first."""
        return as_csv([CLASS_COLUMNS, *(_row(one) for one in self.answers.by_class())])


CLASS_COLUMNS = ("class", "images", "correct", "accuracy", "low", "high", "taken_for", "taken")


def _row(one: ClassAccuracy) -> tuple[object, ...]:
    return one.name, one.images, one.correct, one.accuracy, *one.interval, one.taken_for, one.taken


def as_csv(rows: list[tuple[object, ...]]) -> str:
    """Rows as comma-separated lines."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
