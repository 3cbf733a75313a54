"""What a command prints for a person: plans broken between words, and commands to type next that a shell takes as they are."""

import io
import re
import shlex
from collections.abc import Callable
from contextvars import copy_context
from pathlib import Path

import pytest
from rich.live import Live
from rich.table import Table
from rich.text import Text
from support.commands import nas
from support.configs import scored_by_formula
from typer.testing import CliRunner

from nas.api.things import find_thing, thing_at
from nas.cli import options
from nas.cli.main import app
from nas.cli.shell import command
from nas.cli.shell.screen import Screen
from nas.cli.views.doing import shown_stage
from nas.cli.views.run import next_commands
from nas.cli.views.training_progress import TrainProgress
from nas.cli.views.transfer_progress import bar
from nas.data.settings import DataSettings
from nas.runs import folder as run_folder
from nas.runs import session as engine
from nas.runs.loop import Watcher
from nas.runs.standings import best_known
from nas.tools import shelves
from nas.training.config import TrainConfig
from nas.training.folder import find_weights
from nas.training.recipe import Recipe
from nas.training.trainer import Position
from search_spaces.genotype import read_genotype


def shown(monkeypatch: pytest.MonkeyPatch, width: int = 80, terminal: bool = True) -> Screen:
    made = Screen(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)
    monkeypatch.setattr(options, "console", made)
    return made


def test_plan_lines_are_broken_between_words_below_their_first_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "recipe: " + "a-word-that-stays " * 12 + "/a/path/" + "x" * 90
    console = shown(monkeypatch)
    options.say_lines([line, "short"])
    first, *rest, _, last = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert first.startswith("recipe: a-word") and last == "short"
    assert all(found.startswith(" " * 8 + "a-word-that-stays") and len(found) <= 80 for found in rest)
    console = shown(monkeypatch, terminal=False)
    options.say_lines([line])
    assert console.file.getvalue().splitlines() == [line.rstrip()]  # type: ignore[attr-defined]


def test_next_commands_are_quoted_below_their_comment(monkeypatch: pytest.MonkeyPatch) -> None:
    console = shown(monkeypatch)
    options.say_next(("what it is [for]", ["nas", "show", Path("my runs/[a]'s")]), where=console)
    comment, command = console.file.getvalue().splitlines()[2:]  # type: ignore[attr-defined]
    assert comment == "  # what it is [for]"
    assert shlex.split(command) == ["nas", "show", "my runs/[a]'s"]


