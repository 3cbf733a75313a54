"""A run from Python: objects and functions in a search's parts, asking and telling, and what a notebook shows."""

import math
from collections.abc import Generator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import nas
from controllers.controller import Completed, Failed
from controllers.evolution import Evolution
from controllers.options import EvolutionOptions
from nas.api.run import Run
from nas.errors import ConfigError, RunError
from nas.evaluators.evaluator import FRESH, Attempt, Evaluation, Report
from nas.evaluators.objective import synthetic_reward
from nas.runs import session as engine
from nas.runs.config import config_from_document
from nas.runs.loop import Watcher
from search_spaces.genotype import Genotype
from search_spaces.registry import SPACES


def actions(run: Run) -> list[tuple[int, ...]]:
    return [trial.proposal.actions for trial in run.state.trials.values()]


def searched(path: Path, budget: int = 20, **given: Any) -> Run:
    return nas.search("nasnet", budget=budget, run=path, seed=3, **{"controller": "evolution", "evaluator": synthetic_reward, **given})


def stop_after(count: int) -> Watcher:
    ended: list[object] = []
    return Watcher(on_end=ended.append, stop=lambda: len(ended) >= count)


def test_a_function_gives_the_rewards_and_its_failures_are_recorded(tmp_path: Path) -> None:
    def moody(genotype: Genotype) -> float:
        reward = synthetic_reward(genotype)
        if int(1e6 * reward) % 3 == 0:
            raise ArithmeticError("not today")
        return math.nan if int(1e6 * reward) % 3 == 1 else reward

    run = searched(tmp_path / "run", budget=40, controller="random", evaluator=moody)
    assert len(run.trials) == 40 and run.ending == "finished"
    assert all(trial.reward == synthetic_reward(trial.genotype) for trial in run.trials if trial.outcome == "completed")
    reasons = {trial.why.partition(":")[0] for trial in run.trials if trial.outcome == "failed"}
    assert reasons == {"exception", "diverged"}
    assert any("not today" in trial.why for trial in run.trials)
    assert run.best == run.incumbent.genotype and run.best.provenance.reward == round(run.standings.ranked[0].belief.mean, 6)


def test_a_search_that_only_fails_is_an_error_and_what_is_no_number_a_failure(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="must return a number, but got str"):
        searched(tmp_path / "run", evaluator=lambda genotype: "good")
    assert nas.open_run(tmp_path / "run").ending == "failing"


def test_an_object_may_evaluate_and_report(tmp_path: Path) -> None:
    class Slow:
        def evaluate(
            self, genotype: Genotype, seed: int, time_limit: float | None, attempt: Attempt = FRESH
        ) -> Generator[Report, None, Evaluation]:
            yield Report(1, 0.25)
            return Evaluation(Completed(0.5), {"params": 7.0})

    run = searched(tmp_path / "run", budget=2, evaluator=Slow())
    assert [(t.reward, t.epochs, t.metrics) for t in run.trials] == [(0.5, 1, {"params": 7.0})] * 2


@pytest.mark.parametrize("kind", ["object", "function"])
def test_a_controller_of_ones_own_is_resumed_exactly(kind: str, tmp_path: Path) -> None:
    space = SPACES["nasnet"]

    def mutate_best(space: Any, history: Any, rng: Any) -> list[int]:
        best = list(max(history, key=lambda told: told[1] or 0)[0]) if history else [0] * len(space.decisions)
        place = rng.randrange(len(best))
        best[place] = rng.randrange(len(space.decisions[place].choices))
        return best

    def make() -> Any:
        return mutate_best if kind == "function" else Evolution(space, 3, EvolutionOptions(population=5, sample=2))

    whole = searched(tmp_path / "whole", controller=make())
    part = searched(tmp_path / "part", controller=make(), watcher=stop_after(8))
    assert part.ending == "interrupted" and len(part.trials) == 8
    with pytest.raises(ConfigError, match="controller was given in Python"):
        nas.resume(part, evaluator=synthetic_reward)
    resumed = nas.resume(part, evaluator=synthetic_reward, controller=make())
    assert actions(resumed) == actions(whole) and resumed.ending == "finished"


