"""Comparisons: matched sizes, a row for everybody (the failed too), the same figures after an interruption, bad input refused."""

import json
import math
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from support.stopwatch import CountedStopwatch
from typer.testing import CliRunner

from nas.api.training import Comparison
from nas.api.wishes import own_data
from nas.cli.main import app
from nas.comparisons.folder import UNFINISHED
from nas.comparisons.networks import Member, Plan, Row, choose_members, markdown, ranked, run_comparison, told_apart, write_table
from nas.comparisons.timing import Expected, seconds_left
from nas.data.settings import DataSettings
from nas.errors import ConfigError, RunError
from nas.networks.scaling import Target
from nas.runs.expected import START_SECONDS
from nas.training.config import TrainConfig
from nas.training.recipe import load_recipe
from search_spaces.genotype import CellGenotype, Edge, Genotype, Node
from search_spaces.reference import load_reference

BROKEN = Genotype(CellGenotype((Node((Edge(0, "convnext_block", (("kernel", 2),)),)),), (1,), 1), name="broken")


def plan(folder: Path, seeds: int = 1, epochs: int = 1) -> Plan:
    base = TrainConfig(skeleton={}, data=DataSettings(name="digits"), recipe=load_recipe("fast", {"epochs": epochs}), device="cpu")
    return Plan(Target("macs", 300_000), base, seeds, folder, workers=1)


def members() -> list[Member]:
    return [Member("convnext", load_reference("convnext")), Member("broken", BROKEN), Member("resnet", load_reference("resnext-1x64d"))]


def about(label: str, lines: list[str]) -> str:
    """What was said of a member's size."""
    return next(line for line in lines if line.startswith(f"{label}: "))


def test_everybody_gets_a_row_and_a_second_call_reads_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    rows, whole = run_comparison(members(), plan(tmp_path, seeds=2), lines.append)
    assert whole
    assert [line.partition(":")[0] for line in lines[:3]] == ["compare", "recipe", "data"]
    (expected,) = [line for line in lines if line.startswith("time:")]
    assert "for 4 trainings, 1 at once (2 networks timed)" in expected
    assert rows[-1].label == "broken"
    assert "kernel" in rows[-1].reason
    for row in rows[:2]:
        assert abs(row.macs / 300_000 - 1) < 0.15
        assert len(row.test) == len(row.validation) == 2
        assert 0 <= row.mean <= 1
        assert row.deviation == pytest.approx(abs(row.test[0] - row.test[1]) / math.sqrt(2))
        assert row.latency_ms > 0
    assert rows[0].mean >= rows[1].mean
    document = json.loads((tmp_path / "compare.json").read_text())
    assert [row["label"] for row in document["rows"]] == [row.label for row in rows]
    assert (tmp_path / "compare.png").read_bytes().startswith(b"\x89PNG")
    assert "failed: " in (tmp_path / "compare.md").read_text()
    metrics = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/metrics.jsonl")}
    assert len(metrics) == 4
    monkeypatch.setattr("nas.runners.ray_start.start_ray", lambda *given: pytest.fail("what is finished is read back here"))
    again, _ = run_comparison(members(), replace(plan(tmp_path, seeds=2), workers=2), lines.append)
    assert [(row.label, row.test) for row in again] == [(row.label, row.test) for row in rows]
    assert {path: path.stat().st_mtime_ns for path in metrics} == metrics  # nothing was trained again


def test_everybody_may_have_the_same_depth(tmp_path: Path) -> None:
    deep = replace(plan(tmp_path), target=Target("macs", 3_000_000), cells=2)
    lines: list[str] = []
    for member in (Member("nasnet-a", load_reference("nasnet-a")), members()[0]):
        run_comparison([member], deep, lines.append, lambda: True)
    assert "N=2 cells a stage" in about("nasnet-a", lines)
    assert "blocks of widths" in about("convnext", lines)


def test_at_equal_latency_everybody_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timed = replace(plan(tmp_path), target=Target("latency", 0.003))
    pair, lines = [Member("nasnet-a", load_reference("nasnet-a")), members()[0]], list[str]()

    def sized(slower: float) -> list[Row]:
        stopwatch = CountedStopwatch(slower)
        monkeypatch.setattr("nas.comparisons.sizes.stopwatch_at", lambda place: stopwatch)
        monkeypatch.setattr("nas.comparisons.sizes.Stopwatch", lambda place: stopwatch)
        return run_comparison(pair, timed, lines.append)[0]

    rows = sized(1.0)
    assert all(abs(row.off) <= 0.1 and row.test for row in rows) and "N=1 cells a stage" in about("nasnet-a", lines)
    assert "another measurement than the one that was matched" in markdown(rows, timed)
    again = sized(1.5)  # another day, a slower machine: the sizes are those that the trainings began with
    assert [(row.label, row.network, row.off, row.test) for row in again] == [(row.label, row.network, row.off, row.test) for row in rows]
    (tmp_path / "sizes.yaml").write_text("nasnet-a: 3")
    assert all("must have the sizes of networks by name" in row.reason for row in sized(1.0))


