"""Runs a search from a configuration or a run folder: puts space, controller, data, runner and ledger together, and takes them down."""

import errno
import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from rich.console import Console

from nas.cli.views.search_progress import SearchProgress
from nas.errors import ConfigError, DataError, RunError
from nas.evaluators.registry import prepare_data, prepare_shared
from nas.runners.runner import Runner
from nas.runs import folder as run_folder
from nas.runs import records
from nas.runs.checkpoints import Checkpoints
from nas.runs.config import SearchConfig, with_overrides
from nas.runs.folder import RunFolder
from nas.runs.ledger import Ledger
from nas.runs.loop import Ending, Search, SearchLimits, Watcher
from nas.runs.state import RunState, Trial
from nas.tools.hardware import detect
from search_spaces.registry import load_space
from search_spaces.space import SearchSpace

if TYPE_CHECKING:
    from controllers.deduplicated import Deduplicated
    from nas.data.prepared import PreparedData
    from nas.runs.mirror import Mirror
    from nas.runs.telemetry import EventFile

SNAPSHOT_EVERY = 60.0
"""Seconds between two snapshots of the controller: replaying a minute's outcomes is quick."""
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


def start(config: SearchConfig, path: Path | None, console: Console) -> SearchResult:
    """Run a new search in a new folder.

    Raises:
        UserError: the configuration, the data or the folder cannot be used; nothing was trained.
    """
    space = load_space(config.space)
    data = prepare_data(config)
    _check_table(config)
    folder = run_folder.create(path, config)
    if Path(config.space).is_file():
        shutil.copyfile(config.space, folder.space_file)
    return _session(folder, config, space, data, console)


def resume(folder: RunFolder, budget: int | None, console: Console, places: Mapping[str, object] | None = None) -> SearchResult:
    """Go on with a run, with a larger budget where one is given.

    ``places`` has new values for where things are, which are no part of what the run is: ``runner`` settings and ``data.root``.

    Raises:
        UserError: the run folder or its data cannot be used, or the budget is below what is spent.
    """
    config = with_overrides(folder.config(), places or {})
    spent = folder.state().spent if folder.ledger_file.is_file() else 0
    if budget is not None:
        if budget < spent:
            raise ConfigError(f"budget must be at least the {spent} children trained already, but got {budget}")
        config = config.model_copy(update={"budget": budget})
    space = folder.space(config)
    data = prepare_data(config) if spent < config.budget else None
    if spent < config.budget:
        _check_table(_for_workers(folder, config))
    return _session(folder, config, space, data, console)


def _check_table(config: SearchConfig) -> None:
    """Raise DataError here, where a worker's would be a lost worker, if the table that a search looks up in cannot be used."""
    if config.evaluator == "table":
        from nas.evaluators.registry import build_evaluator

        build_evaluator(config, None)


def _for_workers(folder: RunFolder, config: SearchConfig) -> SearchConfig:
    """The configuration with the run's own copy of a declared space, which is there wherever the run is resumed."""
    return config.model_copy(update={"space": str(folder.space_file.absolute())}) if folder.space_file.is_file() else config


def _session(folder: RunFolder, config: SearchConfig, space: SearchSpace, data: "PreparedData | None", console: Console) -> SearchResult:
    from controllers.deduplicated import Deduplicated
    from controllers.registry import make_controller
    from nas.runs import controller_state as snapshot

    with _full_disk(folder), Ledger(folder.ledger_file) as ledger, _mirror(folder, config, console) as mirror:
        state = ledger.state
        fingerprint = check_data(state, data) if config.evaluator != "table" else _check_same_table(state, config)
        inner = make_controller(config.controller.name, space, config.seed, config.controller.options)
        controller = Deduplicated(inner, space, config.seed)
        restored = snapshot.restore(folder, controller, state)
        folder.write_config(config)
        folder.log(f"session {len(state.sessions) + 1}: budget {config.budget}, {state.spent} trained before; controller: {restored}")
        reduction = config.halving.reduction if config.halving is not None else 0
        ledger.append(records.opened(time.time(), config.budget, config.rungs(), reduction, fingerprint))
        if state.spent >= config.budget:
            ledger.append(records.closed(Ending.FINISHED.value, time.time()))
            ending = Ending.FINISHED
        else:
            ending = _search(folder, config, space, controller, ledger, data, console)
            snapshot.write(folder, controller, state)
            folder.write_best(space, state.ranked()[:BEST_KEPT])
        folder.log(f"session ended: {ending.value}, {state.spent} of {config.budget} trained")
    return SearchResult(folder, config, space, state, ending, mirror.status() if mirror is not None else None)


