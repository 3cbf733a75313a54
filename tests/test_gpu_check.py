"""The check of a GPU, tried on a CPU: its steps run, and one that fails or hangs costs nothing but itself."""

import importlib.util
import json
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "gpu_check.py"
ROWS = 'import pathlib, sys; pathlib.Path(sys.argv[1]).write_text(\'{"a": 1}\\n{"b": \')\n'


@pytest.fixture(scope="module")
def gpu_check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_check"] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.parametrize(
    ("code", "ending"), [("", "done"), ("sys.exit(3)", "exit code 3"), ("import time; time.sleep(600)", "stopped after 2 s")]
)
def test_a_steps_rows_survive_however_it_ends(gpu_check: ModuleType, tmp_path: Path, code: str, ending: str) -> None:
    rows = tmp_path / "rows.jsonl"
    started = time.monotonic()
    found = gpu_check.run_step([sys.executable, "-c", ROWS + code, str(rows)], 2, rows, tmp_path / "log")
    assert found["ending"] == ending and time.monotonic() - started < 60
    assert found["rows"] == [{"a": 1}], "and not the row that was cut off"


def test_the_next_step_begins_with_the_results_so_far_on_disk(
    gpu_check: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def run_step(command: list[str], limit: float, rows_file: Path, log: Path) -> dict[str, object]:
        results = tmp_path / "out" / "gpu_check.json"
        seen.append((list(json.loads(results.read_text())) if results.is_file() else [], limit))
        return {"ending": "exit code 1", "seconds": 0.0, "problems": 1, "rows": [{"what": "x", "error": "a | b"}]}

    monkeypatch.setattr(gpu_check, "run_step", run_step)
    arguments = Namespace(output=tmp_path / "out", minutes=0.0, device="cpu", data=None, data_dir=None)
    assert not gpu_check.check([["tests", "exports"], ["search"], ["train"]], arguments, tmp_path)
    assert [names for names, _ in seen] == [[], [], ["tests", "exports"], ["tests", "exports", "search"]]
    assert seen[2][1] == gpu_check.STEPS["search"].reserved, "time is kept for it when others took too much"
    assert "| x | a \\| b |" in (tmp_path / "out" / "gpu_check.md").read_text()


def test_a_child_is_timed_on_a_cpu(tmp_path: Path) -> None:
    done = run("--device", "cpu", "--steps", "machine,training", "--output", str(tmp_path))
    assert done.returncode == 0, done.stdout + (tmp_path / "gpu_check.log").read_text()
    found = json.loads((tmp_path / "gpu_check.json").read_text())
    assert [row["what"] for row in found["training"]["rows"]] == ["step", "engine", "step", "engine", "step", "repeated"]
    assert all(row["ms"] > 0 for row in found["training"]["rows"][:-1]) and "torch" in found["machine"]["rows"][0]
    assert found["training"]["rows"][1]["graphs"] == "CUDA graphs need a GPU"


def test_unknown_steps_are_refused(tmp_path: Path) -> None:
    done = run("--steps", "machine,dance", "--output", str(tmp_path / "out"))
    assert done.returncode == 2 and "got dance" in done.stderr and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_whole_check_on_a_cpu(tmp_path: Path) -> None:
    done = run("--device", "cpu", "--output", str(tmp_path), "--minutes", "9")
    found = json.loads((tmp_path / "gpu_check.json").read_text())
    assert done.returncode == 0, (tmp_path / "gpu_check.md").read_text()
    assert found["train"]["rows"][3]["largest_difference"] < 1e-6, "on a CPU a resumed training is the same"
    assert {row["exit_code"] for row in found["exports"]["rows"] if "exit_code" in row} == {0}
