"""The folder of a training: configuration, genotype, metrics, checkpoint, weights, curves, result. No torch."""

import json
from collections.abc import Container, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from nas.errors import ConfigError, RunError, UserError
from nas.networks.description import read_skeleton
from nas.settings.reading import flat, validated
from nas.tools.environment import write_environment
from nas.tools.files import remove_own, write_atomically
from nas.tools.labels import LABEL_FILE
from nas.tools.locks import is_held
from nas.tools.shelves import RUNS, TRAINED, took_last
from nas.tools.words import quoted
from nas.training.config import TrainConfig
from search_spaces.genotype import Genotype, read_genotype, to_yaml
from search_spaces.plugins import guess
from search_spaces.strict_yaml import dump_document, load_document

SCHEMA = "nas.training/1"
WINNER = "finalists/winner"
"""Where in a search's folder the best of its last rung is trained once more, with its weights kept."""
OWN = (
    *("config.yaml", "genotype.yaml", "environment.json", "images.json", "metrics.jsonl", "checkpoint.safetensors", "best.safetensors"),
    *("last.safetensors", "curves.png", "result.json", "README.md", "log.txt", "train.lock"),
    *("loggers.json", "events.out.tfevents.*", ".*.yaml.*", ".*.json.*", LABEL_FILE),
)
"""What a training writes into its folder: all of it goes with the training, and nothing else."""


@dataclass(frozen=True)
class TrainFolder:
    """Paths inside a training's folder, and what is written to them."""

    path: Path

    @property
    def config_file(self) -> Path:
        """The effective configuration, skeleton and recipe included."""
        return self.path / "config.yaml"

    @property
    def genotype_file(self) -> Path:
        """What is trained."""
        return self.path / "genotype.yaml"

    @property
    def environment_file(self) -> Path:
        """Versions, hardware, data and command line."""
        return self.path / "environment.json"

    @property
    def images_file(self) -> Path:
        """The list of a folder's images, as they were checked before the first epoch."""
        return self.path / "images.json"

    @property
    def metrics_file(self) -> Path:
        """One JSON object an epoch."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoint_file(self) -> Path:
        """Where the training is: weights, optimiser, averages and position."""
        return self.path / "checkpoint.safetensors"

    @property
    def best_file(self) -> Path:
        """The weights of the epoch that was best on the validation part."""
        return self.path / "best.safetensors"

    @property
    def last_file(self) -> Path:
        """The weights at the end."""
        return self.path / "last.safetensors"

    @property
    def curves_file(self) -> Path:
        """A picture of the metrics."""
        return self.path / "curves.png"

    @property
    def result_file(self) -> Path:
        """How it ended, with the one reading of the test set."""
        return self.path / "result.json"

    @property
    def card_file(self) -> Path:
        """What the trained network is, for people and for the Hugging Face hub."""
        return self.path / "README.md"

    @property
    def lock_file(self) -> Path:
        """Held while a process trains here."""
        return self.path / "train.lock"

    @property
    def log_file(self) -> Path:
        """What happened, for people."""
        return self.path / "log.txt"

    def exists(self) -> bool:
        """Whether a training was begun here."""
        return self.config_file.is_file()

    def write_new(self, genotype: Genotype, config: TrainConfig) -> None:
        """Make the folder. Raises RunError where that cannot be done."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomically(self.genotype_file, to_yaml(genotype))
            write_environment(self.environment_file)
            write_atomically(self.config_file, config_yaml(config))  # last: it makes the folder one
        except OSError as error:
            raise RunError(f"{self.path}: the folder cannot be made: {error.strerror or error}") from None

    def remove_begun(self) -> None:
        """Remove what ``write_new`` and the preparation of a training wrote, and the folder where nothing else is in it."""
        begun = (self.config_file, self.genotype_file, self.environment_file, self.images_file, self.log_file, self.lock_file)
        with suppress(OSError):
            remove_own(self.path, [file.name for file in begun])

    @property
    def running(self) -> bool:
        """Whether a process trains here now."""
        return is_held(self.lock_file)

    def condition(self) -> str:
        """How the training stands, in a word: running, how its last session ended, or killed. Raises RunError where that is damaged."""
        if self.running:
            return "running"
        return str((self.result() or {}).get("ending", "killed"))

    def remove(self) -> list[Path]:
        """Remove the training, and its folder unless something else is in it. Returns what is left there."""
        return remove_own(self.path, OWN)

    def config(self) -> TrainConfig:
        """The configuration. Raises RunError where there is none, ConfigError where it is damaged."""
        if not self.exists():
            raise RunError(f"{self.path}: a training's folder has a config.yaml, but this has none")
        document = load_document(self.config_file, ConfigError)
        if not isinstance(document, dict) or document.pop("schema", None) != SCHEMA:
            raise RunError(f"{self.path}: this is not the folder of a training (its config.yaml must have the schema {SCHEMA!r})")
        config = validated(TrainConfig, document)
        read_skeleton(config.skeleton, str(self.config_file))
        return config

    def genotype(self) -> Genotype:
        """What is trained. Raises GenotypeError."""
        return read_genotype(self.genotype_file)

    def write_metrics(self, records: list[Mapping[str, Any]]) -> None:
        """All epochs so far, one line each."""
        write_atomically(self.metrics_file, "".join(json.dumps(record) + "\n" for record in records))

    def metrics(self) -> list[dict[str, Any]]:
        """What ``write_metrics`` wrote. Raises OSError and ValueError."""
        return [json.loads(line) for line in self.metrics_file.read_text(encoding="utf-8").splitlines()]

    def history(self) -> list[dict[str, Any]]:
        """The same, for looking at: nothing before the first epoch. Raises RunError where it is damaged."""
        if not self.metrics_file.is_file():
            return []
        try:
            return [record for record in self.metrics() if isinstance(record, dict)]
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{self.metrics_file}: must be as `nas train` wrote it, but {error}") from None

    def result(self) -> dict[str, Any] | None:
        """How the last session in the folder ended; None where none has. Raises RunError where it is damaged."""
        if not self.result_file.is_file():
            return None
        try:
            document = json.loads(self.result_file.read_text(encoding="utf-8"))
            if not isinstance(document, dict):
                raise ValueError("it is not a mapping")
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{self.result_file}: cannot be read: {error}; remove it to have the test set read again") from None
        return document

    def log(self, message: str) -> None:
        """Add a line to the log."""
        with self.log_file.open("a", encoding="utf-8") as log:
            log.write(f"{datetime.now().astimezone().isoformat(timespec='seconds')}  {message}\n")


