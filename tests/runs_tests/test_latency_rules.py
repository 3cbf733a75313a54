"""Latency as a rule of a search: matched, limited and weighed; measured once for every cell, recorded, and gone by after a kill."""

from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support.configs import scored_by_formula
from support.stopwatch import CountedStopwatch

from nas.cli.views.run import print_run
from nas.errors import ConfigError
from nas.runs import session as engine
from nas.runs.config import SearchConfig, build_config
from nas.runs.folder import RunFolder
from nas.runs.genotypes import matched_of
from nas.runs.ledger import read_records
from nas.runs.loop import QUIET
from nas.runs.objective import cost_of
from nas.runs.sizing import describe_sizing, network_key
from nas.runs.state import RunState
from nas.runs.trials import Size
from nas.tools.hardware import Hardware
from search_spaces.registry import load_space

Start = Callable[[float], CountedStopwatch]


@pytest.fixture
def timing(monkeypatch: pytest.MonkeyPatch) -> Start:
    """Puts a new stopwatch into the place of the machine's, which is so many times slower."""

    def start(slower: float) -> CountedStopwatch:
        stopwatch = CountedStopwatch(slower)
        monkeypatch.setattr("nas.runs.sizing.stopwatch_at", lambda place: stopwatch)
        return stopwatch

    start(1.0)
    return start


def ruled(budget: int = 6, **settings: Any) -> SearchConfig:
    return scored_by_formula(budget, **{"cards": ["nasnet-a"], "latency_on": "cpu", **settings})


def facts(state: RunState) -> list[object]:
    return [(trial.proposal.actions, trial.size, trial.reward) for trial in state.trials.values()] + [dict(state.redrawn), state.decided]


def asked(state: RunState) -> list[object]:
    return [(trial.proposal.actions, trial.size) for trial in state.trials.values()]


def sizes(state: RunState) -> list[Size]:
    return [trial.size for trial in state.trials.values() if trial.size is not None and trial.card is None]


def test_every_child_has_the_width_of_the_latency_and_its_cell_is_measured_once(tmp_path: Path, timing: Start) -> None:
    stopwatch = timing(1.0)
    result = engine.start(ruled(match="latency=4ms"), tmp_path / "run", QUIET)
    found = sizes(result.state)
    assert len(found) == 6 and all(abs(size.costs["latency"] / 0.004 - 1) <= 0.1 for size in found)
    assert len({size.filters for size in found}) > 2
    assert len(stopwatch.networks) == len({architecture for architecture, _ in stopwatch.networks})
    assert facts(RunFolder(tmp_path / "run").state()) == facts(result.state)
    cards = [trial.size for trial in result.state.trials.values() if trial.card]
    nearest = [what for key, what in result.state.decided.items() if key.startswith("nearest-")]
    assert cards and all(size in nearest for size in cards)
    matched, best = matched_of(str(tmp_path / "run")), result.state.ranked()[0].size
    assert matched is not None and best is not None and (matched.filters, matched.place) == (best.filters, "cpu")


