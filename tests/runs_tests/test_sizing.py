"""Cost is part of a search: matched widths, limits, free redraws; recorded, resumed exactly, and handed on to train and compare."""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from rich.console import Console
from support.configs import scored_by_formula

import nas
from controllers.controller import Completed, Outcome, Proposal
from controllers.deduplicated import Deduplicated
from nas.cli.views.run import print_run
from nas.errors import ConfigError
from nas.evaluators.evaluator import FRESH, Attempt, Evaluation, Report
from nas.networks.architecture import searched_skeleton
from nas.networks.matching import TOLERANCE, read_objective
from nas.runs import session as engine
from nas.runs.config import SearchConfig, build_config
from nas.runs.folder import RunFolder
from nas.runs.ledger import read_records
from nas.runs.loop import QUIET, Ending
from nas.runs.objective import Point, Scalarised, cost_of, front, hypervolume
from nas.runs.sizing import describe_sizing
from nas.runs.state import RunState
from nas.tools.stages import STAGES, Tell
from nas.training.config import skeleton_of
from nas.training.folder import TrainFolder
from search_spaces.genotype import Genotype
from search_spaces.networks.pieces import network_cost
from search_spaces.registry import load_space
from search_spaces.skeletons import NASNetSkeleton


def sized(budget: int = 8, controller: str = "random", **settings: Any) -> SearchConfig:
    return scored_by_formula(budget, controller, **{"synthetic": {"noise": 0.05}, **settings})


def facts(state: RunState) -> list[object]:
    return [(trial.proposal.actions, trial.size, trial.reward) for trial in state.trials.values()] + [dict(state.redrawn)]


def macs_of(genotype: Genotype, filters: float) -> int:
    return network_cost(genotype, searched_skeleton(genotype, cells=1, filters=filters), classes=10, channels=1, image_size=8).macs


def test_every_child_has_the_width_that_costs_what_was_asked(tmp_path: Path) -> None:
    seen: list[float] = []

    class Watches:
        def evaluate(
            self, genotype: Genotype, seed: int, time_limit: float | None, attempt: Attempt = FRESH
        ) -> Generator[Report, None, Evaluation]:
            assert attempt.fidelity is not None
            seen.append(attempt.fidelity.filters)
            yield Report(1, 0.5)
            return Evaluation(Completed(0.5))

    config = sized(12, match="macs=100k", evaluator="given")
    result = engine.start(config, tmp_path / "run", QUIET, engine.Parts(evaluator=Watches()))
    trials = [trial for trial in result.state.trials.values() if trial.repeats is None]
    assert len(trials) == 12 and [trial.size.filters for trial in trials if trial.size is not None] == seen
    for trial in trials:
        assert trial.size is not None and trial.size.filters is not None
        macs = macs_of(result.space.decode(trial.proposal.actions), trial.size.filters)
        assert macs == trial.size.costs["macs"] and abs(macs / 100_000 - 1) <= TOLERANCE
    assert len(set(seen)) > 3 and any(width % 1 for width in seen)
    assert facts(RunFolder(tmp_path / "run").state()) == facts(result.state)


@pytest.mark.parametrize("controller", ["ppo", "random"])
def test_cells_drawn_again_cost_no_budget_and_a_resumed_search_counts_them_the_same(
    tmp_path: Path, controller: str, interrupt_after: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = sized(8, controller, match="macs=60k", limit="params<=6k")
    whole = engine.start(config, tmp_path / "whole", QUIET)
    assert whole.ending is Ending.FINISHED and whole.state.spent == 8
    assert whole.state.redrawn and set(whole.state.redrawn) <= {"no width within 5% of 60k MACs", "more than 6k parameters"}
    assert all(trial.size is not None and trial.size.costs["params"] <= 6000 for trial in whole.state.trials.values())
    lines = len(read_records(tmp_path / "whole" / "ledger.jsonl")[0])
    for count in range(2, lines - 1, 17):
        with monkeypatch.context():
            interrupt_after(count)
            with pytest.raises(KeyboardInterrupt):
                engine.start(config, tmp_path / str(count), QUIET)
            monkeypatch.undo()
        assert facts(engine.resume(RunFolder(tmp_path / str(count)), None, QUIET).state) == facts(whole.state)


def test_limits_alone_leave_the_width_as_it_is(tmp_path: Path) -> None:
    result = engine.start(sized(6, limit="macs<=2M", fidelity={"epochs": 1, "cells": 1, "filters": 8}), tmp_path / "run", QUIET)
    for trial in result.state.trials.values():
        assert trial.size is not None and trial.size.filters is None
        assert trial.size.costs["macs"] == macs_of(result.space.decode(trial.proposal.actions), 8) <= 2_000_000


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"match": "macs=5M,params=3M"}, "match must be one cost.*got 'macs=5M,params=3M'"),
        ({"match": "foo=3"}, "macs=5M, params=300k or latency=8ms, but got 'foo=3'"),
        ({"match": "macs=5X"}, "match: macs must be a number.*got '5X'"),
        ({"limit": "macs<10"}, "limit must be upper limits of.*got 'macs<10'"),
        ({"limit": "params<=3M,parms<=1M"}, "got 'parms<=1M'"),
        ({"limit": "macs>=10"}, "limit must be upper limits of.*got 'macs>=10'"),
        ({"objective": "accuracy"}, "objective must be accuracy and one of macs, params, latency, train_seconds.*got 'accuracy'"),
        ({"objective": "accuracy,macs@0"}, "objective: macs must be a number.*got '0'"),
        ({"match": "macs=5M", "fidelity.filters": 4}, "match solves for every network's width.*filters 4"),
    ],
)
def test_what_cannot_be_meant_gets_one_message(settings: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=f"^.*{told}$"):
        build_config("laptop", settings)