def test_a_run_with_an_evaluator_of_ones_own_needs_it_again(tmp_path: Path) -> None:
    run = searched(tmp_path / "run", budget=2)
    with pytest.raises(ConfigError, match="evaluator that was given in Python"):
        nas.resume(run, budget=4)
    formula = nas.search("nasnet", budget=2, runner="local", run=tmp_path / "other", evaluator="synthetic", controller="random")
    with pytest.raises(ConfigError, match="cannot be given"):
        nas.resume(formula, budget=4, evaluator=synthetic_reward)
    assert len(nas.resume(run, budget=4, evaluator=synthetic_reward).trials) == 4
    with pytest.raises(ConfigError, match="at least the 4 children"):
        nas.resume(run, budget=3, evaluator=synthetic_reward)


# ---------------------------------------------------------------------------------------------------- ask and tell


def test_asking_and_telling_is_the_search_itself(tmp_path: Path) -> None:
    whole = searched(tmp_path / "whole")
    with nas.new_run("nasnet", budget=20, controller="evolution", seed=3, run=tmp_path / "own") as run:
        while (child := run.ask()) is not None:
            told = run.tell(child, synthetic_reward(child.genotype), {"params": 3})
            assert told.outcome == "completed" and told.genotype.normal == child.genotype.normal
    assert actions(run) == actions(whole)
    assert run.ending == "finished" and run.best.cells() == whole.best.cells()
    assert (run.path / "best" / "1.yaml").is_file() and list(run.path.glob("events.out.tfevents.*"))


@pytest.mark.parametrize("tidy", [True, False])
def test_ones_own_loop_goes_on_where_it_was_left(tidy: bool, tmp_path: Path) -> None:
    with nas.new_run("nasnet", budget=12, controller="evolution", seed=3, run=tmp_path / "whole") as whole:
        while (child := whole.ask()) is not None:
            whole.tell(child, synthetic_reward(child.genotype))

    def break_off() -> None:
        with nas.new_run("nasnet", budget=12, controller="evolution", seed=3, run=tmp_path / "part") as run:
            for _ in range(5):
                child = run.ask()
                assert child is not None
                run.tell(child, synthetic_reward(child.genotype))
            assert run.ask() is not None
            if not tidy:
                raise KeyboardInterrupt

    if tidy:
        break_off()
    else:
        with pytest.raises(KeyboardInterrupt):
            break_off()
    with nas.open_run(tmp_path / "part") as run:
        orphan = run.ask()
        assert orphan is not None and (orphan.trial, orphan.attempt) == (5, 2)
        run.tell(orphan, synthetic_reward(orphan.genotype))
        while (child := run.ask()) is not None:
            run.tell(child, synthetic_reward(child.genotype))
    assert actions(run) == actions(whole)
    assert run.ending == "finished" and len(run.state.sessions) == 2


def test_several_children_may_be_out_and_repeats_are_answered_free(tmp_path: Path) -> None:
    tiny = tmp_path / "tiny.yaml"
    tiny.write_text("schema: nas.space/1\nname: tiny\noperations: [identity, conv_1x1]\nnodes: 1\ncombine: [add]\ncells: [normal]\n")
    with nas.new_run(tiny, budget=100, controller="random", run=tmp_path / "run") as run:
        out = []
        while (child := run.ask()) is not None:
            out.append(child)
        keys = {run.space.canonical(child.genotype) for child in out}
        assert len(keys) == len(out) < 20, "every cell of the space is out, once"
        for number, child in enumerate(out):
            run.tell(child, number / 100)
        assert run.ask() is None
    assert run.ending == "exhausted"
    repeats = [trial for trial in run.trials if trial.repeats is not None]
    assert repeats and all(trial.reward == run.trials[trial.repeats].reward for trial in repeats)


