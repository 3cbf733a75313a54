"""Faults are outcomes by rule: what is tried again, how often, what is recorded; a full disk stops a search in order."""

import math
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np
import pytest

from controllers.controller import Completed, Failed, Outcome
from nas.cli.views import run as report
from nas.errors import RunError
from nas.evaluators.evaluator import FRESH, Attempt, Evaluation, Report
from nas.runners.runner import Ended, Event, Job, Lost
from nas.runs import session as engine
from nas.runs.config import SearchConfig, config_from_document
from nas.runs.folder import RunFolder
from nas.runs.ledger import Ledger, read_records
from nas.runs.loop import QUIET, Ending, Watcher
from nas.runs.state import RunState
from nas.tools.interrupts import Stopper
from search_spaces.genotype import Genotype


def config(budget: int = 3, **others: object) -> SearchConfig:
    document = {"budget": budget, "evaluator": "synthetic", "controller": {"name": "random"}, "runner": {"kind": "local"}}
    return config_from_document(document | others)


class Scripted:
    """A runner whose children end as a function of their jobs says, at once."""

    capacity = 1

    def __init__(self, answer: Callable[[Job], Event]) -> None:
        self.answer, self.jobs = answer, []  # type: ignore[var-annotated]
        self.told = 0

    def submit(self, job: Job) -> None:
        self.jobs.append(job)

    def poll(self, timeout: float) -> list[Event]:
        fresh, self.told = self.jobs[self.told :], len(self.jobs)
        return [self.answer(job) for job in fresh]

    def stop(self, trial: int) -> None: ...

    def close(self) -> None: ...


def search_with(runner: object, monkeypatch: pytest.MonkeyPatch, path: Path, budget: int = 3) -> engine.SearchResult:
    monkeypatch.setattr("nas.runners.local.LocalRunner", lambda *arguments: runner)
    return engine.start(config(budget), path, QUIET)


def outcomes(result: engine.SearchResult) -> list[Outcome | None]:
    return _outcomes(result.state)


def _outcomes(state: RunState) -> list[Outcome | None]:
    return [trial.evaluation.outcome if trial.evaluation else None for trial in state.trials.values()]


def test_a_hanging_child_is_tried_once_more_and_then_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(job: Job) -> Event:
        if job.trial == 0 or (job.trial == 1 and job.attempt == 1):
            return Lost(job.trial, job.attempt, "no sign of life", "hung")
        return Ended(job.trial, job.attempt, Evaluation(Completed(0.5)))

    result = search_with(Scripted(answer), monkeypatch, tmp_path / "run")
    assert outcomes(result) == [Failed("hung", "2 attempts; last: no sign of life"), Completed(0.5), Completed(0.5)]
    assert [trial.attempts for trial in result.state.trials.values()] == [2, 2, 1]
    assert result.state.spent == 3, "a child that hangs twice is counted"
    assert "failed: 1 hung · tried again: 2 hung" in report.summary(result.state)


def test_a_lost_worker_is_tried_three_times_and_costs_no_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(job: Job) -> Event:
        if job.trial == 0:
            return Lost(job.trial, job.attempt, "the node is gone")
        return Ended(job.trial, job.attempt, Evaluation(Completed(0.5)))

    result = search_with(Scripted(answer), monkeypatch, tmp_path / "run")
    assert outcomes(result) == [Failed("worker_lost", "3 attempts; last: the node is gone"), *[Completed(0.5)] * 3]
    assert result.state.spent == 3