def test_costs_that_no_cell_reaches_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"leave nothing to train: of 64 cells.*64 with no width within 5% of 3 MACs.*cells have .* MACs"):
        engine.start(sized(match="macs=3"), tmp_path / "run", QUIET)
    assert not (tmp_path / "run").exists()


def test_cells_without_enough_of_a_feature_are_drawn_again(tmp_path: Path) -> None:
    result = engine.start(sized(6, limit="normal.convolutions>=0.7,reduction.operations.max_pool_3x3<=1"), tmp_path / "run", QUIET)
    state = result.folder.state()
    assert len(state.trials) == 6 and sum(state.redrawn.values()) > 0
    for trial in state.trials.values():
        genotype = result.space.decode(trial.proposal.actions)
        assert genotype.reduction is not None
        operations = [edge.operation for node in genotype.normal.nodes for edge in node.edges]
        assert sum("conv" in name for name in operations) >= 7
        assert sum(edge.operation == "max_pool_3x3" for node in genotype.reduction.nodes for edge in node.edges) <= 1


@pytest.mark.parametrize(
    ("space", "limit", "told"),
    [
        ("nasnet", "normal.convolution>=0.3", "got 'normal.convolution' .did you mean 'normal.convolutions'.*it says: normal.operations"),
        ("nasnet", "parms<=3000", "a cost .macs, params, latency.*got 'parms' .did you mean 'params'"),
        ("nasbench201", "normal.depth<=2", "space 'nasbench201' says.*got 'normal.depth'; it says: paths, .*depth"),
    ],
)
def test_a_limit_of_what_the_space_does_not_know_is_refused_with_what_it_does(space: str, limit: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        describe_sizing(sized(limit=limit), load_space(space))


def test_the_plan_names_the_rules() -> None:
    match, limit, redraw = describe_sizing(sized(match="macs=60k", limit="params<=6k"), load_space("nasnet"))
    assert match.startswith("match:  every network within 5% of 60k MACs at 8×8 pixels, N=1: F from ")
    assert limit == "limit:  at most 6k parameters" and "random cells are drawn again, free: " in redraw
    assert describe_sizing(sized(), load_space("nasnet")) == []


@pytest.mark.parametrize("declared", [False, True])
def test_cheap_draws_are_of_the_run_and_go_on_with_it(
    tmp_path: Path, declared: bool, interrupt_after: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("schema: nas.space/1\nname: own\noperations: [identity, conv_3x3, sep_conv_5x5, max_pool_3x3]\n")
    config = sized(8, match="macs=60k", draws="cheap", space=str(file) if declared else "nasnet")
    whole = engine.start(config, tmp_path / "whole", QUIET)
    even = engine.start(config.model_copy(update={"draws": "even"}), tmp_path / "even", QUIET)
    assert facts(whole.state) != facts(even.state)
    with monkeypatch.context():
        interrupt_after(7)
        with pytest.raises(KeyboardInterrupt):
            engine.start(config, tmp_path / "half", QUIET)
        monkeypatch.undo()
    file.unlink()  # the run has a copy
    assert facts(engine.resume(RunFolder(tmp_path / "half"), None, QUIET).state) == facts(whole.state)


def test_a_found_cell_is_trained_and_compared_at_the_cost_it_was_searched_at(tmp_path: Path) -> None:
    size = {"fidelity.epochs": 1, "fidelity.cells": 1, "fidelity.train_examples": 64, "fidelity.validation_examples": 50}
    small = {"ladder": [], "cards": [], **size}
    wish = {"match": "macs=100k", "controller": "random", "settings": small}
    run = nas.search(preset="laptop", budget=3, runner="local", run=tmp_path / "run", **wish)
    incumbent = run.state.ranked()[0]
    assert incumbent.size is not None and incumbent.evaluation is not None
    assert incumbent.evaluation.metrics["macs"] == incumbent.size.costs["macs"]
    trained = nas.train(run, epochs=1, output=tmp_path / "trained", device="cpu", threads=1)
    skeleton = skeleton_of(TrainFolder(trained.path).config())
    assert isinstance(skeleton, NASNetSkeleton) and (skeleton.cells, skeleton.filters) == (1, incumbent.size.filters)
    assert trained.macs == incumbent.size.costs["macs"]
    compared = nas.compare([run, "darts-v2"], data="digits", epochs=1, output=tmp_path / "compared", device="cpu", workers=1)
    assert all(abs(row.off) <= TOLERANCE and abs(row.macs / 100_000 - 1) <= TOLERANCE for row in compared.rows)
    assert {row.macs for row in compared.rows} >= {trained.macs}


@pytest.mark.parametrize("controller", ["ppo", "evolution"])
def test_the_controller_is_told_the_product_and_the_ledger_keeps_the_accuracy(
    tmp_path: Path, controller: str, interrupt_after: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = sized(16, controller, fidelity={"epochs": 1, "cells": 1, "filters": 4})
    config = plain.model_copy(update={"objective": "accuracy,macs@200k"})
    told: list[tuple[int, float]] = []
    learn = Deduplicated.pass_on

    def pass_on(self: Deduplicated, proposal: Proposal, outcome: Outcome) -> object:
        assert isinstance(outcome, Completed)
        told.append((proposal.trial, outcome.reward))
        return learn(self, proposal, outcome)

    with monkeypatch.context() as patched:
        patched.setattr(Deduplicated, "pass_on", pass_on)
        whole = engine.start(config, tmp_path / "whole", QUIET).state
    for number, reward in told:
        trial = whole.trials[number]
        assert trial.size is not None and trial.reward is not None
        assert reward == min(1.0, trial.reward * (trial.size.costs["macs"] / 200_000) ** -0.07)
    assert facts(whole) != facts(engine.start(plain, tmp_path / "plain", QUIET).state)
    interrupt_after(40)
    with pytest.raises(KeyboardInterrupt):
        engine.start(config, tmp_path / "killed", QUIET)
    monkeypatch.undo()
    assert facts(engine.resume(RunFolder(tmp_path / "killed"), None, QUIET).state) == facts(whole)


def test_a_target_that_nobody_says_is_the_median_of_the_first_children(tmp_path: Path) -> None:
    state = engine.start(sized(14, objective="accuracy,macs"), tmp_path / "run", QUIET).state
    aim = Scalarised(read_objective("accuracy,macs"), state)
    told = [aim.outcome(state.trials[number]) for number in state.told]
    costs = [cost_of(state, state.trials[number], "macs") or 0.0 for number in state.told]
    last, reward = told[-1], state.trials[state.told[-1]].reward
    assert isinstance(last, Completed) and reward is not None
    assert last.reward == min(1.0, reward * (costs[-1] / median(costs[:10])) ** -0.07)


def test_the_front_has_whom_nobody_beats_and_its_hypervolume_grows_with_it() -> None:
    points = [Point(0, 0.5, 10), Point(1, 0.6, 10), Point(2, 0.55, 20), Point(3, 0.8, 40), Point(4, 0.8, 50)]
    best = front(points)
    assert [point.trial for point in best] == [1, 3]
    assert hypervolume(best, 50) == pytest.approx((0.6 * 30 + 0.8 * 10) / 50)
    assert hypervolume(front([*points, Point(5, 0.7, 15)]), 50) > hypervolume(best, 50)


def test_the_front_is_shown(tmp_path: Path) -> None:
    config = sized(10, objective="accuracy,params")
    result = engine.start(config, tmp_path / "run", QUIET)
    console = Console(record=True, width=120, file=StringIO())
    print_run(console, result.folder, config, result.state, result.space)
    text = console.export_text()
    assert "Pareto front: accuracy against params" in text and "hypervolume 0." in text


def test_a_word_is_said_while_random_cells_are_sized() -> None:
    said: list[str] = []

    @contextmanager
    def stage(what: str) -> Iterator[Tell]:
        said.append(what)
        yield lambda done, total: None

    before = STAGES.set(stage)
    try:
        describe_sizing(sized(match="params=30k"), load_space("nasnet"))
    finally:
        STAGES.reset(before)
    assert said == ["sizing random cells"]
