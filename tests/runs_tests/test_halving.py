"""Early stopping: who goes on at a rung, told rightly, decided again in the same way after any interruption; children that go on."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.children import finish

from controllers.controller import Completed, Stopped, random_for
from nas.cli.views import run as report
from nas.data.prepared import prepare
from nas.errors import ConfigError, RunError
from nas.evaluators.evaluator import Attempt
from nas.evaluators.registry import build_evaluator
from nas.evaluators.settings import rung_epochs
from nas.runs import session as engine
from nas.runs.config import SearchConfig, config_from_document
from nas.runs.folder import RunFolder
from nas.runs.halving import Halving, Rung
from nas.runs.ledger import read_records
from nas.runs.loop import QUIET
from nas.training.checkpoint import parse_checkpoint
from search_spaces.registry import load_space
from search_spaces.space import sample_actions


def halved(controller: str = "random", budget: int = 14, epochs: int = 4, **others: Any) -> SearchConfig:
    return config_from_document(
        {
            "budget": budget,
            "evaluator": "synthetic",
            "seed": 5,
            "synthetic": {"noise": 0.1},
            "fidelity": {"epochs": epochs},
            "controller": {"name": controller},
            "halving": {"reduction": 2},
            "runner": {"kind": "local", "checkpoint_seconds": 0.0},
        }
        | others
    )


# ---------------------------------------------------------------------------------------------------- the rule


def test_rungs_are_powers_before_the_last_epoch() -> None:
    assert rung_epochs(1, 3, 28) == (1, 3, 9, 27)
    assert rung_epochs(1, 3, 27) == (1, 3, 9)
    assert rung_epochs(2, 4, 2) == ()


def test_a_child_goes_on_among_the_best_third_of_those_there_so_far() -> None:
    rung = Rung(reduction=3)
    for trial, reward in enumerate([0.5, 0.4, 0.6, 0.6, 0.55, 0.7, 0.65]):
        rung.judge(trial, reward)
    # The first has nobody above it; of two and of three only the best goes on; the fourth equals the best; of six two go on.
    assert list(rung.judged.values()) == [True, False, True, True, False, True, True]
    before = dict(rung.judged)
    rung.judge(1, 0.99)
    assert rung.judged == before, "judged once"


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5])), max_size=80), st.integers(2, 5))
def test_the_rule_is_that_of_a_plain_count(arrivals: list[tuple[int, float]], reduction: int) -> None:
    rung = Rung(reduction)
    seen: dict[int, float] = {}
    for trial, reward in arrivals:
        rung.judge(trial, reward)
        if trial not in seen:
            seen[trial] = reward
            better = sum(other > reward for other in seen.values())
            assert rung.judged[trial] == (better < max(1, len(seen) // reduction))
    assert list(rung.rewards) == sorted(seen.values())


def test_without_rungs_nobody_is_stopped() -> None:
    halving = Halving()
    halving.judge(0, 1, 0.0)
    assert halving.stopped_at(0) is None


def test_a_first_rung_that_no_child_reaches_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"halving.first must be below fidelity.epochs \(4\).*but got 4"):
        halved(halving={"first": 4})


# ---------------------------------------------------------------------------------------------------- in a search


def test_stopped_children_spend_budget_are_told_and_are_not_ranked(tmp_path: Path) -> None:
    result = engine.start(halved("evolution", budget=40), tmp_path / "run", QUIET)
    state = result.state
    assert state.spent == 40 and state.closed == "finished"
    stopped = {t.number: t.evaluation.outcome for t in state.trials.values() if t.evaluation and isinstance(t.evaluation.outcome, Stopped)}
    assert 15 < len(stopped) < 38
    for number, outcome in stopped.items():
        assert outcome.rung in (1, 2) and len(state.trials[number].reports) == outcome.rung
        assert outcome.reward == state.trials[number].reports[-1].reward
    completed = {t.number for t in state.ranked()}
    assert completed.isdisjoint(stopped) and len(completed) + len(stopped) == 40
    assert list(state.halving.rungs) == [1, 2]
    assert state.halving.rungs[2].survivors == len(completed) and not state.halving.rungs[2].judged
    assert f"{len(stopped)} stopped early" in report.summary(state)
    assert report.rungs(state).startswith("went on at rung epoch 1: ")
    assert RunFolder(tmp_path / "run").state().halving == state.halving, "the ledger alone says who went on"


def facts(state: Any) -> list[object]:
    """What an interruption must not change: proposals, how each trial ended and in which order, its reports, who went on."""
    trials = [(t.proposal, t.evaluation.outcome, [(r.epoch, r.reward) for r in t.reports]) for t in state.trials.values()]
    return [trials, state.told, state.halving]


@pytest.mark.parametrize(("controller", "step"), [("random", 1), ("evolution", 4)])
def test_a_run_killed_at_any_record_goes_on_as_if_it_had_not_been(
    tmp_path: Path, controller: str, step: int, interrupt_after: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = halved(controller, budget=6)
    whole = engine.start(config, tmp_path / "whole", QUIET).state
    lines = len(read_records(tmp_path / "whole" / "ledger.jsonl")[0])
    continued = 0
    for count in range(1, lines - 1, step):
        path = tmp_path / str(count)
        with monkeypatch.context():
            interrupt_after(count)
            with pytest.raises(KeyboardInterrupt):
                engine.start(config, path, QUIET)
            monkeypatch.undo()
        assert facts(engine.resume(RunFolder(path), None, QUIET).state) == facts(whole)
        records, _ = read_records(path / "ledger.jsonl")
        continued += any(record.get("after_epoch") for record in records)
        assert not list((path / "checkpoints").glob("*")), "states of ended trials are removed"
    assert continued > 5 / step, "interrupted children go on from their last state"


# ---------------------------------------------------------------------------------------------------- children that go on


@pytest.fixture(scope="module")
def training() -> SearchConfig:
    """Real training with all that keeps a state: momentum, batch norm, drop path, an auxiliary head, augmentation."""
    return config_from_document(
        {
            "budget": 2,
            "data": {"name": "digits", "validation_examples": 100},
            "fidelity": {"epochs": 4, "cells": 1, "filters": 4, "train_examples": 160},
            "training": {
                "batch_size": 32,
                "augmentation": "shift_flip",
                "drop_path_keep": 0.6,
                "auxiliary_weight": 0.4,
                "cutout": 2,
                "nesterov": True,
            },
            "controller": {"name": "random"},
            "runner": {"kind": "local", "checkpoint_seconds": 0.0},
        }
    )


def measured(reports: list[Any]) -> list[tuple[int, float, float]]:
    return [(report.epoch, report.reward, report.metrics["train_loss"]) for report in reports]


def test_a_child_goes_on_from_its_state_to_the_same_bits(training: SearchConfig) -> None:
    evaluator = build_evaluator(training, prepare(training.data, training.preparation()))
    space = load_space("nasnet")
    genotype = space.decode(sample_actions(space, random.Random(3)))
    reports, evaluation = finish(evaluator.evaluate(genotype, 7, None, Attempt(keep=lambda epoch: True)))
    plain, plain_evaluation = finish(evaluator.evaluate(genotype, 7, None))
    assert measured(plain) == measured(reports) and plain_evaluation.outcome == evaluation.outcome, "keeping a state changes nothing"
    assert reports[-1].checkpoint is None and all(report.checkpoint for report in reports[:-1])
    for done, kept in enumerate(reports[:-1], start=1):
        torch.manual_seed(done)  # whatever another child has left behind
        later, ended = finish(evaluator.evaluate(genotype, 7, None, Attempt(kept.checkpoint)))
        assert measured(later) == measured(reports[done:])
        assert ended.outcome == evaluation.outcome
        assert ended.metrics["train_seconds"] > kept.metrics["seconds"], "the clock goes on, too"


def test_a_state_that_does_not_fit_starts_the_child_anew(training: SearchConfig) -> None:
    evaluator = build_evaluator(training, prepare(training.data, training.preparation()))
    space = load_space("nasnet")
    first, second = (space.decode(sample_actions(space, random.Random(seed))) for seed in (3, 4))
    reports, _ = finish(evaluator.evaluate(first, 7, None, Attempt(keep=lambda epoch: True)))
    state = reports[1].checkpoint
    damaged = bytearray(state)
    damaged[40] ^= 255
    for genotype, seed, checkpoint, divisor in (
        (second, 7, state, 1),  # another network
        (first, 8, state, 1),  # another seed
        (first, 7, state, 2),  # another batch size
        (first, 7, state[:-100], 1),
        (first, 7, bytes(damaged), 1),
        (first, 7, b"", 1),
    ):
        again, evaluation = finish(evaluator.evaluate(genotype, seed, None, Attempt(checkpoint, divisor)))
        assert [report.epoch for report in again] == [1, 2, 3, 4] and isinstance(evaluation.outcome, Completed)


def test_no_bytes_make_the_reader_fail() -> None:
    rng = random_for(0, "states")
    for _ in range(300):
        junk = rng.randbytes(rng.randrange(60))
        with pytest.raises(RunError, match="cannot be read"):
            parse_checkpoint(len(junk).to_bytes(8, "little") + junk, "a state")


def test_a_killed_search_trains_its_child_on_from_the_last_epoch(
    tmp_path: Path, training: SearchConfig, interrupt_after: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = engine.start(training, tmp_path / "whole", QUIET)
    lines = read_records(whole.folder.ledger_file)[0]
    third = next(i for i, record in enumerate(lines) if record["event"] == "report" and record["epoch"] == 3)
    folder = RunFolder(tmp_path / "run")
    with monkeypatch.context():
        interrupt_after(third + 1)
        with pytest.raises(KeyboardInterrupt):
            engine.start(training, folder.path, QUIET)
        monkeypatch.undo()
    assert [file.name for file in folder.checkpoint_folder.iterdir()] == ["0-3.state"]
    resumed = engine.resume(folder, None, QUIET)
    assert facts(resumed.state) == facts(whole.state)
    starts = [record for record in read_records(folder.ledger_file)[0] if record["event"] == "started" and record["trial"] == 0]
    assert [start.get("after_epoch", 0) for start in starts] == [0, 3]


def test_a_damaged_state_is_not_used(
    tmp_path: Path, training: SearchConfig, interrupt_after: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / "run")
    with monkeypatch.context():
        interrupt_after(6)  # opened, asked, started, three reports
        with pytest.raises(KeyboardInterrupt):
            engine.start(training, folder.path, QUIET)
        monkeypatch.undo()
    (file,) = folder.checkpoint_folder.iterdir()
    damaged = bytearray(file.read_bytes())
    damaged[-1] ^= 255
    file.write_bytes(damaged)
    state = engine.resume(folder, None, QUIET).state
    assert state.spent == 2 and [report.epoch for report in state.trials[0].reports] == [1, 2, 3, 4]
    starts = [record for record in read_records(folder.ledger_file)[0] if record["event"] == "started" and record["trial"] == 0]
    assert len(starts) == 2 and "after_epoch" not in starts[1]