def test_a_latency_that_no_width_has_is_a_row_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.comparisons.sizes.stopwatch_at", lambda place: CountedStopwatch())
    timed = replace(plan(tmp_path), target=Target("latency", 1e-5), cells=6)
    rows, whole = run_comparison([Member("nasnet-a", load_reference("nasnet-a"))], timed, lambda line: None)
    assert whole and rows[0].reason.startswith("no width within 10% of 0.01 ms an image on one CPU thread; the closest, N=6 cells")


def test_an_interrupted_comparison_ends_with_the_same_figures(tmp_path: Path) -> None:
    pair = [members()[0], members()[2]]
    expected, _ = run_comparison(pair, plan(tmp_path / "whole"), lambda line: None)
    asked = iter([False] * 7 + [True] * 100)
    _, whole = run_comparison(pair, plan(tmp_path / "cut"), lambda line: None, lambda: next(asked))
    assert not whole
    side_by_side = replace(plan(tmp_path / "cut"), workers=2)
    rows, whole = run_comparison(pair, side_by_side, lambda line: None)
    assert whole
    assert [(row.label, row.test, row.validation) for row in rows] == [(row.label, row.test, row.validation) for row in expected]


def test_threads_that_share_a_gpu_train_what_one_after_the_other_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one_by_one, _ = run_comparison(members(), plan(tmp_path / "one"), lambda line: None)
    monkeypatch.setattr("nas.runners.side_by_side._on_one_gpu", lambda config: True)
    monkeypatch.setattr("nas.runners.ray_start.start_ray", lambda *given: pytest.fail("trainings on one GPU need no other process"))
    threads, whole = run_comparison(members(), replace(plan(tmp_path / "two"), workers=2), lambda line: None)
    assert whole
    assert [(row.label, row.test) for row in threads] == [(row.label, row.test) for row in one_by_one]


def test_threads_stop_where_somebody_asks_and_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.runners.side_by_side._on_one_gpu", lambda config: True)
    pair, wanted = [members()[0], members()[2]], replace(plan(tmp_path), workers=2)
    assert not run_comparison(pair, wanted, lambda line: None, stop=lambda: True)[1]
    rows, whole = run_comparison(pair, wanted, lambda line: None)
    assert whole and [len(row.test) for row in rows] == [1, 1]


def test_whoever_stops_after_a_trainings_last_step_begins_no_other(tmp_path: Path) -> None:
    first_finished = tmp_path / "convnext-seed0" / "metrics.jsonl"
    run_comparison([members()[0], members()[2]], plan(tmp_path), lambda line: None, first_finished.exists)
    assert {path.parent.name for path in tmp_path.glob("*/config.yaml")} == {"convnext-seed0"}


def test_another_comparison_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    run_comparison([members()[0]], plan(tmp_path), lambda line: None)
    with pytest.raises(RunError, match="another training, which differs in recipe"):
        run_comparison([members()[0]], plan(tmp_path, epochs=2), lambda line: None)


def test_the_front_is_who_nobody_beats_in_both() -> None:
    rows = [
        Row("slow-good", "a", 1, 1, 0.0, (0.9,), (0.9,), 9.0),
        Row("fast-bad", "b", 1, 1, 0.0, (0.5,), (0.5,), 1.0),
        Row("beaten", "c", 1, 1, 0.0, (0.5,), (0.5,), 2.0),
        Row("failed", "d", reason="no memory | at all"),
    ]
    assert [(row.label, row.on_front) for row in ranked(rows)] == [
        ("slow-good", True),
        ("fast-bad", True),
        ("beaten", False),
        ("failed", False),
    ]
    text = markdown(rows, plan(Path()))
    assert "| slow-good * | a | 90.00 | 1 |" in text
    assert "failed: no memory / at all" in text


def test_a_table_of_failures_alone_can_be_written(tmp_path: Path) -> None:
    write_table([Row("failed", "d", reason="why")], plan(tmp_path))
    assert json.loads((tmp_path / "compare.json").read_text())["rows"][0]["latency_ms"] is None


def test_who_is_not_trained_yet_has_not_failed(tmp_path: Path) -> None:
    rows = (
        Row("half", "h", 1, 1, 0.0, (0.5,), (0.5,), 2.0, reason=UNFINISHED),
        Row("stopped", "s", reason=UNFINISHED),
        Row("broken", "b", reason="no memory"),
    )
    half, stopped, broken = Comparison(tmp_path, rows, whole=False).lines()
    assert half.endswith("h (unfinished)") and stopped.split() == ["–", "stopped", "unfinished"]
    assert broken.split() == ["failed", "broken", "no", "memory"]
    text = markdown(rows, plan(tmp_path))
    assert "| stopped | s | unfinished |" in text and "| broken | b | failed: no memory |" in text