def test_a_killed_search_goes_by_what_was_measured_before_even_where_the_machine_is_slower_now(
    tmp_path: Path, timing: Start, interrupt_after: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ruled(match="latency=4ms", limit="params<=150k,latency<=4.05ms")
    whole = engine.start(config, tmp_path / "whole", QUIET).state
    assert set(whole.redrawn) <= {"no width within 10% of 4 ms an image", "more than 150k parameters", "more than 4.05 ms an image"}
    assert whole.redrawn.total() > 0
    lines = read_records(tmp_path / "whole" / "ledger.jsonl")[0]
    for count in range(3, len(lines) - 1, len(lines) // 3):
        timing(1.0)
        with monkeypatch.context():
            interrupt_after(count)
            with pytest.raises(KeyboardInterrupt):
                engine.start(config, tmp_path / str(count), QUIET)
            monkeypatch.undo()
        killed = RunFolder(tmp_path / str(count)).state()
        slower = timing(1.5)
        resumed = engine.resume(RunFolder(tmp_path / str(count)), None, QUIET).state
        decided = killed.decided
        assert {key: resumed.decided[key] for key in decided} == decided == {key: whole.decided[key] for key in decided}
        assert not {network_key(architecture.genotype) for architecture, _ in slower.networks} & set(decided)
        assert asked(killed) == asked(resumed)[: len(killed.trials)] == asked(whole)[: len(killed.trials)]


def test_what_is_too_slow_is_drawn_again_and_measured_only_where_that_is_in_doubt(tmp_path: Path, timing: Start) -> None:
    narrow, wide = ({"epochs": 2, "cells": 1, "filters": filters} for filters in (8, 32))
    state = engine.start(ruled(limit="latency<=2.9ms", fidelity=narrow, cards=[]), tmp_path / "run", QUIET).state
    assert set(state.redrawn) == {"more than 2.9 ms an image"}
    assert all(size.filters is None and size.costs["latency"] <= 0.0029 for size in sizes(state))
    stopwatch = timing(1.0)
    tight = ruled(limit="params<=1,latency<=3ms", fidelity=wide)
    with pytest.raises(ConfigError, match=r"64 with more than 1 parameters.*take about .* ms to .* ms an image on one CPU thread"):
        engine.start(tight, tmp_path / "refused", QUIET)
    assert stopwatch.networks == []


def test_a_latency_that_nothing_has_is_refused_before_anything_is_measured_or_made(tmp_path: Path, timing: Start) -> None:
    stopwatch = timing(1.0)
    with pytest.raises(ConfigError, match=r"64 with no width within 10% of 0.01 ms an image"):
        engine.start(ruled(match="latency=10us"), tmp_path / "run", QUIET)
    assert not (tmp_path / "run").exists() and stopwatch.networks == []


def test_the_controller_is_told_the_product_with_the_latency_and_the_front_is_shown(tmp_path: Path) -> None:
    config = ruled(objective="accuracy,latency@2ms", fidelity={"epochs": 1, "cells": 1, "filters": 4}, cards=[])
    result = engine.start(config, tmp_path / "run", QUIET)
    for number in result.state.told:
        trial = result.state.trials[number]
        assert trial.size is not None and cost_of(result.state, trial, "latency") == trial.size.costs["latency"] > 0
    console = Console(record=True, width=140, file=StringIO())
    print_run(console, result.folder, config, result.state, result.space)
    text = console.export_text()
    assert "Pareto front: accuracy against latency" in text and " ms" in text


def test_the_plan_says_where_and_how_near(timing: Start) -> None:
    match, timed = describe_sizing(ruled(match="latency=4ms"), load_space("nasnet"))[:2]
    assert match.startswith("match:  every network within 10% of 4 ms an image at 8×8 pixels, N=1: F from ")
    assert timed == "timed:  latency of one image, on one CPU thread, once for every cell, before it is trained"


@pytest.mark.parametrize(("gpus", "place"), [((), "cpu"), (("a GPU",), "cuda")])
def test_a_run_keeps_the_place_that_it_began_with(gpus: tuple[str, ...], place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.runs.config.detect", lambda: Hardware(2, 8.0, gpus))
    on_gpu = {"match": "latency=3ms", "runner.gpus_per_child": 1}
    assert build_config("laptop", on_gpu).latency_on == place
    assert build_config("laptop", {**on_gpu, "latency_on": "onnx"}).latency_on == "onnx"
    assert build_config("laptop", {**on_gpu, "runner.gpus_per_child": 0}).latency_on == "cpu"
    assert build_config("laptop").latency_on == "auto"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"match": "latency=8"}, "match: latency must be a time with its unit.*got '8'"),
        ({"limit": "latency<=2min"}, "limit: latency must be a time.*got '2min'"),
        ({"objective": "accuracy,latency@8"}, "objective: latency must be a time.*got '8'"),
        ({"match": "latency=8ms", "latency_on": "phone"}, "latency_on must be auto, cpu, cuda, cuda:N or onnx, but got 'phone'"),
    ],
)
def test_what_cannot_be_meant_gets_one_message(settings: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        build_config("laptop", settings)
