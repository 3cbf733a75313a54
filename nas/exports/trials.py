"""A run's trials as a file for spreadsheets and data frames: CSV, or parquet with the types of its columns. No torch."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.exports.handover import ExportError


@dataclass(frozen=True)
class TrialTable:
    """Rows of plain values, the same columns in all (``nas.runs.trial_table``)."""

    rows: Sequence[Mapping[str, Any]]

    def columns(self) -> list[str]:
        """The names of the columns. Raises ExportError where there is no trial."""
        if not self.rows:
            raise ExportError("a table of trials needs at least one trial, but this run has none yet")
        return list(self.rows[0])


def write_csv(table: TrialTable, path: str | Path) -> str:
    """Write the table; what a trial has not stays empty."""
    path = Path(path)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, table.columns(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table.rows)
    with path.open(encoding="utf-8", newline="") as file:
        found = sum(1 for _ in csv.DictReader(file))
    return _said(table, found)


def write_parquet(table: TrialTable, path: str | Path) -> str:
    """Write the table with pyarrow, which finds the columns' types. Raises ExportError where that is not installed."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ExportError("parquet needs pyarrow, which is not installed: pip install 'nas-engine[tables]'; or take csv") from None
    table.columns()
    parquet.write_table(pyarrow.Table.from_pylist([dict(row) for row in table.rows]), path)
    return _said(table, parquet.read_metadata(path).num_rows)


def _said(table: TrialTable, found: int) -> str:
    if found != len(table.rows):
        raise ExportError(f"the table, read back, has {found} rows, but the run has {len(table.rows)} trials")
    return f"read back: all {found} trials, {len(table.columns())} columns"