def test_what_cannot_be_told_is_refused_and_what_failed_is_recorded(tmp_path: Path) -> None:
    with nas.new_run("nasnet", budget=4, controller="random", run=tmp_path / "run") as run:
        first, second, third = (run.ask() for _ in range(3))
        assert first is not None and second is not None and third is not None
        with pytest.raises(ConfigError, match="a share in"):
            run.tell(first, 55.0)
        assert run.tell(first, float("nan")).why.startswith("diverged")
        assert run.tell(second.trial, Failed("out_of_memory", "16 GB")).why == "out_of_memory: 16 GB"
        with pytest.raises(RunError, match="not told yet"):
            run.tell(first, 0.5)
        with pytest.raises(RunError, match="another process is running"):
            nas.open_run(run.path).ask()
        run.tell(third, 1)
    assert run.ending == "interrupted" and [t.reward for t in run.trials] == [None, None, 1.0]


def test_early_stopping_ends_children_of_ones_own_loop(tmp_path: Path) -> None:
    rule = {"halving.first": 1, "halving.reduction": 2}
    with nas.new_run("nasnet", budget=10, controller="random", epochs=3, settings=rule, run=tmp_path / "run") as run:
        while (child := run.ask()) is not None:
            reward = synthetic_reward(child.genotype)
            if all(run.report(child, epoch, reward) for epoch in (1, 2)):
                run.tell(child, reward)
    outcomes = [trial.outcome for trial in run.trials]
    assert len(outcomes) == 10 and {"completed", "stopped"} == set(outcomes)
    assert run.trials[outcomes.index("stopped")].epochs == 1


def test_rewards_of_another_kind_do_not_enter_a_run(tmp_path: Path) -> None:
    document = {"budget": 2, "evaluator": "synthetic", "runner": {"kind": "local"}, "controller": {"name": "random"}}
    folder = engine.start(config_from_document(document), tmp_path / "run").folder
    with pytest.raises(ConfigError, match="its evaluator, 'synthetic'"):
        nas.open_run(folder.path).ask()


# ---------------------------------------------------------------------------------------------------- showing


def test_a_notebook_shows_tables_and_cells(tmp_path: Path) -> None:
    run = searched(tmp_path / "<b>run", budget=3)
    for shown in (run, run.incumbent, nas.draw(run)):
        text = shown._repr_svg_() if hasattr(shown, "_repr_svg_") else shown._repr_html_()
        ElementTree.fromstring(text[text.index("<svg") :])
    assert run._repr_html_().count("<tr>") == 4 and "<b>run" not in run._repr_html_()
    assert repr(run).startswith("<Run ") and "3 of 3 trained" in repr(run)
    empty = nas.new_run("nasnet", budget=3, run=tmp_path / "new")
    assert "not begun" in repr(empty) and empty.trials == [] and empty.incumbent is None and empty._repr_html_()
    with pytest.raises(RunError, match="ledger"):
        _ = empty.best


def test_a_run_is_a_data_frame_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = searched(tmp_path / "run", budget=3)
    frame = run.to_pandas()
    assert list(frame["reward"]) == [trial.reward for trial in run.trials]
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(ConfigError, match="pip install pandas"):
        run.to_pandas()


def test_another_rung_is_reached_from_a_run(tmp_path: Path) -> None:
    settings = {"evaluator": "synthetic", "synthetic.noise": 0.05}
    run = nas.search("nasnet", budget=6, controller="random", runner="local", run=tmp_path / "run", settings=settings)
    assert run.standings.top == 0
    standings = run.finalists(top=2, seeds=2)
    assert sorted(len(standing.rewards) for standing in standings.ranked) == [1, 1, 1, 1, 2, 2] and run.standings == standings
    assert run.incumbent is not None and run.incumbent.trial == standings.ranked[0].trial


def test_searches_begun_in_one_second_have_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = [nas.new_run("nasnet", budget=3) for _ in range(3)]
    for run in runs:
        run.ask()
        run.close()
    assert len({run.path for run in runs}) == 3