def _search(
    folder: RunFolder,
    config: SearchConfig,
    space: SearchSpace,
    controller: "Deduplicated",
    ledger: Ledger,
    data: "PreparedData | None",
    console: Console,
) -> Ending:
    from nas.runs.telemetry import EventFile

    with (
        EventFile(folder.path, ledger.state) as events,
        open_runner(_for_workers(folder, config), prepare_shared(_for_workers(folder, config), data)) as runner,
        SearchProgress(console, ledger.state, config.budget) as progress,
    ):
        limits = SearchLimits(config.budget, config.runner.max_attempts, config.runner.failures_in_a_row)
        search = Search(space, controller, runner, ledger, config.seed, limits, Checkpoints(folder.checkpoint_folder))
        keeper = _Keeper(folder, space, search, progress, events)
        with stop_on_signal(search, console):
            return search.run(Watcher(progress.on_report, keeper.on_end, keeper.on_lost))


def _check_same_table(state: RunState, config: SearchConfig) -> str | None:
    """The checksum of the table looked up in; the run's own where nothing is left to do. Raises DataError for another one."""
    if config.table is None or state.spent >= config.budget:
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


@contextmanager
def _mirror(folder: RunFolder, config: SearchConfig, console: Console) -> Iterator["Mirror | None"]:
    if config.runner.sync is None:
        yield None
        return
    from nas.runs.mirror import Mirror

    def warn(message: str) -> None:
        console.print(message, markup=False, highlight=False, soft_wrap=True)
        folder.log(message)

    with Mirror(folder, config.runner.sync, config.runner.sync_seconds, warn) as mirror:
        yield mirror


class _Keeper:
    """Keeps the run folder current while the search goes on: log, incumbent, event file, snapshot."""

    def __init__(self, folder: RunFolder, space: SearchSpace, search: Search, progress: SearchProgress, events: "EventFile") -> None:
        self._folder, self._space, self._search, self._progress, self._events = folder, space, search, progress, events
        self._best = max((trial.reward or 0.0 for trial in search.state.ranked()[:1]), default=-1.0)
        self._saved = time.monotonic()

    def on_end(self, trial: Trial) -> None:
        from nas.runs import controller_state as snapshot

        assert trial.evaluation is not None
        self._progress.on_end(trial)
        self._events.catch_up()
        if trial.reward is None:
            self._folder.log(f"trial {trial.number}: {trial.evaluation.outcome}")
        elif trial.reward > self._best:
            self._best = trial.reward
            self._folder.write_best(self._space, [trial])
            self._folder.log(f"trial {trial.number} is the incumbent: {trial.reward:.4f} ({self._search.state.spent} trained)")
        if time.monotonic() - self._saved >= SNAPSHOT_EVERY:
            snapshot.write(self._folder, self._search.controller, self._search.state)
            self._saved = time.monotonic()

    def on_lost(self, trial: Trial, reason: str, detail: str) -> None:
        self._folder.log(f"trial {trial.number}, attempt {trial.attempts}: {reason}: {detail}; it is tried again")


@contextmanager
def _full_disk(folder: RunFolder) -> Iterator[None]:
    """Say what to do where the run folder takes no more. By then workers are stopped, and the ledger ends with its last whole record."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise RunError(
            f"{folder.path}: the run folder cannot grow: {error.strerror} ({error.filename or 'unknown file'}); nothing recorded is lost: "
            f"make room and go on with `nas resume {folder.path}`"
        ) from None


@contextmanager
def open_runner(config: SearchConfig, shared: object) -> Iterator[Runner]:
    """The runner that the configuration asks for, closed at the end. Raises UserError where it cannot be had.

    ``shared`` is what the evaluators of all workers share, see ``nas.evaluators.registry.EvaluatorRow``.
    """
    runner: Runner
    if config.runner.kind == "local":
        from nas.evaluators.registry import build_evaluator
        from nas.runners.local import LocalRunner

        runner = LocalRunner(build_evaluator(config, shared), config.runner.time_limit, config.rungs(), config.runner.checkpoint_seconds)
    else:
        # Ray reads this when it is imported. What it would say in a page each is in the ledger, in the log, and in the summary.
        os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "A worker died or was killed|has been marked dead|Raylet is terminated")
        from nas.runners.ray_pool import RayRunner

        runner = RayRunner(config, shared, detect().cores)
    try:
        yield runner
    finally:
        runner.close()


@contextmanager
def stop_on_signal(search: Search, console: Console) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM stops in order, a second one at once. Either way the ledger is whole."""

    def stop(number: int, frame: FrameType | None) -> None:
        if search.interrupted:
            raise KeyboardInterrupt
        search.interrupt()
        console.print("\nstopping; children in training go on from their last checkpoint on resume (Ctrl-C again to stop at once)")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_failing(result: SearchResult) -> None:
    """Raise RunError where a session gave up because children failed one after the other."""
    if result.ending is Ending.FAILING:
        last = next(t.evaluation.outcome for t in reversed(result.state.trials.values()) if t.evaluation is not None)
        raise RunError(
            f"{result.config.runner.failures_in_a_row} children failed one after the other, the last with: {last}; "
            f"correct the cause and go on with `nas resume {result.folder.path}`"
        )
