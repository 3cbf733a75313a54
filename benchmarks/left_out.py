"""How well does the surrogate order cells that no surrogate chose? With features of cells and without, told few cells or many.

    python benchmarks/left_out.py                     # the random cells of the searches in benchmarks/data, trained for one pass
    python benchmarks/left_out.py --rows FILE.csv=24  # the first 24 trainings of a search that drew so many at random

Cells that a search has found were proposed because its surrogate predicted them to be good: how well it then orders them says little.
Random ones are a fair sample. Some of them, drawn anew each time, are told with their rewards; printed is Spearman's rank correlation of
what is predicted of all others with the rewards that they have: mean over draws, and its standard error over draws, which are
of the same cells.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sampled_objectives import read_rows
from scipy.stats import spearmanr

from controllers.surrogate import Surrogate
from search_spaces.nasnet import NASNET
from search_spaces.space import Actions, feature_table

DATA = Path(__file__).parent / "data"
RANDOM = (f"{DATA}/searched_at_random_1.csv=37", f"{DATA}/searched_by_cheap_draws_2.csv=24", f"{DATA}/searched_by_cheap_draws_3.csv=24")
TOLD = (10, 20, 40, 60)


def read(rows: str) -> list[tuple[Actions, float]]:
    """The first trainings at the first rung of ``FILE=COUNT``: cells and rewards."""
    path, count = rows.rsplit("=", 1)
    return list(zip(*read_rows([Path(path)]), strict=True))[: int(count)]


def correlation(cells: list[Actions], rewards: NDArray[np.float64], told: NDArray[np.int64], features: bool) -> float:
    """Spearman's rank correlation of rewards with predictions of all cells that are not told."""
    surrogate = Surrogate(NASNET.decisions, len(cells), 10, partial(feature_table, NASNET) if features else None)
    for place in told:
        surrogate.add(cells[place], float(rewards[place]))
    left = np.setdiff1d(np.arange(len(cells)), told)
    predicted = surrogate.prepare(np.array([cells[place] for place in left])).mean
    return float(spearmanr(predicted, rewards[left]).statistic)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", metavar="FILE=COUNT", default=RANDOM, help="CSV files, and how many rows are random cells")
    parser.add_argument("--draws", type=int, default=40)
    arguments = parser.parse_args()
    rewards: dict[Actions, list[float]] = {}
    for actions, reward in (pair for rows in arguments.rows for pair in read(rows)):
        rewards.setdefault(actions, []).append(float(reward))
    cells, means = list(rewards), np.array([np.mean(values) for values in rewards.values()])
    print(f"{len(cells)} cells, rewards {means.mean():.4f}, deviation {means.std(ddof=1):.4f}")
    print("| told | " + " | ".join(map(str, TOLD)) + " |\n" + "|---" * (len(TOLD) + 1) + "|")
    for name, features in (("decisions alone", False), ("features where they are likelier", True)):
        line = [name]
        for count in TOLD:
            rng = np.random.default_rng(count)
            found = [correlation(cells, means, rng.permutation(len(cells))[:count], features) for _ in range(arguments.draws)]
            line.append(f"{np.mean(found):.2f} ± {np.std(found, ddof=1) / len(found) ** 0.5:.2f}")
        print(f"| {' | '.join(line)} |")


if __name__ == "__main__":
    main()
