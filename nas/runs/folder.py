"""The folder of a run: its configuration, environment, ledger, snapshot, best genotypes and log. No torch, no ray."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import count
from pathlib import Path

from nas.errors import ConfigError, RunError
from nas.runs.config import SearchConfig, config_from_document, config_yaml
from nas.runs.ledger import Reading
from nas.runs.old_stage import stage_records, stage_rung
from nas.runs.state import RunState, replay
from nas.runs.trials import Trial
from nas.tools.files import write_atomically
from nas.tools.hardware import environment
from nas.tools.words import quoted
from search_spaces.genotype import Genotype, Provenance, to_yaml
from search_spaces.plugins import guess
from search_spaces.registry import load_space
from search_spaces.space import SearchSpace
from search_spaces.strict_yaml import load_document

DEFAULT_ROOT = Path("runs")


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

    def config(self) -> SearchConfig:
        """The configuration of the run. Raises RunError where there is none, ConfigError where it is damaged."""
        if not self.config_file.is_file():
            raise RunError(f"{self.path}: a run folder has a config.yaml, but this has none; `nas list` shows the runs in {DEFAULT_ROOT}/")
        config = config_from_document(load_document(self.config_file, ConfigError))
        rung = None if config.ladder else stage_rung(self.path)
        return config if rung is None else config.model_copy(update={"ladder": [rung]})

    def space(self, config: SearchConfig) -> SearchSpace:
        """The search space of the run. Raises SpaceError."""
        return load_space(str(self.space_file) if self.space_file.is_file() else config.space)

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

    def write_best(self, space: SearchSpace, ranked: Sequence[tuple[Trial, float]]) -> list[Path]:
        """Write the genotypes of these trials, best first and each with what is believed of its reward, as best/1.yaml and so on."""
        self.best_folder.mkdir(exist_ok=True)
        paths, controller = [], self.config().controller.name
        for rank, (trial, reward) in enumerate(ranked, start=1):
            path = self.best_folder / f"{rank}.yaml"
            write_atomically(path, to_yaml(found_genotype(space, trial, self.path.name, controller, reward)))
            paths.append(path)
        return paths


def found_genotype(space: SearchSpace, trial: Trial, run: str, controller: str = "", reward: float | None = None) -> Genotype:
    """The genotype of a trial, labelled with where it comes from, and with what is believed of its reward, or the trial's own."""
    origin = Provenance(run=run, trial=trial.number, reward=trial.reward if reward is None else reward, controller=controller)
    return replace(space.decode(trial.proposal.actions), name=f"{run}-trial-{trial.number}", space=space.name, provenance=origin)


def create(path: str | Path | None, config: SearchConfig) -> RunFolder:
    """Make the folder of a new run. Raises RunError where it holds a run already or cannot be made."""
    folder = Path(path) if path is not None else _new_name(f"{Path(config.space).stem}-{Path(config.preset).stem}")
    if (folder / "ledger.jsonl").exists():
        raise RunError(f"{folder}: this folder holds a run already; resume it with `nas resume {quoted(folder)}`, or name another")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        run = RunFolder(folder)
        run.write_config(config)
        write_atomically(folder / "environment.json", json.dumps(environment(), indent=2) + "\n")
    except OSError as error:
        raise RunError(f"{folder}: the run folder cannot be made: {error.strerror or error}") from None
    return run


def _new_name(what: str) -> Path:
    """A folder under runs/ that is named by the time, and that nothing has: several searches may begin in one second."""
    first = f"{datetime.now().astimezone():%Y%m%d-%H%M%S}-{what}"
    names = (DEFAULT_ROOT / (first if number == 1 else f"{first}-{number}") for number in count(1))
    return next(name for name in names if not name.exists())


def find(name: str) -> RunFolder:
    """The run folder of that path, of that name under runs/, or the newest run for ``last``. Raises RunError."""
    if name == "last":
        runs = all_runs(DEFAULT_ROOT)
        if not runs:
            raise RunError(f"there is no run in {DEFAULT_ROOT}/ yet; start one with `nas search`")
        return max(runs, key=lambda run: run.ledger_file.stat().st_mtime)
    for path in (Path(name), DEFAULT_ROOT / name):
        if (path / "config.yaml").is_file():
            if not (path / "ledger.jsonl").is_file() and (path / "genotype.yaml").is_file():
                raise RunError(f"{path}: this is a training, no search: see its README.md, and `nas evaluate {quoted(path)}`")
            return RunFolder(path)
    known = ", ".join(str(run.path) for run in all_runs(DEFAULT_ROOT)[-5:]) or "none"
    near = guess(name, (run.path.name for run in all_runs(DEFAULT_ROOT)))
    raise RunError(f"{name}: no run folder there{near}; the latest runs in {DEFAULT_ROOT}/: {known}")


def all_runs(root: Path) -> list[RunFolder]:
    """The runs under a folder, oldest name first."""
    return [RunFolder(path.parent) for path in sorted(root.glob("*/ledger.jsonl"))]
