"""The Ray runner: children on persistent workers, faults as outcomes, resources as asked."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from controllers.controller import Completed, Failed, random_for
from nas import engine
from nas.config import RunnerSettings, SearchConfig
from nas.errors import ConfigError
from nas.runners.ray_pool import RayRunner, actor_options, default_workers
from nas.runners.runner import Ended, Event, Job, Lost, Reported
from nas.settings import config_from_document
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
    assert runner.capacity == 2
    for trial in range(5):
        runner.submit(job(trial))
    events = drain(runner, 5)
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
    state = engine.start(config, tmp_path / "run", Console(quiet=True)).state
    assert state.spent == 40
    outcomes = [t.evaluation.outcome for t in state.trials.values() if t.evaluation]
    assert {o.reason for o in outcomes if isinstance(o, Failed)} == set(failures)
    lost = [
        t
        for t in state.trials.values()
        if t.evaluation and isinstance(t.evaluation.outcome, Failed) and t.evaluation.outcome.reason == "worker_lost"
    ]
    assert lost and all(t.lost == t.attempts == 3 and not t.spends_budget for t in lost)


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


@pytest.mark.parametrize(
    ("asked", "available", "options", "workers"),
    [
        ({}, {"CPU": 8.0}, {"num_cpus": 1, "num_gpus": 0.0}, 8),
        ({"threads_per_child": 4}, {"CPU": 10.0}, {"num_cpus": 4, "num_gpus": 0.0}, 2),
        ({}, {"CPU": 16.0, "GPU": 4.0}, {"num_cpus": 1, "num_gpus": 1}, 4),
        ({"gpus_per_child": 0.5}, {"CPU": 16.0, "GPU": 4.0}, {"num_cpus": 1, "num_gpus": 0.5}, 8),
        ({"gpus_per_child": 2.0}, {"CPU": 16.0, "GPU": 4.0}, {"num_cpus": 1, "num_gpus": 2}, 2),
        ({"gpus_per_child": 0.5}, {"CPU": 3.0, "GPU": 4.0}, {"num_cpus": 1, "num_gpus": 0.5}, 3),
    ],
)
def test_workers_fill_the_resources(asked: dict[str, Any], available: dict[str, float], options: dict[str, float], workers: int) -> None:
    found = actor_options(RunnerSettings(**asked), available)
    assert found == options
    assert default_workers(found, available) == workers


@pytest.mark.parametrize(("gpus", "message"), [(1.5, "fraction up to 1 or a whole number"), (1.0, "this machine has 0")])
def test_impossible_resources_are_refused(gpus: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        actor_options(RunnerSettings(gpus_per_child=gpus), {"CPU": 2.0})


def test_more_workers_than_the_machine_can_hold_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"runner.workers must be at most 4 on this machine .*but got 64"):
        RayRunner(settings(workers=64), None, cores=2)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:port"])
def test_an_address_without_a_cluster_gets_one_message(address: str) -> None:
    with pytest.raises(ConfigError, match=r"no Ray cluster answers at .*ray start --head.*RAY_AUTH_MODE=token"):
        RayRunner(settings(address=address), None, cores=2)
