"""Trains children on Ray: long-lived actors that hold the data set and stream a report after every epoch.

Ray's own retries are off: the ledger decides what is tried again. See design notes in CONTRIBUTING.md.
"""

import os
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import ActorUnschedulableError, OutOfMemoryError, RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from controllers.controller import Failed
from nas.errors import RunError
from nas.evaluators.evaluator import Attempt, Evaluation, Report
from nas.evaluators.settings import EvaluationConfig, RunnerSettings
from nas.runners.places import Node, Place, check_fits, gpu_share, plan_places
from nas.runners.ray_start import PendingWatch, start_ray
from nas.runners.runner import Ended, Event, Job, Lost, Reported, checkpoint_rule, read_checkpoint, run_child
from nas.tools.words import first_line
from search_spaces.plugins import trust_modules, trusted

CHILDREN_PER_WORKER = 200
"""A worker is replaced after this many children: its memory grows by about 1 MB a child (allocator fragmentation)."""
MAX_FAILED_BOOTS = 3
"""Workers that may fail to build their evaluator one after the other; more means that none will ever come up."""
MAX_LOST_BOOTS = 20
"""Workers that may be killed one after the other before they are up: machines come and go, but not without end."""
GRACE_SECONDS = 60.0
"""How long past its time limit a child may go before its worker is killed: the child itself stops after the batch that passes it."""
RESIZE_SECONDS = 2.0
"""How often the cluster is looked at for nodes that joined or left."""
REPORTS_IN_FLIGHT = 4
"""Reports a worker may be ahead of the driver; then it waits, so that a slow driver is not buried."""


class _StoppedError(BaseException):
    """The driver wants no more of this child. Not an Exception: nothing on the way may take it for the child's failure."""


@ray.remote(max_restarts=0, max_task_retries=0, concurrency_groups={"watch": 1})  # type: ignore[call-overload]
class Worker:
    """Trains one child at a time; built once with the configuration and a reference to what the workers share.

    A second thread (the group ``watch``) answers the driver while a child trains: is there life in it, and stop.
    """

    def __init__(self, config: EvaluationConfig, shared: list[Any], trusted: tuple[str, ...]) -> None:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: spinning threads slow a busy machine 5-11 times
        from nas.evaluators.registry import build_evaluator

        trust_modules(trusted)
        self._config = config
        self._evaluator = build_evaluator(config, ray.get(shared[0]) if shared else None)
        self._sign: float | None = None
        self._current: tuple[int, int] | None = None
        self._unwanted: tuple[int, int] | None = None

    def ready(self) -> int:
        """Answer once the worker is up, with its process id."""
        return os.getpid()

    def run(self, job: Job, checkpoint: bytes | None) -> Iterator[Report | Evaluation]:
        """Stream the child's reports, and its evaluation last."""
        self._current = job.trial, job.attempt
        rule = checkpoint_rule(self._config.rungs(), self._config.runner.checkpoint_seconds)
        attempt = Attempt(checkpoint, job.batch_divisor, rule, self._beat, job.fidelity, job.rung)
        child = run_child(self._evaluator, job, self._config.runner.time_limit, attempt)
        try:
            while True:
                self._beat()
                try:
                    report = next(child)
                except StopIteration as end:
                    self._sign = None
                    yield end.value
                    return
                self._sign = None  # waiting for the driver is not hanging
                yield report
        except _StoppedError:
            return
        finally:
            child.close()
            self._sign = None

    def _beat(self) -> None:
        self._sign = time.monotonic()
        if self._unwanted is not None and self._unwanted == self._current:
            raise _StoppedError

    @ray.method(concurrency_group="watch")
    def silence(self) -> float:
        """Seconds since the child's last sign of life; 0 where none is due."""
        sign = self._sign
        return 0.0 if sign is None else time.monotonic() - sign

    @ray.method(concurrency_group="watch")
    def stop(self, trial: int, attempt: int) -> None:
        """End this child at its next batch; another one is not touched."""
        self._unwanted = trial, attempt


@dataclass
class _Slot:
    """One worker and what it is doing."""

    place: Place
    actor: Any
    boot: Any
    booted: bool = False
    job: Job | None = None
    stream: Any = None
    stopping: bool = False
    began: float = 0.0
    alive: float = 0.0
    """When the child last gave a sign of life, as far as the driver knows."""
    question: Any = None
    """The answer, still to come, to whether there is life in the child."""
    children: int = 0
    requested: float = field(default_factory=time.monotonic)


