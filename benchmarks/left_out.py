"""How well does the surrogate order cells that no surrogate chose? With features of cells, without, and having learnt from other images.

    python benchmarks/left_out.py                     # the random cells of the searches in benchmarks/data, trained for one pass
    python benchmarks/left_out.py --rows FILE.csv=24  # the first 24 trainings of a search that drew so many at random
    python benchmarks/left_out.py --across            # the first children of one search are told, those of the others predicted
    python benchmarks/left_out.py --climbed           # what predicts the training on the rung above, by which networks are judged
    python benchmarks/left_out.py --apart             # how much rewards of cells differ that differ in so many decisions

Cells that a search has found were proposed because its surrogate predicted them to be good: how well it then orders them says little.
Random ones are a fair sample. Some of them, drawn anew each time, are told with their rewards; printed is Spearman's rank correlation of
what is predicted of all others with the rewards that they have: mean over draws, and its standard error over draws, which are
of the same cells.

``--across`` tells what a search tells, cells that its controller chose, and asks for cells that it had no hand in: the children of each of
the other searches, which rank among themselves. Printed is the mean correlation over these, for every search told, and over all.

``--climbed`` is of the cells that searches sent up: a linear model of their rewards there by those that they have as children, and by what
is expected of them by others' children alone: of the other searches, of random cells and searches on CIFAR-100.
"""

import argparse
from collections.abc import Iterable, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np
from sampled_objectives import read_rows
from scipy.stats import spearmanr

from controllers.options import PolicyGradientOptions
from controllers.surrogate import TRUST, Point, Surrogate
from nas.runs.config import build_config
from nas.runs.experience import experience_of
from search_spaces.nasnet import NASNET
from search_spaces.space import Actions, feature_table

DATA = Path(__file__).parent / "data"
RANDOM = (f"{DATA}/searched_at_random_1.csv=37", f"{DATA}/searched_by_cheap_draws_2.csv=24", f"{DATA}/searched_by_cheap_draws_3.csv=24")
TOLD = (10, 20, 40, 60)
SEARCHES = tuple(
    f"{DATA}/searched_{name}.csv"
    for name in ("by_features_1", "by_features_2", "at_random_1", "by_cheap_draws_2", "by_cheap_draws_3", "by_default_3")
)
CLIMBED = tuple(f"{DATA}/searched_by_{name}.csv" for name in ("steps_1", "steps_2", "learning_3"))
"""Three searches whose second rung is the target's training."""
JUDGED = (*CLIMBED, *(f"{DATA}/searched_by_{name}.csv" for name in ("going_apart_1", "alternating_3")))
"""All of these."""
RANDOM_ON_CIFAR100 = 160
"""How many trainings of the packaged table are random cells': the first."""
TOLD_ACROSS = (8, 15, 30, 65)
APART = ((1, 1), (2, 2), (3, 3), (4, 5), (6, 8), (9, 12), (13, 18), (19, 50))
WAYS = (("decisions alone", False, ""), ("with features", True, ""), ("and learnt from cifar100", True, "cifar100"))
"""A surrogate's name, whether it looks at features, and what it has learnt from before."""


def read(rows: str) -> list[tuple[Actions, float]]:
    """The first trainings at the first rung of ``FILE=COUNT``, or of ``FILE`` all: cells and rewards."""
    path, _, count = rows.partition("=")
    return list(zip(*read_rows([Path(path)]), strict=True))[: int(count) if count else None]


def show_across(paths: Sequence[str]) -> None:
    """Print the table of ``--across``."""
    searches = [read(path) for path in paths]
    print("| told | surrogate | " + " | ".join(Path(path).stem for path in paths) + " | mean |\n" + "|---" * (len(paths) + 3) + "|")
    for count in TOLD_ACROSS:
        for name, features, learnt in WAYS:
            means = across(searches, count, features, learnt)
            print(f"| {count} | {name} | " + " | ".join(f"{mean:.2f}" for mean in (*means, np.mean(means))) + " |")


def show_apart(searches: Sequence[list[tuple[Actions, float]]]) -> None:
    """Print the table of ``--apart``: the square root of half the mean squared difference of two rewards of one search (its variogram)."""
    differing, halves = [], []
    for search in searches:
        cells, rewards = (np.array(column) for column in zip(*search, strict=True))
        one, other = np.triu_indices(len(cells), 1)
        differing.append((cells[one] != cells[other]).sum(1))
        halves.append((rewards[one] - rewards[other]) ** 2 / 2)
    apart, squared = np.concatenate(differing), np.concatenate(halves)
    print("| decisions that differ | pairs | half the mean squared difference, its root |\n|---|---|---|")
    for low, high in APART:
        there = squared[(apart >= low) & (apart <= high)]
        if len(there):
            print(f"| {low} to {high} | {len(there)} | {np.sqrt(there.mean()):.4f} |")


