"""`nas bench` as a person uses it: suites and flags, raw results that tables come from again, one clear message for nonsense."""

import json
import re
import subprocess
import sys
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from support.paths import ROOT
from support.processes import Running, run_nas

from controllers.options import ControllerError
from nas.comparisons.controllers import BenchWatcher
from nas.comparisons.results import load, run_missing
from nas.comparisons.suite import comparisons, parse_arm, read_suite
from nas.errors import ConfigError, RunError
from search_spaces.nasbench201 import NASBENCH201

SUITE = ROOT / "benchmarks" / "controllers.yaml"
DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up table of all NAS-Bench-201 cells in which convolutions are good."""
    folder = tmp_path_factory.mktemp("tables")
    worth = np.array([0, 3, 5, 8, 1])
    lines = ["arch,one,two,test,seconds,short"]
    for i, actions in enumerate(product(range(5), repeat=len(NASBENCH201.decisions))):
        reward = worth[list(actions)].sum() / 60 + (i % 7) / 1000
        lines.append(f"{' '.join(map(str, actions))},{reward:.4f},{reward + 0.02:.4f},{reward + 0.1:.4f},100,{reward / 2:.4f}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder


def suite(**changes: object) -> dict[str, object]:
    problem = {"files": ["table.csv"], "rewards": ["one", "two"], "report": "test", "seconds": "seconds"}
    entry = {"problem": "made-up", "controllers": ["blind", "climber"], "budget": 30, "seeds": 3, **changes}
    return {
        "schema": "nas.suite/1",
        "problems": {"made-up": {**problem, "fidelities": {2: "short"}, "epochs": 10}, "formula": {"objective": "synthetic"}},
        "controllers": {"blind": "random:repeats=paid", "climber": "local_search", "old": "evolution:population=5,sample=2"}
        | {"crowned": "random:crown=king"},
        "comparisons": {"first": entry},
    }


def bench(arguments: list[str], cwd: Path, columns: int = 170) -> Running:
    return run_nas(["bench", *arguments], cwd, COLUMNS=str(columns))


def test_a_controller_is_written_in_a_line():
    arm = parse_arm("tuned=evolution:population=30, sample=10,repeats=actions")
    assert (arm.label, arm.controller, dict(arm.options), arm.repeats) == (
        "tuned",
        "evolution",
        {"population": 30, "sample": 10},
        "actions",
    )
    assert parse_arm("ppo:screen=false,learning_rate=1e-3").options == {"screen": False, "learning_rate": 0.001}
    assert parse_arm("random").label == "random" and parse_arm("ppo:hidden=8").label == "ppo:hidden=8"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("magic", "unknown controller 'magic'; choose one of ppo"),
        ("evolution:size=3", "no option 'size'; valid options: population, sample"),
        ("evolution:population", "NAME:OPTION=VALUE"),
        ("evolution:population=1,population=2", "each option once"),
        ("evolution:population=[1]", "must be a number, a word"),
        ("random:repeats=often", "repeats must be one of canonical, actions, paid"),
    ],
)
def test_a_wrong_controller_is_refused(text: str, message: str):
    with pytest.raises(ControllerError, match=re.escape(message)):
        parse_arm(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"problem": "other"}, "unknown problem 'other'; problems: made-up, formula"),
        ({"controllers": ["blind", "nobody"]}, "unknown controller 'nobody'; controllers: blind, climber, old, crowned"),
        ({"controllers": ["blind", "blind"]}, "may be named once"),
        ({"budget": 0}, "comparisons.first.budget"),
        ({"checkpoints": [10, 40]}, "checkpoints must lie between 1 and 30, but got 40"),
        ({"in_flight": [0]}, "in_flight must lie between 1 and"),
        ({"search_fidelity": 3}, "must be one the problem has (epochs: 2), but got 3"),
        ({"promote": 5}, "needs a search fidelity"),
        ({"failures": 1.5}, "comparisons.first.failures"),
        ({"failures": 0.6, "false_highs": 0.6}, "must be at most 1 together, but got 0.6 and 0.6"),
        ({"controllers": ["crowned"]}, "crown must be one of reward, posterior, but got 'king'"),
        ({"problem": "formula", "search_fidelity": 2}, "epochs: none"),
        ({"speed": 3}, "unknown setting 'comparisons.first.speed'"),
    ],
)
def test_a_wrong_comparison_is_refused(changes: dict[str, object], message: str):
    with pytest.raises((ConfigError, ControllerError), match=re.escape(message)):
        comparisons(suite(**changes), "mine.yaml")


def test_the_suite_of_this_repository_is_valid_and_scales_down():
    assert {"cifar10", "cifar100", "cifar10-noisy", "cifar100-promoted", "synthetic"} <= {
        one.name for one in comparisons(read_suite(SUITE), "suite")
    }
    small = comparisons(read_suite(SUITE), "suite", ["cifar100-in-flight"], {"seeds": 2, "budget": 60})
    assert [len(one.seeds) for one in small] == [2] and small[0].checkpoints == (50, 60)
    assert [terms.in_flight for terms in small[0].terms] == [1, 8, 32, 128]


def test_results_are_kept_and_give_the_same_table_again(tables: Path, tmp_path: Path):
    (one,) = comparisons(suite(in_flight=[1, 4]), "mine.yaml")
    kept = load(one, tmp_path)
    assert kept.runs_left() == 12
    fresh = run_missing(kept, tables, 1, BenchWatcher())
    again = load(one, tmp_path)
    assert again.runs_left() == 0
    for before, after in zip(fresh.results(), again.results(), strict=True):
        assert before.arm.label == after.arm.label
        np.testing.assert_allclose(before.reports(), after.reports(), atol=1e-8)
        assert [run.distinct for run in before.runs] == [run.distinct for run in after.runs]
    assert [result.arm.label for result in again.results()] == [f"{n}, {w} in flight" for n in ("blind", "climber") for w in (1, 4)]


def test_runs_of_which_nothing_survived_are_kept_too(tables: Path, tmp_path: Path):
    (one,) = comparisons(suite(budget=3, seeds=8, failures=0.9), "mine.yaml")
    run_missing(load(one, tmp_path), tables, 1, BenchWatcher())
    runs = [run for record in load(one, tmp_path).records for run in record.runs]
    nothing = [run for run in runs if set(run.told) == {None}]
    assert nothing and all((run.distinct, run.changes) == (0, [[1, 0.0, 0.0]]) for run in nothing) and len(runs) == 16


def test_an_interrupted_comparison_goes_on_with_the_controllers_that_are_missing(tables: Path, tmp_path: Path):
    (one,) = comparisons(suite(), "mine.yaml")

    def stop(result: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_missing(load(one, tmp_path), tables, 1, BenchWatcher(on_result=stop))
    kept = load(one, tmp_path)
    assert [record.label for record in kept.records] == ["blind"] and kept.runs_left() == 3
    whole = run_missing(kept, tables, 1, BenchWatcher())
    assert whole.records[0] == kept.records[0] and whole.runs_left() == 0
    assert load(one, tmp_path, force=True).runs_left() == 6


def test_results_of_other_terms_or_options_are_not_mixed_in(tables: Path, tmp_path: Path):
    (one,) = comparisons(suite(controllers=["old"]), "mine.yaml")
    run_missing(load(one, tmp_path), tables, 1, BenchWatcher())
    with pytest.raises(RunError, match="budget is 30 there and 20 now"):
        load(comparisons(suite(controllers=["old"], budget=20), "mine.yaml")[0], tmp_path)
    document = suite(controllers=["old"])
    document["controllers"]["old"] = "evolution:population=6,sample=2"  # type: ignore[index]
    with pytest.raises(RunError, match="population of 'old' is 5 there and 6 now"):
        load(comparisons(document, "mine.yaml")[0], tmp_path)
    path = tmp_path / "first.json"
    path.write_text(path.read_text().replace('"trained":', '"trianed":'))
    with pytest.raises(RunError, match="not results of a comparison"):
        load(one, tmp_path)


def test_the_command_writes_a_table_a_picture_and_raw_results(tables: Path, tmp_path: Path):
    arguments = ["--table", "table.csv", "--reward", "one", "--reward", "two", "--report", "test", "--data", str(tables), "--noisy"]
    arguments += ["--controller", "blind=random:repeats=paid", "--controller", "local_search", "--budget", "20", "--seeds", "4"]
    done = bench([*arguments, "--processes", "2", "--output", "out"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "blind" in done.stdout and "local_search" in done.stdout and "ms a trial" in done.stdout
    markdown = (tmp_path / "out" / "comparison.md").read_text()
    raw = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert all(len(run["told"]) == 20 and max(run["told"]) == run["changes"][-1][2] for run in raw["results"][0]["runs"])
    last = [100 * run["changes"][-1][1] for run in raw["results"][0]["runs"]]
    assert "| blind | 4 |" in markdown and f"{np.mean(last):.2f} ± {1.96 * np.std(last, ddof=1) / 2:.2f}" in markdown
    assert (tmp_path / "out" / "comparison.png").read_bytes().startswith(b"\x89PNG")
    again = bench([*arguments, "--output", "out"], tmp_path, columns=80)
    assert again.returncode == 0 and "not run again" in again.stdout
    table = [line for line in again.stdout.splitlines() if line.startswith((" controller", " blind", " local_search"))]
    assert len(table) > 3 and max(map(len, table)) <= 80 and not any("…" in line for line in table), "whole numbers at 80 columns"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to compare"),
        (["--objective", "synthetic", "--controller", "magic"], "unknown controller 'magic'"),
        (["--table", "none.csv", "--reward", "r", "--controller", "random"], "none.csv: cannot be read"),
        (["--suite", str(SUITE), "--only", "nothing"], "no comparison 'nothing'; comparisons: cifar10,"),
    ],
)
def test_nonsense_gets_one_message_and_exit_code_2(arguments: list[str], message: str, tmp_path: Path):
    done = bench(arguments, tmp_path)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_a_killed_comparison_leaves_no_process_behind(tmp_path: Path):
    arguments = ["--objective", "synthetic", "--controller", "random", "--budget", "100000", "--seeds", "50", "--processes", "2"]
    process = subprocess.Popen([sys.executable, "-m", "nas.cli.main", "bench", *arguments], cwd=tmp_path, stdout=subprocess.DEVNULL)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        process.kill()
        pytest.skip("no /proc here")
    deadline = time.monotonic() + 60
    while len(workers := children.read_text().split()) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(4)  # let the workers import what they need
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while (left := [worker for worker in workers if _runs(worker)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(workers) >= 2 and not left


def _runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not (DATA / "nasbench201.csv.gz").exists(), reason="the benchmark's table is not beside the project")
def test_a_suite_entry_runs_on_the_real_table(tmp_path: Path):
    (one,) = comparisons(read_suite(SUITE), "suite", ["cifar100-promoted"], {"seeds": 2, "budget": 40})
    kept = run_missing(load(replace(one, arms=one.arms[:1]), tmp_path), DATA, 1, BenchWatcher())
    (result,) = kept.results()
    assert 0.6 < result.mean()[-1] < 0.7351 and all(run.simulated_seconds > 3600 for run in result.runs)
