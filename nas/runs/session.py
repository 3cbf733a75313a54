"""Runs a search from a configuration or a run folder: puts space, controller, data, runner and ledger together, and takes them down."""

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from controllers.controller import Beginner, Controller, Failed
from nas.errors import ConfigError, DataError, LossesError, RunError
from nas.evaluators.evaluator import Evaluator
from nas.evaluators.registry import EVALUATORS, prepare_data, prepare_shared
from nas.loggers import sending
from nas.loggers.logger import Logged
from nas.loggers.registry import check_installed
from nas.networks.matching import read_objective
from nas.runners.runner import Runner
from nas.runs import folder as run_folder
from nas.runs import records
from nas.runs.checkpoints import Checkpoints
from nas.runs.checks import check_going_on, check_search
from nas.runs.config import GIVEN, SearchConfig, space_of, with_overrides
from nas.runs.experience import experience_of
from nas.runs.folder import RunFolder
from nas.runs.genotypes import begun_with, resolve_genotype
from nas.runs.ladder import left_over
from nas.runs.ledger import Ledger, held
from nas.runs.loop import QUIET, AskTell, Beside, Ending, Search, SearchLimits, Watcher
from nas.runs.noise import Yardstick, yardstick_of
from nas.runs.objective import Scalarised
from nas.runs.old_stage import stage_records
from nas.runs.sizing import Decisions, Sizing, reach, sizing_of
from nas.runs.standings import Knowledge, best_known
from nas.runs.state import RunState
from nas.runs.telemetry import Telemetry
from nas.runs.trials import Trial
from nas.tools.environment import add_data, add_session
from nas.tools.files import write_atomically
from nas.tools.hardware import Hardware, detect
from nas.tools.stages import doing, loading_torch
from nas.tools.words import quoted
from search_spaces.space import SearchSpace

if TYPE_CHECKING:
    from controllers.deduplicated import Deduplicated
    from nas.data.prepared import PreparedData
    from nas.runs.mirror import Mirror

SNAPSHOT_EVERY = 60.0
"""Seconds between two snapshots of the controller: replaying a minute's outcomes is quick."""
LOOKED_AGAIN = 1.02
"""How many times as many outcomes there must be as when the cells were last put in order: so that all of that stays in proportion."""
BEST_KEPT = 10
"""Genotypes kept in a run's best folder."""


@dataclass(frozen=True)
class SearchResult:
    """How a session ended, with the run it belongs to."""

    folder: RunFolder
    config: SearchConfig
    space: SearchSpace
    state: RunState
    ending: Ending
    mirror: str | None = None
    """How far the mirror has come, where there is one."""


@dataclass(frozen=True)
class Parts:
    """Parts of a search that are objects made in Python; what is None is made as the configuration says (``nas.runs.config.GIVEN``)."""

    evaluator: Evaluator | None = None
    controller: Controller | None = None


BUILT = Parts()
"""All parts as the configuration says."""


@dataclass(frozen=True)
class Planned:
    """What the plan of a search expects, for whoever watches: seconds of a training at every rung, and how many are done at once."""

    trainings: Sequence[float] = ()
    workers: int | None = None


NO_PLAN = Planned()
"""Nothing is expected."""


def start(
    config: SearchConfig,
    path: str | Path | None,
    watcher: Watcher = QUIET,
    parts: Parts = BUILT,
    planned: Planned = NO_PLAN,
    checked: bool = False,
) -> SearchResult:
    """Run a new search in a new folder.

    Args:
        config: the search.
        path: folder of its run; None makes one under runs/.
        watcher: who is told how it goes.
        parts: what of it are objects made in Python.
        planned: what its plan expects.
        checked: whether ``check_search`` has been asked already: before a plan was made, say.

    Raises:
        UserError: the configuration, the data or the folder cannot be used; nothing was trained.
    """
    check_parts(config, parts)
    space = space_of(config)
    beside_of(config, space)  # refuses what cannot be trained
    if not checked:
        check_search(config, path, detect())
    with tempfile.TemporaryDirectory() as scratch:  # a folder is made when nothing can be refused any more
        listed = Path(scratch) / "images.json"
        if (sizing := sizing_of(config, space)) is not None:
            reach(sizing, space, config.seed)  # refuses what leaves nothing to train
        data = _read(config, listed)
        _check_table(config)
        folder = create(config, path)
        if listed.is_file():
            write_atomically(folder.images_file, listed.read_bytes())
    with _none_where_nothing_began(folder, config):
        return _session(folder, config, space, data, watcher, parts, planned)


