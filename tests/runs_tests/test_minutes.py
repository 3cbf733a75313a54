"""A search sized to a time: all rungs in proportion, and a clear word where that cannot be."""

from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from nas.cli.main import app
from nas.data.prepared import PreparedData
from nas.errors import ConfigError
from nas.evaluators.evaluator import Attempt, Report
from nas.evaluators.settings import EvaluationConfig
from nas.runs import plan
from nas.runs.config import build_config
from nas.runs.expected import ChildTiming, time_children, work_of
from nas.runs.plan import Expected, expect_within
from nas.tools.hardware import Hardware
from nas.training.fitting import amount_of
from search_spaces.genotype import Genotype

LADDER = "ladder=[{children: 40, epochs: 5}, {share: 0.25, seeds: 2, epochs: 6}]"


def hour(*settings: str, workers: int = 2) -> Expected:
    """300 children of 10 s, 40 of 30 s, 10 of 150 s: about an hour for two workers."""
    config = build_config("laptop", ["budget=300", "runner.kind=local", "cards=[nasnet-a]", LADDER, *settings])
    return Expected(config, None, 10.0, 1.0, workers, 4, 1.0, (30.0, 150.0))


def test_all_parts_of_a_search_are_counted() -> None:
    expected = hour()
    assert expected.cards == 10 + 30 + 150
    assert expected.ladder == 40 * 30 + 10 * 150
    assert expected.winner == 150 / 2, "one seed of the last rung, once more"
    assert expected.seconds == pytest.approx(1 + 190 / 2 + 5 + 150 / 2 + (3000 + 2700) / 2)
    assert "24 min 05 s of that for rungs and cards (10 s a child" in str(expected)


def test_the_time_names_what_there_is_and_has_no_powers_of_ten() -> None:
    config = build_config("laptop", ["budget=300", "runner.kind=local", "cards=[nasnet-a]", "ladder=[]"])
    said = str(Expected(config, None, 110.0, 2.0, 2, 4, 1.0))
    assert "of that for cards (1 min 50 s a child, 2 times" in said
    assert "(0.32 s a child" in str(Expected(config, None, 0.317, 2.0, 2, 4, 1.0))


def test_the_plan_names_the_training_of_the_winner_where_there_is_one() -> None:
    trained = build_config("laptop", [LADDER])
    told = "winner: the best of rung 2, trained once more to keep its weights and read the test set, once"
    assert told in plan.describe_plan(trained, Hardware(2, 8.0, ()))
    for without in (build_config("laptop", ["ladder=[]"]), build_config("laptop", [LADDER, "evaluator=synthetic"])):
        assert not any(line.startswith("winner:") for line in plan.describe_plan(without, Hardware(2, 8.0, ())))


@pytest.mark.parametrize("minutes", [20, 30, 49, 120, 600])
def test_rungs_grow_and_shrink_in_proportion(minutes: int) -> None:
    sized = hour().within(minutes)
    assert sized.seconds == pytest.approx(60 * minutes, rel=0.06)
    share = sized.config.budget / 300
    assert sized.config.ladder[0].children == pytest.approx(40 * share, abs=0.6)
    assert sized.config.ladder[1].share == 0.25  # a share follows by itself
    assert sized.config.cards == ["nasnet-a"]


def test_too_little_time_is_refused_with_what_it_takes() -> None:
    with pytest.raises(ConfigError, match=r"--minutes must leave time for a search, here about 1 or more, but got 0.2; .*--cards none"):
        hour().within(0.2)


