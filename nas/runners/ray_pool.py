"""Trains children on Ray: long-lived actors that hold the data set and stream a report after every epoch.

Ray's own retries are off: the ledger decides what is tried again. See design notes in CONTRIBUTING.md.
"""

import os
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from controllers.controller import Failed
from nas.config import RunnerSettings, SearchConfig
from nas.errors import ConfigError, RunError
from nas.evaluation import Evaluation, Report
from nas.runners.ray_start import PendingWatch, start_ray
from nas.runners.runner import Ended, Event, Job, Lost, Reported, run_child

CHILDREN_PER_WORKER = 200
"""A worker is replaced after this many children: its memory grows by about 1 MB a child (allocator fragmentation)."""
MAX_FAILED_BOOTS = 3
"""Workers that may die one after the other before they are up; more means that none will ever come up."""
GRACE_SECONDS = 60.0
"""How long past its time limit a child may go before its worker is killed: the child itself stops after the batch that passes it."""


@ray.remote(max_restarts=0, max_task_retries=0)
class Worker:
    """Trains one child at a time; built once with the configuration and a reference to the shared data."""

    def __init__(self, config: SearchConfig, data: list[Any]) -> None:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: spinning threads slow a busy machine 5-11 times
        from nas.evaluators import build_evaluator

        self._evaluator = build_evaluator(config, ray.get(data[0]) if data else None)
        self._time_limit = config.runner.time_limit

    def ready(self) -> int:
        """Answer once the worker is up, with its process id."""
        return os.getpid()

    def run(self, job: Job) -> Iterator[Report | Evaluation]:
        """Stream the child's reports, and its evaluation last."""
        child = run_child(self._evaluator, job, self._time_limit)
        while True:
            try:
                yield next(child)
            except StopIteration as end:
                yield end.value
                return


@dataclass
class _Slot:
    """One worker and what it is doing."""

    actor: Any
    boot: Any
    booted: bool = False
    job: Job | None = None
    stream: Any = None
    began: float = 0.0
    children: int = 0
    requested: float = field(default_factory=time.monotonic)


