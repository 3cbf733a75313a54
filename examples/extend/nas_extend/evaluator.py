"""The evaluator ``mobile-table``: a made-up table of what each layer is worth, made once and shared by all workers."""

from collections.abc import Generator

import numpy as np
from pydantic import Field

from controllers.controller import Completed
from nas.data.prepared import PreparedData
from nas.evaluators.evaluator import FRESH, Attempt, Evaluation, Report
from nas.evaluators.registry import EvaluatorRow
from nas.runs.config import SearchConfig
from nas.settings.base import Settings
from nas_extend.space import MOBILE
from search_spaces.genotype import Genotype


class TableOptions(Settings):
    """What ``--set evaluator_options.NAME=VALUE`` may say."""

    seed: int = Field(0, ge=0, description="another seed is another table")


class TableEvaluator:
    """The reward is the mean worth of the layers; a lower fidelity is the same with less of it known."""

    def __init__(self, table: np.ndarray, epochs: int) -> None:
        self._table, self._epochs = table, epochs

    def evaluate(
        self, genotype: Genotype, seed: int, time_limit: float | None, attempt: Attempt = FRESH
    ) -> Generator[Report, None, Evaluation]:
        """One report an epoch, and the reward."""
        epochs = self._epochs if attempt.fidelity is None else attempt.fidelity.epochs
        reward = float(np.mean([self._table[i, action] for i, action in enumerate(MOBILE.encode(genotype))]))
        for epoch in range(1, epochs + 1):
            yield Report(epoch, reward * epoch / epochs)
        return Evaluation(Completed(reward))


def prepare(config: SearchConfig, data: PreparedData | None) -> np.ndarray:
    """What all workers share: worths (8, 3) in [0, 1]."""
    options = TableOptions(**config.evaluator_options)
    return np.random.default_rng(options.seed).random((len(MOBILE.decisions), 3))


TABLE = EvaluatorRow(
    build=lambda config, table: TableEvaluator(table, config.fidelity.epochs),
    prepare=prepare,
    options=TableOptions,
    about="a made-up table of the space `mobile`",
)
