"""Trains several networks to the end at once on this machine, each in a folder of its own: in Ray's processes, or one GPU's streams."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from nas.data.prepared import PreparedData
from nas.evaluators.settings import RunnerSettings
from nas.runners.threads import own_stream
from nas.tools.hardware import detect
from nas.training.config import TrainConfig
from nas.training.session import TrainResult, Watcher, choose_device, train_network
from search_spaces.genotype import Genotype

if TYPE_CHECKING:
    import ray

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Training:
    """What is trained, how, and in which folder."""

    genotype: Genotype
    config: TrainConfig
    folder: Path


def train_side_by_side(
    trainings: Sequence[Training], workers: int | None, data: PreparedData, stop: Callable[[], bool] = lambda: False
) -> Iterator[tuple[Training, TrainResult | Exception]]:
    """Train all, ``workers`` at a time, the first first; yields each as it ends, with its result or what broke it.

    With one worker in this process, without Ray; the weights are the same either way. Those whose turn had not come when somebody
    asked to stop are not yielded; those at work end after a checkpoint (``Ending.INTERRUPTED``).

    Several on one GPU are threads of this process, each with a stream of its own: they compute beside one another, where processes
    would take turns (``nas.runners.threads``).

    Args:
        trainings: what to train; a finished one is read back.
        workers: at once; processes have ``config.threads`` threads each, and a GPU of their own where trainings are on one. None: as
            many as fit.
        data: the loaded data of all of them, once in memory for all processes.
        stop: asked after every step, and in between.
    """
    if not trainings:
        return
    workers = min(workers or as_many_as_fit(trainings[0].config), len(trainings))
    if workers < 2:
        for training in trainings:
            if stop():
                return
            yield training, _outcome(training, data, stop)
        return
    if _on_one_gpu(trainings[0].config):
        yield from _in_threads(trainings, workers, data, stop)
        return
    with _ray(workers, trainings[0].config) as wish:
        yield from _on_ray(trainings, workers, data, stop, wish)


def _on_gpu(config: TrainConfig) -> bool:
    return choose_device(config.device).type == "cuda"


def _on_one_gpu(config: TrainConfig) -> bool:
    """Whether all trainings are on the same GPU: there is no other, or it is the one that was asked for."""
    return _on_gpu(config) and (len(detect().gpus) == 1 or choose_device(config.device).index is not None)


def as_many_as_fit(config: TrainConfig) -> int:
    """One a GPU, or as many as have cores of their own."""
    hardware = detect()
    return max(len(hardware.gpus) if _on_gpu(config) else hardware.cores // config.threads, 1)


def _outcome(training: Training, data: PreparedData, stop: Callable[[], bool]) -> TrainResult | Exception:
    """The training's result, or what broke it."""
    try:
        return train_network(training.genotype, training.config, training.folder, Watcher(stop=stop), data=data)
    except Exception as problem:  # whatever it is, the others go on; the caller knows which are worth a stop
        return problem


def _in_threads(
    trainings: Sequence[Training], workers: int, data: PreparedData, stop: Callable[[], bool]
) -> Iterator[tuple[Training, TrainResult | Exception]]:
    """The same in threads of this process."""
    unwanted = threading.Event()

    def asked() -> bool:
        return unwanted.is_set() or stop()

    def train(training: Training) -> TrainResult | Exception | None:
        with own_stream():
            return None if asked() else _outcome(training, data, asked)

    with ThreadPoolExecutor(workers) as pool:
        waiting = {pool.submit(train, training): training for training in trainings}
        try:
            for done in as_completed(waiting):
                outcome = done.result()
                if outcome is not None:
                    yield waiting[done], outcome
        finally:
            unwanted.set()  # whoever takes no more outcomes wants no more trainings


@contextmanager
def _ray(workers: int, config: TrainConfig) -> Iterator[Path]:
    """Ray on this machine while entered; gives the file whose being there is the wish to stop."""
    import ray

    from nas.runners.ray_start import start_ray

    start_ray(RunnerSettings(workers=workers, threads_per_child=config.threads), detect().cores)
    with TemporaryDirectory(prefix="nas-") as folder:
        try:
            yield Path(folder) / "stop"
        finally:
            ray.shutdown()


def _on_ray(
    trainings: Sequence[Training], workers: int, data: PreparedData, stop: Callable[[], bool], wish: Path
) -> Iterator[tuple[Training, TrainResult | Exception]]:
    """The same in Ray's processes."""
    import ray

    config, shared = trainings[0].config, ray.put(data)
    task = ray.remote(num_cpus=config.threads, num_gpus=int(_on_gpu(config)), max_retries=0)(_remote)
    waiting = list(trainings)
    at_work: dict[Any, Training] = {}
    while at_work or (waiting and not wish.exists()):
        if stop():
            wish.touch()
        while waiting and len(at_work) < workers and not wish.exists():
            training = waiting.pop(0)
            at_work[task.remote(training, shared, wish)] = training
        for done in ray.wait(list(at_work), timeout=POLL_SECONDS)[0] if at_work else ():
            yield at_work.pop(done), _result(done)


def _remote(training: Training, data: PreparedData, wish: Path) -> TrainResult | Exception:
    """In a worker's process."""
    return _outcome(training, data, wish.exists)


def _result(done: "ray.ObjectRef[TrainResult | Exception]") -> TrainResult | Exception:
    """What a task gave, or that its process died."""
    import ray

    try:
        outcome: TrainResult | Exception = ray.get(done)
    except ray.exceptions.RayError as error:
        return error
    return outcome
