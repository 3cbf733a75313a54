"""The second stage of a search: its best cells trained again at a higher fidelity, several seeds each, by the same runner."""

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from controllers.controller import Outcome, Proposal
from controllers.deduplicated import may_be_trained
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
from nas.runs.standings import FOLDER, SCHEMA, Lineup, Standing, Standings, best_known, read_lineup, read_standings
from nas.runs.state import RunState
from nas.tools.files import write_atomically
from nas.training.config import TrainConfig
from search_spaces.genotype import Genotype


class _Roll:
    """In a controller's place: calls the lineup in order, and learns nothing."""

    refusal, redrawn = staticmethod(may_be_trained), Counter[str]()

    def __init__(self, lineup: Lineup, state: RunState) -> None:
        self._lineup, self._state = lineup, state

    def ask(self, trial: int, pending: Sequence[Proposal]) -> Proposal:
        return Proposal(trial, self._state.trials[self._lineup.entry(trial)[0]].proposal.actions)

    def key(self, proposal: Proposal) -> str | None:
        return None  # the same cells come several times, with other seeds

    def recall(self, proposal: Proposal) -> tuple[int, Outcome] | None:
        return None

    def is_pending(self, proposal: Proposal, pending: Sequence[Proposal]) -> bool:
        return False

    def tell(self, proposal: Proposal, outcome: Outcome) -> dict[str, float] | None:
        return None


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
        ledger.append(records.opened(time.time(), config.budget, (), 0, fingerprint, engine.measured_on(data)))
        if ledger.state.spent < config.budget:
            limits = SearchLimits(config.budget, config.runner.max_attempts, config.runner.failures_in_a_row)
            roll: Any = _Roll(lineup, state)
            children = AskTell(space, roll, ledger, config.seed, limits, Checkpoints(stage.checkpoint_folder), watcher)
            shared = prepare_shared(config, data)
            with engine.open_runner(config, shared) as runner, watcher.during(ledger.state, config.budget):
                ending = Search(children, runner).run()
            if ending is Ending.INTERRUPTED:
                return _read(folder)
            if ending is Ending.FAILING:
                raise engine.gave_up(config, ledger.state, "the same command")
    standings = _read(folder)
    folder.write_best(space, best_known(folder, state).trials[: engine.BEST_KEPT])
    if config.evaluator == "train" and standings.ranked and standings.ranked[0].rewards and standings.test is None:
        _train_winner(folder, config, standings.ranked[0], watcher.stop)
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
        lineup, begun = read_lineup(file)
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


def _train_winner(folder: RunFolder, config: SearchConfig, winner: Standing, stop: Callable[[], bool]) -> None:
    """Train the winner as the finalists were trained, keep its weights and read the test set, once; or stop where somebody wishes."""
    from nas.training.session import Watcher as TrainingWatcher
    from nas.training.session import train_network

    searched = folder.config()
    trial, controller = folder.state().trials[winner.trial], searched.controller.name
    genotype = found_genotype(folder.space(searched), trial, folder.path.name, controller)
    place = folder.path / FOLDER / "winner"
    train_network(genotype, winner_config(genotype, config), place, TrainingWatcher(stop=stop))


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
        threads=config.runner.threads,
    )
