"""Trains a network to convergence in a folder of its own: the one function behind ``nas train``, comparisons, finalists and transfer."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from filelock import Timeout

from nas.data.prepared import PreparedData, prepare
from nas.data.registry import DATASETS
from nas.errors import ConfigError, RunError, UserError
from nas.loggers import sending
from nas.loggers.logger import Logged
from nas.networks.architecture import Architecture
from nas.networks.card import Loading, write_card
from nas.networks.description import NetworkDescription
from nas.networks.weights.described import load_into, without_auxiliary, write_described
from nas.networks.weights.files import read_weights
from nas.networks.weights.layouts import in_our_names
from nas.tools.environment import add_data, add_session
from nas.tools.files import check_room, write_atomically
from nas.tools.hardware import check_device
from nas.tools.locks import folder_lock, is_held
from nas.training.building import seeded_network
from nas.training.checkpoint import read_checkpoint, write_checkpoint
from nas.training.config import TrainConfig, preparation, skeleton_of, trained_skeleton
from nas.training.folder import TrainFolder, config_yaml, differences, test_facts
from nas.training.numerics import own_threads
from nas.training.scoring import Scores
from nas.training.telemetry import epoch_points, test_point
from nas.training.trainer import DivergedError, Ending, EpochRecord, Hooks, Position, Trainer, Workers
from search_spaces.genotype import Genotype
from search_spaces.networks.cost import count_macs, count_parameters
from search_spaces.networks.network import Network

CURVES_EVERY = 60.0
"""Seconds between two drawings of the curves while a training goes on."""
LOADING = """
import nas