def test_the_next_command_names_what_last_stood_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another command may take ``last`` for a thing of another kind: what is exported must be what was evaluated."""
    console = shown(monkeypatch)
    shelves.TOOK_LAST.set(Path("trained/net"))
    options.say_next(("it", ["nas", "export", "last"]), ("weights", ["nas", "evaluate", "last", "--which", "last"]), where=console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.strip() for line in lines if "nas" in line] == ["nas export trained/net", "nas evaluate trained/net --which last"]


@pytest.mark.parametrize("find", [run_folder.find, find_thing, lambda name: find_weights(Path(name), "best")])
def test_what_last_stood_for_is_remembered(find: Callable[[str], object], place: Path) -> None:
    context = copy_context()
    context.run(find, "last")
    meant = context[shelves.TOOK_LAST]
    assert meant is not None and thing_at(place / meant) is not None


def test_images_of_ones_own_folder_are_offered_to_look_at(tmp_path: Path) -> None:
    own = DataSettings(name="folder", root=str(tmp_path))
    assert options.looked_at("net", own)[1] == ["nas", "predict", "net", str(tmp_path)]
    for other in (DataSettings(name="digits"), None):
        assert options.looked_at("net", other)[1] == ["nas", "predict", "net", "IMAGES"]


def test_one_more_rung_is_offered_for_fewer_cells_and_never_the_one_that_has_just_ended(tmp_path: Path) -> None:
    done = engine.start(scored_by_formula(8, ladder=[{"children": 4}]), tmp_path / "run", Watcher())
    offered = [words for _, words in next_commands(Path("run"), done.state, best_known(done.space, done.state), left=False)]
    assert ["nas", "finalists", Path("run"), "--top", "2", "--seeds", "2"] in offered and ["nas", "report", Path("run")] in offered
    done.state.ladder.rungs[-1] = done.state.ladder.rungs[-1].model_copy(update={"children": 2, "seeds": 2})
    again = next_commands(Path("run"), done.state, best_known(done.space, done.state), left=False)
    assert not any("finalists" in words for _, words in again)


def test_the_command_after_a_dry_run_is_the_one_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    console = shown(monkeypatch)
    monkeypatch.setattr(options.say_next, "__kwdefaults__", {"where": console})
    monkeypatch.setattr("sys.argv", ["nas", "train", "last", "--dry-run", "-o", "a b"])
    options.say_next_of_dry_run()
    assert console.file.getvalue().splitlines()[-1] == "  nas train last -o 'a b'"  # type: ignore[attr-defined]


SMALL = ["--epochs", "1", "--filters", "2", "--set", "fidelity.train_examples=64", "--set", "data.validation_examples=64"]
LADDER = ["--set", 'ladder=[{"children": 1}]', "--cards", "none"]
TINY = {"train": ["--epochs", "1", "--cells", "1", "--filters", "2", "--dry-run"], "finalists": ["--dry-run"]}
"""What makes a command that trains say what it would, and no more."""


def test_after_a_search_the_winner_is_told_first_and_every_next_line_works_on_that_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["search", "--preset", "laptop", "--runner", "local", "--budget", "2", "--run", "a run", *SMALL, *LADDER]
    text = nas(words, tmp_path, monkeypatch)
    result, _, after = text.partition("\nnext:\n")
    told = re.search(r"winner: trial (\d+), trained once more", result)
    assert told is not None and "winner: trial" not in after
    lines = [shlex.split(line)[1:] for line in after.splitlines() if line.startswith("  nas ")]
    assert [line[0] for line in lines] == ["show", "report", "export", "evaluate", "train", "search"], "one cell alone is not put in order"
    assert after.count(f"the winner, trial {told[1]},") == 3
    for line in lines[:-1]:
        said = nas([*line, *TINY.get(line[0], ())], tmp_path, monkeypatch)
        assert line[0] != "train" or f"a run-trial-{told[1]}" in said, said
        assert line[0] != "export" or f"  nas train trial-{told[1]}.json --data digits" in said, said
    said = nas(["compare", "a run", "nasnet-a", "--params", "20k", "--epochs", "1", "--dry-run"], tmp_path, monkeypatch)
    assert "data:   digits: " in said, "the run's own images"
    genotype = read_genotype(tmp_path / f"trial-{told[1]}.json")
    assert genotype.provenance is not None and genotype.provenance.trial == int(told[1])


def test_a_data_set_is_named_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = nas(["data", "digits", "--data-dir", "a place"], tmp_path, monkeypatch)
    assert text.count("--data digits --data-dir 'a place'") == 2


@pytest.mark.parametrize(("there", "form"), [(True, "onnx"), (False, "python")])
def test_a_network_is_handed_over_in_a_format_that_can_be_written_here(there: bool, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: there or None)
    _, words = options.self_contained("net")
    assert words[:5] == ["nas", "export", "net", "--format", form]


def test_a_search_stopped_on_its_ladder_is_gone_on_with_first_and_nothing_is_offered_that_belongs_to_its_end(tmp_path: Path) -> None:
    ended: list[int] = []

    def stop_after(count: int) -> Watcher:
        ended.clear()
        return Watcher(on_end=lambda trial: ended.append(trial.number), finish=lambda: len(ended) >= count)

    config = scored_by_formula(4, ladder=[{"children": 2}, {"children": 1}])
    first = engine.start(config, tmp_path / "run", stop_after(2))

    def offered(result: engine.SearchResult) -> list[str]:
        left = engine.anything_left(result.config, result.state, result.space)
        lines = next_commands(result.folder.path, result.state, best_known(result.space, result.state), left)
        return [str(words[1]) for _, words in lines]

    assert first.state.spent < 4 and offered(first) == ["resume", "show", "report", "export"]
    onward = engine.resume(first.folder, None, stop_after(4))
    assert onward.state.spent == 4 and not onward.state.ladder.done(2), "the budget is spent, the ladder is not climbed"
    assert offered(onward) == ["resume", "show", "report", "export"]
    assert offered(engine.resume(first.folder, None)) == ["show", "report", "export", "train", "search"]


def test_a_note_is_not_drawn_over_what_is_being_done(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = shown(monkeypatch)
    notes = Screen(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    with shown_stage("loading torch", screen):
        notes.print("trial 2 is taken")
    notes.print("afterwards")
    assert remains(screen.file.getvalue()) == ["trial 2 is taken"]  # type: ignore[attr-defined]
    assert notes.file.getvalue() == "afterwards\n"  # type: ignore[attr-defined]


@pytest.mark.parametrize("quiet", [False, True])
def test_a_files_bar_is_drawn_within_what_is_being_done(quiet: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    screen, notes = shown(monkeypatch), Screen(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    monkeypatch.setattr(options, "errors", notes)
    screen.quiet = quiet
    with shown_stage("reading the images"), bar("archive.tar.gz") as tell:
        tell(1, 2)
        screen.print("said on one stream")
        notes.print("and on the other")
    seen = notes if quiet else screen  # of a quiet command the other stream is all that there is to see
    assert remains(seen.file.getvalue()) == ["said on one stream", "and on the other"][quiet:]  # type: ignore[attr-defined]
    assert "archive.tar.gz" in seen.file.getvalue()  # type: ignore[attr-defined]


def test_two_screens_that_draw_at_once_do_not_hand_lines_to_and_fro() -> None:
    made = [Screen(file=io.StringIO(), width=80, force_terminal=True, color_system=None) for _ in range(2)]
    with Live("one", console=made[0]), Live("other", console=made[1]):
        made[0].print("a line")
    assert "a line" in made[0].file.getvalue()  # type: ignore[attr-defined]


def test_no_bar_is_left_behind_by_a_training() -> None:
    screen = Screen(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    with TrainProgress(screen, TrainConfig(skeleton={}, recipe=Recipe(epochs=2))) as progress:
        progress.on_step(Position(1, 49, 0.0), 100)
    screen.print("finished")
    assert remains(screen.file.getvalue()) == ["finished"]  # type: ignore[attr-defined]


def test_a_bar_leaves_room_for_what_a_terminal_writes_beside_it() -> None:
    screen = Screen(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    with TrainProgress(screen, TrainConfig(skeleton={}, recipe=Recipe(epochs=200))) as progress:
        progress.on_step(Position(100, 49, 60.0), 100)
        progress.on_step(Position(100, 50, 61.0), 100)
        assert progress._bar is not None
        progress._bar.refresh()
        lines = remains(screen.file.getvalue())  # type: ignore[attr-defined]
    assert "loss 1.2" in lines[-1] and len(lines[-1].rstrip()) <= 76, lines


def remains(written: str) -> list[str]:
    """The lines that are left on a terminal: what is written over or erased is gone."""
    rows, place = [""], 0
    for code, letter in re.findall(r"\x1b\[[?0-9;]*([A-Za-z])|(.)", written, re.DOTALL):
        if code == "A":
            place -= 1
        elif code == "K":
            rows[place] = ""
        elif letter == "\n":
            place += 1
            rows += [""] * (place == len(rows))
        elif letter and letter != "\r":
            rows[place] += letter
    return [row for row in rows if row]


def test_a_screen_breaks_texts_between_words_and_leaves_what_is_to_be_copied_whole() -> None:
    def lines(text: str, terminal: bool = True, **how: bool) -> list[str]:
        screen = Screen(file=io.StringIO(), width=24, force_terminal=terminal, color_system=None)
        screen.print(text, **how)
        return screen.file.getvalue().splitlines()  # type: ignore[attr-defined]

    assert lines("time:   about two hours and a half") == ["time:   about two hours", "        and a half"]
    assert lines("no head but 中文字 several words") == ["no head but 中文字", "  several words"]
    assert lines("  # what it is for, in some words") == ["  # what it is for, in", "  # some words"]
    assert lines("weights: " + "trained/" * 5) == ["weights: " + "trained/" * 5], "a path stays whole, beside its head"
    assert lines("a b " * 20, soft_wrap=True) == lines("a b " * 20, terminal=False) == ["a b " * 20]


@pytest.mark.parametrize(("encoding", "mean"), [("ascii", "0.9+/-0.1"), ("latin-1", "0.9 ± 0.1")])
def test_tables_are_straight_in_any_encoding_and_lines_say_all(encoding: str, mean: str) -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="nas.plainly")
    screen = Screen(file=file, width=60)
    table = Table("name", "what", title="± 95 %")
    for name in ("юла", "×3 …", "→ b", "0.9 ± 0.1"):
        table.add_row(Text(name), name)
    screen.print(table)
    screen.print("юла … → b")
    file.flush()
    *drawn, line = file.buffer.getvalue().decode(encoding).splitlines()  # type: ignore[attr-defined]
    assert len({len(row) for row in drawn[1:]}) == 1 and any(mean in row for row in drawn)
    assert line == "\\u044e\\u043b\\u0430 ... -> b"


def test_an_error_of_the_parser_is_broken_between_words_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_SEARCH_BUDGET", "many")
    arguments = ["search", "--dry-run"]
    (whole,) = [line for line in CliRunner().invoke(app, arguments).output.splitlines() if line.startswith("Error: ")]
    monkeypatch.setattr(command, "errors", Screen(file=io.StringIO(), width=60, force_terminal=True))
    lines = CliRunner().invoke(app, arguments).output.splitlines()
    shown = lines[[line.startswith("Error: ") for line in lines].index(True) :]
    assert len(whole) > 60 >= max(map(len, shown)) and " ".join(line.strip() for line in shown).strip() == whole
    assert all(line.startswith(" " * len("Error: ")) for line in shown[1:])
