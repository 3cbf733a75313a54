"""How well does the surrogate order cells that no surrogate chose? With features of cells and without, told few cells or many.

    python benchmarks/left_out.py                     # the random cells of the searches in benchmarks/data, trained for one pass
    python benchmarks/left_out.py --rows FILE.csv=24  # the first 24 trainings of a search that drew so many at random
    python benchmarks/left_out.py --across            # the first children of one search are told, those of the others predicted

Cells that a search has found were proposed because its surrogate predicted them to be good: how well it then orders them says little.
Random ones are a fair sample. Some of them, drawn anew each time, are told with their rewards; printed is Spearman's rank correlation of
what is predicted of all others with the rewards that they have: mean over draws, and its standard error over draws, which are
of the same cells.

``--across`` tells what a search tells, cells that its controller chose, and asks for cells that it had no hand in: the children of each of
the other searches, which rank among themselves. Printed is the mean correlation over these, for every search told, and over all.
"""

import argparse
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain
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
SEARCHES = tuple(
    f"{DATA}/searched_{name}.csv"
    for name in ("by_features_1", "by_features_2", "at_random_1", "by_cheap_draws_2", "by_cheap_draws_3", "by_default_3")
)
TOLD_ACROSS = (8, 15, 30, 65)
LEAST_TOLD = 5
WAYS = (("decisions alone", False), ("with features", True))


def read(rows: str) -> list[tuple[Actions, float]]:
    """The first trainings at the first rung of ``FILE=COUNT``, or of ``FILE`` all: cells and rewards."""
    path, _, count = rows.partition("=")
    return list(zip(*read_rows([Path(path)]), strict=True))[: int(count) if count else None]


def show_across(paths: Sequence[str]) -> None:
    """Print the table of ``--across``."""
    searches = [read(path) for path in paths]
    print("| told | surrogate | " + " | ".join(Path(path).stem for path in paths) + " | mean |\n" + "|---" * (len(paths) + 3) + "|")
    for count in TOLD_ACROSS:
        for name, features in WAYS:
            means = across(searches, count, features)
            print(f"| {count} | {name} | " + " | ".join(f"{mean:.2f}" for mean in (*means, np.mean(means))) + " |")


def across(searches: Sequence[list[tuple[Actions, float]]], count: int, features: bool) -> list[float]:
    """For every search, told its first ``count`` children: the mean correlation over the children of each of the others."""
    means = []
    for told in searches:
        others = [search for search in searches if search is not told]
        cells, rewards = zip(*told[:count], *chain(*others), strict=True)
        predicted = predictions(cells, np.array(rewards), range(len(told[:count])), features)
        ends = np.cumsum([len(search) for search in others])[:-1]
        parts = zip(np.split(predicted, ends), np.split(np.array(rewards)[-len(predicted) :], ends), strict=True)
        means.append(float(np.mean([spearmanr(*part).statistic for part in parts])))
    return means


def predictions(cells: Sequence[Actions], rewards: NDArray[np.float64], told: Iterable[int], features: bool) -> NDArray[np.float64]:
    """Posterior means of all cells that are not told."""
    surrogate = Surrogate(NASNET.decisions, len(cells), LEAST_TOLD, partial(feature_table, NASNET) if features else None)
    for place in told:
        surrogate.add(cells[place], float(rewards[place]))
    left = np.setdiff1d(np.arange(len(cells)), list(told))
    return surrogate.prepare(np.array([cells[place] for place in left])).mean


def correlation(cells: list[Actions], rewards: NDArray[np.float64], told: NDArray[np.int64], features: bool) -> float:
    """Spearman's rank correlation of rewards with predictions of all cells that are not told."""
    left = np.setdiff1d(np.arange(len(cells)), told)
    return float(spearmanr(predictions(cells, rewards, told, features), rewards[left]).statistic)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", metavar="FILE=COUNT", default=RANDOM, help="CSV files, and how many rows are random cells")
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--across", action="store_true", help="tell one search's first children, predict the other searches'")
    arguments = parser.parse_args()
    if arguments.across:
        show_across(SEARCHES)
        return
    rewards: dict[Actions, list[float]] = {}
    for actions, reward in (pair for rows in arguments.rows for pair in read(rows)):
        rewards.setdefault(actions, []).append(float(reward))
    cells, means = list(rewards), np.array([np.mean(values) for values in rewards.values()])
    print(f"{len(cells)} cells, rewards {means.mean():.4f}, deviation {means.std(ddof=1):.4f}")
    print("| told | " + " | ".join(map(str, TOLD)) + " |\n" + "|---" * (len(TOLD) + 1) + "|")
    for name, features in WAYS:
        line = [name]
        for count in TOLD:
            rng = np.random.default_rng(count)
            found = [correlation(cells, means, rng.permutation(len(cells))[:count], features) for _ in range(arguments.draws)]
            line.append(f"{np.mean(found):.2f} ± {np.std(found, ddof=1) / len(found) ** 0.5:.2f}")
        print(f"| {' | '.join(line)} |")


if __name__ == "__main__":
    main()
