"""Children's training steps on a GPU, timed one way and another: the part of ``gpu_check.py`` that needs torch.

A step is that of the engine's trainer (``nas.training.trainer``), from the same parts: gather and augment a batch on the device, forward,
cross-entropy, backward, clip, fused SGD with momentum. It is run operation by operation (*eager*) or captured once as a CUDA graph and
replayed. The rows *engine* time the trainer itself, with all that it does beside (seeds, schedule, sums of the loss): with recorded
steps, without, and compiled. Every function yields rows of plain data; a row says what went wrong where something did.
"""

import multiprocessing as mp
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.data.augmentation import Draws, augment, draw, plan_augmentation
from nas.data.batches import Resident, statistics
from nas.data.dataset import ArrayPart
from nas.data.prepared import PreparedData
from nas.evaluators.settings import CHILD_DEFAULTS, RunnerSettings
from nas.runners.threads import stream_of
from nas.runs.streams import SideBySide, warm
from nas.training.graphs import SWITCH
from nas.training.numerics import autocast
from nas.training.optimisation import make_optimizer
from nas.training.recipe import Recipe
from nas.training.trainer import Hooks, Trainer
from nas.training.turns import TURN
from search_spaces.genotype import Genotype
from search_spaces.nasnet import NASNET
from search_spaces.networks.build import build_network
from search_spaces.reference import load_reference
from search_spaces.skeletons import NASNetSkeleton
from search_spaces.space import sample_actions

Row = dict[str, Any]

CLASSES = 10
FIRST_CELL_SEED = 1000
NARROW = (4, 5, 6, 7, 8)
WARM_UP = 4
ENGINE_EPOCHS = 2
"""Epochs that the engine's trainer does: the first one warms up."""
ENGINE_STEPS = 24
"""Steps of such an epoch."""


@dataclass(frozen=True)
class Size:
    """How large the children are, and how long each is timed."""

    cells: int
    filters: int
    side: int
    batch: int
    examples: int
    seconds: float
    random_cells: int
    together: tuple[int, ...]


FULL = Size(cells=2, filters=16, side=32, batch=256, examples=20_000, seconds=0.6, random_cells=6, together=(1, 2, 4, 8, 16))
TINY = Size(cells=1, filters=4, side=8, batch=16, examples=64, seconds=0.02, random_cells=1, together=(1, 2))


@dataclass(frozen=True)
class Way:
    """How a step is carried out.

    cuDNN chooses algorithms by its rules, as in the engine. Trying them cannot be compared in the same process: PyTorch keeps
    what was chosen for a shape, by rule or by trial, and takes it again.
    """

    name: str
    precision: torch.dtype = torch.float32
    channels_last: bool = True
    graph: bool = False


WAYS = (
    Way("float32, channels first", channels_last=False),
    Way("float32, channels last"),
    Way("bfloat16, channels last", torch.bfloat16),
    Way("bfloat16, channels last, CUDA graph", torch.bfloat16, graph=True),
)
EXTRA = (Way("float32, channels last, CUDA graph", graph=True), Way("float16, channels last", torch.float16))
EAGER, GRAPHED = WAYS[2], WAYS[3]


def cell(number: int) -> Genotype:
    """A random cell of the NASNet space, the same every time."""
    return NASNET.decode(sample_actions(NASNET, random.Random(FIRST_CELL_SEED + number)))


