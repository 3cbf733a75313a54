"""What the second stage has found so far, and with it the order of a run's trials by what is known of them. No torch, no ray."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from nas.errors import RunError
from nas.runs.config import FinalistSettings
from nas.runs.folder import RunFolder
from nas.runs.noise import Yardstick, verdict
from nas.runs.state import RunState
from nas.runs.trials import Chosen
from nas.settings.reading import validated

SCHEMA = "nas.finalists/1"
FOLDER = "finalists"
"""Name of the second stage's folder inside the run's."""


@dataclass(frozen=True)
class Lineup:
    """Which trials of the run are trained again, best first, and with how many seeds each. Fixed when the stage begins."""

    trials: tuple[int, ...]
    seeds: int

    def entry(self, number: int) -> tuple[int, int]:
        """The run's trial and the seed's number that trial ``number`` of the second stage stands for: first one seed for everybody."""
        return self.trials[number % len(self.trials)], number // len(self.trials)


@dataclass(frozen=True)
class Standing:
    """One finalist: its trial in the run, the proxy task's reward, and the rewards of its retrainings (accuracies in [0, 1])."""

    trial: int
    proxy: float
    proxy_rank: int
    rewards: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Of the retrained rewards; −1 where none has ended well."""
        return fmean(self.rewards) if self.rewards else -1.0

    @property
    def deviation(self) -> float | None:
        """Standard deviation over the seeds; None with fewer than two."""
        return stdev(self.rewards) if len(self.rewards) > 1 else None


@dataclass(frozen=True)
class Standings:
    """The second stage as its ledger has it, best mean first; ``test`` is the winner's one reading of the test set."""

    folder: Path
    settings: FinalistSettings
    ranked: tuple[Standing, ...]
    spent: int
    test: dict[str, Any] | None
    yardstick: Yardstick | None = None

    @property
    def trainings(self) -> int:
        """How many trainings the stage has, done or not."""
        return len(self.ranked) * self.settings.seeds

    def verdict(self) -> str | None:
        """What must be known before trusting the order; see ``nas.runs.noise.verdict``."""
        done = [standing for standing in self.ranked if standing.rewards]
        spread = [(standing.deviation or 0.0) / math.sqrt(len(standing.rewards)) for standing in done]
        return verdict([standing.mean for standing in done], self.yardstick, spread) if self.yardstick else None

    @property
    def tau(self) -> tuple[float, float] | None:
        """Kendall's tau-b between proxy and retrained rewards, and its p-value; None with fewer than three finalists."""
        from scipy.stats import kendalltau

        done = [standing for standing in self.ranked if standing.rewards]
        if len(done) < 3:
            return None
        found = kendalltau([standing.proxy for standing in done], [standing.mean for standing in done])
        return None if math.isnan(found.statistic) else (float(found.statistic), float(found.pvalue))


def read_lineup(file: str | Path) -> tuple[Lineup, FinalistSettings]:
    """The lineup and the settings that a stage was begun with. Raises RunError where the file is damaged."""
    try:
        document = json.loads(Path(file).read_text(encoding="utf-8"))
        if document["schema"] != SCHEMA or not all(type(number) is int for number in document["trials"]) or not document["trials"]:
            raise ValueError("it is not")
        settings = validated(FinalistSettings, document["settings"])
        return Lineup(tuple(document["trials"]), settings.seeds), settings
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunError(f"{file}: must be as the second stage wrote it, but {error}; move its folder away to begin anew") from None


def read_standings(folder: RunFolder) -> Standings | None:
    """The second stage of a run as far as it has come; None where there is none. Raises RunError where it is damaged."""
    place = folder.path / FOLDER
    if not (place / "lineup.json").is_file() or not (place / "ledger.jsonl").is_file():
        return None
    lineup, settings = read_lineup(place / "lineup.json")
    state, stage = folder.state(), RunFolder(place).state()
    ranks = {number: rank for rank, number in enumerate(state.ranked().numbers, start=1)}
    rewards: dict[int, list[float]] = {number: [] for number in lineup.trials}
    for trial in stage.trials.values():
        if trial.reward is not None:
            rewards[lineup.entry(trial.number)[0]].append(trial.reward)
    if missing := [number for number in lineup.trials if number not in ranks]:
        raise RunError(f"{place}: the lineup names trial {missing[0]}, which the run has not completed")
    standings = [Standing(n, state.trials[n].reward or 0.0, ranks[n], tuple(rewards[n])) for n in lineup.trials]
    standings.sort(key=lambda standing: (-standing.mean, standing.proxy_rank))
    return Standings(place, settings, tuple(standings), stage.spent, _test_reading(place), stage.yardstick)


def _test_reading(place: Path) -> dict[str, Any] | None:
    from nas.training.folder import TrainFolder

    result = TrainFolder(place / "winner").result()
    test = result.get("test") if result else None
    return test if isinstance(test, dict) else None


@dataclass(frozen=True)
class Known:
    """A run's completed trials, best known first; the first ``elected`` of them by the finalists stage, the others by reward."""

    trials: Chosen
    elected: int

    def how(self, rank: int) -> str:
        """How the trial of that rank (from 1) came to it, in words."""
        return "elected by the finalists stage" if rank <= self.elected else "by its reward on the proxy task"


def best_known(folder: RunFolder, state: RunState) -> Known:
    """The order in which a run hands its trials on, everywhere: in best/, for ``--rank``, in its table.

    When the second stage is complete, its finalists come first, by their retrained mean; then all others, by reward.

    Raises:
        RunError: the second stage's folder is damaged.
    """
    standings, ranked = read_standings(folder), state.ranked()
    if standings is None or standings.spent < len(standings.ranked) * standings.settings.seeds:
        return Known(ranked, 0)
    elected = [standing.trial for standing in standings.ranked if standing.rewards]
    others = [number for number in ranked.numbers if number not in set(elected)]
    return Known(Chosen(state.trials, [*elected, *others]), len(elected))