@pytest.mark.parametrize(
    ("reward", "reason"), [(math.nan, "diverged"), (math.inf, "diverged"), (None, "diverged"), (1.5, "exception"), (-0.5, "exception")]
)
@pytest.mark.parametrize("when", ["after an epoch", "at the end"])
def test_a_reward_that_is_none_is_a_failure(when: str, reward: float, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Nonsense:
        def evaluate(
            self, genotype: Genotype, seed: int, time_limit: float | None, attempt: Attempt = FRESH
        ) -> Generator[Report, None, Evaluation]:
            yield Report(1, reward if when == "after an epoch" else 0.5)
            return Evaluation(Completed(reward))

    monkeypatch.setattr("nas.evaluators.registry.build_evaluator", lambda *arguments: Nonsense())
    result = engine.start(config(2), tmp_path / "run", QUIET)
    assert [outcome.reason for outcome in outcomes(result) if isinstance(outcome, Failed)] == [reason] * 2
    assert _outcomes(RunFolder(tmp_path / "run").state()) == outcomes(result), "the ledger can be read"


def test_what_is_measured_and_no_number_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Careless:
        def evaluate(
            self, genotype: Genotype, seed: int, time_limit: float | None, attempt: Attempt = FRESH
        ) -> Generator[Report, None, Evaluation]:
            measured: dict[str, float] = {"loss": math.nan, "speed": np.float32(2.0), "words": "many"}  # type: ignore[dict-item]
            yield Report(1, np.float32(0.5), measured)  # type: ignore[arg-type]
            return Evaluation(Completed(np.float32(0.5)), measured)  # type: ignore[arg-type]

    monkeypatch.setattr("nas.evaluators.registry.build_evaluator", lambda *arguments: Careless())
    engine.start(config(1), tmp_path / "run", QUIET)
    trial = RunFolder(tmp_path / "run").state().trials[0]
    assert trial.evaluation == Evaluation(Completed(0.5), {"speed": 2.0})
    assert trial.reports == [Report(1, 0.5, {"speed": 2.0})]


def test_whoever_stops_before_there_is_a_worker_begins_no_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*arguments: object) -> Scripted:
        os.kill(os.getpid(), signal.SIGTERM)
        return runner

    runner = Scripted(lambda job: Ended(job.trial, job.attempt, Evaluation(Completed(0.5))))
    monkeypatch.setattr("nas.runners.local.LocalRunner", start)
    with Stopper(lambda line: None, "stopping") as stopper:
        result = engine.start(config(3), tmp_path / "run", Watcher(stop=stopper.asked))
    assert result.ending is Ending.INTERRUPTED
    assert runner.jobs == [] and not result.state.trials


def test_whoever_asks_for_an_end_waits_for_the_children_in_training_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class OneByOne(Scripted):
        capacity = 2

        def poll(self, timeout: float) -> list[Event]:
            fresh, self.told = self.jobs[self.told : self.told + 1], self.told + 1
            return [self.answer(job) for job in fresh]

    ended: list[int] = []
    runner = OneByOne(lambda job: Ended(job.trial, job.attempt, Evaluation(Completed(0.5))))
    monkeypatch.setattr("nas.runners.local.LocalRunner", lambda *arguments: runner)
    watcher = Watcher(on_end=lambda trial: ended.append(trial.number), finish=lambda: bool(ended))
    result = engine.start(config(5), tmp_path / "run", watcher)
    assert result.ending is Ending.INTERRUPTED and result.state.closed == "interrupted"
    assert len(runner.jobs) == len(ended) == result.state.spent == 2 and not result.state.pending
    assert engine.resume(result.folder, None, Watcher(finish=lambda: True)).state.spent == 2, "asked before anything begins: nothing does"
    monkeypatch.setattr("nas.runners.local.LocalRunner", lambda *arguments: Scripted(runner.answer))
    assert engine.resume(result.folder, None).ending is Ending.FINISHED


def test_too_little_memory_is_tried_once_more_at_half_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    needs = {0: 2, 1: 4, 2: 1}  # the divisor at which each child fits

    class Greedy:
        def evaluate(
            self, genotype: Genotype, seed: int, time_limit: float | None, attempt: Attempt = FRESH
        ) -> Generator[Report, None, Evaluation]:
            child = seeds.setdefault(seed, len(seeds))
            seen.append((child, attempt.batch_divisor))
            if attempt.batch_divisor < needs[child]:
                raise MemoryError
            yield Report(1, 0.5)
            return Evaluation(Completed(0.5))

    seeds: dict[int, int] = {}
    monkeypatch.setattr("nas.evaluators.registry.build_evaluator", lambda *arguments: Greedy())
    result = engine.start(config(3), tmp_path / "run", QUIET)
    assert seen == [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1)]
    failed = Failed("out_of_memory", "2 attempts; last: the host ran out of memory")
    assert outcomes(result) == [Completed(0.5), failed, Completed(0.5)]
    records, _ = read_records(result.folder.ledger_file)
    assert [record["reason"] for record in records if record["event"] == "lost"] == ["out_of_memory"] * 2


