"""Telemetry: what TensorBoard shows is what the ledger has, nothing doubled or lost by a kill; `nas show` says the last update."""

import signal
from pathlib import Path

import pytest
from support.commands import nas
from support.event_files import scalars
from support.processes import launch, wait_until

from controllers.controller import Completed, Failed, Proposal
from nas.cli.views.run import policy_line
from nas.evaluators.evaluator import Evaluation
from nas.loggers.logger import Point
from nas.runs import records
from nas.runs.ledger import Ledger, read_records
from nas.runs.state import RunState, replay
from nas.runs.telemetry import Telemetry

SETTINGS = ["--preset", "laptop", "--runner", "local", "--set", "evaluator=synthetic", "--set", "synthetic.seconds=0.05"]
SETTINGS += ["--set", "controller.options={hidden: 8, screen: false}"]


def add(ledger: Ledger, trial: int, outcome: Completed | Failed, telemetry: dict[str, float] | None = None) -> None:
    ledger.append(records.asked(Proposal(trial, (0,))), records.started(trial, 1, 5.0))
    ledger.append(records.finished(trial, Evaluation(outcome), 6.0 + trial))
    if telemetry:
        ledger.append(records.updated(trial, telemetry))


def test_every_outcome_and_update_is_one_point(tmp_path: Path):
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        ledger.append(records.opened(1.0, 9))
        telemetry = Telemetry(ledger.state)
        add(ledger, 0, Completed(0.5))
        points = [*telemetry.fresh(), *telemetry.fresh()]
        add(ledger, 1, Failed("diverged"))
        add(ledger, 2, Completed(0.25), {"entropy": 1.5})
        points += telemetry.fresh()
        assert points == [
            Point(1, 6.0, {"reward/child": 0.5, "reward/incumbent": 0.5, "reward/mean": 0.5} | counts(0)),
            Point(2, 7.0, counts(1)),
            Point(3, 8.0, {"reward/child": 0.25, "reward/incumbent": 0.5, "reward/mean": 0.375, "policy/entropy": 1.5} | counts(1)),
        ]
        assert Telemetry(ledger.state).fresh() == points  # a later session has them all again


def counts(failed: int) -> dict[str, float]:
    return {"children/failed": float(failed), "children/repeated": 0.0} | ({"failed/diverged": float(failed)} if failed else {})


def test_after_a_kill_and_resume_the_event_file_has_what_the_ledger_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = tmp_path / "run"
    process = launch(["search", *SETTINGS, "--budget", "16", "--run", str(run)], tmp_path)
    ledger = run / "ledger.jsonl"
    wait_until(lambda: ledger.is_file() and ledger.read_bytes().count(b'"updated"') >= 1, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    nas(["resume", str(run)], tmp_path, monkeypatch)
    state = replay(read_records(run / "ledger.jsonl")[0], run)
    assert len(state.sessions) == 2 and len(state.told) == 16 and len(state.updates) >= 2
    found = scalars(run)
    assert found["reward/child"] == [(i + 1, pytest.approx(state.trials[n].reward, rel=1e-6)) for i, n in enumerate(state.told)]
    best = [max(state.trials[n].reward or 0.0 for n in state.told[: i + 1]) for i in range(16)]
    assert found["reward/incumbent"] == [(i + 1, pytest.approx(value, rel=1e-6)) for i, value in enumerate(best)]
    for name in ("entropy", "approximate_kl", "clip_fraction", "advantage_scale", "version_lag", "distinct_rate"):
        steps = [state.told.index(trial) + 1 for trial, _ in state.updates]
        assert found[f"policy/{name}"] == [
            (step, pytest.approx(telemetry[name], rel=1e-5, abs=1e-9)) for step, (_, telemetry) in zip(steps, state.updates, strict=True)
        ]
    monkeypatch.setenv("COLUMNS", "200")
    shown = nas(["show", str(run)], tmp_path, monkeypatch)
    assert policy_line(state) in shown and f"policy after update {len(state.updates)}" in shown


def test_a_run_without_a_policy_has_no_line():
    assert policy_line(RunState()) is None
