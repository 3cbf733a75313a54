"""The mirror: a run goes on from it on another machine, a remote that fails never stops the search, a second driver is noticed."""

import os
import shutil
import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from support.commands import nas
from support.processes import launch

from nas.errors import ConfigError, DataError, RunError
from nas.runs import mirror
from nas.runs import session as engine
from nas.runs.config import SearchConfig, config_from_document
from nas.runs.folder import RunFolder
from nas.runs.ledger import read_records
from nas.runs.loop import QUIET
from nas.runs.mirror import Mirror, Remote, fetch
from nas.runs.state import replay

SECONDS = 0.05


def config(url: str | None, budget: int = 10, **others: object) -> SearchConfig:
    runner = {"kind": "local", "sync": url, "sync_seconds": SECONDS, "checkpoint_seconds": 0.0}
    document = {"budget": budget, "evaluator": "synthetic", "controller": {"name": "evolution"}, "runner": runner, "seed": 4}
    return config_from_document(document | others)


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"memory://{uuid.uuid4().hex}/run" if request.param == "memory" else f"file://{tmp_path}/remote/run"


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_finished_run_is_mirrored_whole_and_extended_from_there(tmp_path: Path, url: str) -> None:
    whole = engine.start(config(None, 16), tmp_path / "whole", QUIET).state
    first = engine.start(config(url), tmp_path / "first", QUIET)
    assert first.mirror == f"mirror {url}: up to date"
    folder = fetch(url, tmp_path / "elsewhere")
    for name in ("ledger.jsonl", "log.txt", "config.yaml", "environment.json", "snapshot.safetensors", "best/1.yaml"):
        assert (folder.path / name).read_bytes() == (first.folder.path / name).read_bytes(), name
    resumed = engine.resume(folder, 16, QUIET)
    assert [t.proposal for t in resumed.state.trials.values()] == [t.proposal for t in whole.trials.values()]
    again = fetch(url, tmp_path / "third")
    assert again.state().spent == 16, "the second machine went on with the mirror"
    assert fetch(url, folder.path) == folder, "a folder that is as far is left alone"
    with pytest.raises(RunError, match="the mirror is ahead of"):
        engine.resume(first.folder, 12, QUIET)  # the first machine comes back and knows less
    assert engine.resume(fetch(url, first.folder.path), 17, QUIET).state.spent == 17


