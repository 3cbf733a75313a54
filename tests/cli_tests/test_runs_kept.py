"""Runs as things: listed whole, found by name from anywhere, shown, renamed, noted, removed; a start that fails leaves none."""

import io
import json
import os
import re
import shlex
import shutil
from pathlib import Path

import pytest
from rich.console import Console
from support.commands import nas
from typer.testing import CliRunner

from nas.api.things import find_thing, known_things
from nas.cli import options
from nas.cli.main import app
from nas.cli.views import things
from nas.errors import RunError
from nas.runs import folder as run_folder
from nas.runs import session as engine
from nas.runs.folder import RunFolder
from nas.runs.ledger import Ledger
from nas.runs.loop import QUIET
from nas.training.folder import TrainFolder, find_weights, newest_training


def refused(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert isinstance(done.exception, RunError | ValueError), done.output
    return str(done.exception)


def inside(folder: str) -> list[str]:
    return [path.name for path in Path(folder).iterdir()]


def listing(width: int, monkeypatch: pytest.MonkeyPatch, *places: Path) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    monkeypatch.setattr(things, "width", lambda: width)
    for table in things.tables(places):
        console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined]


# ---------------------------------------------------------------------------------------------------- listed


def test_all_kinds_are_listed_at_80_columns_and_what_is_wider_than_that_left_out(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "runs" / "first").rename("runs/20261126-165307-nasnet-laptop")
    narrow = listing(80, monkeypatch)
    assert max(map(len, narrow.splitlines())) <= 80
    for words in ("20261126-165307-nasnet-laptop", "6/6", "finished", "net", "1/1", "compared", "2/2"):
        assert words in narrow
    wide = listing(160, monkeypatch)
    assert "controller" in wide and "random" in wide and "controller" not in narrow


