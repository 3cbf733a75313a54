"""What a command prints for a person: plans broken between words, and commands to type next that a shell takes as they are."""

import io
import shlex
from pathlib import Path

import pytest
from rich.console import Console

from nas.cli import options


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
