"""Tables of trained architectures: read from CSV, offered as an evaluator, with errors that name the row."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from controllers.controller import Completed, Failed
from nas.errors import DataError
from nas.evaluators.table import Columns, TableEvaluator, read_table, read_trainings
from search_spaces.genotype import to_document
from search_spaces.nasbench201 import NASBENCH201
from search_spaces.space import CellSpace

TINY = CellSpace("tiny", operations=("identity", "sep_conv_3x3"), nodes=1, combine=("add",), cells=("normal",))
CSV = """arch,s1,s2,test,hours,e1,e4
|none~0|+|none~0|none~1|+|none~0|none~1|none~2|,10,12,11,5,1,2
|nor_conv_3x3~0|+|none~0|none~1|+|none~0|nor_conv_1x1~1|none~2|,80,,81,50,40,60
"""
COLUMNS = Columns("arch", ("s1", "s2"), report="test", seconds="hours", fidelities={4: "e4", 1: "e1"})


def write(tmp_path: Path, text: str, name: str = "table.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def finish(evaluation):
    """What an evaluator yields and returns."""
    reports = []
    while True:
        try:
            reports.append(next(evaluation))
        except StopIteration as end:
            return reports, end.value


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz"])
def test_reads_per_cent_and_empty_trainings(tmp_path, name):
    table = read_table([write(tmp_path, CSV, name)], NASBENCH201, COLUMNS)
    assert table.actions == ((0,) * 6, (3, 0, 0, 0, 2, 0))
    np.testing.assert_allclose(table.mean_reward(), [0.11, 0.80])
    np.testing.assert_allclose(table.report, [0.11, 0.81])
    np.testing.assert_allclose(table.seconds, [5, 50])
    assert list(table.fidelities) == [1, 4]
    draws = np.array([table.one_training(seed) for seed in range(60)])
    assert set(draws[:, 0].round(3)) == {0.1, 0.12} and set(draws[:, 1]) == {0.8}
    np.testing.assert_array_equal(table.one_training(3), table.one_training(3))


def test_evaluator_reports_fidelities_and_returns_reward_and_metrics(tmp_path):
    evaluator = TableEvaluator(read_table([write(tmp_path, CSV)], NASBENCH201, COLUMNS))
    genotype = NASBENCH201.decode((3, 0, 0, 0, 2, 0))
    reports, evaluation = finish(evaluator.evaluate(genotype, 0, None))
    assert [(report.epoch, report.reward) for report in reports] == [(1, 0.4), (4, 0.6)]
    assert evaluation.outcome == Completed(0.8)
    assert evaluation.metrics == {"report": 0.81, "seconds": 50.0}
    zero = NASBENCH201.decode((0,) * 6)
    assert {finish(evaluator.evaluate(zero, seed, None))[1].outcome.reward for seed in range(20)} == {0.1, 0.12}
    assert finish(evaluator.evaluate(genotype, 0, 49.0))[1].outcome == Failed("time_limit", "50 s in the table, more than 49")


def test_equivalent_cells_share_a_row_and_others_fail(tmp_path):
    evaluator = TableEvaluator(read_table([write(tmp_path, CSV)], NASBENCH201, COLUMNS))
    twin = NASBENCH201.decode((0, 3, 0, 0, 0, 2))  # the same chain through node 2
    assert NASBENCH201.canonical(twin) != NASBENCH201.canonical(NASBENCH201.decode((3, 0, 0, 0, 2, 0)))
    same = NASBENCH201.decode((3, 0, 4, 0, 2, 0))  # an edge into a node that nothing consumes
    assert finish(evaluator.evaluate(same, 0, None))[1].outcome == Completed(0.8)
    assert isinstance(finish(evaluator.evaluate(twin, 0, None))[1].outcome, Failed)


def test_genotypes_actions_and_several_files(tmp_path):
    document = json.dumps(to_document(TINY.decode((0, 1, 0, 1)))).replace('"', '""')
    first = write(tmp_path, f'net,valid\n"{document}",0.5\n"1 1 0 0",0.25\n"0,0,1,1",0.75\n1111,1.0\n', "a.csv")
    second = write(tmp_path, "test\n0.1\n0.2\n0.3\n0.4\n", "b.csv")
    table = read_table([first, second], TINY, Columns("net", ("valid",), "test"))
    assert table.actions == ((0, 1, 0, 1), (1, 1, 0, 0), (0, 0, 1, 1), (1, 1, 1, 1))
    assert table.report.tolist() == [0.1, 0.2, 0.3, 0.4]
    assert table.row((1, 0, 1, 0)) == 0  # operands swapped
    assert table.row((0, 0, 0, 0)) is None


SECOND = "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|nor_conv_1x1~1|none~2|"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("80,,", ",,", "row 3: no value in any of the columns s1, s2"),
        (",81,", ",eighty,", "row 3: 'test' must be a number of at least 0, but got 'eighty'"),
        (",81,", ",-1,", "row 3: 'test' must be a number of at least 0"),
        (",81,", ",nan,", "row 3: 'test' must be a number of at least 0"),
        (",81,", ",181,", "an accuracy must be a share or per cent, but the table has 181"),
        (",60\n", "\n", "row 3: 7 values expected, as in the header, but got 6"),
        ("nor_conv_3x3~0", "conv~0", "row 3: node 1: an edge must be op~0"),
        ("|nor_conv_3x3~0|", "hello", "row 3: a cell must look like"),
        ("test", "accuracy", "no column 'test'; columns: arch, s1, s2, accuracy"),
        (SECOND, "000000", "row 3: the architecture '000000' is listed twice"),
        (SECOND, "000009", "row 3: edge.2-3: the action must be 0..4, but got 9"),
    ],
)
def test_broken_tables_name_the_row(tmp_path, old, new, words):
    assert old in CSV
    with pytest.raises(DataError) as caught:
        read_table([write(tmp_path, CSV.replace(old, new))], NASBENCH201, COLUMNS)
    assert words in str(caught.value) and str(caught.value).count(str(tmp_path)) == 1, "the file is named, once"


def test_unreadable_files(tmp_path):
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_table([tmp_path / "none.csv"], NASBENCH201, COLUMNS)
    with pytest.raises(DataError, match="cannot be read"):
        read_table([write(tmp_path, "x", "plain.csv").rename(tmp_path / "fake.csv.gz")], NASBENCH201, COLUMNS)
    with pytest.raises(DataError, match="not a CSV file with a header"):
        read_table([write(tmp_path, "")], NASBENCH201, COLUMNS)
    for content, words in (
        ("", "not a CSV file with a header: its first line is empty"),
        ("\n0.5\n", "not a CSV file with a header: its first line is empty"),
        ("arch;s1\n0 0 0 0 0 0;0,5\n", "not a CSV file with commas between its columns: its first line is 'arch;s1'"),
        ("arch\ts1\n", "not a CSV file with commas between its columns: its first line is 'arch\\ts1'"),
    ):
        for read in (lambda path: read_table([path], NASBENCH201, COLUMNS), lambda path: read_trainings(path, NASBENCH201)):
            with pytest.raises(DataError) as caught:
                read(path := write(tmp_path, content))
            assert str(caught.value) == f"{path}: {words}"
    with pytest.raises(DataError, match="same number of rows, at least one"):
        read_table([write(tmp_path, "arch\n")], NASBENCH201, COLUMNS)
