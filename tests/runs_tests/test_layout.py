"""How children are laid out on a machine, and how long a search is expected to take: by measurements that are given here."""

import io
import json
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict
from itertools import accumulate, chain
from typing import Any

import pytest

from nas.runs import expected, plan, streams
from nas.runs.config import SearchConfig, config_from_document
from nas.runs.expected import ChildTiming, Work, expected_epochs, side_by_side, time_children, work_of
from nas.runs.layout import Layout, Rates, candidates, choose_layout, open_question, with_layout
from nas.runs.plan import Expected, describe_plan, expect, expected_workers
from nas.runs.probe import answers
from nas.runs.streams import SideBySide, choose_at_once
from nas.tools.hardware import Hardware
from nas.training.fitting import Amount

DIGITS = Amount(1397, 400, 8, 10, 1)
FOUR = Hardware(4, 16.0, ())


def config(**changes: Any) -> SearchConfig:
    document = {
        "budget": 500,
        "data": {"name": "digits", "validation_examples": 400},
        "fidelity": {"cells": 1, "filters": 2, "epochs": 3, "train_examples": 600},
        "training": {"batch_size": 32, "augmentation": {"crop": "none"}},
        "runner": {"gpus_per_child": 0.0},
    }
    return config_from_document({**document, **changes})


def measured(table: dict[tuple[int, int], float]) -> Any:
    def rates(config: SearchConfig, amount: Amount, cores: int) -> Iterator[Rates]:
        yield lambda children, threads: table[children, threads]

    return rates


# ---------------------------------------------------------------------------------------------------- threads


def test_machines_are_filled_by_powers_of_two_and_by_all_cores() -> None:
    assert [candidates(cores) for cores in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 6], [1, 2, 4, 8]]


@pytest.mark.parametrize(
    ("table", "threads", "slower"),
    [
        ({(1, 1): 10.0, (4, 1): 32.0, (2, 2): 30.0, (1, 4): 20.0}, 1, 1.25),
        ({(1, 1): 10.0, (4, 1): 20.0, (2, 2): 30.0, (1, 4): 20.0}, 2, None),
        ({(1, 1): 10.0, (4, 1): 29.0, (2, 2): 30.0, (1, 4): 20.0}, 1, pytest.approx(40 / 29)),  # too little gain
    ],
)
def test_the_layout_with_most_steps_is_taken_and_kept(table: dict[tuple[int, int], float], threads: int, slower: float | None) -> None:
    layout = choose_layout(config(), DIGITS, FOUR, 30.0, measured(table))
    assert (layout.threads, layout.side_by_side) == (threads, slower)
    assert "4 × 1: " in layout.words and "2 × 2: 30, 1 × 4: 20; measured in 0 s" in layout.words
    kept = with_layout(config(), layout)
    assert kept.runner.threads == threads and kept.runner.workers is None, "a resume on a larger machine fills it"
    assert not open_question(kept, FOUR), "and is not measured again"


@pytest.mark.parametrize(
    ("seconds", "budget", "hardware", "said"),
    [
        (1.0, 500, FOUR, "children are short"),
        (20.0, 10, FOUR, "children are short"),
        (20.0, 500, Hardware(1, 16.0, ()), "one core"),
        (200.0, 500, Hardware(64, 16.0, ()), "more than 16 cores"),
    ],
)
def test_nothing_is_measured_where_it_is_not_worth_it(seconds: float, budget: int, hardware: Hardware, said: str) -> None:
    layout = choose_layout(config(budget=budget), DIGITS, hardware, seconds, measured({}))
    assert layout.threads == 1 and said in layout.words


def test_a_measurement_that_fails_is_said_and_costs_nothing_else() -> None:
    def broken(*arguments: object) -> Iterator[Rates]:
        raise OSError("no process")
        yield

    assert choose_layout(config(), DIGITS, FOUR, 30.0, broken) == Layout(1, "one thread a child; it could not be measured: no process")


