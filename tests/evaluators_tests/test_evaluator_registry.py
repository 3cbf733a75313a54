"""Evaluators from outside: a function or a row by module:attr, its options, what its workers share; in this process and on Ray."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nas.cli.main import app
from nas.errors import ConfigError, UserError
from nas.evaluators.child import at_fidelity
from nas.evaluators.evaluator import Attempt
from nas.evaluators.registry import EVALUATORS, build_evaluator, prepare_data, prepare_shared
from nas.runners.local import LocalRunner
from nas.runners.runner import Job
from nas.runs.config import build_config
from nas.runs.folder import RunFolder
from search_spaces import plugins
from search_spaces.plugins import PluginError
from search_spaces.registry import load_space
from search_spaces.space import sample_actions

MODULE = '''
from collections.abc import Generator
from controllers.controller import Completed
from nas.evaluators.evaluator import Evaluation, Report
from nas.evaluators.registry import EvaluatorRow
from nas.settings.base import Settings

made = []


def score(genotype):
    """Half for everybody."""
    return 0.5


class Options(Settings):
    worth: float = 0.25


class Scorer:
    def __init__(self, worth):
        self.worth = worth

    def evaluate(self, genotype, seed, time_limit, attempt=None):
        yield Report(1, self.worth)
        return Evaluation(Completed(self.worth))


def prepare(config, data):
    made.append(data)
    return Options(**config.evaluator_options).worth


SCORER = EvaluatorRow(lambda config, shared: Scorer(shared), prepare=prepare, options=Options, about="a constant")
'''


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with the module of a person, in which commands run."""
    (tmp_path / "my_scores.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plugins, "_trusted", set())
    yield tmp_path
    for name in [name for name in EVALUATORS._loaded if name.startswith("my_scores")]:
        del EVALUATORS._loaded[name]


def search(run: Path, *more: str) -> None:
    arguments = ["search", "--preset", "laptop", "--budget", "4", "--run", str(run), *more]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("runner", ["local", "ray"])
def test_a_row_shares_what_it_prepared_with_every_worker(here: Path, runner: str) -> None:
    options = ["--set", "evaluator=my_scores:SCORER", "--set", "evaluator_options.worth=0.75"]
    search(here / "run", *options, "--runner", runner, "--workers", "1")
    assert [trial.reward for trial in RunFolder(here / "run").state().ranked()] == [0.75] * 4
    import my_scores

    assert my_scores.made[-1] is None, "it asked for no data"


def test_a_function_is_an_evaluator(here: Path) -> None:
    search(here / "run", "--set", "evaluator=my_scores:score", "--runner", "local")
    assert {trial.reward for trial in RunFolder(here / "run").state().ranked()} == {0.5}


def test_a_run_folder_does_not_import_what_it_names(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search(here / "run", "--set", "evaluator=my_scores:score", "--runner", "local")
    monkeypatch.setattr(plugins, "_trusted", set())  # another session
    EVALUATORS._loaded.clear()
    result = CliRunner().invoke(app, ["show", str(here / "run")])
    assert result.exit_code == 0, "what a run found needs none of its evaluator's code"
    result = CliRunner().invoke(app, ["search", "--resume", str(here / "run"), "--budget", "5"])
    assert isinstance(result.exception, PluginError) and "NAS_TRUST=my_scores nas" in str(result.exception)
    monkeypatch.setenv("NAS_TRUST", "my_scores")
    result = CliRunner().invoke(app, ["search", "--resume", str(here / "run"), "--budget", "5"])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("assigned", "message"),
    [
        ("evaluator=trian", r"unknown evaluator 'trian' \(did you mean 'train'\?\)"),
        ("evaluator_options.x=1", "evaluator 'train' takes no evaluator_options, but got x"),
        ("evaluator=my_scores:made", "must be a nas.evaluators.registry.EvaluatorRow, or a function"),
        ("evaluator=my_scores:Scorer", "must be a nas.evaluators.registry.EvaluatorRow, or a function"),
        ("evaluator=my_skores:SCORER", "module 'my_skores' cannot be imported"),
    ],
)
def test_what_does_not_fit_is_one_message(assigned: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_config("laptop", [assigned])
    with pytest.raises(ConfigError, match="evaluator_options of 'my_scores:SCORER': unknown setting 'woth' \\(did you mean 'worth'"):
        build_config("laptop", ["evaluator=my_scores:SCORER", "evaluator_options.woth=1"])


def test_data_are_shared_where_an_evaluator_needs_them() -> None:
    config = build_config("laptop", ["fidelity.train_examples=32"])
    data = prepare_data(config)
    assert data is not None and prepare_shared(config, data) is data
    formula = build_config("laptop", ["evaluator=synthetic"])
    assert prepare_data(formula) is None and prepare_shared(formula, None) is None
    assert build_evaluator(formula, None) is not None


@pytest.mark.parametrize("name", ["train", "synthetic"])
def test_a_child_can_have_a_fidelity_of_its_own(name: str) -> None:
    config = build_config("laptop", [f"evaluator={name}", "fidelity.train_examples=32", "fidelity.epochs=1"])
    evaluator = build_evaluator(config, prepare_shared(config, prepare_data(config)))
    genotype = load_space("nasnet").decode(sample_actions(load_space("nasnet"), random.Random(0)))
    longer = config.fidelity.model_copy(update={"epochs": 3})

    def epochs(attempt: Attempt) -> list[int]:
        return [report.epoch for report in evaluator.evaluate(genotype, 0, None, attempt)]

    assert epochs(Attempt()) == [1] and epochs(Attempt(fidelity=longer)) == [1, 2, 3]
    runner = LocalRunner(evaluator)
    runner.submit(Job(0, 1, genotype, 0, fidelity=longer))
    assert [type(event).__name__ for _ in range(4) for event in runner.poll(0)] == ["Reported"] * 3 + ["Ended"]


def test_a_fidelity_with_other_images_is_refused() -> None:
    config = build_config("laptop", ["fidelity.train_examples=32", "fidelity.epochs=1"])
    with pytest.raises(ConfigError, match=r"fidelity.image_size must be the search's, None, but got 16"):
        at_fidelity(config, config.fidelity.model_copy(update={"image_size": 16}))
