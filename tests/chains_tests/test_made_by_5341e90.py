"""What commit 5341e90 (version 0.1) left behind is shown, resumed, extended, exported and evaluated.

The folder ``tests/support/made_by_5341e90`` was made with it: ``run`` (a search of 6 children on digits and its second stage),
``training`` (finished), ``interrupted`` (a training stopped by Ctrl-C in its second epoch) and ``weights.safetensors``.
"""

import json
import re
import shutil
from pathlib import Path

import pytest
from support.commands import nas
from support.paths import ROOT

from nas.runs.folder import RunFolder
from search_spaces.networks.native.library import without

MADE = ROOT / "tests" / "support" / "made_by_5341e90"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MADE, tmp_path / "old"))


def test_a_run_is_shown_and_drawn(old, monkeypatch):
    shown = nas(["show", "run"], old, monkeypatch)
    assert "6 of 6 children and " in shown and "schema: nas.genotype/1" in shown
    nas(["draw", "run", "-o", "cell.svg"], old, monkeypatch)
    assert (old / "cell.svg").stat().st_size > 1000


def test_a_run_is_extended_by_replay_since_its_snapshot_is_of_another_version(old, monkeypatch):
    before = RunFolder(old / "run").state()
    nas(["search", "--resume", "run", "--budget", "8"], old, monkeypatch)
    after = RunFolder(old / "run").state()
    assert after.spent == 8 and [t.reward for t in after.trials.values()][:6] == [t.reward for t in before.trials.values()][:6]
    assert "version), 8 outcomes replayed" in (old / "run" / "log.txt").read_text()


def test_a_child_begun_by_the_old_code_is_trained_anew(old, monkeypatch):
    """Its checkpoint has another form; that only costs time."""
    ledger = old / "run" / "ledger.jsonl"
    lines = ledger.read_text().splitlines(keepends=True)
    last = max(i for i, line in enumerate(lines) if '"event":"finished"' in line)
    ledger.write_text("".join(lines[:last]))
    (old / "run" / "snapshot.safetensors").unlink()
    shutil.rmtree(old / "run" / "finalists")  # which names the trial
    reward = json.loads(lines[last])["reward"]
    with without():  # the native kernels are younger, and differ in the last digits: of 12 steps, each that follows by more
        nas(["resume", "run"], old, monkeypatch)
    assert list(RunFolder(old / "run").state().trials.values())[5].reward == pytest.approx(reward, abs=0.05)


def test_the_second_stage_is_complete_and_its_winner_is_handed_on(old, monkeypatch):
    assert "rung 1: 2 of 2 cells that went up are trained" in nas(["show", "run"], old, monkeypatch)
    nas(["finalists", "run", "--top", "2", "--seeds", "1", "--epochs", "1"], old, monkeypatch)
    state = RunFolder(old / "run").state()
    assert len(state.trials) == 8 and state.ladder.trained() == 2, "its second stage is the first rung, and complete"
    assert not list((old / "run" / "finalists").glob("earlier*")), "nor is its winner trained again"
    nas(["finalists", "run", "--top", "1", "--seeds", "1", "--epochs", "2"], old, monkeypatch)
    assert RunFolder(old / "run").state().ladder.reached() == 2
    nas(["export", "run/finalists/winner", "--format", "python", "-o", "winner.py"], old, monkeypatch)


def test_an_interrupted_training_goes_on(old, monkeypatch):
    metrics = [json.loads(line) for line in (old / "interrupted" / "metrics.jsonl").read_text().splitlines()]
    nas(["train", "--resume", "interrupted"], old, monkeypatch)
    after = [json.loads(line) for line in (old / "interrupted" / "metrics.jsonl").read_text().splitlines()]
    assert len(after) == 3 and after[: len(metrics)] == metrics
    assert json.loads((old / "interrupted" / "result.json").read_text())["ending"] == "finished"


@pytest.mark.parametrize("source", ["training", "weights.safetensors"])
def test_weights_score_what_they_scored(source, old, monkeypatch):
    test = json.loads((old / "training" / "result.json").read_text())["test"]
    said = nas(["evaluate", source, "--data", "digits"], old, monkeypatch)
    found = re.search(r"accuracy:\s+([\d.]+) % top-1.*loss ([\d.]+)", said)
    assert found is not None
    assert float(found[1]) == pytest.approx(100 * test["top1"], abs=0.005) and float(found[2]) == pytest.approx(test["loss"], abs=6e-5)


@pytest.mark.parametrize(
    ("source", "form"),
    [
        ("training", "python"),
        pytest.param("training", "timm", marks=pytest.mark.slow),
        pytest.param("training", "onnx", marks=pytest.mark.slow),
        ("weights.safetensors", "safetensors"),
        pytest.param("weights.safetensors", "torch-export", marks=pytest.mark.slow),
    ],
)
def test_weights_are_exported(source, form, old, monkeypatch):
    suffix = {"python": "py", "timm": "py", "torch-export": "pt2"}.get(form, form)
    assert "logits equal the network" in nas(["export", source, "--format", form, "-o", f"out.{suffix}"], old, monkeypatch)
