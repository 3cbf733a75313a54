"""What a run depends on is on record, runs are made again from it, and it is said in what two runs differ."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from support.commands import nas
from typer.testing import CliRunner

from nas import search
from nas.api.differing import differences
from nas.api.reproducing import reproduction
from nas.api.things import find_thing
from nas.cli.main import app
from nas.cli.views.differences import _words
from nas.comparisons.folder import CompareFolder
from nas.errors import ConfigError
from nas.runs.folder import RunFolder
from nas.tools import environment as tools
from nas.tools.environment import add_data, add_session, read_environment, write_environment
from nas.training.folder import TrainFolder


def refused(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert isinstance(done.exception, ConfigError), done.output
    return str(done.exception)


# ---------------------------------------------------------------------------------------------------- on record


def test_versions_commit_command_and_data_are_on_record(made: Path) -> None:
    for folder in (TrainFolder(made / "trained/net"), CompareFolder(made / "compared"), RunFolder(made / "runs/first")):
        found = read_environment(folder.environment_file)
        assert {"nas-engine", "torch", "ray", "numpy", "scipy", "torchvision", "scikit-learn", "pillow"} <= set(found["packages"])
        assert found["command"] == ["nas", "search", "--run", "a b"] and found["directory"] == str(made)
        assert found["python"].startswith("3.")
    checksums = [read_environment(made / name / "environment.json")["data"] for name in ("trained/net", "compared", "runs/first")]
    assert checksums[0] == checksums[1] and len(checksums[0]) == 16 and checksums[2] is None, "a synthetic search reads no images"


def test_the_commit_is_that_of_this_package_and_not_of_what_it_lies_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> None:
        identity = ("-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false")
        subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True, capture_output=True)

    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "environment.py").write_text("")
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "somebody's project")
    monkeypatch.setattr(tools, "__file__", str(tmp_path / "venv" / "environment.py"))
    assert tools.commit() is None
    git("add", ".")
    git("commit", "-q", "-m", "its own")
    found = tools.commit()
    assert found is not None and len(found) == 40
    (tmp_path / "venv" / "environment.py").write_text("changed")
    assert tools.commit() == f"{found}-dirty"
    monkeypatch.setenv("PATH", "")
    assert tools.commit() is None


def test_later_sessions_are_added_with_what_is_another_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "environment.json"
    write_environment(file)
    add_data(file, "abc")
    monkeypatch.setattr(tools, "versions", lambda: {"torch": "9"})
    add_session(file)
    found = read_environment(file)
    assert found["data"] == "abc" and found["later"][0]["packages"]["torch"] == "9" and "python" not in found["later"][0]
    file.write_text("[1]")
    assert read_environment(file) == {}
    add_data(file, "abc")
    assert read_environment(file) == {"data": "abc"}


# ---------------------------------------------------------------------------------------------------- made again


@pytest.mark.parametrize("name", ["first", "net", "compared"])
def test_what_is_made_again_is_the_same(name: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = nas(["reproduce", name], place, monkeypatch).splitlines()
    assert "# was made by: nas search --run 'a b'" in printed
    commands = [shlex.split(line) for line in printed if not line.startswith("#")]
    assert len(commands) == 2 and all(words[0] == "nas" for words in commands)
    assert not Path(commands[1][-1]).exists(), "printed, not done"
    monkeypatch.setattr("nas.runners.side_by_side.as_many_as_fit", lambda config: 1)  # in this process
    said = nas(["reproduce", name, "--run"], place, monkeypatch)
    first, second = find_thing(name), find_thing(commands[1][-1])
    assert [one for one in differences(first, second) if one.group not in ("time", "versions")] == [], said
    assert first.kind == second.kind and read_environment(second.folder.environment_file)["command"][0] == "nas"


def commands_of(printed: str) -> list[list[str]]:
    return [shlex.split(line) for line in printed.splitlines() if not line.startswith("#")]


def test_rungs_and_children_that_were_added_later_are_added_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one search with all of them other cells would go up, at another time, and be told: it would find others."""
    settings = {"evaluator": "synthetic", "synthetic.noise": 0.05, "ladder": [{"children": 3, "training": {"weight_decay": 1e-05}}]}
    search("nasnet", budget=8, runner="local", run="runs/grown", seed=5, settings={**settings, "controller.options.hidden": 8})
    for words in (["finalists", "grown", "--top", "2", "--seeds", "2", "--epochs", "400", "--recipe", "fast"], ["resume", "grown"]):
        nas(words, place, monkeypatch)
    nas(["search", "--budget", "12", "--resume", "runs/grown"], place, monkeypatch)
    nas(["finalists", "grown", "--top", "2", "--seeds", "1"], place, monkeypatch)
    first, *later, look = commands_of(nas(["reproduce", "grown"], place, monkeypatch))
    assert first[4:6] == ["--budget", "8"] and first[6] == "--set" and first[7].startswith("ladder=[{children: 3, ") and "2" not in first[6]
    again = "runs/grown-again"
    assert later == [
        ["nas", "finalists", again, "--top", "2", "--seeds", "2", "--epochs", "400", "--recipe", "fast"],
        ["nas", "search", "--budget", "12", "--resume", again],
        ["nas", "finalists", again, "--top", "2", "--seeds", "1"],
    ]
    assert look[:3] == ["nas", "show", "--compare"]
    nas(["reproduce", "grown", "--run"], place, monkeypatch)
    whole, made_again = (RunFolder(Path(name)) for name in ("runs/grown", again))
    assert made_again.config().ladder == whole.config().ladder and len(whole.config().ladder) == 3
    one, other = ([(t.proposal, t.origin, t.reward) for t in run.state().trials.values()] for run in (whole, made_again))
    assert one == other