@pytest.mark.parametrize(
    ("runner", "hardware", "asked"),
    [
        ({}, FOUR, True),
        ({"gpus_per_child": None}, Hardware(4, 16.0, ("H100",)), False),
        ({"threads_per_child": 1}, FOUR, False),
        ({"workers": 2}, FOUR, False),
        ({"kind": "local"}, FOUR, False),
        ({"address": "host:1"}, FOUR, False),
    ],
)
def test_whoever_says_how_is_not_asked(runner: dict[str, object], hardware: Hardware, asked: bool) -> None:
    assert open_question(config(runner={"gpus_per_child": 0.0, **runner}), hardware) is asked


def test_a_probe_trains_for_as_long_as_it_is_told() -> None:
    document = json.dumps({"config": config().model_dump(mode="json"), "amount": asdict(DIGITS)})
    said = list(answers(io.StringIO(f"{document}\n1 0.01\n")))
    assert said[0] == "ready" and len(said) == 2 and float(said[1]) > 0


# ---------------------------------------------------------------------------------------------------- streams of a GPU


@pytest.mark.parametrize(
    ("rates", "most", "chosen"),
    [
        ({1: 9.4, 2: 11.7, 4: 13.5, 8: 14.4, 16: 14.5}, 16, 4),  # NASNet-A on an H200
        ({1: 8.5, 2: 12.4, 4: 16.0, 8: 17.8, 16: 18.0}, 16, 8),
        ({1: 8.5, 2: 12.4, 4: 16.0}, 5, 4),
        ({1: 8.5, 2: 8.0}, 16, 1),
        ({1: 8.5}, 1, 1),
    ],
)
def test_as_many_children_share_a_gpu_as_gain_something_and_fit(rates: dict[int, float], most: int, chosen: int) -> None:
    found, measured_rates = choose_at_once(rates.__getitem__, most)
    assert found == chosen and measured_rates.items() <= rates.items()


def test_children_are_timed_at_once_each_in_a_thread() -> None:
    made = []

    def make(number: int) -> Any:
        made.append(number)
        return lambda: None

    assert SideBySide(make, nullcontext, lambda: None, seconds=0.01).rate(3) > 0 and sorted(made) == [0, 1, 2]


def test_a_child_that_cannot_be_made_ends_the_timing() -> None:
    def make(number: int) -> Any:
        if number:
            raise MemoryError("no room")
        return lambda: None

    with pytest.raises(MemoryError, match="no room"):
        SideBySide(make, nullcontext, lambda: None, seconds=0.01).rate(2)


# ---------------------------------------------------------------------------------------------------- what a search takes


def test_all_of_a_childs_parts_are_timed() -> None:
    """A step of 2 s, two the first time; 10 s before it; 0.1 s for each of the scored images."""
    epochs = (10, 4, 2, 2, 5, 5), (0, 2, 2, 2, 5, 5)  # three steps, two scored batches; the last moment is the report
    moments = list(accumulate(chain(*epochs), initial=0.0))
    for recorded in (False, True):
        setup, step, scoring = expected._parts(moments, [6, 12], 3, recorded)
        assert (setup, step, scoring) == (pytest.approx(12), pytest.approx(2), pytest.approx(10))


def test_a_child_is_timed_with_all_it_does() -> None:
    found = time_children(config(), DIGITS, 1)
    assert found.children == 1 and min(found.setup, found.step, found.scored_image) > 0
    work = work_of(config(), DIGITS)
    assert work == Work(3, 18, 400) and found.seconds(work) == pytest.approx(found.setup + 54 * found.step + 1200 * found.scored_image)


@pytest.mark.parametrize(
    ("epochs", "halving", "average"),
    [(9, None, 9), (9, {"first": 1, "reduction": 3}, 1 + 2 / 3 + 6 / 9), (4, {"first": 2, "reduction": 2}, 2 + 2 / 2)],
)
def test_children_that_are_stopped_early_count_for_what_they_do(epochs: int, halving: dict[str, int] | None, average: float) -> None:
    assert expected_epochs(config(fidelity={"epochs": epochs}, halving=halving)) == pytest.approx(average)


