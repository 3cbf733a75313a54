"""Trains one network on many workers of one machine or many, through Ray Train: goes on from the last checkpoint when a worker dies.

DistributedDataParallel averages the gradients, over gloo on CPUs and NCCL on GPUs. The checkpoint is the folder's own, so the
folder must lie where every node sees it; a step's images are the same on any number of workers, so another number can go on.
"""

import json
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from nas.data.registry import load_dataset
from nas.errors import ConfigError, RunError
from nas.evaluators.settings import RunnerSettings
from nas.tools.stages import doing
from nas.training.config import TrainConfig
from nas.training.folder import TrainFolder
from nas.training.session import TrainResult, Watcher, finished, held, read_result, train_network
from nas.training.trainer import EpochRecord, Workers
from search_spaces.genotype import Genotype

MOST_FAILURES = 20
"""Times that the group of workers is started again before the training gives up (resumable)."""
POLL_SECONDS = 1.0
WORKERS, STOP = "workers", "stop"
"""In a training's folder: what its workers and the driver tell each other; and there, that the training is to stop."""


@dataclass(frozen=True)
class Group:
    """How many workers train together, and where.

    Attributes:
        workers: processes that share every step.
        least: go on with as few as this while nodes are missing; None waits for all.
        gpu: every worker has a GPU.
        address: of a Ray cluster; None starts Ray on this machine.
    """

    workers: int
    least: int | None = None
    gpu: bool = False
    address: str | None = None


def check_group(group: Group) -> None:
    """Refuse workers that cannot be had: more GPUs than this machine has, or a cluster that does not answer. Raises ConfigError."""
    if group.address is not None:
        with doing(f"asking the Ray cluster at {group.address}"):
            from nas.runners.ray_start import check_reachable  # brings ray

            check_reachable(group.address)
        return
    there = torch.cuda.device_count()
    if group.gpu and (group.least or group.workers) > there:
        raise ConfigError(f"--workers must be at most {there}, this machine's GPUs, but got {group.workers}; a cluster takes --address")


def train_distributed(
    genotype: Genotype,
    config: TrainConfig,
    folder: str | Path,
    group: Group,
    on_epoch: Callable[[EpochRecord, bool], None] = lambda record, is_best: None,
    on_files: Callable[[int, int], None] = lambda done, total: None,
    stop: Callable[[], bool] = lambda: False,
) -> TrainResult:
    """``nas.training.session.train_network`` on many workers; the same folder, the same checkpoints, the same result.

    A worker that dies stops the others; all begin again at the last checkpoint (``config.checkpoint_steps`` sets how old it can be).
    ``stop`` is asked now and then: True makes all workers stop after the same step, with a checkpoint.

    Raises:
        UserError: something cannot be used as asked, or the workers died ``MOST_FAILURES`` times.
    """
    place = TrainFolder(Path(folder).expanduser().resolve())
    with held(place, genotype, config):
        done = finished(place)
        if done is not None:
            return done
        load_dataset(config.data, place.images_file, on_files)  # lists and checks a folder's images, once for all workers
        place.result_file.unlink(missing_ok=True)
        reader = _MetricsReader(place, on_epoch)
        with reader, _Wish(place, stop) as wish:
            _fit(config, place, group, wish)
        result = place.result()
        if result is None and stop():
            raise KeyboardInterrupt
        if result is None:
            raise RunError(f"{place.path}: the workers ended without a result; go on with the same command")
        return read_result(place, result)


def _fit(config: TrainConfig, place: TrainFolder, group: Group, wish: "_Wish") -> None:
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from nas.runners.ray_start import start_ray
    from nas.tools.hardware import detect
    from nas.tools.interrupts import aside

    # One more slot: Ray Train's own controller takes one.
    start_ray(RunnerSettings(address=group.address, workers=group.workers + 1, threads_per_child=config.threads), detect().cores)
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    try:
        trainer = TorchTrainer(
            _work,
            train_loop_config={"folder": str(place.path), "config": config.model_dump_json(), "gpu": group.gpu},
            scaling_config=ScalingConfig(
                num_workers=(group.least, group.workers) if group.least is not None else group.workers,  # type: ignore[arg-type]
                use_gpu=group.gpu,
                resources_per_worker={"CPU": config.threads} | ({"GPU": 1} if group.gpu else {}),
            ),
            run_config=RunConfig(name="ray", storage_path=str(place.path), failure_config=FailureConfig(max_failures=MOST_FAILURES)),
            torch_config=TorchConfig(backend="nccl" if group.gpu else "gloo"),
        )
        aside(trainer.fit, wish.pass_on)  # in the main thread Ray Train would take Ctrl-C for itself, and drop the steps since a checkpoint
    except ray.train.TrainingFailedError as error:
        cause = str(error).strip().splitlines()[-1][:500]
        raise RunError(f"{place.path}: the workers failed ({cause}); correct the cause and go on with the same command") from None
    finally:
        ray.shutdown()


