"""Chooses the evaluator that a configuration asks for; and the synthetic one, to try the whole engine in seconds. No torch."""

import json
import math
import os
import time
from collections.abc import Generator, Mapping

from controllers.controller import Completed, Failed, random_for
from nas.config import FailureReason, SearchConfig, SyntheticSettings
from nas.data.proxy import ProxyData
from nas.errors import ConfigError
from nas.evaluation import FRESH, Attempt, Evaluation, Evaluator, Report
from nas.synthetic import noisy_reward
from search_spaces.genotype import Genotype

SLICE_SECONDS = 0.05
"""The synthetic child looks at its time limit this often."""


def build_evaluator(config: SearchConfig, data: ProxyData | None) -> Evaluator:
    """The evaluator of a search, for one worker: it sets the worker's CPU threads and takes a GPU where there is one for it.

    Args:
        config: the search.
        data: what ``prepare`` made; None for evaluators that train nothing.

    Raises:
        ConfigError: the evaluator trains, and there are no data.
    """
    if config.evaluator == "synthetic":
        return SyntheticEvaluator(config.synthetic, config.fidelity.epochs)
    if data is None:
        raise ConfigError("evaluator `train` needs a data set, but none was prepared")
    import torch

    from nas.training import TrainingEvaluator

    torch.set_num_threads(config.runner.threads_per_child)
    share = config.runner.gpus_per_child
    if share == 0 or not torch.cuda.is_available():
        return TrainingEvaluator(data, config, "cpu")
    if share is not None and share < 1:
        torch.cuda.set_per_process_memory_fraction(share)  # Ray counts fractions of a GPU and does not enforce them
    torch.set_float32_matmul_precision("high")
    return TrainingEvaluator(data, config, "cuda")


class SyntheticEvaluator:
    """Scores genotypes of any space by the formula of ``nas.synthetic``; lasts, wavers and fails as it is told, by the seed.

    A child of ``epochs`` epochs reports after each, approaching its reward r as r · (1 − ½ (1 − epoch / epochs)²).
    Noise is added to r once per child, so that the last report and the reward agree.
    """

    def __init__(self, settings: SyntheticSettings, epochs: int) -> None:
        self._settings = settings
        self._epochs = epochs

    def evaluate(
        self, genotype: Genotype, seed: int, time_limit: float | None, attempt: Attempt = FRESH
    ) -> Generator[Report, None, Evaluation]:
        """Report and return as a training child would; see ``nas.evaluation.Evaluator``."""
        rng = random_for(seed, "synthetic")
        failure = choose_failure(self._settings.failures, rng.random())
        failing_epoch = rng.randrange(self._epochs) + 1 if failure else 0
        reward = noisy_reward(genotype, self._settings.objective, seed, self._settings.noise)
        done, spent = _restore(attempt.checkpoint)
        for epoch in range(done + 1, self._epochs + 1):
            if epoch == failing_epoch and failure in ("exception", "out_of_memory", "worker_lost", "hung"):
                _fail(failure)
            seconds = self._settings.seconds / self._epochs
            if epoch == failing_epoch and failure == "time_limit" and time_limit is not None:
                seconds = time_limit + 1
            while seconds > 0:
                if time_limit is not None and spent > time_limit:
                    return Evaluation(Failed("time_limit", f"more than {time_limit:g} s"), {"train_seconds": spent})
                attempt.beat()
                pause = min(seconds, SLICE_SECONDS)
                time.sleep(pause)
                seconds -= pause
                spent += pause
            if epoch == failing_epoch and failure == "diverged":
                return Evaluation(Completed(math.nan), {"train_seconds": spent})
            kept = json.dumps([epoch, spent]).encode() if epoch < self._epochs and attempt.keep(epoch) else None
            yield Report(epoch, reward * (1 - 0.5 * (1 - epoch / self._epochs) ** 2), {"seconds": spent}, kept)
        return Evaluation(Completed(reward), {"train_seconds": spent})


def _restore(checkpoint: bytes | None) -> tuple[int, float]:
    """The epochs done and the seconds spent by an earlier attempt; zeros where there was none, or the bytes are not its."""
    try:
        epoch, seconds = json.loads(checkpoint or b"[0, 0.0]")
        return int(epoch), float(seconds)
    except (ValueError, TypeError):
        return 0, 0.0


def choose_failure(rates: Mapping[FailureReason, float], draw: float) -> FailureReason | None:
    """The failure that a uniform draw in [0, 1) falls on, each reason having its rate; None beyond their sum."""
    for reason, rate in rates.items():
        if draw < rate:
            return reason
        draw -= rate
    return None


def _fail(reason: str) -> None:
    """Go wrong in a way that leaves no outcome to return."""
    if reason == "worker_lost":
        os._exit(1)
    if reason == "hung":
        time.sleep(1e6)
    if reason == "out_of_memory":
        raise MemoryError("synthetic: out of memory")
    raise RuntimeError("synthetic: an exception")