def children(size: Size) -> list[tuple[str, Genotype, int]]:
    """Name, genotype and F of every child that is timed: NASNet-A and random cells, in the order of what is most wanted."""
    found = [("NASNet-A", load_reference("nasnet-a"), size.filters), ("NASNet-A", load_reference("nasnet-a"), NARROW[0])]
    filters = [NARROW[number // 2 % len(NARROW)] if number % 2 else size.filters for number in range(size.random_cells)]
    return found + [(f"random {number}", cell(number), width) for number, width in enumerate(filters)]


@dataclass(frozen=True)
class Noise:
    """Images of noise, and where they are: what they show does not matter for the speed."""

    data: PreparedData
    resident: Resident

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self.resident.device


def random_data(size: Size, device: torch.device) -> Noise:
    """The images that all children are trained on."""
    rng = np.random.default_rng(0)

    def part(count: int) -> ArrayPart:
        images = rng.integers(256, size=(count, size.side, size.side, 3), dtype=np.uint8)
        return ArrayPart(images, rng.integers(CLASSES, size=count))

    names = tuple(map(str, range(CLASSES)))
    parts = part(size.examples), part(min(256, size.examples))
    return Noise(PreparedData("noise", *parts, None, names, 3, size.side, (0.5,) * 3, (0.25,) * 3), Resident(device))


def child_recipe(size: Size) -> Recipe:
    """How a search trains its children by default, in batches of this size."""
    return Recipe.model_validate({"name": "search", "epochs": ENGINE_EPOCHS, "batch_size": size.batch, **CHILD_DEFAULTS})


class Child:
    """A child and its training step; ``run`` does one, whichever way."""

    def __init__(self, genotype: Genotype, filters: int, size: Size, way: Way, noise: Noise) -> None:
        torch.manual_seed(0)
        self.way, self.device, recipe = way, noise.device, child_recipe(size)
        layout = torch.channels_last if way.channels_last else torch.contiguous_format
        skeleton = NASNetSkeleton(size.cells, filters)
        network = build_network(genotype, skeleton, classes=CLASSES, image_size=size.side)
        self.network = network.to(self.device, memory_format=layout).train()  # type: ignore[call-overload]
        self.optimizer = make_optimizer(self.network, recipe.optimizer, size.batch)
        self.largest_rate, self.clip_norm = recipe.optimizer.learning_rate, recipe.optimizer.clip_norm
        self.rate: float | Tensor = torch.tensor(self.largest_rate, device=self.device) if way.graph else self.largest_rate
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=way.precision == torch.float16 and self.device.type == "cuda")
        self.plan = plan_augmentation(recipe.augmentation, size.side, noise.data.mirrors)
        self.images, self.labels = noise.resident.tensors(noise.data.train)
        self.statistics = statistics(noise.data, self.device)
        generator = torch.Generator().manual_seed(0)
        self.order = torch.randperm(size.examples, generator=generator).to(self.device)
        self.draws = draw(self.plan, size.examples, generator).to(self.device)
        # What a step reads stays at one address, so that a captured step can be given another batch.
        self.indices = self.order[: size.batch].clone()
        self.drawn = Draws(*(getattr(self.draws, name)[: size.batch].clone() for name in Draws.__dataclass_fields__))
        self.layout, self.position, self.steps = layout, 0, 0
        self.captured: torch.cuda.CUDAGraph | None = None
        self.stream = torch.cuda.Stream() if self.device.type == "cuda" else None
        self.loss = torch.zeros((), device=self.device)

    def _next_batch(self) -> None:
        batch = len(self.indices)
        stop = self.position + batch
        self.indices.copy_(self.order[self.position : stop])
        part = self.draws.take(slice(self.position, stop))
        for name in Draws.__dataclass_fields__:
            getattr(self.drawn, name).copy_(getattr(part, name))
        self.position = stop if stop + batch <= len(self.order) else 0

    def _step(self) -> Tensor:
        images = augment(self.images.index_select(0, self.indices), self.plan, self.drawn, *self.statistics)
        images = images.contiguous(memory_format=self.layout)
        labels = self.labels.index_select(0, self.indices)
        with autocast(self.device, self.way.precision):
            logits, _ = self.network.forward_with_auxiliary(images)
        loss = F.cross_entropy(logits.float(), labels)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimizer)
        assert self.clip_norm is not None
        nn.utils.clip_grad_norm_(self.network.parameters(), self.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach()

    def _set_rate(self) -> None:
        """A learning rate for this step: a tensor that is filled, or the optimiser's number."""
        rate = self.largest_rate / (1 + 0.001 * self.steps)
        if isinstance(self.rate, Tensor):
            self.rate.fill_(rate)
        else:
            for group in self.optimizer.param_groups:
                group["lr"] = rate
        self.steps += 1

    def run(self) -> Tensor:
        """One step; returns the loss, still on the device."""
        self._set_rate()
        self._next_batch()
        if self.captured is None:
            self.loss = self._step()
        else:
            self.captured.replay()
        return self.loss

    def prepare(self) -> None:
        """Warm up; and capture the step, where it is to be replayed as a graph."""
        assert self.stream is not None or not self.way.graph
        if self.stream is None:
            for _ in range(WARM_UP):
                self.run()
            return
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            for _ in range(WARM_UP):
                self.run()
            if self.way.graph:
                self.loss = torch.zeros_like(self.loss)
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
                    self.loss = self._step()
                self.captured = graph
        torch.cuda.current_stream().wait_stream(self.stream)

    def on_stream(self) -> AbstractContextManager[object]:
        """Its own stream, where children run side by side."""
        return torch.cuda.stream(self.stream) if self.stream is not None else nullcontext()


def wait(device: torch.device) -> None:
    """Until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_steps(run: Callable[[], object], device: torch.device, seconds: float) -> list[float]:
    """Seconds a step, of five stretches that together take about so long (at least one step each)."""
    wait(device)
    started = time.perf_counter()
    run()
    wait(device)
    count = max(1, round(seconds / 5 / (time.perf_counter() - started)))
    found = []
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(count):
            run()
        wait(device)
        found.append((time.perf_counter() - started) / count)
    return found


def guarded(row: Row, measure: Callable[[], Row]) -> Row:
    """The row with what was measured, or with what went wrong."""
    try:
        return row | measure()
    except torch.cuda.OutOfMemoryError:
        return row | {"error": "out of memory"}
    except Exception as problem:
        return row | {"error": f"{type(problem).__name__}: {str(problem).splitlines()[0] if str(problem) else ''}"[:300]}
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


# ---------------------------------------------------------------------------------------------------- one child


def training_rows(device: torch.device, size: Size) -> Iterator[Row]:
    """Milliseconds a step and images a second of every child, each way; then what explains them."""
    noise = random_data(size, device)
    ways = WAYS if device.type == "cuda" else WAYS[1:2]
    first = children(size)[0]
    for number, (name, genotype, filters) in enumerate(children(size)):
        for way in ways + (EXTRA if number == 0 and device.type == "cuda" else ()):
            yield guarded(
                {"what": "step", "child": name, "F": filters, "way": way.name},
                lambda g=genotype, f=filters, w=way: _timed(g, f, size, w, noise),  # type: ignore[misc]
            )
        if number <= 1:  # the wide and the narrow NASNet-A
            for words, off, compiled in ENGINE_WAYS[: 2 if device.type == "cuda" else 1]:
                row = {"what": "engine", "child": name, "F": filters, "way": words}
                yield guarded(row, lambda g=genotype, f=filters, o=off, c=compiled: _engine(g, f, size, noise, o, c))  # type: ignore[misc]
        if number == 0 and device.type == "cuda":
            yield guarded({"what": "kernels", "child": name, "F": filters, "way": EAGER.name}, lambda: _kernels(first, size, noise))
            yield guarded({"what": "graph equals eager", "child": name}, lambda: _graph_is_right(first, size, noise))
    yield guarded({"what": "repeated", "child": first[0], "way": EAGER.name}, lambda: _repeated(first, size, noise))
    if device.type == "cuda":  # last: it may take longer than there is time
        words, off, compiled = ENGINE_WAYS[2]
        row = {"what": "engine", "child": first[0], "F": first[2], "way": words}
        yield guarded(row, lambda: _engine(first[1], first[2], size, noise, off, compiled))


def _timed(genotype: Genotype, filters: int, size: Size, way: Way, noise: Noise) -> Row:
    cuda = noise.device.type == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    child = Child(genotype, filters, size, way, noise)
    child.prepare()
    wait(noise.device)
    ready = time.perf_counter() - started
    with child.on_stream():
        seconds = time_steps(child.run, noise.device, size.seconds)
    step = median(seconds)
    return {
        "ms": round(1e3 * step, 3),
        "spread_ms": round(1e3 * (max(seconds) - min(seconds)), 3),
        "images_per_second": round(size.batch / step),
        "ready_s": round(ready, 2),
        "peak_MiB": round(torch.cuda.max_memory_reserved() / 2**20) if cuda else None,
        "loss": round(float(child.loss), 4),
    }


ENGINE_WAYS = (
    ("nas.training, auto", False, False),
    ("nas.training, without graphs", True, False),
    ("nas.training, compiled", False, True),
)
"""Name, whether CUDA graphs are switched off, and whether the network is compiled."""


def _engine(genotype: Genotype, filters: int, size: Size, noise: Noise, off: bool, compiled: bool) -> Row:
    """The engine's own trainer over an epoch of some steps, scoring left out, after one that warms up."""
    torch.manual_seed(0)
    os.environ[SWITCH] = "off" if off else ""
    network = build_network(genotype, NASNetSkeleton(size.cells, filters), classes=CLASSES, image_size=size.side)
    few = min(size.examples, ENGINE_STEPS * size.batch)
    part = replace(noise.data, train=noise.data.train.take(range(few)))
    trainer = Trainer(network.to(noise.device), part, child_recipe(size), seed=0, device=noise.device, compiled=compiled)
    os.environ.pop(SWITCH)
    started = time.perf_counter()
    records = [trainer.run_epoch(Hooks()) for _ in range(ENGINE_EPOCHS)]
    record = records[-1]
    assert record is not None  # nobody stops it
    step = size.batch / record.images_per_second
    row = {"ms": round(1e3 * step, 3), "images_per_second": round(record.images_per_second), "steps": trainer.steps_an_epoch}
    row |= {"loss": round(record.train_loss, 4), "seconds": round(time.perf_counter() - started, 1)}
    return row | {"graphs": str(trainer.replays) if trainer.replays else trainer.plain}


def _graph_is_right(child: tuple[str, Genotype, int], size: Size, noise: Noise) -> Row:
    """Losses of the first steps, replayed and eager, from the same weights and batches."""
    losses = []
    for graph in (False, True):
        one = Child(child[1], child[2], size, replace(GRAPHED, precision=torch.float32, graph=graph), noise)
        one.prepare()
        with one.on_stream():
            losses.append([float(one.run()) for _ in range(10)])
        wait(noise.device)
    apart = max(abs(a - b) / abs(a) for a, b in zip(*losses, strict=True))
    return {"steps": 10, "largest_difference_of_losses": apart, "losses_eager": losses[0][-3:], "losses_graph": losses[1][-3:]}


def _repeated(child: tuple[str, Genotype, int], size: Size, noise: Noise) -> Row:
    """Twice the same ten steps: whether they give the same bits; as cuDNN chooses algorithms."""
    row: Row = {}
    for name, fixed in (("chosen", False), ("fixed", True)):
        losses = []
        torch.backends.cudnn.deterministic = fixed
        for _ in range(2):
            one = Child(child[1], child[2], size, EAGER, noise)
            losses.append([float(one.run()) for _ in range(10)])
        row[f"{name}: same bits"] = losses[0] == losses[1]
        row[f"{name}: largest difference"] = max(abs(a - b) / abs(a) for a, b in zip(*losses, strict=True))
    torch.backends.cudnn.deterministic = False
    return row


def _kernels(child: tuple[str, Genotype, int], size: Size, noise: Noise) -> Row:
    """Kernels of one step, and where the GPU's time goes."""
    from torch.profiler import ProfilerActivity, profile

    one = Child(child[1], child[2], size, EAGER, noise)
    one.prepare()
    wait(noise.device)
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        one.run()
        wait(noise.device)
    found = [event for event in profiler.key_averages() if event.self_device_time_total > 0]
    total = sum(event.self_device_time_total for event in found)
    top = sorted(found, key=lambda event: -event.self_device_time_total)[:12]
    shares = {event.key[:90]: round(100 * event.self_device_time_total / max(1e-9, total), 1) for event in top}
    return {"kernels": sum(event.count for event in found), "gpu_ms": round(total / 1e3, 3), "per_cent_of_gpu_time": shares}


# ---------------------------------------------------------------------------------------------------- several children


def together_rows(device: torch.device, size: Size) -> Iterator[Row]:
    """Images a second of several children at once on one device: the engine's threads, graphs on streams, threads, and processes."""
    kinds = [("NASNet-A", load_reference("nasnet-a"), size.filters), ("random 1", cell(1), NARROW[2])]
    yield from _engine_threads(*kinds[1], size, device)
    if device.type == "cuda":
        for name, genotype, filters in kinds:
            yield from _streams(name, genotype, filters, size, device)
    yield from _processes(kinds, size, device)
    if device.type == "cuda":
        yield from _threads(*kinds[1], size, device)


def _row(way: str, name: str, filters: int, count: int) -> Row:
    return {"what": "together", "child": name, "F": filters, "way": way, "at_once": count}


def _rate(steps: int, seconds: float, size: Size) -> Row:
    return {"ms": round(1e3 * seconds / steps, 3), "images_per_second": round(steps * size.batch / seconds)}


def _engine_threads(name: str, genotype: Genotype, filters: int, size: Size, device: torch.device) -> Iterator[Row]:
    """The engine's trainers in threads of this process, each on a stream of its own, as a search in one process has them."""
    noise = random_data(size, device)
    settings = RunnerSettings(gpus_per_child=None if device.type == "cuda" else 0.0)

    def make(number: int) -> Callable[[], object]:
        with TURN:
            torch.manual_seed(number)
            network = build_network(genotype, NASNetSkeleton(size.cells, filters), classes=CLASSES, image_size=size.side)
        return warm(Trainer(network.to(device), noise.data, child_recipe(size), seed=number, device=device, resident=noise.resident))

    def wait_for_own() -> None:
        if device.type == "cuda":
            torch.cuda.current_stream().synchronize()

    children = SideBySide(make, stream_of(settings), wait_for_own, size.seconds)
    for count in size.together:

        def measure(count: int = count) -> Row:
            rate = children.rate(count)
            peak = round(torch.cuda.max_memory_reserved() / 2**20) if device.type == "cuda" else None
            return {"ms": round(1e3 / rate, 3), "images_per_second": round(rate * size.batch), "peak_MiB": peak}

        row = guarded(_row("engine, threads of one process", name, filters, count), measure)
        yield row
        if "error" in row:
            break


def _streams(name: str, genotype: Genotype, filters: int, size: Size, device: torch.device) -> Iterator[Row]:
    """One process replays every child's graph on a stream of its own."""
    noise, ready = random_data(size, device), []
    torch.cuda.reset_peak_memory_stats()
    for count in size.together:

        def measure(count: int = count) -> Row:
            while len(ready) < count:
                child = Child(genotype, filters, size, GRAPHED, noise)
                child.prepare()
                ready.append(child)

            def once() -> None:
                for child in ready:
                    with child.on_stream():
                        child.run()

            step = median(time_steps(once, device, size.seconds))
            return _rate(count, step, size) | {"peak_MiB": round(torch.cuda.max_memory_reserved() / 2**20)}

        row = guarded(_row("graphs on streams of one process", name, filters, count), measure)
        yield row
        if "error" in row:
            break
    ready.clear()
    torch.cuda.empty_cache()


def _threads(name: str, genotype: Genotype, filters: int, size: Size, device: torch.device) -> Iterator[Row]:
    """One process, a thread and a stream for every child, operation by operation."""
    noise = random_data(size, device)
    for count in size.together[::2]:

        def measure(count: int = count) -> Row:
            done, start, stop = [0] * count, threading.Barrier(count + 1), threading.Event()

            def work(number: int) -> None:
                child = Child(genotype, filters, size, EAGER, noise)
                child.prepare()
                start.wait(60)
                with child.on_stream():
                    while not stop.is_set():
                        child.run()
                        done[number] += 1
                wait(device)

            workers = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(count)]
            for worker in workers:
                worker.start()
            start.wait(60)
            started = time.perf_counter()
            time.sleep(2 * size.seconds)
            stop.set()
            for worker in workers:
                worker.join()
            return _rate(max(1, sum(done)), time.perf_counter() - started, size)

        yield guarded(_row("threads of one process, eager", name, filters, count), measure)


