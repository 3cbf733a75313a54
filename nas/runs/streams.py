"""How many children train at once on one GPU, in threads of this process: by the memory of one, and as long as more gain something."""

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
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
    """Children that can be made to train at once: ``make`` makes a child and warms it up, ``wait`` waits until a child's work is done."""

    make: Callable[[int], Step]
    place: Callable[[], AbstractContextManager[object]]
    wait: Step
    seconds: float = MEASURED_SECONDS

    def rate(self, count: int) -> float:
        """Steps a second of so many children at once, each in a thread. Raises whatever a child raises."""
        problems: list[BaseException] = []
        steps = [0] * count
        ready, stop = threading.Barrier(count + 1), threading.Event()

        def work(number: int) -> None:
            try:
                with self.place():
                    step = self.make(number)
                    self.wait()
                    ready.wait()
                    while not stop.is_set():
                        step()
                        steps[number] += 1
                        if steps[number] % 2 == 0:
                            self.wait()
                    self.wait()
            except threading.BrokenBarrierError:
                return
            except BaseException as problem:
                problems.append(problem)
                ready.abort()

        threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(count)]
        for thread in threads:
            thread.start()
        with suppress(threading.BrokenBarrierError):
            ready.wait()
        started = time.perf_counter()
        if not problems:
            time.sleep(self.seconds)
        stop.set()
        for thread in threads:
            thread.join()
        if problems:
            raise problems[0]
        return sum(steps) / (time.perf_counter() - started)


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
