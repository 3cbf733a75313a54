"""What a command prints for a person: plans broken between words, and commands to type next that a shell takes as they are."""

import io
import re
import shlex
from pathlib import Path

import pytest
from rich.console import Console
from support.commands import nas

from nas.cli import options
from search_spaces.genotype import read_genotype


def shown(monkeypatch: pytest.MonkeyPatch, width: int = 80, terminal: bool = True) -> Console:
    made = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)
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
    commands = [shlex.split(line)[1:] for line in after.splitlines() if line.startswith("  nas ")]
    assert [command[0] for command in commands] == ["show", "export", "finalists", "evaluate", "train", "search"]
    assert after.count(f"the winner, trial {told[1]},") == 3
    for command in commands[:-1]:
        said = nas([*command, *TINY.get(command[0], ())], tmp_path, monkeypatch)
        assert command[0] != "train" or f"a run-trial-{told[1]}" in said, said
    genotype = read_genotype(tmp_path / "cell.json")
    assert genotype.provenance is not None and genotype.provenance.trial == int(told[1])