@contextmanager
def _none_where_nothing_began(folder: RunFolder, config: SearchConfig) -> Iterator[None]:
    """Leave no run behind where its start fails before a child is trained: of no cluster, no disk, no mirror.

    A run with a mirror stays, since the mirror would refuse another one in its place; and so does what a person stops, to go on with it.
    """
    try:
        yield
    except Exception:
        if folder.last_deed() is None and config.runner.sync is None:
            with suppress(OSError):
                folder.remove()
        raise


def create(config: SearchConfig, path: str | Path | None) -> RunFolder:
    """Make the folder of a run, and nothing more. Raises RunError where it holds a run already or cannot be made."""
    folder = run_folder.create(path, config)
    if Path(config.space).is_file():
        shutil.copyfile(config.space, folder.space_file)
    return folder


def resume(
    folder: RunFolder,
    budget: int | None,
    watcher: Watcher = QUIET,
    places: Mapping[str, object] | None = None,
    parts: Parts = BUILT,
    rest: "Rest | None" = None,
    lock: FileLock | None = None,
) -> SearchResult:
    """Go on with a run, with a larger budget where one is given. It is this process's from the moment on that it may go on.

    Of a run that is at its end nothing is changed: no session is recorded.

    ``places`` has new values for where things are, which are no part of what the run is: ``runner`` settings and ``data.root``.
    ``rest``: what ``rest_of`` has said of the same, where it has been asked already: a long ledger takes seconds to read; ``lock``: the
    run's, where this process holds it already (``nas.runs.ledger.held``).

    Raises:
        UserError: the run folder or its data cannot be used, or the budget is below what is spent.
    """
    rest = rest or rest_of(folder, budget, places or {}, detect(), parts)
    if rest.over:
        return SearchResult(folder, rest.config, rest.space, rest.state, Ending.FINISHED)
    with _full_disk(folder), held(folder.ledger_file, lock) as lock:
        for line in _grown(folder.config(), rest.config):
            watcher.on_warning(line)
        data = _read(rest.config, folder.images_file) if rest.due else None
        if rest.due:
            _check_table(_for_workers(folder, rest.config))
        return _session(folder, rest.config, rest.space, data, watcher, parts, lock=lock)


@dataclass(frozen=True)
class Rest:
    """What ``resume`` would go on with: the configuration, the run's state and its space, and whether anything is left to train.

    ``over``: the run is at its end as it is, and there is nothing to do.
    """

    config: SearchConfig
    state: RunState
    space: SearchSpace
    due: bool
    over: bool


def rest_of(folder: RunFolder, budget: int | None, places: Mapping[str, object], hardware: Hardware, parts: Parts = BUILT) -> Rest:
    """What ``resume`` would go on with.

    Raises:
        UserError: it cannot go on as asked.
    """
    config, state = _extended(folder, budget, places)
    check_parts(config, parts)
    check_installed(config.log)
    space = folder.space(config)
    due = anything_left(config, state, space)
    if due:
        check_going_on(config, folder, hardware)
    unchanged = state.closed == Ending.FINISHED.value and config == folder.config() and config.runner.sync is None
    return Rest(config, state, space, due, over=unchanged and not due)


@contextmanager
def asking(folder: RunFolder, budget: int | None = None, controller: Controller | None = None) -> Iterator[AskTell]:
    """A session of a run for a training loop of one's own: children are asked for and told, and recorded as a search's are.

    Raises:
        UserError: the run folder cannot be used, another process has it, or the budget is below what is spent.
    """
    config, _ = _extended(folder, budget, {})
    config = config.model_copy(update={"ladder": [], "cards": [], "looks": 0.0})  # a person's own loop has one fidelity
    parts = Parts(controller=controller)
    check_controller(config, controller)
    if config.evaluator != GIVEN:
        raise ConfigError(
            f"{folder.path}: this run's rewards come from its evaluator, {config.evaluator!r}, and no others can be compared with them: "
            "go on with nas.resume, or begin a run of your own with nas.new_run"
        )
    with _opened(folder, config, folder.space(config), None, QUIET, parts) as run:
        with _exchange(run, QUIET, beside_of(config, run.space, run.ledger.state)) as children:
            yield children
        run.ledger.append(records.closed(children.ending.value, time.time()))