def show_climbed() -> None:
    """Print the table of ``--climbed``."""
    children, above = ([averaged(zip(*read_rows([Path(path)], rung), strict=True)) for path in JUDGED] for rung in (0, 1))
    packaged = earlier("cifar100")
    found: list[tuple[float, float, float, float, float]] = []
    for place, (own, higher) in enumerate(zip(children, above, strict=True)):
        others = [Point(*cell) for other in (*children[:place], *children[place + 1 :]) for cell in other.items()]
        cells = [cell for cell in higher if cell in own]
        columns = [expected(points, cells) for points in (others, packaged[:RANDOM_ON_CIFAR100], packaged)]
        found += zip([own[cell] for cell in cells], *columns, [higher[cell] for cell in cells], strict=True)
    child, *expectations, target = np.array(found).T
    print(f"| {len(found)} cells | coefficients | residual | rank correlation of the last\n|---|---|---|---|")
    for name, columns in (
        ("reward as a child", [child]),
        ("and what the other searches' children let one expect", [child, expectations[0]]),
        ("… random cells on CIFAR-100", [child, expectations[1]]),
        ("… these and two searches on CIFAR-100", [child, expectations[2]]),
    ):
        table = np.column_stack([*columns, np.ones(len(target))])
        weights = np.linalg.lstsq(table, target, rcond=None)[0]
        residual = float((target - table @ weights).std())
        words = ", ".join(f"{weight:.4f}" for weight in weights)
        print(f"| {name} | {words} | {residual:.4f} | {spearmanr(columns[-1], target).statistic:.2f} |")


def averaged(trainings: Iterable[tuple[Actions, float]]) -> dict[Actions, float]:
    """Every cell once, with the mean of its rewards."""
    rewards: dict[Actions, list[float]] = {}
    for actions, reward in trainings:
        rewards.setdefault(actions, []).append(float(reward))
    return {actions: float(np.mean(values)) for actions, values in rewards.items()}


def expected(points: Sequence[Point], cells: Sequence[Actions]) -> Sequence[float]:
    """What these trainings let one expect of cells, in deviations."""
    surrogate = Surrogate(NASNET.decisions, 1, 1, partial(feature_table, NASNET))
    surrogate.begin_with(points)
    return [float(mean) / TRUST for mean in surrogate.prepare(np.array(cells)).mean]


def across(searches: Sequence[list[tuple[Actions, float]]], count: int, features: bool, learnt: str = "") -> list[float]:
    """For every search, told its first ``count`` children: the mean correlation over the children of each of the others."""
    means = []
    for told in searches:
        surrogate = taught(told[:count], features, learnt)
        means.append(float(np.mean([order(surrogate, other) for other in searches if other is not told])))
    return means


@cache
def earlier(name: str) -> tuple[Point, ...]:
    """The cells of a packaged table, and what they came to."""
    config = build_config("cpu", {"learn_from": [name]})
    return tuple(Point(*cell) for search in experience_of(config, NASNET) for cell in search.trained)


def taught(rows: Sequence[tuple[Actions, float]], features: bool, learnt: str = "") -> Surrogate:
    """The surrogate as the default controller has it, told these rewards."""
    options = PolicyGradientOptions()
    describe = partial(feature_table, NASNET) if features else None
    surrogate = Surrogate(NASNET.decisions, options.screen_capacity, options.screen_start, describe)
    if learnt:
        surrogate.begin_with(earlier(learnt))
    for actions, reward in rows:
        surrogate.add(actions, reward)
    return surrogate


def order(surrogate: Surrogate, rows: Sequence[tuple[Actions, float]]) -> float:
    """Spearman's rank correlation of rewards with what is predicted of their cells."""
    cells, rewards = zip(*rows, strict=True)
    return float(spearmanr(surrogate.prepare(np.array(cells)).mean, rewards).statistic)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", metavar="FILE=COUNT", default=RANDOM, help="CSV files, and how many rows are random cells")
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--across", action="store_true", help="tell one search's first children, predict the other searches'")
    parser.add_argument("--apart", action="store_true", help="how much rewards differ by how many decisions do")
    parser.add_argument("--climbed", action="store_true", help="what predicts the rewards of the cells that went up")
    arguments = parser.parse_args()
    if arguments.climbed:
        show_climbed()
        return
    if arguments.apart:
        show_apart([read(path) for path in SEARCHES])
        print("\nOn the rung above, two epochs at 32×32:")
        show_apart([list(zip(*read_rows([Path(path)], rung=1), strict=True)) for path in CLIMBED])
        return
    if arguments.across:
        show_across(SEARCHES)
        return
    rows = list(averaged(pair for file in arguments.rows for pair in read(file)).items())
    means = np.array([mean for _, mean in rows])
    print(f"{len(rows)} cells, rewards {means.mean():.4f}, deviation {means.std(ddof=1):.4f}")
    print("| told | " + " | ".join(map(str, TOLD)) + " |\n" + "|---" * (len(TOLD) + 1) + "|")
    for name, features, learnt in WAYS:
        line = [name]
        for count in TOLD:
            rng = np.random.default_rng(count)
            drawn = [rng.permutation(len(rows)) for _ in range(arguments.draws)]
            pairs = [([rows[i] for i in draw[:count]], [rows[i] for i in draw[count:]]) for draw in drawn]
            found = [order(taught(told, features, learnt), others) for told, others in pairs]
            line.append(f"{np.mean(found):.2f} ± {np.std(found, ddof=1) / len(found) ** 0.5:.2f}")
        print(f"| {' | '.join(line)} |")


if __name__ == "__main__":
    main()
