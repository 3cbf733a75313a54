"""How long the trainings of a comparison take: a few steps of some members are timed; they have one size. Loads torch."""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import ceil
from statistics import fmean
from typing import TYPE_CHECKING

from nas.networks.architecture import Architecture
from nas.networks.description import skeleton_document
from nas.runners.side_by_side import as_many_as_fit
from nas.runs.expected import START_SECONDS, side_by_side
from nas.tools.stages import doing
from nas.tools.words import counted, duration
from nas.training.config import TrainConfig
from nas.training.numerics import own_threads
from nas.training.session import build_for_training, make_trainer
from nas.training.timing import estimate

if TYPE_CHECKING:
    from nas.data.prepared import PreparedData

TIMED_SECONDS = 5.0
"""After so many seconds no other member is timed."""


@dataclass(frozen=True)
class Expected:
    """Seconds of one training alone, by so many members ``timed``; of ``trainings``, of which ``at_once`` make each other ``slower``."""

    alone: float
    timed: int
    trainings: int
    at_once: int
    slower: float

    @property
    def seconds(self) -> float:
        """Of all trainings, and of the start of the processes that train several at once."""
        start = START_SECONDS["ray" if self.at_once > 1 else "local"]
        return start + self.alone * ceil(self.trainings / self.at_once) * self.slower

    def __str__(self) -> str:
        return (
            f"about {duration(self.seconds)} for {counted(self.trainings, 'training')}, {self.at_once} at once "
            f"({counted(self.timed, 'network')} timed); Ctrl-C stops, the same command goes on"
        )


def expect_trainings(
    members: Mapping[str, Architecture], base: TrainConfig, data: "PreparedData", trainings: int, workers: int | None
) -> Expected | None:
    """Time as many members as there is time for; None where none of them can be trained, which its training will say.

    Args:
        members: the sized networks by the members' names.
        base: the training of all but the skeleton.
        data: everybody's images.
        trainings: how many there are to do.
        workers: trainings at once; None: as many as fit.
    """
    times: list[float] = []
    began = time.monotonic()
    for label, found in members.items():
        config = base.model_copy(update={"skeleton": skeleton_document(found.skeleton, found.skeleton_name)})
        with doing(f"timing {label}"), own_threads(config.threads), suppress(Exception):  # a broken member is a row, whatever broke it
            trainer = make_trainer(build_for_training(found.genotype, config, data), data, config)
            times.append(estimate(trainer.twin()).after(0))
        if time.monotonic() - began > TIMED_SECONDS:
            break
    if not times:
        return None
    at_once = at_once_of(trainings, base, workers)
    return Expected(fmean(times), len(times), trainings, at_once, side_by_side(at_once))


def at_once_of(trainings: int, base: TrainConfig, workers: int | None) -> int:
    """How many of the trainings are done at once, at least one."""
    return max(1, min(trainings, workers or as_many_as_fit(base)))


def seconds_left(done: int, trainings: int, at_once: int, passed: float) -> float:
    """Seconds until all trainings have ended, by how long those took that have; 0 where none has, or all are about to."""
    if not 0 < done < trainings:
        return 0.0
    return max(0.0, passed / ceil(done / at_once) * ceil(trainings / at_once) - passed)
