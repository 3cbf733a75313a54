"""The folder of a run: its configuration, environment, ledger, snapshot, best genotypes and log. No torch, no ray."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import count
from pathlib import Path

from nas.errors import ConfigError, RunError
from nas.runs.config import SearchConfig, config_from_document, config_yaml, space_of
from nas.runs.ledger import Reading
from nas.runs.old_stage import stage_records, stage_rung
from nas.runs.state import RunState, replay
from nas.runs.trials import Trial
from nas.tools.environment import write_environment
from nas.tools.files import remove_own, write_atomically
from nas.tools.labels import LABEL_FILE, read_label
from nas.tools.locks import is_held
from nas.tools.shelves import COMPARISON_FILE, RUNS, took_last
from nas.tools.words import quoted
from search_spaces.genotype import Genotype, Provenance, to_yaml
from search_spaces.plugins import guess
from search_spaces.reference import reference_names
from search_spaces.space import SearchSpace
from search_spaces.strict_yaml import load_document

OWN = (
    *("config.yaml", "environment.json", "ledger.jsonl", "ledger.lock", "snapshot.safetensors", "space.yaml", "images.json", "log.txt"),
    *("best/*.yaml", "best/.*.yaml.*", "best", "checkpoints/*.state", "checkpoints/.*.state.*", "checkpoints", "finalists/**"),
    *("loggers.json", "events.out.tfevents.*", ".*.yaml.*", ".*.json.*", LABEL_FILE),
)
"""What a search writes into its folder: all of it goes with the run, and nothing else."""
TAIL_BYTES = 1 << 18
"""How much of a ledger's end is looked at to know when something was last done: a controller's state in it may take more."""


@dataclass(frozen=True)
class RunFolder:
    """Paths inside a run's folder, and what is written to them."""

    path: Path

    @property
    def config_file(self) -> Path:
        """The effective configuration."""
        return self.path / "config.yaml"

    @property
    def ledger_file(self) -> Path:
        """The append-only record."""
        return self.path / "ledger.jsonl"

    @property
    def lock_file(self) -> Path:
        """Held while a process runs this search."""
        return self.ledger_file.with_suffix(".lock")

    @property
    def environment_file(self) -> Path:
        """Versions, hardware, data and command line."""
        return self.path / "environment.json"

    @property
    def snapshot_file(self) -> Path:
        """The controller's state at some point of the ledger; an optimisation."""
        return self.path / "snapshot.safetensors"

    @property
    def space_file(self) -> Path:
        """A copy of the search space's declaration, where the space is not a built-in one."""
        return self.path / "space.yaml"

    @property
    def images_file(self) -> Path:
        """The list of the images that the search began with, where they are a folder's."""
        return self.path / "images.json"

    @property
    def log_file(self) -> Path:
        """What happened, for people."""
        return self.path / "log.txt"

    @property
    def checkpoint_folder(self) -> Path:
        """The states of the children in training."""
        return self.path / "checkpoints"

    @property
    def best_folder(self) -> Path:
        """The best genotypes so far, ``1.yaml`` the incumbent."""
        return self.path / "best"

    @property
    def running(self) -> bool:
        """Whether a process runs this search now."""
        return is_held(self.lock_file)

    def condition(self, state: RunState) -> str:
        """How the run stands, in a word or two: running, how its last session ended, killed, or that it was not begun."""
        if self.running:
            return "running"
        return (state.closed or "killed") if state.sessions else "not begun"

    def last_deed(self) -> float | None:
        """When a child was last handed out or ended, by the clock; None where none ever was: that is a start that came to nothing."""
        try:
            size = self.ledger_file.stat().st_size
            with self.ledger_file.open("rb") as ledger:
                ledger.seek(max(0, size - TAIL_BYTES))
                lines = ledger.read().splitlines()
        except OSError:
            return None
        deeds = (deed for line in reversed(lines) if (deed := _deed(line)) is not None)
        return next(deeds, None if size <= TAIL_BYTES else self.ledger_file.stat().st_mtime)

    def remove(self) -> list[Path]:
        """Remove the run, and its folder unless something else is in it. Returns what is left there."""
        return remove_own(self.path, OWN)

    def config(self) -> SearchConfig:
        """The configuration of the run. Raises RunError where there is none, ConfigError where it is damaged."""
        if not self.config_file.is_file():
            raise RunError(f"{self.path}: a run folder has a config.yaml, but this has none; `nas list runs` shows the runs")
        config = config_from_document(load_document(self.config_file, ConfigError))
        rung = None if config.ladder else stage_rung(self.path)
        return config if rung is None else config.model_copy(update={"ladder": [rung]})

    def space(self, config: SearchConfig) -> SearchSpace:
        """The search space of the run. Raises SpaceError."""
        own = {"space": str(self.space_file)} if self.space_file.is_file() else {}
        return space_of(config.model_copy(update=own))

    def write_config(self, config: SearchConfig) -> None:
        """Record the effective configuration."""
        write_atomically(self.config_file, config_yaml(config))

    def state(self) -> RunState:
        """What the ledger says, for reading only. Raises RunError."""
        if not self.ledger_file.is_file():
            if (self.path / "metrics.jsonl").is_file():
                goes_on = f"`nas train --resume {quoted(self.path)}` goes on with it"
                raise RunError(f"{self.path} is the folder of a training, not of a run; {goes_on}")
            raise RunError(f"{self.path}: a run folder has a ledger.jsonl, but this has none")
        state = replay(Reading(self.ledger_file), self.ledger_file)
        for record in stage_records(self.path, state):
            state.apply(record)
        return state

    def log(self, message: str) -> None:
        """Add a line to the log."""
        with self.log_file.open("a", encoding="utf-8") as log:
            log.write(f"{datetime.now().astimezone().isoformat(timespec='seconds')}  {message}\n")

    def write_best(self, space: SearchSpace, ranked: Sequence[tuple[Trial, float]], controller: str) -> list[Path]:
        """Write the genotypes of these trials of a controller, best first and with what is believed of their rewards, under ``best/``."""
        self.best_folder.mkdir(exist_ok=True)
        paths = []
        for rank, (trial, reward) in enumerate(ranked, start=1):
            path = self.best_folder / f"{rank}.yaml"
            write_atomically(path, to_yaml(found_genotype(space, trial, self.path.name, controller, reward)))
            paths.append(path)
        return paths


