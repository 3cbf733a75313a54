"""The Ray runner: children on persistent workers, faults as outcomes, resources as asked."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from controllers.controller import Completed, Failed, random_for
from nas.errors import ConfigError
from nas.evaluators.settings import RunnerSettings
from nas.runners.places import Node, Place, plan_places
from nas.runners.ray_pool import RayRunner
from nas.runners.runner import Ended, Event, Job, Lost, Reported
from nas.runs import session as engine
from nas.runs.config import SearchConfig, config_from_document
from search_spaces.nasnet import NASNET
from search_spaces.space import sample_actions


def settings(**runner: Any) -> SearchConfig:
    return config_from_document(
        {
            "budget": 20,
            "evaluator": "synthetic",
            "synthetic": {"seconds": 0.05},
            "fidelity": {"epochs": 2},
            "controller": {"name": "random"},
            "runner": {"workers": 2, **runner},
        }
    )


def job(trial: int, seed: int = 0) -> Job:
    return Job(trial, 1, NASNET.decode(sample_actions(NASNET, random_for(0, trial))), seed or trial)


def drain(runner: RayRunner, ends: int, timeout: float = 60) -> list[Event]:
    events: list[Event] = []
    deadline = time.monotonic() + timeout
    while sum(isinstance(e, Ended | Lost) for e in events) < ends:
        assert time.monotonic() < deadline, events
        events += runner.poll(1.0)
    return events


@pytest.fixture
def runner(request: pytest.FixtureRequest) -> Iterator[RayRunner]:
    made = RayRunner(request.param, None, cores=2)
    yield made
    made.close()


@pytest.mark.parametrize("runner", [settings()], indirect=True)
def test_children_run_side_by_side_and_report_every_epoch_in_order(runner: RayRunner) -> None:
    assert runner.capacity == 1  # nothing is up yet: one proposal is enough
    for trial in range(5):
        runner.submit(job(trial))
    events = drain(runner, 5)
    assert runner.capacity == 2
    for trial in range(5):
        mine = [event for event in events if event.trial == trial]
        assert [type(event) for event in mine] == [Reported, Reported, Ended]
        assert [event.report.epoch for event in mine if isinstance(event, Reported)] == [1, 2]
        assert isinstance(mine[-1], Ended) and isinstance(mine[-1].evaluation.outcome, Completed)
    for trial in range(100, 150):
        runner.submit(job(trial))
    assert len({e.trial for e in drain(runner, 50) if isinstance(e, Ended)}) == 50


def test_a_search_on_ray_survives_every_kind_of_failure(tmp_path: Path) -> None:
    config = settings(time_limit=1.5)
    failures = {"exception": 0.1, "diverged": 0.1, "out_of_memory": 0.1, "worker_lost": 0.1, "time_limit": 0.05}
    config = config.model_copy(update={"budget": 40, "synthetic": config.synthetic.model_copy(update={"failures": failures})})
    state = engine.start(config, tmp_path / "run").state
    assert state.spent == 40
    outcomes = [t.evaluation.outcome for t in state.trials.values() if t.evaluation]
    assert {o.reason for o in outcomes if isinstance(o, Failed)} == set(failures)
    lost = [
        t
        for t in state.trials.values()
        if t.evaluation and isinstance(t.evaluation.outcome, Failed) and t.evaluation.outcome.reason == "worker_lost"
    ]
    assert lost and all(t.lost == 2 and t.attempts == 3 and not t.spends_budget for t in lost)


def long_children(hung: float = 0.0, **runner: Any) -> SearchConfig:
    config = settings(**runner)
    changed = config.synthetic.model_copy(update={"seconds": 60.0, "failures": {"hung": hung}})
    return config.model_copy(update={"synthetic": changed, "fidelity": config.fidelity.model_copy(update={"epochs": 1})})


def until(runner: RayRunner, condition: Callable[[list[Event]], bool], timeout: float = 200) -> list[Event]:
    events: list[Event] = []
    deadline = time.monotonic() + timeout
    while not condition(events):
        assert time.monotonic() < deadline, events
        events += runner.poll(0.2)
    return events


def process_of(runner: RayRunner, trial: int) -> int:
    return int(ray.get(next(slot for slot in runner._slots if slot.job is not None and slot.job.trial == trial).boot))


def seed_of(hangs: bool) -> int:
    return next(seed for seed in range(1, 99) if (random_for(seed, "synthetic").random() < 0.5) == hangs)


@pytest.mark.parametrize("runner", [long_children(hung=0.5, heartbeat=1.0)], indirect=True)
def test_silent_children_are_lost_and_unwanted_ones_stopped(runner: RayRunner) -> None:
    silent = "no sign of life for 1 s; its worker was killed"
    runner.submit(job(9, seed_of(hangs=True)))
    runner.submit(job(1, seed_of(hangs=False)))
    (event,) = until(runner, lambda events: len(events) > 0)  # the worker answers, and says that its child is silent
    assert event == Lost(9, 1, silent, "hung")
    runner.submit(job(0, seed_of(hangs=False)))
    until(runner, lambda events: sum(slot.job is not None for slot in runner._slots) == 2)
    started = time.monotonic()
    assert until(runner, lambda events: time.monotonic() > started + 2.5) == []  # a long child that lives is left alone
    os.kill(process_of(runner, 0), signal.SIGSTOP)  # frozen: it does not even answer
    (event,) = until(runner, lambda events: len(events) > 0)
    assert event == Lost(0, 1, silent, "hung")
    runner.stop(1)  # one that nobody wants any more ends at its next batch, and its worker goes on with another
    process = process_of(runner, 1)
    until(runner, lambda events: all(slot.job is None for slot in runner._slots), timeout=30)
    runner.submit(job(2, seed_of(hangs=False)))
    assert process_of(runner, 2) == process
    os.kill(process, signal.SIGKILL)
    (event,) = until(runner, lambda events: len(events) > 0)
    assert isinstance(event, Lost) and (event.trial, event.reason) == (2, "worker_lost")


def test_nodes_that_join_are_used_and_one_that_leaves_costs_its_children() -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    runner = RayRunner(long_children(workers=None, address=cluster.address), None, cores=2)
    try:
        for trial in range(3):
            runner.submit(job(trial))
        until(runner, lambda events: runner.capacity == 1 and runner._slots[0].job is not None)
        node = cluster.add_node(num_cpus=1)
        assert until(runner, lambda events: runner.capacity == 2) == []
        assert {slot.job.trial for slot in runner._slots if slot.job} == {0, 1}
        cluster.remove_node(node, allow_graceful=False)
        (event,) = until(runner, lambda events: len(events) > 0)
        assert isinstance(event, Lost) and (event.trial, event.reason) == (1, "worker_lost")
        until(runner, lambda events: len(runner._slots) == 1)
        assert runner._slots[0].job is not None and runner._slots[0].job.trial == 0, "the other node's child goes on"
    finally:
        runner.close()
        cluster.shutdown()


def test_a_stuck_child_is_killed_after_its_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.runners.ray_pool.GRACE_SECONDS", 1.0)
    config = settings(time_limit=0.5, workers=1)
    config = config.model_copy(update={"synthetic": config.synthetic.model_copy(update={"failures": {"hung": 1.0}})})
    runner = RayRunner(config, None, cores=1)
    try:
        runner.submit(job(0))
        events = drain(runner, 1)
    finally:
        runner.close()
    end = events[-1]
    assert isinstance(end, Ended) and isinstance(end.evaluation.outcome, Failed)
    assert end.evaluation.outcome.reason == "time_limit" and "its worker was killed" in end.evaluation.outcome.detail


CPU, GPU = Node("cpu", 10.0), Node("gpu", 16.0, 4.0)


@pytest.mark.parametrize(
    ("asked", "nodes", "expected"),
    [
        ({}, [Node("a", 8.0)], {Place(1, 0.0, "a"): 8}),
        ({"threads_per_child": 4}, [CPU], {Place(4, 0.0, "cpu"): 2}),
        ({"threads_per_child": 4}, [Node("a", 6.0), Node("b", 6.0)], {Place(4, 0.0, "a"): 1, Place(4, 0.0, "b"): 1}),
        ({}, [CPU, GPU], {Place(1, 1.0, "gpu"): 4}),
        ({"cpu_nodes": True}, [CPU, GPU], {Place(1, 1.0, "gpu"): 4, Place(1, 0.0, "cpu"): 10}),
        ({"gpus_per_child": 0.0}, [CPU, GPU], {Place(1, 0.0, "gpu"): 16, Place(1, 0.0, "cpu"): 10}),
        ({"gpus_per_child": 0.5}, [GPU], {Place(1, 0.5, "gpu"): 8}),
        ({"gpus_per_child": 0.1}, [GPU], {Place(1, 0.1, "gpu"): 16}),
        ({"gpus_per_child": 2.0}, [GPU], {Place(1, 2.0, "gpu"): 2}),
        ({"gpus_per_child": 0.5}, [Node("a", 3.0, 4.0)], {Place(1, 0.5, "a"): 3}),
        ({"workers": 3}, [CPU], {Place(1, 0.0): 3}),
        ({"workers": 64}, [GPU], {Place(1, 1.0): 64}),  # those that wait are the autoscaler's demand
        ({"workers": 6, "cpu_nodes": True}, [CPU, GPU], {Place(1, 1.0): 4, Place(1, 0.0, "cpu"): 2}),
        ({"address": "auto", "gpus_per_child": 1.0}, [], {Place(1, 1.0): 1}),  # all machines are still to come
    ],
)
def test_workers_fill_the_nodes(asked: dict[str, Any], nodes: list[Node], expected: dict[Place, int]) -> None:
    assert Counter(plan_places(RunnerSettings(**asked), nodes)) == expected


@pytest.mark.parametrize(("gpus", "message"), [(1.5, "fraction up to 1 or a whole number"), (1.0, "this machine has 0")])
def test_impossible_resources_are_refused(gpus: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_places(RunnerSettings(gpus_per_child=gpus), [Node("a", 2.0)])


def test_more_workers_than_the_machine_can_hold_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"runner.workers must be at most 4 on this machine .*but got 64"):
        RayRunner(settings(workers=64), None, cores=2)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:port"])
def test_an_address_without_a_cluster_gets_one_message(address: str) -> None:
    with pytest.raises(ConfigError, match=r"no Ray cluster answers at .*ray start --head.*RAY_AUTH_MODE=token"):
        RayRunner(settings(address=address), None, cores=2)
