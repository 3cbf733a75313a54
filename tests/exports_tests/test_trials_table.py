"""A run's trials as a table: a row for every one, the same in CSV, parquet and pandas, and what cannot be had is said."""

import csv
import json
from pathlib import Path

import pytest

import nas
from nas.errors import ConfigError, RunError
from nas.runs.config import config_from_document
from nas.runs.folder import create
from search_spaces.genotype import from_document

SETTINGS = {
    "evaluator": "synthetic",
    "synthetic.noise": 0.05,
    "synthetic.failures": {"exception": 0.2},
    "ladder": [{"children": 3, "seeds": 2, "epochs": 7}],
    "cards": ["nasnet-a"],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("place") / "run"
    return nas.search("nasnet", budget=20, controller="random", runner="local", run=folder, seed=5, settings=SETTINGS)


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def test_every_trial_has_a_row_that_says_what_was_trained_and_what_became_of_it(run) -> None:
    found = rows(nas.export(run, "csv").text)
    state = run.state
    assert [int(row["trial"]) for row in found] == list(state.trials)
    for row, trial in zip(found, state.trials.values(), strict=True):
        assert int(row["rung"]) == trial.rung and row["card"] == (trial.card or "")
        assert row["reward"] == ("" if trial.reward is None else str(trial.reward))
        assert int(row["epochs"]) == (7 if trial.rung else run.config.fidelity.epochs)
        genotype = from_document(json.loads(row["genotype"]))
        assert genotype == (state.cards[trial.card] if trial.card else run.space.decode(trial.proposal.actions))
    assert all(row["params"] == "" or row["params"].isdigit() for row in found), "a number of parameters has no decimals"
    outcomes = {row["outcome"] for row in found}
    assert "completed" in outcomes and len({row["seed"] for row in found}) == len(found)
    assert [row["reason"] != "" for row in found] == [row["outcome"] == "failed" for row in found]


def test_the_seed_of_a_row_is_the_one_that_the_child_was_given(tmp_path: Path) -> None:
    run = nas.new_run("nasnet", budget=2, controller="random", run=tmp_path / "own")
    with run:
        asked = [run.ask(), run.ask()]
        for child in asked:
            run.tell(child, 0.5)
    assert [int(row["seed"]) for row in rows(nas.export(run, "csv").text)] == [child.seed for child in asked]


def test_parquet_and_pandas_have_the_same_with_types(run, tmp_path: Path) -> None:
    from pyarrow import parquet

    done = nas.export(run.path, "parquet", tmp_path / "trials.parquet")
    assert "read back: all" in done.checked
    table = parquet.read_table(tmp_path / "trials.parquet").to_pylist()
    text = rows(nas.export(run, "csv").text)
    assert [row["reward"] for row in table] == [float(row["reward"]) if row["reward"] else None for row in text]
    assert isinstance(table[0]["trial"], int) and list(table[0]) == list(text[0]) == list(run.to_pandas().columns)


def test_what_cannot_be_had_is_said(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="the trials of a run, but got a genotype: nasnet-a"):
        nas.export("nasnet-a", "csv")
    with pytest.raises(ConfigError, match=r"must end in \.csv"):
        nas.export(run, "csv", tmp_path / "trials.txt")
    with pytest.raises(ConfigError, match=r"name it with --output, such as trials\.parquet"):
        nas.export(run, "parquet")
    with pytest.raises(RunError, match="ledger"):
        nas.export(create(tmp_path / "empty", config_from_document({})).path, "csv")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install 'nas-engine\[tables\]'; or take csv"):
        nas.export(run, "parquet", tmp_path / "again.parquet")
    assert not list(tmp_path.glob("again*"))