@pytest.mark.parametrize(("minutes", "rungs"), [(20, 2), (6, 1), (1, 0)])
def test_where_the_time_is_short_the_top_of_the_ladder_goes_and_the_plan_says_so(minutes: int, rungs: int) -> None:
    sized = hour().within(minutes)
    assert (len(sized.config.ladder), len(sized.rungs), sized.left_out) == (rungs, rungs, 2 - rungs)
    assert sized.seconds == pytest.approx(60 * minutes, rel=0.1)
    assert sized.searching >= 0.8 * hour().searching, "most of the time is left to the search itself"
    told = [line for line in plan.describe_plan(sized.config, Hardware(2, 8.0, ()), (), sized) if line.startswith("short:")]
    words = {2: [], 1: ["without the preset's top rung, which"], 0: ["without the preset's top 2 rungs, which"]}[rungs]
    assert len(told) == len(words) and all(word in line for word, line in zip(words, told, strict=True))


class Compiling:
    """Trains nothing: a genotype's first set-up takes a second by this clock, each later one a tenth, a step 10 ms."""

    def __init__(self) -> None:
        self.now, self.met, self.steps = 0.0, set[Genotype](), 0

    def build(self, config: EvaluationConfig, data: PreparedData) -> "Compiling":
        self.steps = len(data.train) // config.training.batch_size
        return self

    def perf_counter(self) -> float:
        return self.now

    def evaluate(self, genotype: Genotype, seed: int, report: object, attempt: Attempt) -> Iterator[Report]:
        self.now += 0.1 if genotype in self.met else 1.0
        self.met.add(genotype)
        for epoch in (1, 2):
            attempt.beat()
            for _ in range(self.steps):
                self.now += 0.01
                attempt.beat()
            yield Report(epoch, 0.5)


def test_a_usual_set_up_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    config = build_config("laptop", [])
    compiling = Compiling()
    monkeypatch.setattr("nas.runs.expected.time", compiling)
    monkeypatch.setattr("nas.evaluators.registry.build_evaluator", compiling.build)
    timing = time_children(config, amount_of(config.data), most=3)
    assert timing.children == 3 and timing.step == pytest.approx(0.01)
    assert timing.setup == pytest.approx(0.1)


def test_a_rung_is_expected_from_one_child_by_how_usual_that_is(monkeypatch: pytest.MonkeyPatch) -> None:
    config = build_config("laptop", ["ladder=[{children: 3, image_size: 12}]"])
    monkeypatch.setattr(plan, "time_children", lambda *given: ChildTiming(0.0, 0.03, 0.0, 1))
    amount = amount_of(config.data)
    usual, slow = (plan.seconds_at(1, config, amount, ChildTiming(0.5, 0.01, 0.001, 4, first)) for first in (1.0, 1.5))
    assert usual == pytest.approx(1.5 * slow), "the timed cell takes half as long again as the mean does"


def test_what_cannot_be_timed_is_refused() -> None:
    with pytest.raises(ConfigError, match="give --budget instead"):
        expect_within(build_config("laptop", ["evaluator=synthetic"]), Hardware(2, 8.0, ()), 10)
    for wrong in (0, -3, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="--minutes must be above 0"):
            expect_within(build_config("laptop"), Hardware(2, 8.0, ()), wrong)
    both = CliRunner().invoke(app, ["search", "--minutes", "10", "--budget", "3"])
    assert isinstance(both.exception, ConfigError)
    assert "exclude each other" in str(both.exception)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ("{children: 3, epochs: 9, train_examples: null, seeds: 2}", True),
        ("{children: 3, image_size: 12}", False),
        ("{children: 3, training: {batch_size: 16}}", False),
    ],
)
def test_rungs_that_take_the_same_steps_are_expected_by_the_timing_of_the_searchs_children(
    change: str, same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = build_config("laptop", [f"ladder=[{change}]"])
    monkeypatch.setattr(plan, "time_children", lambda *given: ChildTiming(0.0, 100.0, 0.0, 1))
    amount = amount_of(config.data)
    seconds = plan.seconds_at(1, config, amount, ChildTiming(0.5, 0.01, 0.001, 4))
    work = work_of(config.at_rung(1), amount)
    assert (seconds == pytest.approx(2 * (0.5 + 9 * (0.01 * work.steps + 0.001 * work.scored)))) is same
    assert (seconds >= 100) is not same