def _work(settings: dict[str, Any]) -> None:
    """One worker's part: join the others, then train as one process would."""
    import ray.train
    import ray.train.torch

    context = ray.train.get_context()
    place = TrainFolder(Path(settings["folder"]))
    config = TrainConfig.model_validate_json(settings["config"])
    device = ray.train.torch.get_device() if settings["gpu"] else torch.device("cpu")
    workers = _workers(context.get_world_rank(), context.get_world_size(), device)
    (place.path / WORKERS).mkdir(exist_ok=True)
    (place.path / WORKERS / f"{workers.rank}.pid").write_text(f"{os.getpid()}\n", encoding="utf-8")
    watcher = Watcher(stop=_stop_together(place, workers.rank))
    train_network(place.genotype(), config.model_copy(update={"device": str(device)}), place.path, watcher, workers=workers)


def _stop_together(place: TrainFolder, rank: int) -> Callable[[], bool]:
    """Whether the driver wants the training to stop: the first worker looks, and all hear of it after the same step.

    Over gloo even where gradients go over NCCL, so that no GPU has to wait for the answer.
    """
    group: Any = dist.new_group(backend="gloo")

    def stop() -> bool:
        wanted = torch.tensor([float(rank == 0 and (place.path / WORKERS / STOP).exists())])
        dist.all_reduce(wanted, group=group)
        return bool(wanted.item())

    return stop


def _workers(rank: int, world: int, device: torch.device) -> Workers:
    """How this process and the others of torch's process group work together."""

    def wrap(module: nn.Module) -> nn.Module:
        ids = [device.index or 0] if device.type == "cuda" else None
        # A genotype may have nodes whose output nobody reads: their weights get no gradient.
        return nn.parallel.DistributedDataParallel(module, device_ids=ids, find_unused_parameters=True)

    def add(values: list[float]) -> list[float]:
        total = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(total)
        return [float(value) for value in total.tolist()]

    def share_buffers(module: nn.Module) -> None:
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)

    return Workers(rank, world, wrap, add, share_buffers)


class _Wish:
    """Passes the wish to stop on to the workers, through the folder that all of them see; while entered."""

    def __init__(self, place: TrainFolder, stop: Callable[[], bool]) -> None:
        self._file, self._stop = place.path / WORKERS / STOP, stop

    def __enter__(self) -> "_Wish":
        self._file.unlink(missing_ok=True)
        return self

    def __exit__(self, *error: object) -> None:
        self._file.unlink(missing_ok=True)

    def pass_on(self) -> None:
        """Where the training is to stop, say so to the workers."""
        if self._stop():
            self._file.parent.mkdir(exist_ok=True)
            self._file.touch()


class _MetricsReader:
    """Tells of every epoch that the first worker writes into the folder, from a thread, while the workers train."""

    def __init__(self, place: TrainFolder, on_epoch: Callable[[EpochRecord, bool], None]) -> None:
        self._place, self._on_epoch = place, on_epoch
        self._told = len(self._records())
        self._best = max((record.validation_top1 for record in self._records()), default=-1.0)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "_MetricsReader":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()
        self._tell()

    def _watch(self) -> None:
        while not self._done.wait(POLL_SECONDS):
            self._tell()

    def _tell(self) -> None:
        records = self._records()
        for record in records[self._told :]:
            self._on_epoch(record, record.validation_top1 > self._best)
            self._best = max(self._best, record.validation_top1)
        self._told = max(self._told, len(records))

    def _records(self) -> list[EpochRecord]:
        with suppress(OSError, ValueError, TypeError):
            return [EpochRecord(**json.loads(line)) for line in self._place.metrics_file.read_text(encoding="utf-8").splitlines()]
        return []
