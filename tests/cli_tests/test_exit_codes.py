"""What a script learns from the exit code of a search: 3 where fewer than half of the children survived, and a warning that counts them."""

import logging
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nas.cli import main
from nas.errors import LossesError, RunError

SEARCH = ["search", "--preset", "laptop", "--runner", "local", "--controller", "random", "--set", "evaluator=synthetic", "--run", "run"]


@pytest.mark.parametrize(
    ("failures", "code"), [("{}", 0), ("{diverged: 0.3}", 0), ("{diverged: 0.7}", 3), ("{diverged: 0.4, exception: 0.4}", 3)]
)
def test_a_search_most_of_whose_children_failed_says_so(failures: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ended = CliRunner().invoke(main.app, [*SEARCH, "--budget", "12", "--set", f"synthetic.failures={failures}"])
    assert ended.exit_code == code, ended.output
    said = "of 12 children survived (failed: " in ended.output
    assert said == (code == 3) == ("children survived" in (tmp_path / "run/log.txt").read_text())
    again = CliRunner().invoke(main.app, ["resume", "run"])
    assert again.exit_code == code
    shown = CliRunner().invoke(main.app, ["show", "run"])
    assert shown.exit_code == 0 and ("children survived" in shown.output) == said


def test_a_search_that_gave_up_with_few_survivors_ends_with_the_same_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nas.evaluators.registry.build_evaluator", lambda *arguments: None)
    monkeypatch.setattr(sys, "argv", ["nas", *SEARCH, "--budget", "40"])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 3 and not logging.getLogger("nas.tools.shelves").handlers, "a caller hears nothing afterwards"
    assert "20 children failed one after the other" in capsys.readouterr().err


def test_the_codes_of_errors() -> None:
    assert (RunError.exit_code, LossesError.exit_code) == (2, 3)
