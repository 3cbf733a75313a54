"""Telemetry: what TensorBoard shows is what the ledger has, nothing doubled or lost by a kill; `nas show` says the last update."""

import signal
import struct
from pathlib import Path

import pytest
from support.commands import nas
from support.processes import launch, wait_until
from tensorboardX.proto.event_pb2 import Event

from controllers.controller import Completed, Failed, Proposal
from nas.cli.views.run import policy_line
from nas.evaluators.evaluator import Evaluation
from nas.runs import records
from nas.runs.ledger import Ledger, read_records
from nas.runs.state import RunState, replay
from nas.runs.telemetry import EventFile

SETTINGS = ["--preset", "laptop", "--runner", "local", "--set", "evaluator=synthetic", "--set", "synthetic.seconds=0.05"]
SETTINGS += ["--set", "controller.options={hidden: 8, screen: false}"]


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of every tag in a folder's event files, which are TFRecords: length, its check sum, data, their check sum."""
    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        raw, place = path.read_bytes(), 0
        while place < len(raw):
            (length,) = struct.unpack_from("<Q", raw, place)
            event = Event.FromString(raw[place + 12 : place + 12 + length])
            place += length + 16
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def add(ledger: Ledger, trial: int, outcome: Completed | Failed, telemetry: dict[str, float] | None = None) -> None:
    ledger.append(records.asked(Proposal(trial, (0,))), records.started(trial, 1, 5.0))
    ledger.append(records.finished(trial, Evaluation(outcome), 6.0 + trial))
    if telemetry:
        ledger.append(records.updated(trial, telemetry))


def test_every_outcome_and_update_is_one_point(tmp_path: Path):
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        ledger.append(records.opened(1.0, 9))
        with EventFile(tmp_path, ledger.state) as events:
            add(ledger, 0, Completed(0.5))
            events.catch_up()
            events.catch_up()
            add(ledger, 1, Failed("diverged"))
            add(ledger, 2, Completed(0.25), {"entropy": 1.5})
            events.catch_up()
        expected = {
            "reward/child": [(1, 0.5), (3, 0.25)],
            "reward/incumbent": [(1, 0.5), (3, 0.5)],
            "reward/mean": [(1, 0.5), (3, 0.375)],
            "children/failed": [(1, 0.0), (2, 1.0), (3, 1.0)],
            "children/repeated": [(1, 0.0), (2, 0.0), (3, 0.0)],
            "policy/entropy": [(3, 1.5)],
        }
        assert scalars(tmp_path) == expected
        with EventFile(tmp_path, ledger.state):  # a later session writes it all again, in place of the file before
            assert scalars(tmp_path) == expected
        assert len(list(tmp_path.glob("events.*"))) == 1


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