def _processes(kinds: list[tuple[str, Genotype, int]], size: Size, device: torch.device) -> Iterator[Row]:
    """A process for every child: eager, and each with its graph. All are started once; then so many of them work at a time."""
    ways = (GRAPHED, EAGER) if device.type == "cuda" else (WAYS[1],)
    context = mp.get_context("spawn")
    pipes, workers = [], []
    for _ in range(max(size.together)):
        ours, theirs = context.Pipe()
        worker = context.Process(target=_serve, args=(theirs, size, str(device)), daemon=True)
        worker.start()
        theirs.close()
        pipes.append(ours)
        workers.append(worker)
    try:
        for way in ways:
            for kind in kinds:
                for count in size.together[::2]:
                    row = _row(f"processes, {'a graph each' if way.graph else 'eager'}", kind[0], kind[2], count)
                    row = guarded(row, lambda w=way, c=count, k=kind: _round(pipes[:c], k, w, size))  # type: ignore[misc]
                    yield row
                    if "error" in row:
                        break
    finally:
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.join()


def _round(pipes: list[Any], kind: tuple[str, Genotype, int], way: Way, size: Size) -> Row:
    """So many processes make their child ready, begin together, and say how many steps they did in how long."""
    for command in (("prepare", (kind[1], kind[2], way)), ("run", 2 * size.seconds)):
        for pipe in pipes:
            pipe.send(command)
        answers = []
        for pipe in pipes:
            if not pipe.poll(60):
                raise TimeoutError(f"a process did not answer to {command[0]} within 60 s")
            answers.append(pipe.recv())
        problems = [answer for answer in answers if isinstance(answer, str)]
        if problems:
            raise RuntimeError(f"{len(problems)} of {len(pipes)} processes: {problems[0]}")
    steps = sum(steps for steps, _ in answers)
    return _rate(steps, max(seconds for _, seconds in answers), size)


def _serve(pipe: Any, size: Size, device_name: str) -> None:  # noqa: ANN401 - a Connection
    """A process of ``_processes``: answers every command with a result, or with what went wrong."""
    device = torch.device(device_name)
    torch.set_num_threads(1)
    noise, child, made = None, None, None
    while True:
        try:
            command, value = pipe.recv()
        except EOFError:
            return
        try:
            if command == "prepare":
                noise = noise or random_data(size, device)
                if value != made:
                    child = made = None
                    child = Child(*value[:2], size, value[2], noise)
                    child.prepare()
                    made = value
                wait(device)
                pipe.send((0, 0.0))
            else:
                assert child is not None
                pipe.send(_steps_for(child, device, value))
        except Exception as problem:
            pipe.send(f"{type(problem).__name__}: {str(problem).splitlines()[0] if str(problem) else ''}"[:200])


def _steps_for(child: Child, device: torch.device, seconds: float) -> tuple[int, float]:
    """Steps done in about so many seconds, and how long they took."""
    steps, started = 0, time.perf_counter()
    with child.on_stream():
        while time.perf_counter() - started < seconds:
            for _ in range(2):
                child.run()
            steps += 2
            wait(device)
    return steps, time.perf_counter() - started
