"""Several children at once in one process: as one after the other, but beside one another."""

import threading
from collections.abc import Generator
from contextlib import nullcontext

import pytest

from controllers.controller import Completed, Failed
from nas.data.embedded import make_synthetic
from nas.data.prepared import PreparedData
from nas.evaluators.child import TrainingEvaluator
from nas.evaluators.evaluator import FRESH, Attempt, Evaluation, Report
from nas.evaluators.settings import RunnerSettings
from nas.runners.local import LocalRunner
from nas.runners.runner import Ended, Event, Job, Reported, Runner
from nas.runners.threads import ThreadedRunner, stream_of
from nas.runs.config import config_from_document
from search_spaces.genotype import Genotype
from search_spaces.reference import load_reference

CELLS = load_reference("nasnet-a")


class Meeting:
    """Children that go on only when all of them are there; the one with seed 9 fails."""

    def __init__(self, children: int) -> None:
        self.barrier = threading.Barrier(children)
        self.beats: dict[int, int] = {}

    def evaluate(
        self, genotype: Genotype, seed: int, time_limit: float | None, attempt: Attempt = FRESH
    ) -> Generator[Report, None, Evaluation]:
        self.barrier.wait(20)
        if seed == 9:
            raise ValueError("nine")
        yield Report(1, 0.1)
        while seed == 7:  # until it is stopped
            attempt.beat()
        return Evaluation(Completed(seed / 10))


def ended(runner: Runner, count: int) -> dict[int, Evaluation]:
    """The evaluations of so many children, in which every report came before its end."""
    events: list[Event] = []
    while sum(isinstance(event, Ended) for event in events) < count:
        events += runner.poll(5.0)
    found = {}
    for event in events:
        if isinstance(event, Ended):
            found[event.trial] = event.evaluation
        else:
            assert isinstance(event, Reported) and event.trial not in found
    return found


def test_children_train_at_once_and_fail_apart() -> None:
    runner = ThreadedRunner(Meeting(3), 3)
    for trial, seed in enumerate((1, 2, 9)):
        runner.submit(Job(trial, 1, CELLS, seed))
    found = ended(runner, 3)
    assert runner.capacity == 3 and found[0].outcome == Completed(0.1) and found[1].outcome == Completed(0.2)
    assert isinstance(found[2].outcome, Failed) and "nine" in str(found[2].outcome)
    runner.close()


def test_a_child_that_is_stopped_frees_its_thread_and_is_not_heard_of_again() -> None:
    runner = ThreadedRunner(Meeting(1), 1)
    runner.submit(Job(0, 1, CELLS, 7))
    assert [type(event) for event in runner.poll(20.0)] == [Reported]
    runner.stop(0)
    runner.submit(Job(1, 1, CELLS, 1))
    assert list(ended(runner, 1)) == [1] and runner.poll(0.0) == []
    runner.close()


def test_closing_ends_children_in_training() -> None:
    runner = ThreadedRunner(Meeting(2), 2)
    for trial in range(4):
        runner.submit(Job(trial, 1, CELLS, 7))
    runner.poll(20.0)
    runner.close()
    assert not any(thread.name.startswith("child ") for thread in threading.enumerate())


@pytest.fixture(scope="module")
def evaluator() -> TrainingEvaluator:
    dataset = make_synthetic(96, 10, 3, 8)
    first, second = (dataset.train.take(part) for part in (range(64), range(64, 96)))
    data = PreparedData("tiny", first, second, dataset.test, dataset.class_names, 3, 8, (0.5,) * 3, (0.25,) * 3, mirrors=False)
    document = {"fidelity": {"epochs": 2, "cells": 1, "filters": 2}, "training": {"batch_size": 32, "drop_path_keep": 0.6}}
    return TrainingEvaluator(data, config_from_document(document))


def test_rewards_are_those_of_children_one_after_the_other_bit_for_bit(evaluator: TrainingEvaluator) -> None:
    found = []
    for runner in (LocalRunner(evaluator), ThreadedRunner(evaluator, 3, place=nullcontext)):
        for trial in range(3):
            runner.submit(Job(trial, 1, CELLS, trial))
        found.append({trial: evaluation.outcome for trial, evaluation in ended(runner, 3).items()})
        runner.close()
    assert found[0] == found[1] and all(isinstance(outcome, Completed) for outcome in found[0].values())


def test_without_a_gpu_there_are_no_streams() -> None:
    assert stream_of(RunnerSettings(gpus_per_child=0.0)) is nullcontext
