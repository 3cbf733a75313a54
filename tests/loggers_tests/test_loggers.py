"""Loggers: every point once and in order, over any number of sessions, by the libraries' own clients; and none can stop the work."""

import struct
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from support.commands import nas
from support.event_files import scalars
from typer.testing import CliRunner

from nas.cli.main import app
from nas.errors import ConfigError
from nas.loggers import sending
from nas.loggers.logger import Logged, Point
from nas.loggers.registry import LOGGERS, LoggerRow
from nas.runs import session as engine
from nas.runs.config import config_from_document
from nas.runs.folder import RunFolder
from nas.runs.loop import Watcher

POINTS = "nas.points"
"""The tag in which MLflow keeps how many points it has."""
STORES = {"files": "file://{}/store", "sqlite": "sqlite:///{}/store.db"}
ABOUT = {"a": {"b": 1, "c": [2, 3]}, "d": None}


class Memory:
    """A logger of these tests: what it was told, by folder; it may have points of before, and may raise."""

    told: ClassVar[dict[Path, list[Point]]] = {}
    breaks_after: ClassVar[int | None] = None

    def __init__(self, about: Logged) -> None:
        self._mine = self.told.setdefault(about.folder, [])
        self.logged = len(self._mine)

    def log(self, points: Sequence[Point]) -> None:
        for point in points:
            if self.breaks_after is not None and len(self._mine) >= self.breaks_after:
                raise RuntimeError("no such host\nand much more")
            self._mine.append(point)

    def close(self) -> None:
        pass


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Memory]]:
    monkeypatch.setattr(LOGGERS, "built_in", {**LOGGERS.built_in, "memory": LoggerRow(Memory, "json")})
    monkeypatch.setattr(Memory, "told", {})
    monkeypatch.setattr(Memory, "breaks_after", None)
    yield Memory


def search(folder: Path, budget: int, *log: str, watcher: Watcher | None = None) -> RunFolder:
    """A search that scores nothing real; gone on with where there is one."""
    settings = {"evaluator": "synthetic", "seed": 3, "controller": {"name": "random"}, "runner": {"kind": "local"}}
    place = RunFolder(folder)
    if place.ledger_file.is_file():
        engine.resume(place, budget, watcher or Watcher(), {"log": list(log)})
    else:
        engine.start(config_from_document({**settings, "budget": budget, "log": list(log)}), folder, watcher or Watcher())
    return place


def rewards(place: RunFolder) -> list[tuple[int, Any]]:
    state = place.state()
    return [(step, pytest.approx(state.trials[number].reward, rel=1e-6)) for step, number in enumerate(state.told, 1)]


def points(count: int) -> list[Point]:
    return [Point(step, 1000.0 + step, {"loss/train": 1 / step}) for step in range(1, count + 1)]


def send(folder: Path, count: int, *names: str) -> list[str]:
    """A session that begins with the folder's first point; returns the warnings."""
    warnings: list[str] = []
    with sending.opened(names, Logged(folder, "training", ABOUT, "epoch"), warnings.append) as loggers:
        for point in points(count):
            loggers.log([point])
    return warnings


def test_every_session_tells_a_logger_only_what_it_has_not(tmp_path: Path, memory: type[Memory]) -> None:
    assert send(tmp_path, 3, "memory") == send(tmp_path, 2, "memory") == send(tmp_path, 7, "memory") == []
    assert memory.told[tmp_path] == points(7)


def test_a_failing_logger_is_said_once_and_stops_nothing(tmp_path: Path, memory: type[Memory], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "breaks_after", 4)
    warnings: list[str] = []
    place = search(tmp_path / "run", 9, "memory", "tensorboard", watcher=Watcher(on_warning=warnings.append))
    assert place.state().spent == 9 and scalars(place.path)["reward/child"] == rewards(place)
    assert len(warnings) == 1 and "logger memory: RuntimeError: no such host;" in warnings[0] and "much more" not in warnings[0]
    assert warnings[0] in place.log_file.read_text()
    monkeypatch.setattr(memory, "breaks_after", None)
    search(place.path, 11, "memory")  # a later session makes good what is missing
    assert [(point.step, point.scalars["reward/child"]) for point in memory.told[place.path]] == rewards(place)


def test_a_logger_that_cannot_be_opened_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(about: Logged) -> Any:
        raise PermissionError(13, "no key")

    monkeypatch.setattr(LOGGERS, "built_in", {"closed": LoggerRow(refuse, "json")})
    (warning,) = send(tmp_path, 3, "closed")
    assert "logger closed: PermissionError" in warning and "no key" in warning


def test_a_slow_logger_holds_nothing_up(tmp_path: Path, memory: type[Memory], monkeypatch: pytest.MonkeyPatch) -> None:
    gate, warnings = threading.Event(), list[str]()
    monkeypatch.setattr(memory, "log", lambda self, points: gate.wait())
    monkeypatch.setattr(sending, "CLOSE_SECONDS", 0.01)
    with sending.opened(["memory"], Logged(tmp_path, "search", ABOUT, "outcomes"), warnings.append) as loggers:
        loggers.log(points(3))
    assert [text for text in warnings if "has not taken everything" in text] == warnings != []
    gate.set()


