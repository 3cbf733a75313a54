"""Learning from earlier trainings: of runs, tables of trials and packaged tables; recorded in the run, said where the run is shown."""

import csv
import re
from pathlib import Path

import pytest
from support.commands import nas as run_nas
from support.image_trees import make_tree
from typer.testing import CliRunner

import nas
from controllers.controller import Completed
from controllers.options import ControllerError
from nas.cli.main import app
from nas.errors import ConfigError
from nas.evaluators.table import read_trainings
from nas.runs import session as engine
from nas.runs.config import SearchConfig, build_config, fitted_config, space_of
from nas.runs.experience import experience_of, packaged
from nas.runs.folder import RunFolder
from nas.runs.loop import Watcher
from nas.runs.session import SearchResult

SETTINGS = ["evaluator=synthetic", "runner.kind=local", "ladder=[]", "controller.options={hidden: 16, screen_start: 5}"]


def search(path: Path, *settings: str, budget: int = 30, watcher: Watcher | None = None) -> SearchResult:
    return engine.start(build_config("laptop", [*SETTINGS, f"budget={budget}", *settings]), path, watcher or Watcher())


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of which some is no child's training to the end: a second look."""
    return search(tmp_path_factory.mktemp("before") / "run", "looks=0.1", budget=60).folder


def learnt(config: SearchConfig) -> dict[tuple[int, ...], float]:
    (earlier,) = experience_of(config, space_of(config))
    return dict(earlier.trained)


