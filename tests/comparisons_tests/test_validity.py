"""`benchmarks/validity.py`: cells that searches sent up, by name, and how the rungs order what they are worth by the target's training."""

import subprocess
import sys

import pytest
import validity
from support.paths import ROOT

SCRIPT = ROOT / "benchmarks" / "validity.py"
ROWS = sorted(map(str, (ROOT / "benchmarks" / "data").glob("validity*.csv")))


def test_a_trial_of_a_search_has_the_cell_that_was_handed_over():
    """The winner's file was written by the search, the trial is decoded from its actions."""
    found, trial = (validity.genotype_of(name) for name in ("found_by_default_1", "searched_by_features_1/72"))
    assert (trial.normal, trial.reduction) == (found.normal, found.reduction)
    with pytest.raises(SystemExit, match=r"searched_by_features_1\.csv has no trial 999; it has 0, 1, 2, "):
        validity.genotype_of("searched_by_features_1/999")


def test_the_readmes_table_of_who_went_up_is_what_the_command_prints():
    done = subprocess.run([sys.executable, str(SCRIPT), "climbed", "--rows", *ROWS], capture_output=True, text=True, check=True)
    rows = [[word.strip() for word in line.strip("|").split("|")] for line in done.stdout.splitlines()]
    cells = [row for row in rows if row[0].startswith("searched") and "order" not in row[0]]
    readme = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    assert len(cells) == 16
    for _, trial, *scores, target, trainings in cells:
        told = [score for score in scores if score]
        worth = f"{100 * float(target):.1f}" + (f" ({trainings})" if trainings != "1" else "")
        line = next(line for line in readme.splitlines() if told[0] in line and told[1] in line)
        assert line.endswith(f"| {worth} |") and trial in line and all(score in line for score in told)
    overall = next(row for row in rows if row[0] == "in all: order")
    assert all(word in readme for word in overall[2:4]), overall


def test_orders_are_spearmans_of_those_that_were_trained_at_the_rung():
    table = [(0.1 * i, 0.9 - 0.1 * i, 0.5 if i < 3 else None, 0.2 * i) for i in range(6)]
    told = validity.orders("some", table).split("|")
    assert "6 cells" in told[2] and told[3].startswith(" 1.00") and told[4].startswith(" -1.00") and not told[5].strip()