def test_an_interrupted_comparison_ends_with_the_command_that_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["compare", "nasnet-a", "darts-v2", "--params", "20k", "-o", str(tmp_path / "a b")]
    monkeypatch.setattr("nas.compare", lambda *given, **options: Comparison(tmp_path, (), whole=False))
    monkeypatch.setattr("sys.argv", ["nas", *words])
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 130
    after = done.output.partition("\nnext:\n")[2].splitlines()
    assert shlex.split(after[-1]) == ["nas", *words]


def test_a_comparison_says_how_sure_its_images_make_it(tmp_path: Path) -> None:
    rows = [
        Row("best", "a", 1, 1, 0.0, (348 / 360,), (0.9,), 9.0, images=360),
        Row("near", "b", 1, 1, 0.0, (347 / 360,), (0.9,), 9.0, images=360),
        Row("far", "c", 1, 1, 0.0, (0.8,), (0.8,), 9.0, images=360),
        Row("failed", "d", reason="no memory"),
    ]
    said = "with 360 test images best has 94.3 to 98.1 % (95 %, Wilson); so many do not tell it from near"
    assert told_apart(rows) == said == Comparison(tmp_path, tuple(rows), whole=True).lines()[-1]
    assert f"{said[0].upper()}{said[1:]}." in markdown(rows, plan(tmp_path))
    assert told_apart(rows[3:]) == told_apart([replace(rows[0], images=0)]) == "", "an earlier version did not keep how many"


def test_processes_that_train_at_once_have_to_be_started() -> None:
    assert Expected(2.0, 1, 4, 2, 1.5).seconds == START_SECONDS["ray"] + 2 * 2.0 * 1.5
    assert Expected(2.0, 1, 4, 1, 1.0).seconds == START_SECONDS["local"] + 4 * 2.0


def test_the_time_that_is_left_goes_by_rounds_of_trainings() -> None:
    assert seconds_left(1, 4, 2, 30.0) == seconds_left(2, 4, 2, 30.0) == 30
    assert seconds_left(0, 4, 2, 30.0) == seconds_left(4, 4, 2, 60.0) == 0
    assert seconds_left(3, 4, 2, 65.0) == 0, "the last is about to end"


def test_a_run_hands_its_data_on_to_trainings_and_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"tiny": DataSettings(name="digits", split_seed=3), "other": DataSettings(name="folder", root="photos")}
    monkeypatch.setattr("nas.api.wishes.data_of", known.get)
    assert own_data({}, "tiny", "nasnet-a") == own_data({"data": None, "settings": ()}, "nasnet-a", "tiny") == known["tiny"]
    assert own_data({}, "nasnet-a") is own_data({"data": "cifar10"}, "tiny", "other") is None
    assert own_data({"settings": ["data.name=cifar10"]}, "tiny") is None
    with pytest.raises(ConfigError, match="searched on different ones: tiny on digits, other on photos"):
        own_data({}, "tiny", "other")


def test_members_are_named_apart_and_drawn_the_same_every_time() -> None:
    chosen = choose_members(["nasnet-a"], 2, "nasnet", seed=0)
    assert [member.label for member in chosen] == ["nasnet-a", "random-1", "random-2"]
    assert chosen[1].genotype != chosen[2].genotype
    assert choose_members(["nasnet-a"], 2, "nasnet", seed=0) == chosen
    with pytest.raises(ConfigError, match="at least two members"):
        choose_members(["nasnet-a"], 0, "nasnet", seed=0)
    with pytest.raises(ConfigError, match="'nasnet-a' is named twice"):
        choose_members(["nasnet-a", "nasnet-a"], 0, "nasnet", seed=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nasnet-a", "darts-v2"], "give --macs, --params or --latency"),
        (["nasnet-a", "darts-v2", "--latency", "8"], "--latency must be a time with its unit"),
        (["nasnet-a", "darts-v2", "--latency", "8ms", "--latency-on", "tpu"], "latency_on must be auto, cpu, cuda, cuda:N or onnx"),
        (["nasnet-a", "darts-v2", "--latency", "8ms", "--macs", "10M"], "--macs and --latency exclude each other"),
        (["nasnet-a", "darts-v2", "--macs", "10m"], "--macs must be a number"),
        (["nasnet-a", "--macs", "10M"], "at least two members"),
        (["nasnet-a", "darts-v9", "--macs", "10M"], "did you mean 'darts-v"),
        (["nasnet-a", "--random", "1", "--space", "spiral", "--macs", "10M"], "spiral"),
        (["nasnet-a", "darts-v2", "--macs", "10M", "--recipe", "slow"], "slow"),
        (["--again", "compared", "--dry-run"], "`nas show compared` says"),
    ],
)
def test_bad_input_gets_one_message(arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["compare", *arguments])
    assert result.exit_code != 0
    assert message in str(result.exception) + result.output
    assert list(tmp_path.iterdir()) == []