network = nas.load_network(".")  # the folder of this file; a torch.nn.Module in evaluation mode
print(nas.predict(network, ["image.jpg"]).labels)
""".strip()
"""How a trained network is loaded, for its card."""


@dataclass(frozen=True)
class Watcher:
    """Who is told what while a training goes on; every call comes after the folder has it.

    ``stop`` is asked after every step of the optimiser: True makes the training write a checkpoint and end as INTERRUPTED.
    ``on_warning`` takes a line for a person, from any thread.
    """

    on_start: Callable[[Trainer, PreparedData], None] = lambda trainer, data: None
    on_files: Callable[[int, int], None] = lambda done, total: None
    on_step: Callable[[Position, int], None] = lambda position, steps: None
    on_epoch: Callable[[EpochRecord, bool], None] = lambda record, is_best: None
    stop: Callable[[], bool] = lambda: False
    on_warning: Callable[[str], None] = lambda message: None


@dataclass(frozen=True)
class TrainResult:
    """How a training ended. ``test`` is the one reading of the test set, by the weights of ``best_epoch``; None unless finished.

    Accuracies are in [0, 1]; seconds are of all sessions, waiting between them left out.
    """

    folder: TrainFolder
    ending: Ending
    epochs: int
    best_epoch: int
    validation_top1: float
    test: Scores | None
    parameters: int
    macs: int
    seconds: float
    cpu_seconds: float
    classes: int
    detail: str = ""
    history: tuple[EpochRecord, ...] = field(default=(), repr=False)


def train_network(
    genotype: Genotype,
    config: TrainConfig,
    folder: str | Path,
    watcher: Watcher | None = None,
    *,
    workers: Workers | None = None,
    data: PreparedData | None = None,
) -> TrainResult:
    """Train the network of a genotype in ``config.skeleton``, in ``folder``; go on where an earlier call or process was stopped.

    The validation part is held out of the training set; the best epoch is chosen on it, and the test set is read once, at the end.
    A finished training is not repeated: its result is read back. A call after an interruption or ``kill -9`` ends with the
    weights of an uninterrupted one, bit for bit on the same CPU with as many threads.

    Example::

        recipe = load_recipe("fast", {"epochs": 3})
        config = TrainConfig(skeleton=skeleton_document(NASNetSkeleton(1, 16), "custom"), recipe=recipe, data=DataSettings(name="cifar10"))
        result = train_network(load_reference("nasnet-a"), config, Path("trained/nasnet-a"))
        result.test.top1, result.parameters

    Args:
        genotype: what is trained.
        config: how.
        folder: made where it does not exist.
        watcher: told what happens.
        workers: the processes that train together (``nas.runners.distributed`` starts them); None trains in this one.
        data: the loaded data of ``config.data``, for callers that train many networks on it; None loads it.

    Raises:
        UserError: something cannot be used as asked (nothing is trained), or another process trains in this folder.
    """
    place = TrainFolder(Path(folder))
    if workers is None:
        check_training(place, genotype, config)
    if workers is not None:  # whoever started the workers holds the folder
        with own_threads(config.threads):
            return _Session(genotype, config, place, watcher or Watcher(), workers, data).run()
    with held(place, genotype, config):
        done = finished(place)
        if done is not None:
            return done
        with own_threads(config.threads):
            return _Session(genotype, config, place, watcher or Watcher(), Workers(), data).run()


def check_training(place: TrainFolder, genotype: Genotype, config: TrainConfig) -> None:
    """Refuse in no time what cannot be trained: no such device, a folder that is taken or in use, no room on its disk.

    Raises:
        UserError: it cannot be trained as asked.
    """
    choose_device(config.device)
    if place.exists():
        check_same(place, genotype, config)
        if is_held(place.lock_file):
            raise RunError(f"{place.path}: another process is training here; stop it first, or name another folder")
    check_room(place.path)


def check_same(place: TrainFolder, genotype: Genotype, config: TrainConfig) -> None:
    """Raise RunError where the folder holds another training."""
    other = differences(place.config(), config)
    if place.genotype().cells() != genotype.cells():
        other.insert(0, "genotype")
    if other:
        names = ", ".join(other[:6]) + (", …" if len(other) > 6 else "")
        raise RunError(f"{place.path}: this folder holds another training, which differs in {names}; name another folder (--output)")


@contextmanager
def held(place: TrainFolder, genotype: Genotype, config: TrainConfig) -> Iterator[None]:
    """Make the folder where it does not exist, check that it is for this training, and keep other processes out of it.

    A new folder in which nothing could be trained, for bad input, is removed again.

    Raises:
        RunError: the folder holds another training, or another process trains in it.
    """
    new = not place.exists()
    if not new:
        check_same(place, genotype, config)
    else:
        place.write_new(genotype, config)
    lock = folder_lock(place.lock_file)
    try:
        lock.acquire()
    except Timeout:
        raise RunError(f"{place.path}: another process is training here; stop it first, or name another folder") from None
    try:
        yield
    except UserError:
        if new and not place.checkpoint_file.exists():
            place.remove_begun()
        raise
    finally:
        lock.release()


def finished(place: TrainFolder) -> TrainResult | None:
    """The result of a training that has finished, read from its folder; else None. Raises RunError where it is damaged."""
    done = place.result()
    return read_result(place, done) if done is not None and done.get("ending") == Ending.FINISHED.value else None


def choose_device(name: str) -> torch.device:
    """The device of that name; ``auto`` is the first GPU where there is one. Raises ConfigError."""
    check_device(name)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"--device must be auto, cpu or one of this machine's {torch.cuda.device_count()} GPUs (cuda, cuda:N), but got {name!r}"
        )
    return device


def build_for_training(genotype: Genotype, config: TrainConfig, data: PreparedData) -> Network:
    """The network as it is trained, its weights drawn with the seed, or read from ``config.weights``.

    Raises:
        UserError: genotype and skeleton do not fit, or the weights do not fit the network.
    """
    skeleton = trained_skeleton(skeleton_of(config), config.recipe)
    network = seeded_network(genotype, skeleton, data, config.seed)
    if config.weights is not None:
        path, own = Path(config.weights), network.state_dict()
        weights = in_our_names(network, read_weights(path), path)
        heads = tuple(name for name, value in weights.items() if "classifier" in name and name in own and own[name].shape != value.shape)
        kept = {name: value for name, value in weights.items() if name not in heads}
        load_into(network, kept, path, without=("auxiliary.", "progress", *heads))
    return network


class _Session:
    """One process's work in a training's folder."""

    def __init__(
        self, genotype: Genotype, config: TrainConfig, place: TrainFolder, watcher: Watcher, workers: Workers, data: PreparedData | None
    ) -> None:
        self.genotype, self.config, self.place, self.watcher, self.workers = genotype, config, place, watcher, workers
        self.data = data or prepare(config.data, preparation(config), index_file=place.images_file, progress=watcher.on_files)
        known = place.config()
        if workers.rank == 0 and known.data != config.data:  # the images are elsewhere now, and are the same: that has just been checked
            write_atomically(place.config_file, config_yaml(known.model_copy(update={"data": config.data})))
        network = build_for_training(genotype, config, self.data)
        self.parameters = count_parameters(network) - _auxiliary_parameters(network)
        self.macs = count_macs(network, channels=self.data.channels, image_size=self.data.image_size)
        self.trainer = make_trainer(network, self.data, config, workers)
        if workers.rank == 0:
            if place.checkpoint_file.is_file():
                add_session(place.environment_file)
            add_data(place.environment_file, self.trainer.fingerprint)
        self._drawn = time.monotonic()

    def run(self) -> TrainResult:
        """Train what is left, then read the test set."""
        trainer, place = self.trainer, self.place
        if place.checkpoint_file.is_file():
            tensors, state = read_checkpoint(place.checkpoint_file)
            trainer.load(tensors, state, place.checkpoint_file)
        self._log(f"session: epoch {trainer.position.epoch}, step {trainer.position.step} of {trainer.steps_an_epoch}")
        self.watcher.on_start(trainer, self.data)
        about = Logged(place.path, "training", self.config.model_dump(mode="json"), "epoch")
        with sending.opened(self.config.log if self.workers.rank == 0 else (), about, self._warn) as loggers:
            loggers.log(epoch_points(trainer.position.history))
            ending, detail = self._train(loggers)
            test = self._finish() if ending is Ending.FINISHED else None
            if test is not None:
                loggers.log([test_point(test, self.config.recipe.epochs)])
        result = self._result(ending, test, detail)
        if self.workers.rank == 0:
            self._draw(result)
            if test is not None:
                self._write_card(test)
            write_atomically(place.result_file, json.dumps(_result_document(result), indent=2) + "\n")
            if trainer.replays:
                self._log(f"steps: {trainer.replays}")
            self._log(f"session ended: {ending.value} {detail}".rstrip())
        return result

    def _train(self, loggers: sending.Loggers) -> tuple[Ending, str]:
        """Train what is left; how that ended, and why where it went wrong."""

        def on_epoch(record: EpochRecord, is_best: bool) -> None:
            loggers.log(epoch_points([record]))
            self.watcher.on_epoch(record, is_best)

        try:
            hooks = Hooks(stop=self.watcher.stop, on_step=self.watcher.on_step, on_epoch=on_epoch)
            return self.trainer.run(self._keep, hooks, self.config.checkpoint_steps), ""
        except DivergedError as problem:
            return Ending.DIVERGED, str(problem)

    def _keep(self, is_best: bool) -> None:
        """Called after every epoch, and in the middle of one before stopping: first the weights, then the checkpoint that counts them."""
        if self.workers.rank != 0:
            return
        trainer, epoch = self.trainer, self.trainer.position.epoch - 1
        if is_best:
            write_described(self.place.best_file, trainer.scored_network.state_dict(), self._description(epoch))
        self.place.write_metrics([asdict(record) for record in trainer.position.history])
        due = epoch % self.config.checkpoint_epochs == 0 or epoch >= self.config.recipe.epochs or trainer.position.step > 0
        if due:
            write_checkpoint(self.place.checkpoint_file, trainer.tensors(), trainer.state())
        if time.monotonic() - self._drawn > CURVES_EVERY:
            self._draw(self._result(Ending.INTERRUPTED, None, ""))

    def _finish(self) -> Scores:
        """Read the test set with the best epoch's weights."""
        trainer, place = self.trainer, self.place
        if self.workers.rank == 0:
            write_described(place.last_file, trainer.scored_network.state_dict(), self._description(self.config.recipe.epochs))
        self.workers.add([0.0])  # everybody waits until the files are there
        load_into(trainer.scored_network, read_weights(place.best_file), place.best_file)
        assert self.data.test is not None
        return trainer.score(self.data.test)

    def _write_card(self, test: Scores) -> None:
        described = without_auxiliary(self._description(self.trainer.position.best_epoch))
        described = replace(described, facts={**described.facts, **test_facts(asdict(test))})
        write_card(self.place.path, described, Loading("this training", "nas-engine", LOADING))

    def _description(self, epoch: int) -> NetworkDescription:
        recipe, data, record = self.config.recipe, self.data, self.trainer.position.history[epoch - 1]
        skeleton = trained_skeleton(skeleton_of(self.config), recipe)
        name = self.config.skeleton["name"]
        architecture = Architecture(self.genotype, skeleton, name, data.classes, data.channels, data.image_size)
        facts: dict[str, str | int | float] = {
            "recipe": recipe.name,
            "data": data.name,
            "train_images": len(data.train),
            "validation_images": len(data.validation),
            "epoch": epoch,
            "validation_top1": record.validation_top1,
            # How images from files are prepared: shorter side (or both) scaled to image_size / crop_fraction, the middle cut out.
            "crop_fraction": data.crop_fraction,
            "crop_mode": data.crop_mode,
            "interpolation": data.interpolation,
            **({"images": data.images, "held_out": data.held_out} if data.images else {}),  # so that `nas evaluate` knows them again
        }
        address = DATASETS[self.config.data.name].hub
        if address:
            facts["hub_dataset"] = address
        return NetworkDescription(architecture, data.mean, data.std, data.class_names, facts)

    def _result(self, ending: Ending, test: Scores | None, detail: str) -> TrainResult:
        position = self.trainer.position
        return TrainResult(
            folder=self.place,
            ending=ending,
            epochs=len(position.history),
            best_epoch=position.best_epoch,
            validation_top1=max(0.0, position.best),
            test=test,
            parameters=self.parameters,
            macs=self.macs,
            classes=self.data.classes,
            seconds=sum(record.seconds for record in position.history) + position.seconds,
            cpu_seconds=sum(record.cpu_seconds for record in position.history) + position.cpu_seconds,
            detail=detail,
            history=tuple(position.history),
        )

    def _draw(self, result: TrainResult) -> None:
        from nas.training.curves import curves_of, draw_curves

        if result.history:
            draw_curves(curves_of(self.place, _result_document(result)), self.place.curves_file)
        self._drawn = time.monotonic()

    def _warn(self, message: str) -> None:
        self.watcher.on_warning(message)
        self._log(message)

    def _log(self, message: str) -> None:
        if self.workers.rank == 0:
            self.place.log(message)