def test_a_recipe_of_a_later_rung_that_cannot_be_named_is_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("own.yaml").write_text("optimizer: {learning_rate: 0.0123}\n")
    nas(["finalists", "first", "--top", "2", "--seeds", "1", "--recipe", "own.yaml"], place, monkeypatch)
    printed = nas(["reproduce", "first"], place, monkeypatch)
    assert "# rung 2 was added later, and what it was trained by is no packaged recipe" in printed
    first, look = commands_of(printed)
    assert first[4] == "--set" and first[5].startswith("ladder=[{children: 2, seeds: 2") and look[1] == "show"


def test_sources_that_are_gone_or_others_today_are_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nas(["export", "first", "--format", "csv", "-o", "told.csv"], place, monkeypatch)
    Path("own.yaml").write_text(nas(["show", "nasnet-a"], place, monkeypatch).split("\n\n", 1)[1])
    settings = {"evaluator": "synthetic", "ladder": [], "controller.options.hidden": 8}
    search("nasnet", budget=4, runner="local", run="runs/learnt", settings=settings, learn_from=["told.csv"], warm_start=["own.yaml"])
    assert "any more" not in nas(["reproduce", "learnt"], place, monkeypatch)
    lines = Path("told.csv").read_text().splitlines(keepends=True)
    Path("told.csv").write_text("".join(lines[:1] + lines[2:]))
    printed = nas(["reproduce", "learnt"], place, monkeypatch)
    assert f"# other trainings than the search learnt from are in {Path('told.csv').absolute()} now" in printed
    Path("told.csv").unlink()
    Path("own.yaml").unlink()
    printed = nas(["reproduce", "learnt"], place, monkeypatch)
    assert f"# cannot be learnt from any more, as a search made again must: learn_from: {Path('told.csv').absolute()}" in printed
    assert "# cannot be begun with any more, as a search made again must: own.yaml" in printed


