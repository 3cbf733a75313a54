"""``kill -9`` of the driver at random moments, then ``nas resume``: no finished child is lost or trained twice, in process and on Ray."""

import random
import re
import signal
import time
from pathlib import Path

import pytest
from support.processes import Running, launch, wait_until

from nas.runs.ledger import read_records
from nas.runs.state import replay

SETTINGS = [
    "--preset",
    "laptop",
    "--controller",
    "evolution",
    "--set",
    "evaluator=synthetic",
    "--set",
    "synthetic.seconds=0.15",
    "--set",
    "fidelity.epochs=3",
]


def wait_for_lines(ledger: Path, count: int, process: Running) -> None:
    wait_until(lambda: ledger.is_file() and ledger.read_bytes().count(b"\n") >= count, process)


def kill_and_resume(tmp_path: Path, runner: list[str], budget: int, kills: int, seed: int) -> None:
    rng = random.Random(seed)
    run = tmp_path / "run"
    ledger = run / "ledger.jsonl"
    finished_before: dict[int, object] = {}
    lines = 0
    for attempt in range(kills + 1):
        command = ["search", *SETTINGS, *runner, "--budget", str(budget), "--run", str(run)] if attempt == 0 else ["resume", str(run)]
        process = launch(command, tmp_path)
        if attempt == kills:
            output, _ = process.communicate(timeout=240)
            assert process.returncode == 0, output
            assert f"{budget} of {budget} children trained" in output
            break
        wait_for_lines(ledger, lines + rng.randrange(3, 16), process)
        time.sleep(rng.random() * 0.1)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        state = replay(read_records(ledger)[0], ledger)
        lines = ledger.read_bytes().count(b"\n")
        for number, evaluation in finished_before.items():
            assert state.trials[number].evaluation == evaluation
        finished_before = {n: t.evaluation for n, t in state.trials.items() if t.evaluation is not None}
    records, _ = read_records(ledger)
    state = replay(records, ledger)
    assert state.spent == budget and not state.pending and state.closed == "finished"
    ends = [record["trial"] for record in records if record["event"] == "finished"]
    assert len(ends) == len(set(ends)), "a trial ended twice"
    for number, evaluation in finished_before.items():
        assert state.trials[number].evaluation == evaluation, "a finished child was lost or trained again"
    started_after_end = [
        record["trial"]
        for i, record in enumerate(records)
        if record["event"] == "started" and record["trial"] in {r["trial"] for r in records[:i] if r["event"] == "finished"}
    ]
    assert not started_after_end, "a finished child was started again"
    assert len(state.sessions) == kills + 1


def test_in_process(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, ["--runner", "local"], budget=20, kills=3, seed=1)


def test_on_ray(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, ["--workers", "2"], budget=12, kills=1, seed=2)


@pytest.mark.slow
def test_on_ray_many_times(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, ["--workers", "2"], budget=100, kills=10, seed=3)


def test_ctrl_c_stops_in_order_and_says_how_to_go_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = launch(["search", *SETTINGS, "--runner", "local", "--budget", "200", "--run", str(run)], tmp_path)
    wait_for_lines(run / "ledger.jsonl", 12, process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert re.search(r"nas resume \S+", output)
    state = replay(read_records(run / "ledger.jsonl")[0], run)
    assert state.closed == "interrupted" and 0 < state.spent < 200


def test_a_second_driver_is_refused_with_exit_code_2(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = launch(["search", *SETTINGS, "--runner", "local", "--budget", "500", "--run", str(run)], tmp_path)
    wait_for_lines(run / "ledger.jsonl", 3, process)
    second = launch(["resume", str(run)], tmp_path)
    output, _ = second.communicate(timeout=60)
    process.kill()
    process.communicate()
    assert second.returncode == 2 and "another process is running this search" in output
