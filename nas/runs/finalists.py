"""The second stage of a search: its best cells trained again at a higher fidelity, several seeds each, by the same runner."""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from controllers.controller import Outcome, Proposal
from nas.errors import RunError
from nas.evaluators.registry import prepare_data, prepare_shared
from nas.evaluators.settings import Fidelity
from nas.runs import records
from nas.runs import session as engine
from nas.runs.checkpoints import Checkpoints
from nas.runs.config import FinalistSettings, SearchConfig
from nas.runs.folder import RunFolder, found_genotype
from nas.runs.ledger import Ledger
from nas.runs.loop import QUIET, AskTell, Ending, Search, SearchLimits, Watcher
from nas.runs.state import RunState
from nas.settings.reading import validated
from nas.tools.files import write_atomically
from nas.training.config import TrainConfig
from search_spaces.genotype import Genotype

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


class _Roll:
    """In a controller's place: calls the lineup in order, and learns nothing."""

    def __init__(self, lineup: Lineup, state: RunState) -> None:
        self._lineup, self._state = lineup, state

    def ask(self, trial: int, pending: Sequence[Proposal]) -> Proposal:
        return Proposal(trial, self._state.trials[self._lineup.entry(trial)[0]].proposal.actions)

    def recall(self, proposal: Proposal) -> tuple[int, Outcome] | None:
        return None

    def is_pending(self, proposal: Proposal, pending: Sequence[Proposal]) -> bool:
        return False

    def tell(self, proposal: Proposal, outcome: Outcome) -> dict[str, float] | None:
        return None


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

    @property
    def trainings(self) -> int:
        """How many trainings the stage has, done or not."""
        return len(self.ranked) * self.settings.seeds

    @property
    def tau(self) -> tuple[float, float] | None:
        """Kendall's tau-b between proxy and retrained rewards, and its p-value; None with fewer than three finalists."""
        from scipy.stats import kendalltau

        done = [standing for standing in self.ranked if standing.rewards]
        if len(done) < 3:
            return None
        found = kendalltau([standing.proxy for standing in done], [standing.mean for standing in done])
        return None if math.isnan(found.statistic) else (float(found.statistic), float(found.pvalue))


def stage_config(config: SearchConfig, settings: FinalistSettings) -> SearchConfig:
    """The search's configuration at the second stage's fidelity: what it does not name stays as it was, but all images are used."""
    changes = settings.model_dump(exclude={"top", "seeds"}, exclude_none=True)
    fidelity = Fidelity(**{**config.fidelity.model_dump(), "train_examples": None, "validation_examples": None, **changes})
    limit = {"runner": config.runner.model_copy(update={"time_limit": None, "sync": None})}
    return config.model_copy(update={"fidelity": fidelity, "halving": None, "finalists": None, **limit})


def run_finalists(folder: RunFolder, settings: FinalistSettings, watcher: Watcher = QUIET) -> Standings:
    """Train the best trials of a run again; go on where an earlier call was stopped or killed.

    The ledger is in the run's ``finalists`` folder. When all are trained, the winner is trained once more, by the same settings, to
    read the test set and to leave its weights in ``finalists/winner``. Where ``watcher`` stops it before, the standings say how
    far it has come.

    Raises:
        UserError: the run has nothing to train again, or its second stage was begun with other settings.
    """
    state, config = folder.state(), stage_config(folder.config(), settings)
    lineup = _lineup(folder, state, settings)
    config = config.model_copy(update={"budget": len(lineup.trials) * lineup.seeds})
    stage = RunFolder(folder.path / FOLDER)
    stage.write_config(config)
    space = folder.space(folder.config())
    data = prepare_data(config)
    with Ledger(stage.ledger_file) as ledger:
        fingerprint = engine.check_data(ledger.state, data)
        ledger.append(records.opened(time.time(), config.budget, (), 0, fingerprint))
        if ledger.state.spent < config.budget:
            limits = SearchLimits(config.budget, config.runner.max_attempts, config.runner.failures_in_a_row)
            roll: Any = _Roll(lineup, state)
            children = AskTell(space, roll, ledger, config.seed, limits, Checkpoints(stage.checkpoint_folder), watcher)
            shared = prepare_shared(config, data)
            with engine.open_runner(config, shared) as runner, watcher.during(ledger.state, config.budget):
                ending = Search(children, runner).run()
            if ending is Ending.INTERRUPTED:
                return _read(folder)
    standings = _read(folder)
    if config.evaluator == "train" and standings.ranked and standings.ranked[0].rewards and standings.test is None:
        _train_winner(folder, config, standings.ranked[0])
        standings = _read(folder)
    return standings


