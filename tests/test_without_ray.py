"""Where Ray is not installed, everything that one process can do works: a local search, a training, and what comes before and after."""

import os
import subprocess
import sys
from pathlib import Path

from nas.runs.folder import RunFolder

BLOCKED = """
import sys
sys.modules["ray"] = None
from nas.cli.main import app
for command in sys.argv[1:]:
    app(command.split(), standalone_mode=False)
"""
SIZES = {"fidelity.filters": 2, "fidelity.epochs": 1, "fidelity.train_examples": 64, "fidelity.validation_examples": 50}
COMMANDS = (
    "search --preset laptop --runner local --budget 2 --run run --cards none --set ladder=[] "
    + " ".join(f"--set {name}={value}" for name, value in SIZES.items()),
    "export run --format json -o best.json",
    "train nasnet-a --data digits --cells 1 --filters 2 --dry-run",
    "cost nasnet-a",
)


def test_commands_that_need_no_cluster_need_no_ray(tmp_path: Path) -> None:
    """In a process that cannot import it."""
    command, environment = [sys.executable, "-c", BLOCKED, *COMMANDS], {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    state = RunFolder(tmp_path / "run").state()
    assert state.spent == 2 and len(state.ranked()) == 2
    assert (tmp_path / "best.json").is_file()
    assert "time:   about" in done.stdout and "(trainable)" in done.stdout