def test_what_is_expected_counts_the_start_the_neighbours_and_the_last_children(monkeypatch: pytest.MonkeyPatch) -> None:
    timing = ChildTiming(setup=0.5, step=0.01, scored_image=0.0005, children=4)
    monkeypatch.setattr(plan, "time_children", lambda config, amount, tell=None: timing)
    monkeypatch.setattr(plan, "side_by_side", lambda workers: 1.5)
    found = expect(config(), Hardware(2, 16.0, ()), measure=False)
    assert found is not None and found.layout is None
    alone = 0.5 + 3 * (18 * 0.01 + 400 * 0.0005)
    assert found.child == pytest.approx(1.5 * alone) and found.workers == 2
    assert found.seconds == pytest.approx(expected.START_SECONDS["ray"] + (500 / 2 + 0.5) * found.child)
    lines = describe_plan(found.config, Hardware(2, 16.0, ()), (), found)
    assert "1.5 times that alone as 2 train at once, from 4 random children timed" in lines[-1] and "9 s to start" in lines[-1]
    quick = expect(config(), Hardware(2, 16.0, ()))
    assert quick is not None and "not measured: children are short" in describe_plan(quick.config, FOUR, (), quick)[-2]


def test_a_long_search_goes_on_with_the_layout_that_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "time_children", lambda config, amount, tell=None: ChildTiming(0, 1.0 / config.runner.threads, 0, 4))
    monkeypatch.setattr(plan, "choose_layout", lambda *arguments: Layout(2, "two", None))
    monkeypatch.setattr(plan, "side_by_side", lambda workers: 1.0)
    found = expect(config(), FOUR)
    assert found is not None and found.config.runner.threads_per_child == 2 and expected_workers(found.config, FOUR) == 2
    assert found.child == pytest.approx(54 / 2) and "layout: two" in describe_plan(found.config, FOUR, (), found)


def test_on_a_gpu_the_number_of_children_at_once_is_measured_where_nobody_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "time_children", lambda config, amount, tell=None: ChildTiming(0, 1.0, 0, 4))
    monkeypatch.setattr(streams, "on_gpu", lambda config: True)
    monkeypatch.setattr(streams, "measure_at_once", lambda config, amount: Layout(1, "eight", 4.0, 8))
    here = config(runner={"kind": "local"})
    found = expect(here, Hardware(4, 16.0, ("H100",)))
    assert isinstance(found, Expected) and found.workers == found.config.runner.workers == 8 and found.child == pytest.approx(4 * 54)
    assert not streams.open_question(found.config) and streams.open_question(here)


def test_children_beside_one_another_are_no_faster_and_at_worst_as_slow_as_one_after_the_other() -> None:
    assert side_by_side(1) == 1 and 1 <= side_by_side(2) <= 2


def test_searches_that_train_nothing_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert expect(config(evaluator="synthetic"), FOUR) is None
    monkeypatch.setattr(plan, "time_children", lambda config, amount, tell=None: ChildTiming(0, 0, 0, 0))
    assert expect(config(), FOUR) is None, "all children diverged on noise"
    assert describe_plan(config(), FOUR)[-1] == "time:   shown once the first children have ended"


def test_the_plan_of_children_that_look_at_no_images_speaks_of_none() -> None:
    lines = describe_plan(config(evaluator="synthetic", budget=1, ladder=[{"children": 1, "seeds": 3, "epochs": 6}]), FOUR)
    assert "rung 1: the best 1 of 1, 3 seeds each, 6 epochs" in lines
    assert not any(word in line for line in lines for word in ("image", "N=", "resolution")), lines
    assert lines[0].startswith("search: 1 child from") and any(line.startswith("child:  scored by synthetic") for line in lines)