class RayRunner:
    """A pool of actors: completion by event, one child in flight for each worker, replacements for workers that die.

    The pool follows the cluster: nodes that join are used within seconds, and one that leaves costs its running children.

    Raises:
        ConfigError: no worker can ever be placed on the cluster as asked.
    """

    def __init__(self, config: EvaluationConfig, shared: object | None, cores: int) -> None:
        self._config = config
        check_fits(config.runner, cores)
        start_ray(config.runner, cores)
        self._failed_boots = self._lost_boots = 0
        self._pending = PendingWatch()
        self._shared = [] if shared is None else [ray.put(shared)]
        self._slots: list[_Slot] = []
        self._waiting: deque[Job] = deque()
        self._events: list[Event] = []
        self._wanted = plan_places(config.runner, cluster_nodes())
        self._looked = self._asked = time.monotonic()
        self._fill_pool()

    @property
    def capacity(self) -> int:
        """Children worth having in flight: one for each worker that is up. A proposal made for a worker to come would grow stale."""
        return max(1, sum(slot.booted for slot in self._slots))

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
        elif not self._events:
            time.sleep(timeout)
        self._enforce_time_limit()
        self._look_for_life()
        self._follow_cluster()
        self._warn_of_waiting()
        self._assign()
        events, self._events = self._events, []
        return events

    def stop(self, trial: int) -> None:
        """End the child at its next batch; its worker is free from then on."""
        self._waiting = deque(job for job in self._waiting if job.trial != trial)
        for slot in self._slots:
            if slot.job is not None and slot.job.trial == trial:
                slot.stopping = True
                slot.actor.stop.remote(trial, slot.job.attempt)

    def close(self) -> None:
        """Stop every worker, and Ray where this process started it."""
        for slot in self._slots:
            ray.kill(slot.actor)
        self._slots.clear()
        ray.shutdown()

    # ------------------------------------------------------------------------------------------------ the pool

    def _follow_cluster(self) -> None:
        """Ask for workers on nodes that joined, and give up those that are no longer wanted and have no child."""
        if time.monotonic() - self._looked < RESIZE_SECONDS:
            return
        self._looked = time.monotonic()
        self._wanted = plan_places(self._config.runner, cluster_nodes())
        surplus = Counter(slot.place for slot in self._slots) - Counter(self._wanted)
        for slot in sorted(self._slots, key=lambda slot: slot.booted):
            if surplus[slot.place] > 0 and slot.job is None:
                surplus[slot.place] -= 1
                self._remove(slot)
        self._fill_pool()

    def _warn_of_waiting(self) -> None:
        """Say so where workers that fit do not come up."""
        waiting = [slot for slot in self._slots if not slot.booted]
        oldest = min(waiting, key=lambda slot: slot.requested, default=None)
        asked = {"CPU": float(oldest.place.cpus), "GPU": oldest.place.gpus} if oldest is not None else {}
        self._pending.look([slot.requested for slot in waiting], asked)

    def _fill_pool(self) -> None:
        missing = Counter(self._wanted) - Counter(slot.place for slot in self._slots)
        for place in missing.elements():
            config = self._config
            if not place.gpus:  # it may land where there is a GPU that others use
                config = config.model_copy(update={"runner": config.runner.model_copy(update={"gpus_per_child": 0.0})})
            actor = Worker.options(**place_options(place)).remote(config, self._shared, trusted())  # type: ignore[attr-defined]
            self._slots.append(_Slot(place, actor, actor.ready.remote()))

    def _remove(self, slot: _Slot) -> None:
        ray.kill(slot.actor)
        self._slots.remove(slot)

    def _replace(self, slot: _Slot, why: str = "", reason: str = "worker_lost") -> None:
        """Give a worker up and ask for another where it is still wanted; its child, if it has one, is lost."""
        if slot.job is not None and not slot.stopping:
            self._events.append(Lost(slot.job.trial, slot.job.attempt, why, reason))
        self._remove(slot)
        self._fill_pool()

    def _assign(self) -> None:
        for slot in self._slots:
            if not self._waiting:
                return
            if slot.booted and slot.job is None:
                slot.job = job = self._waiting.popleft()
                options = {"num_returns": "streaming", "_generator_backpressure_num_objects": REPORTS_IN_FLIGHT}
                slot.stream = slot.actor.run.options(**options).remote(job, read_checkpoint(job))
                slot.began = slot.alive = time.monotonic()
                slot.question, slot.stopping = None, False
                slot.children += 1

    # ------------------------------------------------------------------------------------------------ what workers say

    def _advance(self, slot: _Slot) -> None:
        """Take the next word of a worker: it is up, a report, an evaluation, or its death."""
        if not slot.booted:
            self._boot(slot)
            return
        assert slot.job is not None
        try:
            message = ray.get(next(slot.stream))
        except StopIteration:
            if slot.stopping:
                self._free(slot)
            else:
                self._replace(slot, "the worker ended without a result")
        except OutOfMemoryError as error:
            self._replace(slot, first_line(error), "out_of_memory")
        except RayActorError as error:
            self._replace(slot, first_line(error))
        except RayError as error:
            # The worker's own code failed outside the child's training, such as a result that cannot be sent.
            self._end(slot, Evaluation(Failed("exception", str(error).strip().splitlines()[-1][:1000])))
        else:
            slot.alive = time.monotonic()
            if isinstance(message, Evaluation):
                self._end(slot, message)
            elif not slot.stopping:
                self._events.append(Reported(slot.job.trial, slot.job.attempt, message))

    def _boot(self, slot: _Slot) -> None:
        """A worker is up, or never will be: its node is gone, it was killed, or it cannot build its evaluator."""
        try:
            ray.get(slot.boot)
        except ActorUnschedulableError:
            self._remove(slot)  # its node is gone; the next look at the cluster says what is wanted instead
        except RayError as error:
            own_fault = "creation task" in str(error)
            self._failed_boots += own_fault
            self._lost_boots += not own_fault
            if self._failed_boots >= MAX_FAILED_BOOTS or self._lost_boots >= MAX_LOST_BOOTS:
                number = self._failed_boots if own_fault else self._lost_boots
                why = str(error).strip().splitlines()[-1] if own_fault else first_line(error)
                raise RunError(f"{number} workers one after the other could not start, the last with: {why}") from None
            self._replace(slot)
        else:
            slot.booted = True
            self._failed_boots = self._lost_boots = 0

    def _end(self, slot: _Slot, evaluation: Evaluation) -> None:
        assert slot.job is not None
        if not slot.stopping:
            self._events.append(Ended(slot.job.trial, slot.job.attempt, evaluation))
        self._free(slot)

    def _free(self, slot: _Slot) -> None:
        slot.job = slot.stream = slot.question = None
        if slot.children >= CHILDREN_PER_WORKER:
            self._replace(slot)

    # ------------------------------------------------------------------------------------------------ children that are stuck

    def _enforce_time_limit(self) -> None:
        """Kill workers whose child is stuck: one that only runs late has stopped itself by then."""
        limit = self._config.runner.time_limit
        if limit is None:
            return
        for slot in list(self._slots):
            if slot.job is not None and slot.job.limit(limit) is not None and time.monotonic() - slot.began > limit + GRACE_SECONDS:
                detail = f"still busy {GRACE_SECONDS:.0f} s after its limit of {limit:g} s; its worker was killed"
                if not slot.stopping:
                    self._events.append(Ended(slot.job.trial, slot.job.attempt, Evaluation(Failed("time_limit", detail))))
                slot.job = None
                self._replace(slot)

    def _look_for_life(self) -> None:
        """Ask busy workers now and then when their child last gave a sign of life; kill those that have been silent for too long.

        A worker that does not answer at all (stopped, or stuck with the interpreter's lock) counts as silent since its last answer.
        """
        limit = self._config.runner.heartbeat
        now = time.monotonic()
        if limit is None or now - self._asked < limit / 4:
            return
        before, self._asked = self._asked, now
        for slot in [slot for slot in self._slots if slot.job is not None]:
            if slot.question is not None and ray.wait([slot.question], timeout=0)[0]:
                try:
                    slot.alive = max(slot.alive, before - ray.get(slot.question))  # the question is that old
                except RayError:
                    continue  # its stream says so, too
                slot.question = None
            if now - slot.alive > limit:
                self._replace(slot, f"no sign of life for {limit:g} s; its worker was killed", "hung")
            elif slot.question is None:
                slot.question = slot.actor.silence.remote()


def cluster_nodes() -> list[Node]:
    """The nodes of the cluster that are alive."""
    found = [(node["NodeID"], node["Resources"]) for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    return [Node(name, offers.get("CPU", 0.0), offers.get("GPU", 0.0)) for name, offers in sorted(found, key=lambda pair: pair[0])]


def place_options(place: Place) -> dict[str, Any]:
    """What a worker's place is in Ray's terms."""
    options: dict[str, Any] = {"num_cpus": place.cpus, "num_gpus": int(place.gpus) if place.gpus >= 1 else place.gpus}
    if place.node is not None:
        options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(place.node, soft=False)
    return options


def actor_options(settings: RunnerSettings, resources: Mapping[str, float]) -> dict[str, Any]:
    """What a child asks of Ray on any node: CPU threads, and a GPU or a share of one where there are GPUs.

    Raises:
        ConfigError: more GPUs are asked than the cluster has, or a fraction above one that is not whole.
    """
    whole = Node("", resources.get("CPU", 0.0), resources.get("GPU", 0.0))
    return place_options(Place(settings.threads, gpu_share(settings, [whole])))