def check_parts(config: SearchConfig, parts: Parts) -> None:
    """Raise ConfigError where a part has to be given and is not, or the other way round."""
    check_controller(config, parts.controller)
    if (config.evaluator == GIVEN) != (parts.evaluator is not None):
        raise ConfigError(
            "this run's rewards come from an evaluator that was given in Python: go on with nas.resume(run, evaluator=…), or ask and tell"
            if parts.evaluator is None
            else f"this run has the evaluator {config.evaluator!r}; another cannot be given to it"
        )


def check_controller(config: SearchConfig, controller: Controller | None) -> None:
    """Raise ConfigError where a controller has to be given and is not, or the other way round."""
    if (config.controller.name == GIVEN) != (controller is not None):
        raise ConfigError(
            "this run's controller was given in Python: go on with nas.resume(run, controller=…), with one made in the same way"
            if controller is None
            else f"this run has the controller {config.controller.name!r}; another cannot be given to it"
        )


def _read(config: SearchConfig, listed: Path) -> "PreparedData | None":
    if not EVALUATORS[config.evaluator].needs_data:
        return None
    with loading_torch():  # here, where it can be said: whatever comes next needs it
        import torch  # noqa: F401
    with doing("reading the images") as tell:
        return prepare_data(config, listed, tell)


def _check_table(config: SearchConfig) -> None:
    """Raise DataError here, where a worker's would be a lost worker, if the table that a search looks up in cannot be used."""
    if config.evaluator == "table":
        prepare_shared(config, None)


def _for_workers(folder: RunFolder, config: SearchConfig) -> SearchConfig:
    """The configuration with the run's own copy of a declared space, which is there wherever the run is resumed."""
    return config.model_copy(update={"space": str(folder.space_file.absolute())}) if folder.space_file.is_file() else config


def _extended(folder: RunFolder, budget: int | None, places: Mapping[str, object]) -> tuple[SearchConfig, RunState]:
    """The run's configuration with these changes, and its state."""
    config = with_overrides(folder.config(), places)
    state = folder.state() if folder.ledger_file.is_file() else RunState()
    if budget is None:
        return config, state
    if budget < state.spent:
        raise ConfigError(f"budget must be at least the {state.spent} children trained already, but got {budget}")
    ladder = state.ladder.grown(config.ladder, budget) if budget > config.budget else config.ladder
    return config.model_copy(update={"budget": budget, "ladder": ladder}), state


def _grown(before: SearchConfig, config: SearchConfig) -> list[str]:
    """What a person is told of rungs that have more places with a larger budget."""
    from nas.runs.plan import rung_words

    pairs = enumerate(zip(before.ladder, config.ladder, strict=True), start=1)
    return [f"rung {rung} grows with the budget: {rung_words(rung, config)}" for rung, (old, new) in pairs if old != new]


def anything_left(config: SearchConfig, state: RunState, space: SearchSpace) -> bool:
    """Whether a run has anything left to train: its children, second looks, what is on its ladder, control cards. Changes the state."""
    if state.pending or state.spent < config.budget:
        return True
    best = Knowledge(space, state).best
    return left_over(state.ladder, config.ladder, state.spent, config.budget, config.cards, best, config.second_looks)


def at_its_end(config: SearchConfig, state: RunState, space: SearchSpace) -> bool:
    """Whether a run has come to its end: nothing is left to train, or its space is searched through. Changes the state."""
    return state.closed == Ending.EXHAUSTED.value or not anything_left(config, state, space)


def beside_of(config: SearchConfig, space: SearchSpace, state: RunState | None = None) -> Beside:
    """What is trained beside a controller's proposals. Raises UserError for a genotype that there is not, or that the space has not."""
    known, begun = (state.cards, state.warm) if state is not None else ({}, {})
    cards = {name: known.get(name) or resolve_genotype(name) for name in config.cards}
    warm = {name: begun_with(space, name)[0] for name in config.warm_start if name not in begun}  # a file may be gone by now
    fidelities = [config.at_rung(rung).fidelity for rung in range(1, len(config.ladder) + 1)]
    return Beside(fidelities, cards, warm)


