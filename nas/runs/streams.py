"""How many children train at once on one GPU, in threads of this process: by the memory of one, and as long as more gain something."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nas.runners.threads import stream_of
from nas.runs.config import SearchConfig
from nas.runs.expected import noise, on_gpu, reference_trainer, short
from nas.runs.layout import Layout
from nas.training.fitting import Amount

if TYPE_CHECKING:
    from nas.training.trainer import Trainer

MOST_AT_ONCE = 16
GAIN = 1.08
"""How many times more steps a second twice as many children must give."""
MEMORY_SHARE = 0.8
"""Share of the GPU's free memory that reference children may take: others are larger."""
MEASURED_SECONDS = 0.5
Step = Callable[[], object]


def choose_at_once(rate: Callable[[int], float], most: int) -> tuple[int, dict[int, float]]:
    """The number of children, of 1, 2, 4, …, from which on twice as many gain too little; and steps a second of all that were tried."""
    found = {1: rate(1)}
    count = 1
    while 2 * count <= most:
        found[2 * count] = rate(2 * count)
        if found[2 * count] < GAIN * found[count]:
            break
        count *= 2
    return count, found


@dataclass
class SideBySide:
    """Children that train at once: ``make`` makes one and warms it up, in a ``place`` of its own; ``wait`` waits for its work."""

    make: Callable[[int], Step]
    place: Callable[[], AbstractContextManager[object]]
    wait: Step
    seconds: float = MEASURED_SECONDS
    made: list[tuple[AbstractContextManager[object], Step]] = field(default_factory=list)

    def rate(self, count: int) -> float:
        """Steps a second of so many children at once, each in a thread; those that are there already are taken again.

        Raises whatever making a child, or its steps, raises.
        """
        while len(self.made) < count:
            place = self.place()
            with place:
                step = self.make(len(self.made))
                self.wait()
            self.made.append((place, step))
        stop = threading.Event()
        started = time.perf_counter()
        with ThreadPoolExecutor(count) as pool:
            steps = [pool.submit(self._work, *child, stop) for child in self.made[:count]]
            wait(steps, self.seconds, FIRST_EXCEPTION)
            stop.set()
            done = sum(one.result() for one in steps)
        return done / (time.perf_counter() - started)

    def _work(self, place: AbstractContextManager[object], step: Step, stop: threading.Event) -> int:
        done = 0
        with place:
            while done == 0 or not stop.is_set():
                step()
                done += 1
                if done % 2 == 0:  # not too far ahead of the GPU
                    self.wait()
            self.wait()
        return done


def open_question(config: SearchConfig) -> bool:
    """Whether the number is to be chosen: children train on a GPU in this process, and nobody says how many."""
    return config.runner.kind == "local" and config.runner.workers is None and config.evaluator == "train" and on_gpu(config)


def measure_at_once(config: SearchConfig, amount: Amount) -> Layout:
    """How many children of this search train at once on this process's GPU, and why."""
    import torch

    data = noise(config, amount)
    chosen = short(config, data.image_size)
    device = torch.device("cuda")
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before, started = torch.cuda.memory_reserved(), time.monotonic()
    children = SideBySide(lambda number: warm(reference_trainer(chosen, data, device, number)), stream_of(config.runner), _wait_for_own)
    first = children.rate(1)
    peak = max(1, torch.cuda.max_memory_reserved() - before)
    most = min(MOST_AT_ONCE, max(1, int(MEMORY_SHARE * torch.cuda.mem_get_info()[0] / peak)))
    try:
        count, found = choose_at_once(lambda number: first if number == 1 else children.rate(number), most)
    except torch.cuda.OutOfMemoryError:
        count, found = 1, {1: first}
    children.made.clear()
    torch.cuda.empty_cache()
    told = ", ".join(f"{number}: {steps:.3g}" for number, steps in found.items())
    room = f"; memory for {most} of {peak / 2**30:.1f} GiB each" if most < MOST_AT_ONCE else ""
    took = f"measured in {time.monotonic() - started:.0f} s"
    words = f"{count} at once on streams of one GPU (steps/s at once: {told}{room}; {took})"
    return Layout(config.runner.threads, words, max(1.0, count * found[1] / found[count]), count)


def _wait_for_own() -> None:
    import torch

    torch.cuda.current_stream().synchronize()


def warm(trainer: "Trainer") -> Step:
    """A step of the trainer, over and over, after those that warm up and record it."""
    from nas.training.graphs import WARM_UP

    trainer.network.train()
    batches = list(trainer.batches.epoch(1, trainer.share, 0, trainer.steps_an_epoch))
    done = 0

    def step() -> None:
        nonlocal done
        trainer.step(batches[done % len(batches)])
        done += 1

    for _ in range(WARM_UP + 2):
        step()
    return step