def make_trainer(network: Network, data: PreparedData, config: TrainConfig, workers: Workers | None = None) -> Trainer:
    """The trainer of a network, as the configuration says. Raises UserError."""
    return Trainer(
        network,
        data,
        config.recipe,
        seed=config.seed,
        device=choose_device(config.device),
        micro_batch=config.micro_batch,
        loader_workers=config.loader_workers,
        workers=workers,
        compiled=config.compile,
    )


def _auxiliary_parameters(network: Network) -> int:
    auxiliary = getattr(network, "auxiliary", None)
    return count_parameters(auxiliary) if auxiliary is not None else 0


def _result_document(result: TrainResult) -> dict[str, object]:
    keys = ("epochs", "best_epoch", "validation_top1", "parameters", "macs", "seconds", "cpu_seconds", "detail")
    document: dict[str, object] = {"ending": result.ending.value, "classes": result.classes, **{key: getattr(result, key) for key in keys}}
    return document | {"test": asdict(result.test) if result.test else None}


def read_result(place: TrainFolder, document: dict[str, object]) -> TrainResult:
    """The result that a training wrote into its folder, with its epochs. Raises RunError where it is damaged."""
    try:
        test = document["test"]
        keys = ("epochs", "best_epoch", "validation_top1", "parameters", "macs", "seconds", "cpu_seconds", "detail")
        return TrainResult(
            folder=place,
            ending=Ending(document["ending"]),
            test=Scores(**test) if isinstance(test, dict) else None,
            history=tuple(EpochRecord(**record) for record in place.metrics()),
            classes=int(document.get("classes", 0)),  # type: ignore[call-overload]  # older results do not say
            **{key: document[key] for key in keys},  # type: ignore[arg-type]
        )
    except (OSError, KeyError, TypeError, ValueError) as problem:
        raise RunError(
            f"{place.result_file}: must be as `nas train` wrote it, but {problem}; remove it to have the test set read again"
        ) from None