def test_defaults_and_variables_that_held_are_told_with_the_commands(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = Path("runs/first/environment.json")
    held = {"defaults": ["--budget", "6", "--set", "a=b c"], "variables": {"NAS_DATA": "/my sets", "OMP_NUM_THREADS": "1"}}
    file.write_text(json.dumps(read_environment(file) | held))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("NAS_DATA", raising=False)
    printed = nas(["reproduce", "first"], place, monkeypatch)
    assert "do without: --budget 6 --set 'a=b c'" in printed and "set then, and not so here: NAS_DATA='/my sets'\n" in printed


def test_commands_are_quoted_and_a_taken_folder_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("trained/net").rename("trained/my net")
    line = nas(["reproduce", "my net"], place, monkeypatch).splitlines()[-2]
    assert shlex.split(line) == ["nas", "train", "--again", "trained/my net", "-o", "trained/my net-again"]
    assert "holds something" in refused("reproduce", "first", "-o", "compared")
    Path("runs/first-again").mkdir()
    assert reproduction(find_thing("first")).into == Path("runs/first-again-2")


def test_a_space_of_ones_own_goes_along_and_a_mirror_does_not(place: Path) -> None:
    folder = RunFolder(Path("runs/first"))
    folder.space_file.write_text("schema: nas.space/1\nname: own\noperations: [identity, sep_conv_3x3]\n")
    config = folder.config()
    folder.write_config(config.model_copy(update={"runner": config.runner.model_copy(update={"sync": "file:///mirror"})}))
    words = reproduction(find_thing("first")).words
    assert words[4:8] == ("--space", "runs/first/space.yaml", "--set", "runner.sync=null")


def test_parts_from_python_and_code_that_nobody_trusts_are_refused(place: Path) -> None:
    folder = RunFolder(Path("runs/first"))
    config = folder.config()
    folder.write_config(config.model_copy(update={"evaluator": "given"}))
    assert "the evaluator of this search came from Python" in refused("reproduce", "first")
    folder.write_config(config.model_copy(update={"evaluator": "strange_module:attr"}))
    assert "NAS_TRUST=strange_module" in refused("reproduce", "first", "--run")


def test_again_takes_nothing_that_would_make_it_another(place: Path) -> None:
    assert "--epochs" in refused("train", "--again", "trained/net", "--epochs", "2")
    assert "another folder than trained/net" in refused("train", "--again", "trained/net", "-o", "trained/net")
    assert "got sources, seeds" in refused("compare", "nasnet-a", "--seeds", "2", "--again", "compared", "-o", "x")
    assert "another folder than compared" in refused("compare", "--again", "compared")
    document = json.loads(Path("compared/compare.json").read_text())
    Path("compared/compare.json").write_text(json.dumps({name: value for name, value in document.items() if name != "members"}))
    done = CliRunner().invoke(app, ["reproduce", "compared"])
    assert "did not keep who took part" in str(done.exception)


# ---------------------------------------------------------------------------------------------------- in what two differ


def test_a_ladder_is_said_in_words() -> None:
    ladder = [{"children": 4, "share": None, "training": {"batch_size": 16}}, {"share": 0.1 + 0.2}]
    assert _words(ladder) == "children 4, training.batch_size 16; share 0.3"
    assert _words([1, 2]) == "[1, 2]" and _words(None) == "–"


def test_settings_versions_and_results_that_differ_are_said_and_no_others(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nas as engine

    engine.search(preset="runs/first/config.yaml", budget=4, run="runs/other", seed=4)
    file = Path("runs/other/environment.json")
    file.write_text(json.dumps(read_environment(file) | {"python": "2.7"}))
    found = {(one.group, one.name): (one.first, one.second) for one in differences(find_thing("first"), find_thing("other"))}
    assert found["settings", "budget"] == (6, 4) and found["settings", "seed"] == (3, 4)
    assert found["versions", "python"][1] == "2.7" and found["results", "trained"] == (6, 4)
    assert ("settings", "controller.name") not in found and ("data", "checksum") not in found
    shown = nas(["show", "--compare", "first", "other"], place, monkeypatch)
    assert "settings" in shown and "budget" in shown and "2.7" in shown
    assert "are the same" in nas(["show", "--compare", "first", "first"], place, monkeypatch)
    assert not re.search(r"\.[0-9]{8}", shown), "a number has the digits that say something"
    assert "only things of a kind" in refused("show", "--compare", "first", "net")
    assert "two with --compare" in refused("show", "--compare", "first")