@dataclass(frozen=True)
class _Run:
    """A run whose folder this process holds."""

    folder: RunFolder
    config: SearchConfig
    space: SearchSpace
    ledger: Ledger
    controller: "Deduplicated"
    mirror: "Mirror | None"
    sizing: Sizing | None = None
    aim: Scalarised | None = None


@contextmanager
def _opened(
    folder: RunFolder,
    config: SearchConfig,
    space: SearchSpace,
    data: "PreparedData | None",
    watcher: Watcher,
    parts: Parts,
    planned: Planned = NO_PLAN,
    lock: FileLock | None = None,
) -> Iterator[_Run]:
    """Take hold of a run's folder, bring its controller to where the ledger is, and record that a session begins."""
    from controllers.deduplicated import Deduplicated, may_be_trained
    from controllers.registry import make_controller
    from nas.runs import controller_state as snapshot

    with _full_disk(folder), Ledger(folder.ledger_file, lock) as ledger, _mirror(folder, config, watcher) as mirror:
        state = ledger.state
        if found := stage_records(folder.path, state):
            ledger.append(*found)
        fingerprint = check_data(state, data) if config.evaluator != "table" else _check_same_table(state, config, space)
        chosen = config.controller
        inner = parts.controller or make_controller(chosen.name, space, config.seed, chosen.options)
        earlier = state.earlier if state.sessions else experience_of(config, space)  # a file may be gone by now
        if earlier and isinstance(inner, Beginner):
            inner.begin_with(earlier)
        sizing = sizing_of(config, space, Decisions(state.decided, lambda cell, what: ledger.append(records.decided(cell, what))))
        controller = Deduplicated(inner, space, config.seed, refusal=sizing.refusal if sizing is not None else may_be_trained)
        aim = None if config.objective is None else Scalarised(read_objective(config.objective), state)
        with doing("bringing the controller to where the ledger is") if state.told else nullcontext():
            told = (aim.outcome,) if aim is not None else ()
            restored = snapshot.restore(folder, controller, state, *told)
        folder.write_config(config)
        if state.sessions:
            add_session(folder.environment_file)
        add_data(folder.environment_file, fingerprint)
        folder.log(f"session {len(state.sessions) + 1}: budget {config.budget}, {state.spent} trained before; controller: {restored}")
        reduction = config.halving.reduction if config.halving is not None else 0
        about = config.budget, config.rungs(), reduction, fingerprint, measured_on(data), config.ladder
        begun = () if state.sessions else earlier
        ledger.append(records.opened(time.time(), *about, planned.trainings, planned.workers, begun))
        yield _Run(folder, config, space, ledger, controller, mirror, sizing, aim)
        folder.log(f"session ended: {state.closed}, {state.spent} of {config.budget} trained")


def _session(
    folder: RunFolder,
    config: SearchConfig,
    space: SearchSpace,
    data: "PreparedData | None",
    watcher: Watcher,
    parts: Parts,
    planned: Planned = NO_PLAN,
    lock: FileLock | None = None,
) -> SearchResult:
    with _opened(folder, config, space, data, watcher, parts, planned, lock) as run:
        watcher.on_begin(folder.path, config)
        for note in data.notes if data is not None else ():
            folder.log(f"note: {note}")
            watcher.on_note(note)
        state = run.ledger.state
        if not anything_left(config, state, space):
            run.ledger.append(records.closed(Ending.FINISHED.value, time.time()))
            ending = Ending.FINISHED
        else:
            ending = _search(run, data, watcher, parts)
        if losses := state.losses():
            folder.log(f"warning: {losses}")
    return SearchResult(folder, config, space, state, ending, run.mirror.status() if run.mirror is not None else None)


def _search(run: _Run, data: "PreparedData | None", watcher: Watcher, parts: Parts) -> Ending:
    config = _for_workers(run.folder, run.config)
    with (
        _exchange(run, watcher, beside_of(run.config, run.space, run.ledger.state)) as children,
        open_runner(config, prepare_shared(config, data), parts.evaluator) as runner,
        watcher.during(run.ledger.state, run.config.budget),
    ):
        ending = Search(children, runner).run()
        watcher.on_standings(best_known(run.space, run.ledger.state, children.knowledge).standings)  # the last view is that of the table
        return ending