def found_genotype(space: SearchSpace, trial: Trial, run: str, controller: str = "", reward: float | None = None) -> Genotype:
    """The genotype of a trial, labelled with where it comes from, and with what is believed of its reward, or the trial's own."""
    known = trial.reward if reward is None else reward
    origin = Provenance(run=run, trial=trial.number, reward=None if known is None else round(known, 6), controller=controller)
    return replace(space.decode(trial.proposal.actions), name=f"{run}-trial-{trial.number}", space=space.name, provenance=origin)


def _deed(line: bytes) -> float | None:
    """When the record of a line says that a child was handed out or had ended; None where it says neither."""
    if b'"event":"started"' not in line and b'"event":"finished"' not in line:
        return None
    try:
        return float(json.loads(line)["time"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def create(path: str | Path | None, config: SearchConfig) -> RunFolder:
    """Make the folder of a new run. Raises RunError where it holds a run already or cannot be made."""
    folder = Path(path) if path is not None else _new_name(f"{Path(config.space).stem}-{Path(config.preset).stem}")
    check_new(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        run = RunFolder(folder)
        run.write_config(config)
        write_environment(run.environment_file)
    except OSError as error:
        raise RunError(f"{folder}: the run folder cannot be made: {error.strerror or error}") from None
    return run


def check_new(folder: Path) -> None:
    """Raise RunError where no new run can be made: it holds one already, or the name is none for a run."""
    check_name(folder)
    if (folder / "ledger.jsonl").exists():
        raise RunError(f"{folder}: this folder holds a run already; resume it with `nas resume {quoted(folder)}`, or name another")


def check_name(folder: Path) -> None:
    """Raise RunError where a run of that name could not be named: where a genotype may stand it would stand for a published cell."""
    if folder.name == "last" or folder.name in reference_names():
        other = "what was done last" if folder.name == "last" else "a published cell"
        raise RunError(f"{folder}: must have another name: {folder.name!r} stands for {other} wherever a run can be named")


def _new_name(what: str) -> Path:
    """A folder under runs/ that is named by the time, and that nothing has: several searches may begin in one second."""
    first = f"{datetime.now().astimezone():%Y%m%d-%H%M%S}-{what}"
    names = (RUNS.new() / (first if number == 1 else f"{first}-{number}") for number in count(1))
    return next(name for name in names if not name.exists())


def find(name: str) -> RunFolder:
    """The run folder of that path, of that name (or former name) under runs/, or the last run that did something. Raises RunError.

    ``runs/`` is the folder that NAS_RUNS names, else one in the working directory or above it; ``last`` looks in the working
    directory itself as well.
    """
    if name == "last":
        return _last()
    for path in RUNS.find(name):
        if (path / "config.yaml").is_file():
            if not (path / "ledger.jsonl").is_file() and (path / "genotype.yaml").is_file():
                raise RunError(f"{path}: this is a training, no search: see its README.md, and `nas evaluate {quoted(path)}`")
            return RunFolder(path)
        if (path / COMPARISON_FILE).is_file():
            raise RunError(f"{path}: this is a comparison, no search: `nas show {quoted(path)}` has the command that goes on with it")
    known = known_runs()
    if renamed := [run for run in known if name in read_label(run.path).formerly]:
        return renamed[-1]
    latest = f"the latest runs: {', '.join(str(run.path) for run in known[:-6:-1])}" if known else f"there is no run in {_where()}/ yet"
    hint = guess(name, ["last", *(run.path.name for run in known)])
    raise RunError(f"{name}: no run folder there{hint}; {latest}")


def _last() -> RunFolder:
    """The run that did something last; of runs that never did, the newest. Raises RunError."""
    runs = known_runs()
    if not runs:
        raise RunError(f"there is no run in {_where()}/ yet; start one with `nas search`")
    last = max(runs, key=lambda run: (run.last_deed() or 0.0, run.ledger_file.stat().st_mtime))
    took_last(last.path)
    return last


def _where() -> Path:
    return next(iter(RUNS.places()), RUNS.new())


def known_runs() -> list[RunFolder]:
    """The runs found without a path (``Shelf.holding``), those that lie in the working directory itself last."""
    return [RunFolder(path) for path in RUNS.holding("ledger.jsonl")]