def test_a_run_and_its_table_of_trials_say_the_same(before: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_nas(["export", str(before.path), "--format", "csv", "-o", "trials.csv"], tmp_path, monkeypatch)
    state = before.state()
    own = {trial.proposal.actions: trial.reward for trial in state.trials.values() if trial.searched}
    assert len(own) == 60 < len(state.trials)
    of_run, of_table = (
        learnt(build_config("laptop", {"learn_from": [str(source)]})) for source in (before.path, tmp_path / "trials.csv")
    )
    assert of_run == own
    decode = space_of(before.config()).decode
    assert {decode(actions): reward for actions, reward in of_table.items()} == {decode(actions): own[actions] for actions in own}


def test_a_search_learns_before_its_first_child(before: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the earlier search was rewarded for is what this one is, but for its noise: it begins where a search from nothing comes to."""
    rewards = []
    for name, source in (("alone", "none"), ("after", str(before.path))):
        wish = ["search", "--preset", "laptop", "--budget", "24", "--run", name, "--learn-from", source]
        said = run_nas([*wish, *(word for one in SETTINGS for word in ("--set", one))], tmp_path, monkeypatch)
        state = RunFolder(tmp_path / name).state()
        rewards.append([trial.reward for trial in state.trials.values() if trial.searched][5:])
        words = f"learns: from {before.path} (60 cells), before the first child"
        assert ("".join(words.split()) in "".join(said.split())) == (name == "after") == bool(state.earlier)
    assert sum(rewards[1]) / len(rewards[1]) > sum(rewards[0]) / len(rewards[0]) + 0.02
    shown = " ".join(run_nas(["show", "after"], tmp_path, monkeypatch).split())
    assert f"learnt before the first child: from {before.path} (60 cells)" in shown


def test_a_killed_search_goes_on_as_it_began_when_its_source_is_gone(before: RunFolder, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    rows = [(actions, reward) for actions, reward in learnt(build_config("laptop", {"learn_from": [str(before.path)]})).items()]
    table.write_text("actions,reward\n" + "".join(f"{' '.join(map(str, actions))},{reward}\n" for actions, reward in rows))
    whole = search(tmp_path / "whole", f"learn_from=[{table}]")
    lines = whole.folder.ledger_file.read_bytes().splitlines(keepends=True)
    table.unlink()
    for kept in (1, len(lines) // 2, len(lines) - 1):
        (path := tmp_path / str(kept)).mkdir()
        (path / "config.yaml").write_bytes(whole.folder.config_file.read_bytes())
        (path / "ledger.jsonl").write_bytes(b"".join(lines[:kept]) + b'{"torn')
        again = engine.resume(RunFolder(path), None)
        assert [t.proposal for t in again.state.trials.values()] == [t.proposal for t in whole.state.trials.values()]
        assert again.state.earlier == whole.state.earlier


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("reward,cell\n0.5,0\n", "needs a column reward and one of genotype, actions or arch, but has reward, cell"),
        ("reward,actions\n0.5,0 1\n0.4,1 1\n0.3,1 0\n", "row 2: one action per decision must be given: 50, but got 2"),
        ("reward,actions\n" + "".join(f"0.5,{i} " + "0 " * 49 + "\n" for i in (0, 1, 1)), "rewards that differ, but all 3 are 0.5"),
        ("reward;actions\n", "not a CSV file with commas between its columns"),
        ("", "not a CSV file with a header: its first line is empty"),
        ("reward,actions\n", "must have at least 3 trained cells of the space nasnet, but has 0"),
        ("reward,actions\nhigh," + "0 " * 50 + "\n", "row 2: 'reward' must be a number of at least 0, but got 'high'"),
    ],
)
def test_a_wrong_table_is_refused_with_the_rule(content: str, message: str, tmp_path: Path) -> None:
    (table := tmp_path / "table.csv").write_text(content)
    config = build_config("laptop", {"learn_from": [str(table)]})
    with pytest.raises(ConfigError, match="learn_from: .*" + re.escape(message)) as caught:
        engine.start(config, tmp_path / "run")
    assert str(caught.value).count(str(table)) == 1
    assert not (tmp_path / "run").exists()


def test_names_are_given_and_each_once(before: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(before.path)
    for said, message in (
        (",", "--learn-from must have names, with commas between them, or be none, but got ','"),
        ("cifar100,cifar100", "learn_from must name each source once, but got 'cifar100', 'cifar100'"),
        (f"link,cifar100,{before.path}", f"must name each source once, but got '{tmp_path}/link', '{before.path}'"),
        ("", "--learn-from must not be empty, but got ''"),
    ):
        done = CliRunner().invoke(app, ["search", "--preset", "laptop", "--dry-run", "--learn-from", said])
        assert message in str(done.exception) and "working directory" not in str(done.exception), said


def test_what_cannot_be_learnt_from_is_refused_at_once(
    before: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = r"'cifar10O' is no packaged table \(.*cifar100.*\), no CSV file and no run \(did you mean 'cifar100'\?\)"
    for wish, message in (
        ({"learn_from": ["cifar10O"]}, nothing),
        ({"learn_from": [str(before.path)], "space": "nasbench201"}, "must be a run of the space nasbench201, but is one of nasnet"),
    ):
        with pytest.raises(ConfigError, match=message):
            nas.search(preset="laptop", evaluator="synthetic", run=tmp_path / "run", **wish)
    with pytest.raises(ControllerError, match="but got controller 'random'"):
        nas.search(preset="laptop", evaluator="synthetic", run=tmp_path / "run", learn_from=["cifar100"], controller="random")
    dry = ["search", "--preset", "laptop", "--controller", "evolution", "--learn-from", "cifar100", "--dry-run"]
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, dry)
    assert done.exit_code != 0 and "but got controller 'evolution'" in f"{done.exception}", "before anything is timed"


def test_rows_that_are_no_children_trained_to_the_end_do_not_count(tmp_path: Path) -> None:
    space = space_of(build_config("laptop"))
    actions = [" ".join([str(i % 2)] + ["0"] * (len(space.decisions) - 1)) for i in range(8)]
    said = [{}, {"rung": "1"}, {"card": "enas"}, {"origin": "0"}, {"repeats": "0"}, {"outcome": "stopped"}, {"reward": ""}, {"rung": "0"}]
    with (tmp_path / "table.csv").open("w") as file:
        writer = csv.DictWriter(file, ["reward", "actions", "rung", "card", "origin", "repeats", "outcome"], restval="")
        writer.writeheader()
        writer.writerows({"reward": f"0.{i + 1}", "actions": actions[i], "outcome": "completed", **one} for i, one in enumerate(said))
    assert [Completed(reward).reward for _, reward in read_trainings(tmp_path / "table.csv", space)] == [0.1, 0.8]


def test_of_very_many_trainings_an_even_choice_is_learnt_from(tmp_path: Path) -> None:
    table, number = tmp_path / "table.csv", 2000
    rows = [(f"{i // 625 % 5}{i // 125 % 5}{i // 25 % 5}{i // 5 % 5}{i % 5}0", i / number) for i in range(number)]
    table.write_text("arch,reward\n" + "".join(f"{actions},{reward}\n" for actions, reward in rows))
    found = learnt(build_config("laptop", {"learn_from": [str(table)], "space": "nasbench201"}))
    assert len(found) == 600 and max(found.values()) == rows[-1][1]
    assert sorted(found.values())[300] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("name", packaged())
def test_packaged_tables_can_be_learnt_from(name: str) -> None:
    config = build_config("cpu", {"learn_from": [name]})
    found = learnt(config)
    assert len(found) >= 100 and len({round(reward, 3) for reward in found.values()}) > 20


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"controller.name": "ppo", "controller.options.screen": False}, "the controller, as it is chosen here, does not learn"),
        ({"controller.options": {"screen": False}}, "the controller, as it is chosen here, does not learn"),
        ({"controller.name": "random"}, "the controller, as it is chosen here, does not learn"),
        ({"space": "nasbench201"}, "for its own space, controller and evaluator"),
        ({"evaluator": "synthetic"}, "for its own space, controller and evaluator"),
    ],
)
def test_the_plan_says_that_a_presets_experience_is_left_out(said: dict[str, object], why: str) -> None:
    config, choices = fitted_config("cpu", said)
    (line,) = (str(choice) for choice in choices if choice.setting == "learn_from")
    assert not config.learn_from and line.startswith("learn_from=[]  ") and why in line
    assert not any(choice.setting == "learn_from" for choice in fitted_config("cpu", {**said, "learn_from": []})[1])


def test_what_was_asked_for_is_refused_by_the_option_that_prevents_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["search", "--preset", "cpu", "--data", "digits", "--set", "controller.options.screen=false", "--dry-run"]
    plain = CliRunner().invoke(app, words)
    assert plain.exit_code == 0 and "fitted: learn_from=[]" in plain.output and "learns:" not in plain.output
    asked = CliRunner().invoke(app, [*words, "--learn-from", "cifar100"])
    assert "ppo learns from earlier trainings unless screen is false, as it is with the options that it got" in str(asked.exception)


def test_a_presets_experience_is_for_its_own_space_controller_and_evaluator_and_for_any_images(tmp_path: Path) -> None:
    preset = build_config("cpu").learn_from
    assert preset
    for other in ({"space": "nasbench201"}, {"controller.name": "evolution"}, {"evaluator": "synthetic"}):
        assert not build_config("cpu", other).learn_from, other
        assert build_config("cpu", {**other, "learn_from": ["cifar100"]}).learn_from == ["cifar100"]
    make_tree(tmp_path / "own", train=8, val=4, side=12, damaged=False)
    assert build_config("cpu", {"data.name": "folder", "data.root": str(tmp_path / "own")}).learn_from == preset