def _read(folder: RunFolder) -> Standings:
    standings = read_standings(folder)
    assert standings is not None
    return standings


def stage_words(standings: Standings) -> str:
    """What the second stage is and how far it has come."""
    seeds = standings.settings.seeds
    done = f"{standings.spent} of {standings.trainings} trainings"
    return f"{done}, {seeds} seeds each (retrained: validation accuracy at the higher fidelity)"


def _lineup(folder: RunFolder, state: RunState, settings: FinalistSettings) -> Lineup:
    """The lineup that the stage began with, else that of the run as it is now."""
    file = folder.path / FOLDER / "lineup.json"
    if file.is_file():
        lineup, begun = _read_lineup(file)
        if begun != settings:
            rule = f"the second stage was begun with {_named(begun)}; go on with the same, or move that folder away to begin anew"
            raise RunError(f"{file.parent}: {rule}")
        return lineup
    ranked = state.ranked()[: settings.top]
    if not ranked:
        raise RunError(f"{folder.path}: there is no completed trial to train again")
    file.parent.mkdir(exist_ok=True)
    lineup = Lineup(tuple(trial.number for trial in ranked), settings.seeds)
    document = {"schema": SCHEMA, "trials": lineup.trials, "settings": settings.model_dump(mode="json")}
    write_atomically(file, json.dumps(document) + "\n")
    return lineup


def _named(settings: FinalistSettings) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.model_dump(exclude_none=True).items())


def _read_lineup(file: Path) -> tuple[Lineup, FinalistSettings]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
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
    lineup, settings = _read_lineup(place / "lineup.json")
    state, stage = folder.state(), RunFolder(place).state()
    ranks = {trial.number: rank for rank, trial in enumerate(state.ranked(), start=1)}
    rewards: dict[int, list[float]] = {number: [] for number in lineup.trials}
    for trial in stage.trials.values():
        if trial.reward is not None:
            rewards[lineup.entry(trial.number)[0]].append(trial.reward)
    if missing := [number for number in lineup.trials if number not in ranks]:
        raise RunError(f"{place}: the lineup names trial {missing[0]}, which the run has not completed")
    standings = [Standing(n, state.trials[n].reward or 0.0, ranks[n], tuple(rewards[n])) for n in lineup.trials]
    standings.sort(key=lambda standing: (-standing.mean, standing.proxy_rank))
    return Standings(place, settings, tuple(standings), stage.spent, _test_reading(place))


def _test_reading(place: Path) -> dict[str, Any] | None:
    from nas.training.folder import TrainFolder

    result = TrainFolder(place / "winner").result()
    test = result.get("test") if result else None
    return test if isinstance(test, dict) else None


def _train_winner(folder: RunFolder, config: SearchConfig, winner: Standing) -> None:
    """Train the winner as the finalists were trained, keep its weights and read the test set, once."""
    from nas.training.session import train_network

    genotype = found_genotype(folder.space(folder.config()), folder.state().trials[winner.trial], folder.path.name)
    train_network(genotype, winner_config(genotype, config), folder.path / FOLDER / "winner")


def winner_config(genotype: Genotype, config: SearchConfig) -> TrainConfig:
    """A search's settings of training as those of ``nas train``: the same skeleton, images and recipe."""
    from nas.networks.architecture import searched_skeleton
    from nas.networks.description import skeleton_document

    skeleton = searched_skeleton(genotype, cells=config.fidelity.cells, filters=config.fidelity.filters)
    return TrainConfig(
        skeleton=skeleton_document(skeleton, "searched"),
        data=config.data,
        recipe=config.recipe(),
        image_size=config.fidelity.image_size,
        train_examples=config.fidelity.train_examples,
        seed=config.seed,
        threads=config.runner.threads_per_child,
    )
