"""The simulated runner keeps the contract of runners, on its own clock; the loop through it is the loop through a real one."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from controllers.controller import Completed, Failed, random_for
from controllers.deduplicated import Deduplicated
from controllers.registry import make_controller
from nas.evaluators.evaluator import Evaluation, Report
from nas.evaluators.objective import synthetic_reward
from nas.runners.runner import Ended, Job, Lost, Reported
from nas.runners.simulated import Moment, SimulatedRunner
from nas.runs import records
from nas.runs.ledger import Ledger, read_records
from nas.runs.loop import AskTell, Ending, Search, SearchLimits
from nas.runs.state import RunState, replay
from search_spaces.nasnet import NASNET
from search_spaces.space import sample_actions

GENOTYPE = NASNET.decode(sample_actions(NASNET, random_for(0, "x")))


def job(trial: int, attempt: int = 1) -> Job:
    return Job(trial, attempt, GENOTYPE, seed=trial)


def ten_seconds(job: Job) -> Iterator[Moment]:
    """Reports after 5 s and ends after 10 s times the trial's number plus one; trial 3 loses its worker first."""
    length = 10.0 * (job.trial + 1)
    if job.trial == 3 and job.attempt == 1:
        yield Moment(1.0, "gone")
        return
    yield Moment(length / 2, Report(1, 0.25))
    yield Moment(length, Evaluation(Completed(0.5)))


def test_words_come_in_the_order_of_the_simulated_clock() -> None:
    runner = SimulatedRunner(ten_seconds, workers=2)
    assert runner.capacity == 2 and runner.poll(1.0) == []
    for trial in range(3):
        runner.submit(job(trial))
    heard = [(runner.now, event) for _ in range(6) for event in runner.poll(1.0)]
    assert [now for now, _ in heard] == [5.0, 10.0, 10.0, 20.0, 25.0, 40.0]  # the third child waits for a worker until 10 s
    assert [type(event) for _, event in heard] == [Reported, Ended, Reported, Ended, Reported, Ended]
    assert [event.trial for _, event in heard] == [0, 0, 1, 1, 2, 2]
    assert runner.poll(1.0) == [] and runner.now == 40.0
    assert runner.utilisation == pytest.approx((10 + 20 + 30) / (2 * 40))


def test_a_lost_attempt_and_a_stopped_child_free_their_workers() -> None:
    runner = SimulatedRunner(ten_seconds, workers=1)
    runner.submit(job(3))
    runner.submit(job(0))
    assert runner.poll(1.0) == [Lost(3, 1, "gone")]
    assert isinstance(runner.poll(1.0)[0], Reported) and runner.now == 6.0
    runner.stop(0)
    runner.submit(job(3, attempt=2))
    events = [event for _ in range(2) for event in runner.poll(1.0)]
    assert events[-1] == Ended(3, 2, Evaluation(Completed(0.5))) and runner.now == 46.0
    runner.submit(job(1))
    runner.close()
    assert runner.poll(1.0) == []


def test_a_slow_driver_leaves_workers_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0.0
    monkeypatch.setattr("nas.runners.simulated.time.perf_counter", lambda: clock)
    runner = SimulatedRunner(ten_seconds, workers=1, driver_counts=True)
    runner.submit(job(0))
    clock = 12.0  # the driver was busy for 12 s
    assert [type(event) for event in runner.poll(1.0)] == [Reported, Ended]
    assert runner.now == 12.0 and runner.lag == 2.0 and runner.utilisation == pytest.approx(10 / 12)


def simulate(path: Path, budget: int, workers: int, sessions: int = 1) -> RunState:
    """A search of ``budget`` children, interrupted and resumed so that it has that many sessions."""

    def play(job: Job) -> Iterator[Moment]:
        draw = random_for(job.seed, job.attempt).random()
        if draw < 0.1:
            yield Moment(3.0 * draw, "gone")
        elif draw < 0.2:
            yield Moment(draw, Evaluation(Failed("diverged", "")))
        else:
            yield Moment(draw, Report(1, 0.5))
            yield Moment(2 * draw, Evaluation(Completed(synthetic_reward(job.genotype))))

    for session in range(1, sessions + 1):
        with Ledger(path) as ledger:
            controller = Deduplicated(make_controller("evolution", NASNET, 3), NASNET, 3)
            for number in ledger.state.told:
                evaluation = ledger.state.trials[number].evaluation
                assert evaluation is not None
                controller.tell(ledger.state.trials[number].proposal, evaluation.outcome)
            ledger.append(records.opened(0.0, budget))
            children = AskTell(NASNET, controller, ledger, 3, SearchLimits(budget * session // sessions))
            assert Search(children, SimulatedRunner(play, workers)).run() is Ending.FINISHED
    return replay(read_records(path)[0], path)


def test_a_search_of_many_workers_spends_its_budget_once(tmp_path: Path) -> None:
    state = simulate(tmp_path / "ledger.jsonl", budget=300, workers=40)
    assert state.spent == 300 and not state.pending
    outcomes = [t.evaluation.outcome for t in state.trials.values() if t.evaluation]
    assert any(isinstance(o, Failed) and o.reason == "diverged" for o in outcomes)
    assert any(trial.attempts > 1 for trial in state.trials.values())
    actions = [trial.proposal.actions for trial in state.trials.values()]
    assert len({NASNET.canonical(NASNET.decode(a)) for a in actions}) == len(actions), "a cell was trained twice"


def test_a_simulated_search_repeats_exactly(tmp_path: Path) -> None:
    one, two = (simulate(tmp_path / name, 120, 8) for name in ("one", "two"))
    assert [t.proposal for t in one.trials.values()] == [t.proposal for t in two.trials.values()]
    assert one.told == two.told
    assert simulate(tmp_path / "three", 120, 8, sessions=3).spent == 120


def test_a_group_of_records_is_forced_to_disk_once_and_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forced: list[int] = []
    original = os.fsync
    monkeypatch.setattr("nas.runs.ledger.os.fsync", lambda handle: (forced.append(handle), original(handle)))
    path = tmp_path / "ledger.jsonl"
    with Ledger(path) as ledger:
        ledger.append(records.opened(0.0, 5))
        assert len(forced) == 1
        with ledger.together(), ledger.together():
            for _ in range(10):
                ledger.append(records.closed("interrupted", 1.0))
            assert path.read_bytes().count(b"\n") == 11  # a kill of the process here loses nothing
            assert len(forced) == 1
        assert len(forced) == 2
        with ledger.together():
            pass
        assert len(forced) == 2
        with pytest.raises(KeyboardInterrupt), ledger.together():
            ledger.append(records.closed("interrupted", 2.0))
            raise KeyboardInterrupt
        assert len(forced) == 3
    assert len(read_records(path)[0]) == 12
