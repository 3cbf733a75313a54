"""A search whose children are looked up in a table: what it finds, records and refuses, as a person runs it."""

import csv
import gzip
import itertools
from pathlib import Path

import pytest
from support.paths import SHARED_DATA
from support.processes import Running, run_nas

from controllers.controller import Completed
from nas.errors import ConfigError, DataError
from nas.evaluators.registry import build_evaluator, prepare_shared
from nas.evaluators.settings import TableSettings
from nas.runs.config import SearchConfig, build_config
from nas.runs.folder import RunFolder
from search_spaces.registry import load_space

SPACE = """schema: nas.space/1
name: tiny
operations: [identity, sep_conv_3x3]
nodes: 1
cells: [normal]
"""
REAL = SHARED_DATA / "nasbench201.csv.gz"


def nas(arguments: list[str], cwd: Path) -> Running:
    return run_nas(arguments, cwd, COLUMNS="160")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A space of 16 action sequences and its table: each architecture is worth the share of its ones, in per cent."""
    (tmp_path / "tiny.yaml").write_text(SPACE)
    rows = ["net,valid,second,test,took,half"]
    for actions in itertools.product("01", repeat=4):
        worth = 20 + 15 * actions.count("1")
        rows.append(f"{''.join(actions)},{worth},{worth + 1},{worth - 5},{worth / 10},{worth / 2}")
    (tmp_path / "table.csv.gz").write_bytes(gzip.compress("\n".join(rows).encode()))
    return tmp_path


SEARCH = ["search", "--space", "tiny.yaml", "--preset", "laptop", "--runner", "local", "--controller", "random"]
TABLE = ["--set", "evaluator=table", "--set", "table.path=table.csv.gz", "--set", "table.architecture=net"]


def test_a_search_finds_the_best_of_the_table_and_resumes_elsewhere(folder: Path) -> None:
    columns = [
        "--set",
        "table.column=valid",
        "--set",
        "table.report=test",
        "--set",
        "table.seconds=took",
        "--set",
        "table.fidelities={5: half}",
    ]
    done = nas([*SEARCH, *TABLE, *columns, "--budget", "4", "--run", "found"], folder)
    assert done.returncode == 0, done.stderr
    assert f"looked up in {folder}/table.csv.gz, reward = valid" in done.stdout
    assert "4 of 4 children trained" in done.stdout
    (folder / "elsewhere").mkdir()
    again = nas(["search", "--resume", "../found", "--budget", "16"], folder / "elsewhere")
    assert again.returncode == 0, again.stderr
    assert "the search space is exhausted" in again.stdout  # 16 sequences, fewer different cells
    state = RunFolder(folder / "found").state()
    best = state.ranked()[0]
    assert best.reward == pytest.approx(0.8)
    assert best.evaluation is not None
    assert best.evaluation.metrics == {"seconds": 8.0, "report": pytest.approx(0.75)}


def test_a_run_does_not_go_on_with_another_table(folder: Path) -> None:
    assert nas([*SEARCH, *TABLE, "--set", "table.column=valid", "--budget", "2", "--run", "found"], folder).returncode == 0
    shown = nas(["search", "--resume", "found", "--budget", "2"], folder)
    assert shown.returncode == 0, shown.stderr
    text = gzip.decompress((folder / "table.csv.gz").read_bytes()).decode()
    (folder / "table.csv.gz").write_bytes(gzip.compress(text.replace("80", "81").encode()))
    done = nas(["search", "--resume", "found", "--budget", "4"], folder)
    assert done.returncode == 2
    assert "a run must go on with the table it began with" in done.stderr


def test_several_columns_are_trainings_of_which_the_seed_draws_one(folder: Path) -> None:
    settings = TableSettings(path=str(folder / "table.csv.gz"), architecture="net", column=["valid", "second"])
    config = SearchConfig(space=str(folder / "tiny.yaml"), evaluator="table", table=settings)
    evaluator = build_evaluator(config, prepare_shared(config, None))
    genotype = load_space(str(folder / "tiny.yaml")).decode((1, 1, 1, 1))
    found = set()
    for seed in range(20):
        with pytest.raises(StopIteration) as end:
            next(evaluator.evaluate(genotype, seed, None))
        found.add(end.value.value.outcome)
    assert found == {Completed(0.8), Completed(0.81)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["evaluator=table"], "evaluator=table needs table.path (a CSV file) and table.column"),
        (["evaluator=table", "table.path=table.csv.gz"], "table.column: field required"),
        (["evaluator=table", "table.path=table.csv.gz", "table.colour=valid"], "unknown setting 'table.colour'"),
        ([*TABLE[1::2], "table.column=best"], "no column 'best'; columns: net, valid, second, test, took, half"),
        ([*TABLE[1::2], "table.column=valid", "table.path=none.csv"], "none.csv: cannot be read: No such file or directory"),
        ([*TABLE[1::2], "table.column=valid", "table.architecture=valid"], "row 2: one action per decision must be given: 4, but got 2"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_message_and_leaves_no_run(folder: Path, settings: list[str], message: str) -> None:
    done = nas([*SEARCH, *itertools.chain(*(("--set", setting) for setting in settings)), "--run", "found"], folder)
    assert done.returncode == 2, done.stdout
    assert message.lower() in done.stderr.lower().replace("\n", " ")
    assert "Traceback" not in done.stderr
    assert not (folder / "found").exists()


def test_settings_are_checked_where_they_are_read() -> None:
    with pytest.raises(ConfigError, match=r"needs table\.path"):
        build_config("laptop", ["evaluator=table"])
    with pytest.raises(DataError, match="cannot be read"):
        settings = TableSettings(path="none.csv", column="valid")
        prepare_shared(SearchConfig(space="nasbench201", evaluator="table", table=settings), None)


@pytest.mark.skipif(not REAL.exists(), reason="needs NAS-Bench-201's table")
def test_nasbench201_is_searched_by_its_table(tmp_path: Path) -> None:
    arguments = ["search", "--space", "nasbench201", "--preset", "laptop", "--runner", "local", "--controller", "evolution"]
    table = [f"table.path={REAL.resolve()}", "table.column=cifar10_valid", "table.report=cifar10_test", "evaluator=table"]
    done = nas([*arguments, *itertools.chain(*(("--set", setting) for setting in table)), "--budget", "60", "--run", "found"], tmp_path)
    assert done.returncode == 0, done.stderr
    best = RunFolder(tmp_path / "found").state().ranked()[0]
    with gzip.open(REAL, "rt") as file:
        rows = {row["arch"]: row for row in csv.DictReader(file)}
    space = load_space("nasbench201")
    row = rows[space.write_text(best.proposal.actions)]  # type: ignore[attr-defined]
    assert best.reward == pytest.approx(float(row["cifar10_valid"]) / 100)
    assert best.reward > 0.9  # a random cell's mean is 0.84
