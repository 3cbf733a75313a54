"""Scores genotypes by formula, with chosen durations and failures: the whole engine can be tried without training."""

import json
import os
import time
from collections.abc import Generator, Mapping

from controllers.controller import Completed, Failed, random_for
from nas.evaluators.evaluator import FRESH, Attempt, Evaluation, Report
from nas.evaluators.objective import noisy_reward
from nas.evaluators.settings import FailureReason, SyntheticSettings
from search_spaces.genotype import Genotype

SLICE_SECONDS = 0.05
"""The synthetic child looks at its time limit this often."""


class SyntheticEvaluator:
    """Scores genotypes of any space by the formula of ``nas.evaluators.objective``; lasts, wavers and fails as it is told, by the seed.

    A child of ``epochs`` epochs reports after each, approaching its reward r as r · (1 − ½ (1 − epoch / epochs)²).
    Noise is added to r once per child, so that the last report and the reward agree.
    """

    def __init__(self, settings: SyntheticSettings, epochs: int) -> None:
        self._settings = settings
        self._epochs = epochs

    def evaluate(
        self, genotype: Genotype, seed: int, time_limit: float | None, attempt: Attempt = FRESH
    ) -> Generator[Report, None, Evaluation]:
        """Report and return as a training child would; see ``nas.evaluators.evaluator.Evaluator``."""
        epochs = self._epochs if attempt.fidelity is None else attempt.fidelity.epochs
        rng = random_for(seed, "synthetic")
        failure = choose_failure(self._settings.failures, rng.random())
        failing_epoch = rng.randrange(epochs) + 1 if failure else 0
        reward = noisy_reward(genotype, self._settings.objective, seed, self._settings.noise)
        done, spent = _restore(attempt.checkpoint)
        for epoch in range(done + 1, epochs + 1):
            if epoch == failing_epoch and failure in ("exception", "out_of_memory", "worker_lost", "hung"):
                _fail(failure)
            seconds = self._settings.seconds / epochs
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
                return Evaluation(Failed("diverged", "synthetic: the loss is nan"), {"train_seconds": spent})
            kept = json.dumps([epoch, spent]).encode() if epoch < epochs and attempt.keep(epoch) else None
            yield Report(epoch, reward * (1 - 0.5 * (1 - epoch / epochs) ** 2), {"seconds": spent}, kept)
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