def test_other_failures_are_the_architecture_s_and_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reasons = ("exception", "diverged", "time_limit")
    runner = Scripted(lambda job: Ended(job.trial, job.attempt, Evaluation(Failed(reasons[job.trial], "why"))))
    result = search_with(runner, monkeypatch, tmp_path / "run")
    assert outcomes(result) == [Failed(reason, "why") for reason in reasons]
    assert all(trial.attempts == 1 for trial in result.state.trials.values()) and result.state.spent == 3


def test_retries_are_counted_over_a_driver_s_death(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Dies(Scripted):
        def poll(self, timeout: float) -> list[Event]:
            if self.told == 2:
                raise KeyboardInterrupt
            return super().poll(timeout)

    def lose(job: Job) -> Event:
        return Lost(job.trial, job.attempt, "gone")

    with pytest.raises(KeyboardInterrupt):
        search_with(Dies(lose), monkeypatch, tmp_path / "run", budget=1)
    last = Scripted(lambda job: lose(job) if job.trial == 0 else Ended(job.trial, job.attempt, Evaluation(Completed(0.5))))
    monkeypatch.setattr("nas.runners.local.LocalRunner", lambda *arguments: last)
    result = engine.resume(RunFolder(tmp_path / "run"), None, QUIET)
    assert outcomes(result) == [Failed("worker_lost", "3 attempts; last: gone"), Completed(0.5)]
    # Two losses before the death; the third attempt, which the death cut off, is no loss.
    assert [job.attempt for job in last.jobs] == [4, 1]


def test_a_late_word_of_an_attempt_given_up_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Orphans(Scripted):
        def poll(self, timeout: float) -> list[Event]:
            events = super().poll(timeout)
            return [*events, *[Ended(event.trial, 1, Evaluation(Completed(0.99))) for event in events if event.attempt == 2]][::-1]

    runner = Orphans(lambda job: Lost(job.trial, 1, "x") if job.attempt == 1 else Ended(job.trial, 2, Evaluation(Completed(0.25))))
    assert outcomes(search_with(runner, monkeypatch, tmp_path / "run")) == [Completed(0.25)] * 3


# ---------------------------------------------------------------------------------------------------- a full disk


def test_a_write_that_fails_leaves_a_whole_ledger_that_can_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run"
    whole = engine.start(config(12), tmp_path / "whole", QUIET)
    real = os.fsync
    left = 17

    def full(file: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(28, "No space left on device")
        real(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match=r"cannot grow: No space left on device .*make room and go on with `nas resume"):
            engine.start(config(12), path, QUIET)
    before, size = read_records(path / "ledger.jsonl")
    assert size == (path / "ledger.jsonl").stat().st_size, "what could not be made safe is not left behind"
    resumed = engine.resume(RunFolder(path), None, QUIET)
    assert resumed.ending is Ending.FINISHED
    assert [t.proposal for t in resumed.state.trials.values()] == [t.proposal for t in whole.state.trials.values()]
    assert read_records(path / "ledger.jsonl")[0][: len(before)] == before


def test_a_disk_that_takes_a_part_of_a_record_is_noticed(tmp_path: Path) -> None:
    """A real one: the kernel refuses to let the file grow in the middle of a record."""
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        ledger.append({"event": "opened", "schema": "nas.ledger/1", "time": 1.0, "budget": 3})
        size = ledger.path.stat().st_size
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, before[1]))
        try:
            with pytest.raises(OSError, match="too large"):
                ledger.append({"event": "closed", "reason": "interrupted", "time": 2.0})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert ledger.path.stat().st_size == size and ledger.state.closed is None
        ledger.append({"event": "closed", "reason": "interrupted", "time": 2.0})
    assert len(read_records(tmp_path / "ledger.jsonl")[0]) == 2


def test_the_command_line_stops_with_exit_code_2_and_resumes(tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = ["--controller", "random", "--runner", "local", "--set", "evaluator=synthetic", "--budget", "60", "--run", str(run)]

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    full = subprocess.run(
        [sys.executable, "-m", "nas.cli.main", "search", "--preset", "laptop", *settings],
        preexec_fn=small_disk,
        capture_output=True,
        text=True,
        check=False,
    )
    assert full.returncode == 2, full.stdout + full.stderr
    assert "make room and go on with `nas resume" in full.stderr and "Traceback" not in full.stderr
    done = len(read_records(run / "ledger.jsonl")[0])
    assert 10 < done < 300
    assert engine.resume(RunFolder(run), None, QUIET).state.spent == 60