@contextmanager
def _exchange(run: _Run, watcher: Watcher, beside: Beside) -> Iterator[AskTell]:
    """What a search, or a person's own loop, asks and tells; the run's folder is kept current meanwhile and at the end."""
    from nas.runs import controller_state as snapshot

    config, state = run.config, run.ledger.state
    limits = SearchLimits(config.budget, config.runner.max_attempts, config.runner.failures_in_a_row, config.second_looks)
    checkpoints = Checkpoints(run.folder.checkpoint_folder)
    about = Logged(run.folder.path, "search", config.model_dump(mode="json"), "outcomes")
    with sending.opened(config.log, about, _warner(run.folder, watcher)) as loggers:
        children = AskTell(
            run.space, run.controller, run.ledger, config.seed, limits, checkpoints, watcher, beside, run.sizing, run.aim
        )
        keeper = _Keeper(run, watcher, loggers, children.knowledge)
        children.watcher = replace(watcher, on_end=keeper.on_end, on_lost=keeper.on_lost)
        yield children
    snapshot.write(run.folder, run.controller, state)
    run.folder.write_best(run.space, best_known(run.space, state, children.knowledge).head(BEST_KEPT), config.controller.name)


def _check_same_table(state: RunState, config: SearchConfig, space: SearchSpace) -> str | None:
    """The checksum of the table looked up in; the run's own where nothing is left to do. Raises DataError for another one."""
    if config.table is None or not anything_left(config, state, space):
        return state.data
    from nas.evaluators.table import checksum

    found = checksum(config.table)
    if state.data is not None and state.data != found:
        raise DataError(
            f"{config.table.path}: a run must go on with the table it began with (checksum {state.data}), but this one has {found}; "
            "rewards of different tables cannot be compared"
        )
    return found


def check_data(state: RunState, data: "PreparedData | None") -> str | None:
    """The checksum of what is trained on. Raises DataError where the run began with something else."""
    if data is None:
        return None
    found = data.fingerprint()
    if state.data is not None and state.data != found:
        raise DataError(
            f"data set {data.name}: a run must go on with the images it began with (checksum {state.data}), but here they have {found}; "
            "rewards on different data cannot be compared"
        )
    return found


def measured_on(data: "PreparedData | None") -> list[Yardstick]:
    """What the rewards of children are measured on at every rung, where they are trained on data."""
    return [] if data is None else [yardstick_of(one.validation.labels) for one in (data, *data.more)]


@contextmanager
def _mirror(folder: RunFolder, config: SearchConfig, watcher: Watcher) -> Iterator["Mirror | None"]:
    if config.runner.sync is None:
        yield None
        return
    from nas.runs.mirror import Mirror

    with Mirror(folder, config.runner.sync, config.runner.sync_seconds, _warner(folder, watcher)) as mirror:
        yield mirror


def _warner(folder: RunFolder, watcher: Watcher) -> Callable[[str], None]:
    """Takes what a person should know: it is shown, and kept in the log."""

    def warn(message: str) -> None:
        watcher.on_warning(message)
        folder.log(message)

    return warn