def check_fits(settings: RunnerSettings, cores: int) -> None:
    """Raise ConfigError where this machine is asked for far more children at once than it has cores: they would fill its memory."""
    most = max(1, 2 * cores // settings.threads_per_child)
    if settings.address is None and settings.workers is not None and settings.workers > most:
        raise ConfigError(
            f"runner.workers must be at most {most} on this machine ({cores} cores, {settings.threads_per_child} threads a child), "
            f"but got {settings.workers}; join a cluster with --address for more"
        )


class RayRunner:
    """A pool of actors: completion by event, one child in flight for each worker, replacements for workers that die.

    Raises:
        ConfigError: no worker can ever be placed on the cluster as asked.
    """

    def __init__(self, config: SearchConfig, data: object | None, cores: int) -> None:
        self._config = config
        check_fits(config.runner, cores)
        start_ray(config.runner, cores)
        self._failed_boots = 0
        self._pending = PendingWatch()
        self._data = [] if data is None else [ray.put(data)]
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        self._options = actor_options(config.runner, resources)
        self._wanted = config.runner.workers or default_workers(self._options, resources)
        self._slots: list[_Slot] = []
        self._waiting: deque[Job] = deque()
        self._events: list[Event] = []
        self._fill_pool()

    @property
    def capacity(self) -> int:
        """Children worth having in flight: one for each worker that is up or coming."""
        return self._wanted

    def submit(self, job: Job) -> None:
        """Accept a job; it starts on the first free worker."""
        self._waiting.append(job)
        self._assign()

    def poll(self, timeout: float) -> list[Event]:
        """Events since the last call; waits up to ``timeout`` seconds for the first."""
        handles = {slot.stream if slot.booted else slot.boot: slot for slot in self._slots if slot.stream is not None or not slot.booted}
        if handles:
            ready, _ = ray.wait(list(handles), num_returns=len(handles), timeout=0, fetch_local=False)
            if not ready and not self._events:
                ready, _ = ray.wait(list(handles), num_returns=1, timeout=timeout, fetch_local=False)
            for handle in ready:
                self._advance(handles[handle])
        self._enforce_time_limit()
        asked = {"CPU": float(self._options["num_cpus"]), "GPU": float(self._options["num_gpus"])}
        self._pending.look([slot.requested for slot in self._slots if not slot.booted], asked)
        self._assign()
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        """Stop every worker, and Ray where this process started it."""
        for slot in self._slots:
            ray.kill(slot.actor)
        self._slots.clear()
        ray.shutdown()

    # ------------------------------------------------------------------------------------------------ inside

    def _fill_pool(self) -> None:
        while len(self._slots) < self._wanted:
            actor = Worker.options(**self._options).remote(self._config, self._data)  # type: ignore[attr-defined]
            self._slots.append(_Slot(actor, actor.ready.remote()))

    def _assign(self) -> None:
        for slot in self._slots:
            if not self._waiting:
                return
            if slot.booted and slot.job is None:
                slot.job = self._waiting.popleft()
                slot.stream = slot.actor.run.options(num_returns="streaming").remote(slot.job)
                slot.began = time.monotonic()
                slot.children += 1

    def _advance(self, slot: _Slot) -> None:
        """Take the next word of a worker: it is up, a report, an evaluation, or its death."""
        try:
            if not slot.booted:
                ray.get(slot.boot)
                slot.booted = True
                self._failed_boots = 0
                return
            message = ray.get(next(slot.stream))
        except StopIteration:
            self._replace(slot, "the worker ended without a result")
        except RayActorError as error:
            self._replace(slot, str(error).splitlines()[0])
        except RayError as error:
            # The worker's own code failed outside the child's training, such as a result that cannot be sent.
            self._end(slot, Evaluation(Failed("exception", str(error).strip().splitlines()[-1][:1000])))
        else:
            assert slot.job is not None
            if isinstance(message, Evaluation):
                self._end(slot, message)
            else:
                self._events.append(Reported(slot.job.trial, slot.job.attempt, message))

    def _end(self, slot: _Slot, evaluation: Evaluation) -> None:
        assert slot.job is not None
        self._events.append(Ended(slot.job.trial, slot.job.attempt, evaluation))
        slot.job = slot.stream = None
        if slot.children >= CHILDREN_PER_WORKER:
            self._replace(slot, "")

    def _replace(self, slot: _Slot, why: str) -> None:
        """Give a worker up and ask for another; its child, if it has one, is lost."""
        if slot.job is not None:
            self._events.append(Lost(slot.job.trial, slot.job.attempt, why))
        elif not slot.booted:
            self._failed_boots += 1
            if self._failed_boots >= MAX_FAILED_BOOTS:
                raise RunError(f"{MAX_FAILED_BOOTS} workers one after the other could not start, the last with: {why}")
        ray.kill(slot.actor)
        self._slots.remove(slot)
        self._fill_pool()

    def _enforce_time_limit(self) -> None:
        """Kill workers whose child is stuck: one that only runs late has stopped itself by then."""
        limit = self._config.runner.time_limit
        if limit is None:
            return
        for slot in list(self._slots):
            if slot.job is not None and time.monotonic() - slot.began > limit + GRACE_SECONDS:
                job, slot.job = slot.job, None
                detail = f"still busy {GRACE_SECONDS:.0f} s after its limit of {limit:g} s; its worker was killed"
                self._events.append(Ended(job.trial, job.attempt, Evaluation(Failed("time_limit", detail))))
                self._replace(slot, "")


def actor_options(settings: RunnerSettings, resources: Mapping[str, float]) -> dict[str, Any]:
    """What each worker asks of Ray: CPU threads, and a GPU or a share of one where there are GPUs.

    Raises:
        ConfigError: more GPUs are asked than the cluster has, or a fraction above one that is not whole.
    """
    gpus = settings.gpus_per_child
    available = resources.get("GPU", 0.0)
    if gpus is None:
        gpus = 1.0 if available else 0.0
    if gpus > 1 and not gpus.is_integer():
        raise ConfigError(f"runner.gpus_per_child must be a fraction up to 1 or a whole number, but got {gpus:g}")
    if gpus > available and settings.address is None:
        raise ConfigError(f"runner.gpus_per_child: {gpus:g} GPUs are asked for each child, but this machine has {available:g}")
    return {"num_cpus": settings.threads_per_child, "num_gpus": int(gpus) if gpus >= 1 else gpus}


def default_workers(options: Mapping[str, Any], resources: Mapping[str, float]) -> int:
    """As many workers as the cluster has room for, at least one."""
    room = resources.get("CPU", 1.0) // options["num_cpus"]
    if options["num_gpus"]:
        share = options["num_gpus"]
        on_gpus = resources.get("GPU", 0.0) // share if share >= 1 else resources.get("GPU", 0.0) * (1 // share)
        room = min(room, on_gpus)
    return max(1, int(room))
