"""The command line inside this process, so that a test can watch what it does."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from nas.cli.main import app


def nas(arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a command in a folder; it must succeed. Returns what it printed."""
    with monkeypatch.context() as there:
        there.chdir(folder)
        done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output