class _Keeper:
    """Keeps the run folder current while the search goes on: log, incumbent, loggers, snapshot; and passes on what happens."""

    def __init__(self, run: _Run, watcher: Watcher, loggers: sending.Loggers, knowledge: Knowledge) -> None:
        self._run, self._watcher, self._loggers, self._knowledge = run, watcher, loggers, knowledge
        self._telemetry = Telemetry(run.ledger.state)
        loggers.log(self._telemetry.fresh())
        self._saved = time.monotonic()
        self._looked = 0
        self._best = -1.0
        """The incumbent's reward in the search."""
        self._first: int | None = None
        if run.ledger.state.told:
            self._look()

    def on_end(self, trial: Trial) -> None:
        from nas.runs import controller_state as snapshot

        assert trial.evaluation is not None
        folder, state = self._run.folder, self._run.ledger.state
        self._watcher.on_end(trial)
        self._loggers.log(self._telemetry.fresh())
        if trial.reward is None:
            folder.log(f"trial {trial.number}: {trial.evaluation.outcome}")
        elif not trial.searched or (trial.reward > self._best and len(state.told) >= LOOKED_AGAIN * self._looked):
            self._look()
        if time.monotonic() - self._saved >= SNAPSHOT_EVERY:
            snapshot.write(folder, self._run.controller, state)
            self._saved = time.monotonic()

    def _look(self) -> None:
        """Put the cells in order anew, and keep the incumbent where it is another one."""
        folder, state = self._run.folder, self._run.ledger.state
        self._looked = len(state.told)
        known = best_known(self._run.space, state, self._knowledge)
        if not known.trials:
            return
        first, believed = known.head(1)[0]
        self._best = first.reward or 0.0
        if first.number != self._first:
            self._first = first.number
            folder.write_best(self._run.space, [(first, believed)], self._run.config.controller.name)
            folder.log(f"trial {first.number} is the incumbent: {known.how(1)} ({state.spent} trained)")
        self._watcher.on_standings(known.standings)

    def on_lost(self, trial: Trial, reason: str, detail: str) -> None:
        self._watcher.on_lost(trial, reason, detail)
        self._run.folder.log(f"trial {trial.number}, attempt {trial.attempts}: {reason}: {detail}; it is tried again")


@contextmanager
def _full_disk(folder: RunFolder) -> Iterator[None]:
    """Say what to do where the run folder takes no more. By then workers are stopped, and the ledger ends with its last whole record."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        again = "begin again" if folder.last_deed() is None else f"go on with `nas resume {quoted(folder.path)}`"
        raise RunError(
            f"{folder.path}: the run folder cannot grow: {error.strerror} ({error.filename or 'unknown file'}); nothing recorded is lost: "
            f"make room and {again}"
        ) from None


@contextmanager
def open_runner(config: SearchConfig, shared: object, evaluator: Evaluator | None = None) -> Iterator[Runner]:
    """The runner that the configuration asks for, closed at the end. Raises UserError where it cannot be had.

    ``shared`` is what the evaluators of all workers share, see ``nas.evaluators.registry.EvaluatorRow``.
    An ``evaluator`` that is an object scores in this process, one child after the other: it need not survive a journey.
    """
    runner: Runner
    if config.evaluator == GIVEN and evaluator is None:
        raise ConfigError("the evaluator of this run was given in Python: only there can it be used again")
    if config.runner.kind == "local" or evaluator is not None:
        from nas.evaluators.registry import build_evaluator
        scorer = evaluator or build_evaluator(config, shared)
        rules = config.runner.time_limit, config.rungs(), config.runner.checkpoint_seconds
        if evaluator is None and (config.runner.workers or 1) > 1:
            from nas.runners.threads import ThreadedRunner, stream_of

            runner = ThreadedRunner(scorer, config.runner.workers or 1, *rules, place=stream_of(config.runner))
        else:
            from nas.runners.local import LocalRunner

            runner = LocalRunner(scorer, *rules)
    else:
        # Ray reads this when it is imported. What it would say in a page each is in the ledger, in the log, and in the summary.
        os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "A worker died or was killed|has been marked dead|Raylet is terminated")
        where = "on this machine" if config.runner.cluster is None else f"at {config.runner.cluster}"
        with doing(f"{'starting' if config.runner.cluster is None else 'joining'} Ray {where}"):
            from nas.runners.ray_pool import RayRunner

            runner = RayRunner(config, shared, detect().cores)
    try:
        yield runner
    finally:
        runner.close()


def check_failing(result: SearchResult) -> None:
    """Raise RunError where a session gave up because children failed one after the other: LossesError where few survived."""
    if result.ending is Ending.FAILING:
        raise gave_up(result.config, result.state, f"`nas resume {quoted(result.folder.path)}`")


def gave_up(config: SearchConfig, state: RunState, again: str) -> RunError:
    """The error of a search that gave up; ``again`` is the command that goes on with it."""
    outcomes = (trial.evaluation.outcome for number in reversed(state.told) if (trial := state.trials[number]).evaluation is not None)
    last = next(outcome for outcome in outcomes if isinstance(outcome, Failed))
    return (LossesError if state.losses() else RunError)(
        f"{config.runner.failures_in_a_row} children failed one after the other, the last with: {last}; "
        f"correct the cause and go on with {again}"
    )