def test_growing_files_are_put_together_from_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "PART_BYTES", 300)
    url = f"memory://{uuid.uuid4().hex}/run"
    result = engine.start(config(url, 8), tmp_path / "run", QUIET)
    ledger = result.folder.ledger_file.read_bytes()
    remote = Remote(url)
    assert remote.grown("ledger.jsonl") == ledger
    assert sum(name.startswith("ledger.jsonl.parts/") for name in remote.names()) == -(-len(ledger) // 300)


def test_states_of_running_children_are_mirrored_and_removed(tmp_path: Path, url: str) -> None:
    folder = engine.start(config(url, 1), tmp_path / "run", QUIET).folder
    folder.checkpoint_folder.mkdir(exist_ok=True)
    (folder.checkpoint_folder / "7-1.state").write_bytes(b"state")
    with Mirror(folder, url, SECONDS, print) as kept:
        until(lambda: Remote(url).get("checkpoints/7-1.state") == b"state")
        (folder.checkpoint_folder / "7-1.state").unlink()
        until(lambda: Remote(url).get("checkpoints/7-1.state") is None)
    assert kept.status().endswith("up to date")


def test_a_killed_driver_is_continued_from_its_mirror_on_a_fresh_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, run = f"file://{tmp_path}/bucket/search", tmp_path / "run"
    settings = ["--preset", "laptop", "--controller", "evolution", "--runner", "local", "--set", "evaluator=synthetic"]
    settings += ["--set", "synthetic.seconds=0.05", "--set", "runner.sync_seconds=0.2", "--sync", url, "--budget", "30"]
    process = launch(["search", *settings, "--run", str(run)], tmp_path)
    parts = tmp_path / "bucket" / "search" / "ledger.jsonl.parts"
    until(lambda: (parts.is_dir() and Remote(url).grown("ledger.jsonl").count(b"finished") > 5) or process.poll() is not None, 120)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    known, _ = read_records(run / "ledger.jsonl")
    shutil.rmtree(run)  # the machine is gone
    said = nas(["resume", url], tmp_path, monkeypatch)
    assert "30 of 30 children trained" in said and f"mirror {url}: up to date" in said
    records, _ = read_records(tmp_path / "runs" / "search" / "ledger.jsonl")
    state = replay(records, run)
    ends = [record["trial"] for record in records if record["event"] == "finished"]
    assert len(ends) == len(set(ends)) and state.spent == 30
    shared = sum(a == b for a, b in zip(known, records, strict=False))
    assert shared >= 5 * 3 and len(known) - shared < 60, "all but the last moments were mirrored"
    assert fetch(url, tmp_path / "copy").state().spent == 30


# ---------------------------------------------------------------------------------------------------- remotes that fail


def test_a_remote_that_fails_for_a_while_is_told_once_and_caught_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"memory://{uuid.uuid4().hex}/run"
    folder = engine.start(config(url, 2), tmp_path / "run", QUIET).folder
    real, told, failures = Remote.put, [], []

    def broken(self: Remote, name: str, content: bytes) -> None:
        failures.append(name)
        raise OSError("no route to host")

    with Mirror(folder, url, SECONDS, told.append) as kept:
        monkeypatch.setattr(Remote, "put", broken)
        folder.log("something new")
        until(lambda: len(failures) > 3)
        assert "s behind (OSError: no route to host)" in kept.status()
        monkeypatch.setattr(Remote, "put", real)
        until(lambda: b"something new" in Remote(url).grown("log.txt"))
    assert len(told) == 1 and "the search goes on" in told[0]
    assert kept.status().endswith("up to date")


def test_a_search_ends_well_though_its_mirror_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"memory://{uuid.uuid4().hex}/run"
    first = engine.start(config(url, 3), tmp_path / "run", QUIET)

    def gone(self: Remote, name: str, content: bytes = b"") -> bytes:
        raise OSError("gone")

    monkeypatch.setattr(Remote, "put", gone)
    monkeypatch.setattr(Remote, "get", gone)
    result = engine.resume(first.folder, 30, QUIET)
    assert result.state.spent == 30 and result.mirror is not None and "s behind (OSError: gone)" in result.mirror
    assert "the search goes on" in first.folder.log_file.read_text()


def test_a_new_search_with_a_mirror_that_cannot_be_used_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for bad, message in (
        ("nosuch://bucket/run", r"runner.sync: a URL such as .*but got 'nosuch://bucket/run'"),
        (f"file://{tmp_path}/file/run", "cannot be used: .*nothing was trained"),
    ):
        with pytest.raises(ConfigError, match=message):
            engine.start(config(bad), tmp_path / uuid.uuid4().hex, QUIET)
    with pytest.raises(RunError, match="no mirror of a run there"):
        fetch("memory://nothing/here", tmp_path / "x")


# ---------------------------------------------------------------------------------------------------- two drivers


def test_a_second_driver_is_refused_while_the_first_one_lives(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/remote/run"
    folder = engine.start(config(url, 2), tmp_path / "run", QUIET).folder
    copy = fetch(url, tmp_path / "copy")
    with Mirror(folder, url, 0.4, print):
        with pytest.raises(RunError, match=f"another driver .*process {os.getpid()}.* is running this search"):
            engine.resume(copy, 4, QUIET)
        with pytest.raises(RunError, match="another process is running this search"):  # the lock of the local folder
            from nas.runs.ledger import Ledger

            with Ledger(folder.ledger_file):
                fetch(url, folder.path)
    assert engine.resume(copy, 4, QUIET).state.spent == 4, "it has left"


def test_a_dead_driver_s_mirror_is_taken_over_and_it_notices_should_it_live(tmp_path: Path) -> None:
    url = f"memory://{uuid.uuid4().hex}/run"
    folder = engine.start(config(url, 2), tmp_path / "run", QUIET).folder
    copy = fetch(url, tmp_path / "copy")
    told: list[str] = []
    sleeper = Mirror(folder, url, SECONDS, told.append)
    sleeper._claim()  # and then its machine is cut off: no sign of it
    assert engine.resume(copy, 4, QUIET).state.spent == 4
    folder.log("back again")
    sleeper.sync()
    assert "taken it over" in sleeper.status() and len(told) == 1
    assert b"back again" not in Remote(url).grown("log.txt")


def test_a_mirror_of_another_run_is_not_overwritten(tmp_path: Path) -> None:
    url = f"memory://{uuid.uuid4().hex}/run"
    engine.start(config(url, 2), tmp_path / "run", QUIET)
    before = Remote(url).grown("ledger.jsonl")
    with pytest.raises(RunError, match="the mirror holds another run"):
        engine.start(config(url, 2), tmp_path / "other", QUIET)
    assert Remote(url).grown("ledger.jsonl") == before
    other = engine.start(config(None, 2), tmp_path / "third", QUIET).folder
    with pytest.raises(RunError, match="holds another run than"):
        fetch(url, other.path)


def test_a_run_goes_on_only_with_the_data_it_began_with(tmp_path: Path) -> None:
    document = {
        "data": {"name": "digits", "validation_examples": 100},
        "fidelity": {"epochs": 1, "cells": 1, "filters": 2, "train_examples": 64},
        "training": {"batch_size": 32, "augmentation": "none"},
        "evaluator": "train",
    }
    folder = engine.start(config(None, 1, **document), tmp_path / "run", QUIET).folder
    text = folder.config_file.read_text()
    folder.config_file.write_text(text.replace("split_seed: 0", "split_seed: 1"))
    with pytest.raises(DataError, match="must go on with the images it began with"):
        engine.resume(RunFolder(folder.path), 2, QUIET)
    folder.config_file.write_text(text)
    assert engine.resume(RunFolder(folder.path), 2, QUIET).state.spent == 2
