"""Where Ray is not installed, everything that one process can do works: a local search, a training, and what comes before and after."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nas.runs.folder import RunFolder

BLOCKED = "import sys; sys.modules['ray'] = None; from nas.cli.main import main; main()"


def nas(*arguments: str, cwd: Path) -> str:
    """What the command prints in a process that cannot import Ray."""
    environment = {**os.environ, "COLUMNS": "200"}
    command = [sys.executable, "-c", BLOCKED, *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_local_search_runs_and_its_best_is_exported(tmp_path: Path) -> None:
    sizes = {"fidelity.filters": 2, "fidelity.epochs": 1, "fidelity.train_examples": 64, "fidelity.validation_examples": 50}
    settings = [argument for name, value in sizes.items() for argument in ("--set", f"{name}={value}")]
    nas("search", "--preset", "laptop", "--runner", "local", "--budget", "2", *settings, "--run", "run", cwd=tmp_path)
    state = RunFolder(tmp_path / "run").state()
    assert state.spent == 2 and len(state.ranked()) == 2
    nas("export", "run", "--format", "json", "-o", "best.json", cwd=tmp_path)
    assert (tmp_path / "best.json").is_file()


@pytest.mark.parametrize("arguments", [("train", "nasnet-a", "--data", "digits", "--dry-run"), ("cost", "nasnet-a")])
def test_commands_that_need_no_cluster_need_no_ray(arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert nas(*arguments, cwd=tmp_path)
