"""What is it worth to a search to learn from trainings on other images? On NAS-Bench-201, where every architecture is trained on both.

    python benchmarks/learning.py --table nasbench201.csv.gz nasbench201_extra.csv.gz
    python benchmarks/learning.py --table FILE … --earlier cifar10_valid --reward cifar100_valid --report cifar100_test

Every run searches by the rewards of one column and has learnt from so many random architectures' of another, drawn anew for each. Printed
is the mean report of the best by reward after some trainings, and its 95 % interval over runs, and the rank correlation of both columns.
"""

import argparse
import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from controllers.controller import Earlier
from nas.comparisons.controllers import Arm, Task, Terms, on_table, run_arm
from nas.evaluators.table import Columns, Table, read_table
from nas.tools.intervals import TWO_SIDED
from search_spaces.registry import load_space

LEARNT = (0, 10, 30, 100)
AFTER = (5, 10, 20, 50)


def drawn(before: Table, count: int, seed: int) -> tuple[Earlier, ...]:
    """So many of the table's architectures, as an earlier search would have left them."""
    rows = random.Random(seed).sample(range(len(before)), count)
    return (Earlier("other images", tuple((before.actions[row], float(before.rewards[row, 0])) for row in rows)),) if count else ()


def searched(task: Task, before: Table, terms: Terms, count: int, seed: int) -> Sequence[float]:
    """The reports of one search after ``AFTER`` trainings."""
    run = run_arm(Arm(f"learnt {count}", "ppo", earlier=drawn(before, count, seed)), task, terms, seed)
    return [float(run.report[after - 1]) for after in AFTER]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, nargs="+", required=True, help="CSV files with the same rows")
    parser.add_argument("--earlier", default="cifar100_valid", help="column that is learnt from")
    parser.add_argument("--reward", default="cifar10_valid")
    parser.add_argument("--report", default="cifar10_test")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first-seed", type=int, default=8000)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    space = load_space("nasbench201")
    table = read_table(given.table, space, Columns("arch", (given.reward,), given.report))
    before = read_table(given.table, space, Columns("arch", (given.earlier,)))
    task, seeds, terms = on_table(table), range(given.first_seed, given.first_seed + given.seeds), Terms(max(AFTER))
    print(f"{given.earlier} and {given.reward}: rank correlation {spearmanr(before.rewards[:, 0], table.rewards[:, 0])[0]:.2f}")
    print("| learnt from | " + " | ".join(f"after {after}" for after in AFTER) + " |\n" + "|---" * (len(AFTER) + 1) + "|", flush=True)
    with ProcessPoolExecutor(given.processes) as pool:
        for count in LEARNT:
            reports = 100 * np.array(list(pool.map(partial(searched, task, before, terms, count), seeds)))
            widths = TWO_SIDED * reports.std(0, ddof=1) / np.sqrt(len(reports))
            cells = " | ".join(f"{mean:.2f} ± {width:.2f}" for mean, width in zip(reports.mean(0), widths, strict=True))
            print(f"| {count} architectures | {cells} |", flush=True)


if __name__ == "__main__":
    main()