def test_list_show_and_watch_say_the_same_of_the_best_cell(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = json.loads(nas(["watch", "first", "--once", "--json"], place, monkeypatch).splitlines()[-1])["incumbent"]
    (believed,) = re.findall(r"│ +1 │ +\d+ │ +(0\.\d+) ±", nas(["show", "first"], place, monkeypatch))
    listed = listing(200, monkeypatch)
    assert believed in listed and "believed" in listed and "reward" not in listed
    assert f"{watched['mean']:.{len(believed) - 2}f}" == believed


def test_last_is_what_did_something_last_and_of_one_kind_where_a_command_needs_it(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "nas.tools.shelves")
    first, net, crowned = Path("runs/first"), Path("trained/net"), Path("runs/first/finalists/winner")
    os.utime(net / "metrics.jsonl", (4e9, 4e9))
    assert find_thing("last").path == net and run_folder.find("last").path == first and find_weights("last")[0].parent == net
    assert caplog.messages == [f"last is {net}", f"last is {first}", f"last is {net}"]
    shutil.copytree(net, crowned)
    os.utime(crowned / "metrics.jsonl", (5e9, 5e9))
    assert find_weights("last")[0].parent == crowned, "the winner of a search's ladder is a training too"
    assert "or name its winner, runs/first/finalists/winner" in refused("evaluate", "first")
    (Path("runs/idle")).mkdir()
    shutil.copy(first / "config.yaml", "runs/idle")
    (Path("runs/idle") / "ledger.jsonl").touch()
    assert find_thing("last").path == net, "a start that came to nothing is not it"


def test_any_folder_is_listed_and_one_that_is_not_there_is_named(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    there = nas(["list", "runs", "place"], tmp_path, monkeypatch)
    assert all(name in there for name in ("first", "net", "compared"))
    assert nas(["runs", "list", "place/compared"], tmp_path, monkeypatch).count("finished") == 2, "the comparison and its training"
    assert "nowhere: must be a folder" in refused("list", "runs", "nowhere")
    assert "did you mean 'runs'?" in refused("list", "rums")
    assert "0 searches" not in nas(["list", "runs"], tmp_path, monkeypatch)


def test_damaged_runs_are_listed_as_such(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "runs/first/config.yaml").write_text("space: [1, 2\n")
    (place / "trained/net/result.json").write_text("[]")
    (place / "compared/compare.json").write_text("{}")
    assert listing(200, monkeypatch).count("damaged: ") == 3


def test_running_is_who_holds_the_lock(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(Path("runs/first"))
    with Ledger(folder.ledger_file) as ledger:
        ledger.append({"event": "opened", "schema": "nas.ledger/1", "time": 1.0, "budget": 6})
        assert folder.condition(folder.state()) == "running"
        assert "running" in listing(80, monkeypatch)
        for command in (["rm", "first", "--yes"], ["rename", "first", "second"]):
            assert "a process is at work in this search" in refused("runs", *command)
    assert folder.condition(folder.state()) == "killed" and folder.path.is_dir()
    empty = run_folder.create("runs/empty", folder.config())
    assert empty.condition(nas_state(empty)) == "not begun" and not empty.lock_file.exists()


def nas_state(folder: RunFolder):
    folder.ledger_file.touch()
    return folder.state()


# ---------------------------------------------------------------------------------------------------- found


def test_names_are_found_from_folders_below_and_by_the_environment(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = place / "deep" / "down"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert run_folder.find("first").path == run_folder.find("last").path == place / "runs" / "first"
    assert find_weights("net")[0] == find_weights("last")[0] == place / "trained" / "net" / "best.safetensors"
    assert {thing.path.name for thing in known_things()} == {"first", "net"}
    monkeypatch.chdir("/")
    with pytest.raises(RunError, match="no run folder"):
        run_folder.find("first")
    monkeypatch.setenv("NAS_RUNS", str(place / "runs"))
    monkeypatch.setenv("NAS_TRAINED", str(place / "trained"))
    assert run_folder.find("first").path == place / "runs" / "first" and find_thing("net").kind == "training"
    assert run_folder.create(None, run_folder.find("first").config()).path.parent == place / "runs"


def test_trainings_go_by_their_names_wherever_one_is_taken(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "last.safetensors" in inside("trained/net")
    again = nas(["train", "--resume", "net"], place, monkeypatch)
    assert "nothing is left to train: it was finished before" in again and "finished after 1 epoch" in again
    assert "read back" in nas(["export", "net", "-f", "safetensors", "-o", "net.safetensors"], place, monkeypatch)
    assert "(did you mean 'net'?)" in refused("train", "--again", "nett")


def test_a_name_that_is_nearly_one_is_said(place: Path) -> None:
    assert "fisrt: no run folder there (did you mean 'first'?); the latest runs: runs/first" in refused("resume", "fisrt")
    shutil.move("runs/first", "first")
    assert "(did you mean 'first'?); the latest runs: first" in refused("resume", "fisrt")
    assert "(did you mean 'net'?)" in refused("show", "nett")
    assert "(did you mean 'net'?)" in refused("evaluate", "nett")


def test_last_is_the_run_that_did_something_last(place: Path) -> None:
    first = RunFolder(Path("runs/first"))
    stolen = run_folder.create("runs/second", first.config())
    with Ledger(stolen.ledger_file) as ledger:  # a start that came to nothing, of a version that left its folder
        ledger.append({"event": "opened", "schema": "nas.ledger/1", "time": 9e9, "budget": 6})
    assert run_folder.find("last") == first
    shutil.copytree(first.path, "beside")  # a run in the working directory itself, gone on with
    text = (Path("beside") / "ledger.jsonl").read_bytes().splitlines()
    os.utime(first.ledger_file, (9e9, 9e9))  # a resume that did nothing
    assert b'"event":"closed"' in text[-1]
    with Ledger(Path("beside/ledger.jsonl")) as ledger:
        number = len(ledger.state.trials)
        ledger.append({"event": "asked", "trial": number, "actions": list(ledger.state.trials[0].proposal.actions)})
        ledger.append({"event": "started", "trial": number, "attempt": 1, "time": 9e9})
    assert run_folder.find("last").path == Path("beside")


def test_a_start_that_fails_leaves_no_run(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = RunFolder(Path("runs/first")).config()

    def no_cluster(*given: object) -> None:
        raise RunError("no cluster answers")

    monkeypatch.setattr(engine, "open_runner", no_cluster)
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("mine")
    for folder in ("runs/new", "mine"):
        with pytest.raises(RunError, match="no cluster"):
            engine.start(config, folder, QUIET)
    assert not Path("runs/new").exists() and inside("mine") == ["notes.txt"]


# ---------------------------------------------------------------------------------------------------- shown


def test_trainings_comparisons_and_spaces_of_ones_own_are_shown(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = nas(["show", "net"], place, monkeypatch)
    size = "N=1, F=2 in skeleton small, found in the search first"
    for words in ("trained/net: finished after 1 of 1 epoch,", size, "digits", "read once"):
        assert words in training
    comparison = nas(["show", "compared"], place, monkeypatch)
    assert "resnet" in comparison and "nasnet-a" in comparison and "compared: finished, on digits" in comparison
    Path("own.yaml").write_text("schema: nas.space/1\nname: small\noperations: [identity, sep_conv_3x3]\nnodes: 2\n")
    assert "search space small: " in nas(["show", "own.yaml"], place, monkeypatch)
    Path("preset.yaml").write_text("budget: 7\n")
    assert "budget: 7" in nas(["show", "preset.yaml"], place, monkeypatch)
    assert "state:   finished" in nas(["show", "first"], place, monkeypatch)
    assert "takes one name" in refused("show", "first", "net")


LISTED = (("laptop", "preset"), ("fast", "recipe"), ("nasnet", "search space"), ("darts-cifar", "skeleton"))


@pytest.mark.parametrize(("name", "kind"), LISTED)
def test_a_run_is_shown_and_not_what_else_has_its_name(name: str, kind: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("runs/first").rename(name)
    shown = nas(["show", name], place, monkeypatch)
    assert "state:   finished" in shown and f"`nas show --listed {name}` shows the {kind} of that name" in shown
    listed = nas(["show", "--listed", name], place, monkeypatch)
    Path(name).rename("other")
    assert listed == nas(["show", name], place, monkeypatch) and "state:" not in listed
    assert "--listed needs a name from `nas list`, but got 'other'" in refused("show", "--listed", "other")


def test_a_search_cannot_have_a_name_that_stands_for_something_else(place: Path) -> None:
    """Else `nas train nasnet-a` would train the published cell, and say nothing."""
    assert "'nasnet-a' stands for a published cell" in refused("search", "--preset", "laptop", "--dry-run", "--run", "some/nasnet-a")
    assert "'last' stands for what was done last" in refused("search", "--preset", "laptop", "--run", "last")
    assert "'darts-v1' stands for a published cell" in refused("runs", "rename", "first", "darts-v1")


def test_an_unfinished_comparison_shows_the_command_that_goes_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = json.loads(Path("compared/compare.json").read_text())
    for row in document["rows"]:
        row["reason"] = "unfinished"
    Path("compared/compare.json").write_text(json.dumps(document))
    environment = json.loads(Path("compared/environment.json").read_text())
    typed = ["nas", "compare", "a b", "nasnet-a"]
    for directory, words in ((str(Path.cwd()), "# go on with it"), ("/else where", "# go on with it, in /else where")):
        Path("compared/environment.json").write_text(json.dumps(environment | {"command": typed, "directory": directory}))
        after = nas(["show", "compared"], place, monkeypatch).partition("\nnext:\n")[2].splitlines()
        assert after[0].strip() == words and shlex.split(after[1]) == typed
    Path("compared/environment.json").unlink()
    shown = nas(["show", "compared"], place, monkeypatch)
    assert "the same command again goes on" in shown and "next:" not in shown


# ---------------------------------------------------------------------------------------------------- looked after


def test_a_note_is_listed_and_shown_until_it_is_emptied(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("first", "net", "compared"):
        nas(["runs", "note", name, "the one [bold]für[/] Ada "], place, monkeypatch)
        assert "the one [bold]für[/] Ada" in nas(["show", name], place, monkeypatch)
    assert listing(160, monkeypatch).count("the one [bold]für[/] Ada") == 3
    narrow = listing(80, monkeypatch)
    assert max(map(len, narrow.splitlines())) <= 80 and narrow.count("[bold]für[/]") == 3, "broken between words"
    assert "one line" in refused("runs", "note", "first", "two\nlines")
    nas(["runs", "note", "first", ""], place, monkeypatch)
    assert not Path("runs/first/about.json").exists()
    Path("runs/first/about.json").write_text("[")
    assert "finished" in nas(["show", "first"], place, monkeypatch)


def test_a_renamed_run_is_found_by_both_names_and_keeps_its_trainings(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = nas(["runs", "rename", "first", "best of [all]"], place, monkeypatch)
    assert "runs/first is now runs/best of [all]" in said
    assert run_folder.find("first").path == run_folder.find("best of [all]").path == Path("runs/best of [all]")
    assert "formerly first" in nas(["show", "best of [all]"], place, monkeypatch)
    found = newest_training(("best of [all]", "first"))
    assert found is not None and found.path == Path("trained/net")
    assert "newest training of this run" in nas(["export", "first", "-f", "safetensors", "-o", "net.safetensors"], place, monkeypatch)
    assert "6 of 6 children" in nas(["resume", "first"], place, monkeypatch)
    assert "something has this name" in refused("runs", "rename", "first", "best of [all]")
    assert "not `last`" in refused("runs", "rename", "first", "last")


def test_weights_that_a_training_starts_from_are_followed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree("trained/net", "trained/second")
    later = TrainFolder(Path("trained/second"))
    config = later.config().model_copy(update={"weights": str(Path("trained/net/best.safetensors").absolute())})
    from nas.training.folder import config_yaml

    later.config_file.write_text(config_yaml(config))
    nas(["runs", "rename", "net", "start"], place, monkeypatch)
    assert later.config().weights == str(place / "trained" / "start" / "best.safetensors")


def test_a_comparison_is_renamed_and_goes_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nas(["runs", "rename", "compared", "elsewhere/"], place, monkeypatch)
    assert "elsewhere: finished" in nas(["show", "elsewhere"], place, monkeypatch)


def test_rm_asks_takes_what_is_the_runs_own_and_nothing_else(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("trained/net/net.onnx").write_text("mine")
    Path("runs/first/checkpoints").mkdir(exist_ok=True)
    Path("runs/first/checkpoints/model.pt").write_text("mine")
    assert "give --yes" in refused("runs", "rm", "first", "net")
    monkeypatch.setattr(options, "console", Console(file=io.StringIO(), force_terminal=True))
    monkeypatch.setattr("nas.cli.runs.console", options.console)
    asked = CliRunner().invoke(app, ["runs", "rm", "first"], input="n\n")
    assert asked.exit_code == 1 and Path("runs/first").is_dir()
    assert CliRunner().invoke(app, ["runs", "rm", "first", "net", "compared"], input="y\n").exit_code == 0
    assert not Path("compared").exists() and inside("trained/net") == ["net.onnx"]
    assert inside("runs/first") == ["checkpoints"] and inside("runs/first/checkpoints") == ["model.pt"]


def test_a_comparisons_file_cannot_name_other_folders_to_remove(place: Path) -> None:
    document = json.loads(Path("compared/compare.json").read_text())
    Path("other-seed0").mkdir()
    shutil.copytree("trained/net", "other-seed0", dirs_exist_ok=True)
    Path("compared/compare.json").write_text(json.dumps(document | {"members": ["../other"]}))
    assert "a member's name must be" in refused("runs", "rm", "compared", "--yes")
    assert Path("other-seed0/best.safetensors").is_file()


def test_the_working_directory_is_not_taken_from_under_a_person(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place / "runs/first")
    assert "cd .." in refused("runs", "rename", ".", "second")
    done = CliRunner().invoke(app, ["runs", "rm", ".", "--yes"], catch_exceptions=False)
    assert done.exit_code == 0 and list((place / "runs/first").iterdir()) == []