WHICH = ("best", "last")
"""Weights that a training keeps."""


def find_weights(source: str | Path, which: str = "best") -> tuple[Path, TrainFolder | None]:
    """The file of weights that is meant, and the training whose folder it lies in, where it does.

    Args:
        source: a training's folder, its name under trained/, ``last`` for the training that did something last, or a file of weights.
        which: ``best`` or ``last`` weights of a folder.

    Raises:
        ConfigError: ``which`` is neither.
        RunError: there is no such training or file, or the training has no weights yet.
    """
    if which not in WHICH:
        raise ConfigError(f"--which must be one of {', '.join(WHICH)}, but got {which!r}{guess(which, WHICH)}")
    path = Path(source)
    if path.is_file():
        around = TrainFolder(path.parent)
        return path, around if around.exists() and path in (around.best_file, around.last_file) else None
    place = find_training(path)
    file = place.best_file if which == "best" else place.last_file
    if not file.is_file():
        raise RunError(f"{place.path}: there are no {which} weights yet; train on with `nas train --resume {quoted(place.path)}`")
    return file, place


def newest_training(runs: Container[str], trial: int | None = None) -> TrainFolder | None:
    """The newest known training that has weights of a cell that this search found: of that trial, where one is named.

    ``runs`` are the names that the search has had (``nas.tools.labels.names_of``).
    """
    found = []
    for place in known_trainings("best.safetensors"):
        with suppress(UserError, OSError):  # somebody else's, or damaged: not this run's
            origin = place.genotype().provenance
            if origin is not None and origin.run in runs and trial in (None, origin.trial):
                found.append(place)
    return max(found, key=_age, default=None)


def known_trainings(file: str = "genotype.yaml") -> list[TrainFolder]:
    """The trainings with that file that are found without a path (``Shelf.holding``)."""
    return [place for path in TRAINED.holding(file) if (place := TrainFolder(path)).exists() and place.genotype_file.is_file()]


def _age(place: TrainFolder) -> int:
    """When the training did something last, by the clock."""
    return max(file.stat().st_mtime_ns for file in (place.best_file, place.metrics_file, place.result_file) if file.is_file())


def find_training(path: Path) -> TrainFolder:
    """The training in that folder, of that name, or, for ``last``, that which did something last and has weights. Raises UserError.

    The winner of a search's ladder, whose folder lies in the search's, is a training too.
    """
    where = next(iter(TRAINED.places()), TRAINED.new())
    if str(path) == "last" and not path.exists():
        winners = map(TrainFolder, RUNS.holding(f"{WINNER}/best.safetensors"))
        trained = [*known_trainings("best.safetensors"), *(place for place in winners if place.exists())]
        if not trained:
            raise RunError(f"there is no training in {where}/ yet: `nas train` begins one; others are named by their folder")
        last = max(trained, key=_age)
        took_last(last.path)
        return last
    for place in map(TrainFolder, (*TRAINED.find(str(path)), *RUNS.find(str(path)))):
        if place.exists():
            if (place.path / "ledger.jsonl").exists():
                crowned = place.path / WINNER
                best = f"train its best cell, `nas train {quoted(path)}`"
                best += f", or name its winner, {crowned}" if (crowned / "best.safetensors").is_file() else ""
                raise RunError(f"{path}: this is a search, whose children's weights are not kept: {best}")
            place.config()  # a message of its own where this is no such folder
            return place
    known = known_trainings()
    hint = guess(str(path), ["last", *(place.path.name for place in known)])
    latest = ", ".join(str(place.path) for place in known[-5:]) or "none"
    raise RunError(
        f"{path}: there is no such trained network{hint}; name the folder of a training, `last`, or a file of weights "
        f"(.safetensors); the latest in {where}/: {latest}"
    )


def test_facts(test: object) -> dict[str, int | float]:
    """What a result says of its reading of the test set, as facts of a network's description; none where it has not been read."""
    numbers = test if isinstance(test, dict) else {}
    kept = {"top1": float, "top5": float, "images": int}
    return {f"test_{key}": numbers[key] for key, type_ in kept.items() if isinstance(numbers.get(key), type_)}


def config_yaml(config: TrainConfig) -> str:
    """The configuration as the folder keeps it."""
    return dump_document({"schema": SCHEMA, **config.model_dump(mode="json")})


EXECUTION = ("data.root", "data.download", "device", "threads", "loader_workers", "checkpoint_epochs", "checkpoint_steps", "log")
"""Settings that say where a training and its images are and not what it computes: they may differ when it is resumed."""


def differences(old: TrainConfig, new: TrainConfig) -> list[str]:
    """Names of the settings in which two configurations differ, those of execution left out."""
    first, second = flat(old.model_dump(mode="json")), flat(new.model_dump(mode="json"))
    return sorted(
        name
        for name in first.keys() | second.keys()
        if first.get(name) != second.get(name) and name.split(".")[0] not in EXECUTION and name not in EXECUTION
    )