def test_a_missing_library_is_a_clear_message_before_anything_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LOGGERS, "built_in", {"wandb": LoggerRow(Memory, "no_such_library", "wandb")})
    monkeypatch.chdir(tmp_path)
    commands = (["search", "--preset", "laptop", "--evaluator", "synthetic"], ["train", "nasnet-a", "--data", "digits"])
    for command in commands:
        done = CliRunner().invoke(app, [*command, "--log", "wandb"])
        assert isinstance(done.exception, ConfigError) and done.exception.exit_code == 2
        assert "pip install 'nas-engine[wandb]'" in str(done.exception)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_logger_is_named_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown logger 'wanb' .did you mean 'wandb'.*tensorboard, wandb, mlflow"):
        config_from_document({"log": ["wanb"]})


def test_none_leaves_no_file(tmp_path: Path) -> None:
    assert not list(search(tmp_path / "run", 2).path.glob("events.*"))


def test_a_training_logs_every_epoch_once_and_its_test(tmp_path: Path, memory: type[Memory], monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--data", "digits", "--cells", "1", "--filters", "2", "--epochs", "3", "--batch-size", "64", "--threads", "1", "-o", "net"]
    nas(["train", "nasnet-a", *words, "--set", "data.validation_examples=64", "--log", "memory,tensorboard"], tmp_path, monkeypatch)
    found = scalars(tmp_path / "net")
    assert [step for step, _ in found["loss/train"]] == [1, 2, 3] == [step for step, _ in found["learning_rate"]]
    assert [step for step, _ in found["test/top1"]] == [3] and 0 < found["accuracy/top1"][-1][1] <= 1
    (tmp_path / "net" / "result.json").unlink()  # as after a kill while the test set was read
    nas(["train", "--resume", "net", "--log", "memory,tensorboard"], tmp_path, monkeypatch)
    assert scalars(tmp_path / "net") == found
    (told,) = memory.told.values()
    assert [point.step for point in told] == [1, 2, 3, 3]


@pytest.mark.parametrize("store", ["files", pytest.param("sqlite", marks=pytest.mark.slow)])
def test_mlflow_goes_on_with_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", STORES[store].format(tmp_path))
    assert send(tmp_path, 3, "mlflow") == send(tmp_path, 5, "mlflow") == []
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("nas").experiment_id])
    history = client.get_metric_history(run.info.run_id, "loss/train")
    assert sorted((metric.step, metric.value) for metric in history) == [(point.step, point.scalars["loss/train"]) for point in points(5)]
    assert run.data.params == {"a.b": "1", "a.c": "[2, 3]", "d": "None"} and run.info.run_name == tmp_path.name
    assert run.info.status == "FINISHED"
    if store == "sqlite":  # a kill between the points and their number: they come again, at the same step and time
        client.set_tag(run.info.run_id, POINTS, "3")
        assert send(tmp_path, 5, "mlflow") == [] and len(client.get_metric_history(run.info.run_id, "loss/train")) == 5


def test_mlflow_begins_anew_where_the_store_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for number, folder in enumerate(("first", "second")):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", STORES["files"].format(tmp_path / folder))
        assert send(tmp_path, 2 + number, "mlflow") == []
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("nas").experiment_id])
    assert len(client.get_metric_history(run.info.run_id, "loss/train")) == 3


def test_wandb_offline_goes_on_with_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    assert send(tmp_path, 3, "wandb") == send(tmp_path, 5, "wandb") == []
    expected = [(number, point.step, point.scalars["loss/train"]) for number, point in enumerate(points(5))]
    patience = time.monotonic() + 30.0
    while len(_rows(records := _records(tmp_path))) < len(expected) and time.monotonic() < patience:
        time.sleep(0.1)  # the client's process may still be at its file
    assert _rows(records) == expected
    assert len({record.run.run_id for record in records if record.HasField("run")}) == 1
    assert any(item.key == "a" and '"b":1' in item.value_json.replace(" ", "") for r in records for item in r.run.config.update)


def _records(folder: Path) -> list[Any]:
    """What the offline files of wandb in a folder hold, the oldest file's first."""
    from wandb.proto.wandb_internal_pb2 import Record

    return [Record.FromString(raw) for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")) for raw in _stored(path)]


def _rows(records: list[Any]) -> list[tuple[int, int, float]]:
    """(row, epoch, loss) of the rows logged."""
    found = [{item.key or "/".join(item.nested_key): item.value_json for item in r.history.item} for r in records if r.HasField("history")]
    return [(int(row["_step"]), int(row["epoch"]), float(row["loss/train"])) for row in found]


def _stored(path: Path) -> Iterator[bytes]:
    """The records of an offline file: a header of 7 bytes, then LevelDB's log of blocks (checksum, length, kind, part)."""
    raw, place, whole = path.read_bytes(), 7, b""
    while place + 7 <= len(raw):
        left = 32768 - place % 32768
        length, kind = struct.unpack_from("<HB", raw, place + 4) if left >= 7 else (0, 0)
        if kind == 0:  # the end of a block
            place += left
            continue
        whole += raw[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield whole
            whole = b""
