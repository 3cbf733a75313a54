"""The README tells the truth: its test command is what CI runs, its commands parse, and its file tree is the tree."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support.paths import ROOT
from typer.testing import CliRunner

from nas.cli.main import app

README = (ROOT / "README.md").read_text()


def fenced(marker: str) -> str:
    found = re.search(rf"<!-- {marker} -->\n```\n(.*?)\n```", README, re.DOTALL)
    assert found, f"README has no block marked {marker}"
    return found.group(1)


def test_ci_runs_the_readmes_test_command_word_for_word() -> None:
    assert fenced("test") in (ROOT / ".ci" / "run").read_text().splitlines()


def test_the_first_command_sets_up_and_searches() -> None:
    assert fenced("run").endswith(".venv/bin/nas search --preset laptop")


def shown_commands() -> list[str]:
    blocks = re.findall(r"```\n(nas .*?)```", README, re.DOTALL)
    return [line.split("   #")[0].strip() for block in blocks for line in block.splitlines() if line.startswith("nas ")]


@pytest.mark.parametrize("command", shown_commands())
def test_every_command_shown_exists_with_its_options(command: str) -> None:
    words = shlex.split(command)[1:]
    shown = {word for word in words if word.startswith("--")}
    help_text = CliRunner().invoke(app, [words[0], "--help"], env={"COLUMNS": "300", "TERM": "dumb"}).output
    for option in shown:
        assert option in help_text, f"{option} is not an option of nas {words[0]}"


SMALLER = {
    "runs/NAME": "runs/found",
    'build_config("cpu")': 'build_config("laptop", ["evaluator=synthetic"])',
    "num_samples=500": "num_samples=2",
    "cells=6, filters=32": "cells=1, filters=2",
}
"""What a Python block of the README is changed in before it runs: names that stand for a reader's own, and sizes."""


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", README, re.DOTALL), ids=lambda block: block.splitlines()[0])
def test_every_python_block_runs_as_it_is_written(block: str, tmp_path: Path) -> None:
    (tmp_path / "runs/found/best").mkdir(parents=True)
    (tmp_path / "runs/found/best/1.yaml").write_text((ROOT / "search_spaces/genotypes/nasnet-a.yaml").read_text())
    for written, smaller in SMALLER.items():
        block = block.replace(written, smaller)
    environment = {**os.environ, "HOME": str(tmp_path), "RAY_AIR_NEW_OUTPUT": "0"}
    ended = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_the_file_tree_names_every_file() -> None:
    tree = README[README.index("## Files") :]
    for package in ("search_spaces", "controllers", "nas", "tests", "benchmarks"):
        block = tree[tree.index(f"\n{package}/\n") :]
        listed = set(re.findall(r"^  (\S+\.py) ", block[: re.search(r"\n(?=\S)", block[1:]).end() + 1], re.MULTILINE))  # type: ignore[union-attr]
        files = {str(p.relative_to(ROOT / package)) for p in (ROOT / package).rglob("*.py") if p.name != "__init__.py"}
        assert listed == files, f"{package}: the README's tree differs: {listed ^ files}"


def test_no_document_names_a_path_of_somebodys_machine() -> None:
    for path in ROOT.glob("*.md"):
        assert not re.search(r"(?<![\w.])/(?:home|root|work|tmp)/", path.read_text()), path
