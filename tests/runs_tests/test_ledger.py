"""The ledger: what is written is read back, a torn end is dropped, damage is noticed, a second writer is refused."""

import multiprocessing
import random
from pathlib import Path

import pytest

from controllers.controller import Completed, Failed, Proposal, Stopped
from nas.errors import RunError
from nas.evaluators.evaluator import Evaluation, Report
from nas.runs import records
from nas.runs.ledger import Ledger, read_records
from nas.runs.state import replay


def write_sample(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.append(records.opened(10.0, budget=3))
        for number, outcome in enumerate([Completed(0.5), Failed("diverged", "loss is nan"), Stopped(1, 0.25), Completed(0.75)]):
            ledger.append(records.asked(Proposal(number, (1, 2, 3), (-0.1, -0.2, -0.3), policy_version=number)))
            ledger.append(records.started(number, 1, 11.0 + number))
            ledger.append(records.reported(number, 1, Report(1, 0.125, {"loss": 2.0})))
            ledger.append(records.finished(number, Evaluation(outcome, {"params": 100.0}), 12.0 + number))
        ledger.append(records.asked(Proposal(4, (0, 0, 0))))
        ledger.append(records.finished(4, Evaluation(Completed(0.5)), 17.0, repeats=0))
        ledger.append(records.updated(4, {"entropy": 1.5, "kl": float("nan")}))
        ledger.append(records.asked(Proposal(5, (3, 3, 3))))


def test_the_records_add_up_to_the_state(tmp_path: Path) -> None:
    write_sample(tmp_path / "ledger.jsonl")
    state = replay(read_records(tmp_path / "ledger.jsonl")[0], tmp_path)
    assert state.told == [0, 1, 2, 3, 4]
    assert state.spent == 4  # a repeat is free, a diverged child is not
    assert list(state.pending) == [5]
    assert [trial.number for trial in state.ranked()] == [3, 0]
    assert state.trials[1].evaluation == Evaluation(Failed("diverged", "loss is nan"), {"params": 100.0})
    assert state.trials[2].proposal == Proposal(2, (1, 2, 3), (-0.1, -0.2, -0.3), policy_version=2)
    assert state.trials[0].reports == [Report(1, 0.125, {"loss": 2.0})]
    assert state.updates == [(4, {"entropy": 1.5})]
    assert state.elapsed() == 7.0


def test_a_reopened_ledger_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    write_sample(path)
    with Ledger(path) as ledger:
        assert list(ledger.state.pending) == [5]
        ledger.append(records.started(5, 1, 20.0), records.finished(5, Evaluation(Completed(0.875)), 21.0))
    state = replay(read_records(path)[0], path)
    assert state.ranked()[0].number == 5


def test_a_kill_at_any_byte_loses_at_most_the_line_being_written(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jsonl"
    write_sample(whole)
    raw = whole.read_bytes()
    lines_before = [raw[:size].count(b"\n") for size in range(len(raw) + 1)]
    for size in random.Random(0).sample(range(len(raw) + 1), 300):
        path = tmp_path / "cut.jsonl"
        path.write_bytes(raw[:size])
        with Ledger(path) as ledger:
            assert ledger._lines == lines_before[size]
            ledger.append(records.closed("interrupted", 30.0))
        assert len(read_records(path)[0]) == lines_before[size] + 1


def test_altered_ledgers_are_refused_with_one_message(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jsonl"
    write_sample(whole)
    raw = whole.read_bytes()
    good, _ = read_records(whole)
    rng = random.Random(1)
    refused = 0
    for _ in range(2000):
        altered = bytearray(raw)
        match rng.randrange(3):
            case 0:
                altered[rng.randrange(len(raw))] = rng.randrange(256)
            case 1:
                start = rng.randrange(len(raw))
                del altered[start : start + rng.randrange(1, 200)]
            case 2:
                lines = raw.splitlines(keepends=True)
                i, j = rng.sample(range(len(lines)), 2)
                lines[i], lines[j] = lines[j], lines[i]
                altered = bytearray(b"".join(lines))
        path = tmp_path / "altered.jsonl"
        path.write_bytes(bytes(altered))
        try:
            found, _ = read_records(path)
            replay(found, path)
        except RunError as error:
            assert str(path) in str(error)
            refused += 1
        else:
            assert found == good[: len(found)]  # what is accepted is a true beginning of the record
            assert len(found) >= len(good) - 1 or len(altered) < len(raw)
    assert refused > 1500


@pytest.mark.parametrize(
    "bad",
    [
        {"event": "asked", "trial": 9, "actions": [0]},
        {"event": "finished", "trial": 0, "outcome": "completed", "reward": 1.0, "time": 0.0},
        {"event": "finished", "trial": 5, "outcome": "completed", "reward": "high", "time": 0.0},
        {"event": "finished", "trial": 5, "outcome": "failed", "reason": "bored", "detail": "", "time": 0.0},
        {"event": "surprise"},
        {"event": "opened", "schema": "nas.ledger/99", "time": 0.0, "budget": 1},
        {"event": "asked", "trial": 6, "actions": [-1]},
    ],
)
def test_a_record_that_does_not_fit_is_refused(tmp_path: Path, bad: records.Record) -> None:
    path = tmp_path / "ledger.jsonl"
    write_sample(path)
    good, _ = read_records(path)
    with pytest.raises(RunError, match=f"line {len(good) + 1}"):
        replay([*good, bad], path)


def _try_to_open(path: Path, answers: "multiprocessing.Queue[str]") -> None:
    try:
        Ledger(path).close()
        answers.put("opened")
    except RunError as error:
        answers.put(str(error))


def test_a_second_writer_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    context = multiprocessing.get_context("spawn")
    answers: multiprocessing.Queue[str] = context.Queue()
    with Ledger(path):
        other = context.Process(target=_try_to_open, args=(path, answers))
        other.start()
        assert "another process is running this search" in answers.get(timeout=60)
        other.join()
    Ledger(path).close()
