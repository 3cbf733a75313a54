"""Which proxy task tells architectures apart best for its cost? Random NASNet cells, each trained with several seeds.

    python benchmarks/proxy_tasks.py                        # the candidates below, 10 cells, 2 seeds, one CPU thread
    python benchmarks/proxy_tasks.py --data digits
    python benchmarks/proxy_tasks.py --task fidelity.image_size=8 --task fidelity.filters=16

A line a task: CPU seconds a child (mean, worst), rewards (mean, lowest, highest), the standard deviation of rewards between
cells once the seeds' part is taken out (*signal*) and between seeds of a cell (*noise*), their ratio, and the rank
correlation of the rewards of the first two seeds. A ratio of 1 says that half of the variance of a reward is luck.
"""

import argparse
import itertools
import random
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import spearmanr

from controllers.controller import Completed
from nas.data.dataset import Dataset
from nas.data.prepared import prepare_dataset
from nas.data.registry import load_dataset
from nas.evaluators.child import TrainingEvaluator
from nas.runs.config import SearchConfig
from search_spaces.genotype import Genotype
from search_spaces.nasnet import NASNET
from search_spaces.space import sample_actions

FIRST_CELL_SEED = 1000
COMMON = {
    "cifar10": {"fidelity.cells": 1, "fidelity.validation_examples": 2000, "data.name": "cifar10"},
    "digits": {"fidelity.cells": 1, "data.name": "digits", "data.validation_examples": 479},
}
KEYS = (
    "fidelity.image_size",
    "fidelity.filters",
    "fidelity.train_examples",
    "fidelity.epochs",
    "training.batch_size",
    "training.learning_rate",
    "training.augmentation",
)
CANDIDATES = {
    "cifar10": (
        (16, 8, 2000, 2, 32, 0.1, "shift_flip"),
        (16, 8, 4000, 1, 64, 0.1, "shift_flip"),
        (16, 8, 5000, 1, 32, 0.05, "none"),
        (12, 8, 7000, 1, 64, 0.05, "none"),
        (8, 8, 8000, 1, 64, 0.1, "none"),
        (8, 16, 8000, 1, 64, 0.1, "none"),
        (8, 16, 6000, 1, 32, 0.1, "none"),
    ),
    "digits": (
        (8, 4, 600, 2, 64, 0.1, "shift_flip"),
        (8, 4, 640, 2, 64, 0.1, "none"),
        (8, 4, 640, 1, 32, 0.1, "none"),
        (8, 8, 640, 1, 32, 0.1, "none"),
        (8, 8, 640, 2, 64, 0.1, "none"),
        (8, 8, 640, 2, 64, 0.03, "none"),
    ),
}


@dataclass(frozen=True)
class Measured:
    """Rewards (cells, seeds) of a task, and the CPU seconds of its children."""

    rewards: npt.NDArray[np.float64]
    seconds: npt.NDArray[np.float64]

    def line(self) -> str:
        """The figures that the module's docstring explains."""
        whole = self.rewards[~np.isnan(self.rewards).any(axis=1)]
        signal, noise = signal_and_noise(whole)
        rank = spearmanr(whole[:, 0], whole[:, 1]).statistic
        return (
            f"{self.seconds.mean():5.2f} s, worst {self.seconds.max():5.1f} | "
            f"reward {whole.mean():.3f} ({whole.min():.3f}–{whole.max():.3f}) | "
            f"signal {signal:.4f} noise {noise:.4f} ratio {signal / noise:4.2f} | rank {rank:+.2f} | failed {np.isnan(self.rewards).sum()}"
        )


def signal_and_noise(rewards: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Standard deviations of rewards (cells, seeds): between cells once the seeds' part is taken out, and between seeds of a cell."""
    noise = float(rewards.var(axis=1, ddof=1).mean() ** 0.5)
    return float(max(0.0, rewards.mean(axis=1).var(ddof=1) - noise**2 / rewards.shape[1]) ** 0.5), noise


def configure(settings: dict[str, object]) -> SearchConfig:
    """A configuration from dotted keys."""
    document: dict[str, dict[str, object]] = {}
    for key, value in settings.items():
        section, name = key.split(".")
        document.setdefault(section, {})[name] = value
    return SearchConfig.model_validate(document)


def measure(config: SearchConfig, dataset: Dataset, cells: int, seeds: int) -> Measured:
    """Train every cell with every seed."""
    evaluator = TrainingEvaluator(prepare_dataset(dataset, config.data, config.preparation()), config)
    rewards, seconds = np.full((cells, seeds), np.nan), np.zeros((cells, seeds))
    next(evaluator.evaluate(NASNET.decode(sample_actions(NASNET, random.Random(0))), 0, None))  # what PyTorch sets up once
    for cell, seed in itertools.product(range(cells), range(seeds)):
        rewards[cell, seed], seconds[cell, seed] = train_once(evaluator, FIRST_CELL_SEED + cell, seed)
    return Measured(rewards, seconds)


def train_once(evaluator: TrainingEvaluator, cell: int | Genotype, seed: int) -> tuple[float, float]:
    """Reward of a cell or of the random one of that number, not a number where it failed, and the CPU seconds that it took."""
    genotype = NASNET.decode(sample_actions(NASNET, random.Random(cell))) if isinstance(cell, int) else cell
    child = evaluator.evaluate(genotype, seed, None)
    started = time.process_time()
    while True:
        try:
            next(child)
        except StopIteration as end:
            outcome = end.value.outcome
            return outcome.reward if isinstance(outcome, Completed) else float("nan"), time.process_time() - started


def main() -> None:
    """Measure the tasks one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=sorted(COMMON), default="cifar10")
    parser.add_argument("--data-dir", help="folder that holds CIFAR-10; default NAS_DATA or ~/.cache/nas/data")
    parser.add_argument("--cells", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--task", action="append", default=[], metavar="KEY=VALUE", help="measure the first candidate with these changes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tasks = [dict(zip(KEYS, values, strict=True)) for values in CANDIDATES[arguments.data]]
    if arguments.task:
        import yaml

        tasks = [tasks[0] | {key: yaml.safe_load(value) for key, value in (change.split("=", 1) for change in arguments.task)}]
    common = COMMON[arguments.data] | ({"data.root": arguments.data_dir} if arguments.data_dir else {})
    dataset = load_dataset(configure(common).data)
    for task in tasks:
        measured = measure(configure(common | task), dataset, arguments.cells, arguments.seeds)
        print(", ".join(f"{key.split('.')[1]} {value}" for key, value in task.items()), "|", measured.line(), flush=True)


if __name__ == "__main__":
    main()
