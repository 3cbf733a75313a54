"""How many children at once, on how many threads each: chosen by a measurement of seconds, where nobody says and it is worth that.

The batch is the recipe's in any case: another one changes what a child learns.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from nas.evaluators.registry import EVALUATORS
from nas.runs.config import SearchConfig, with_overrides
from nas.tools.hardware import Hardware
from nas.training.fitting import Amount

SHORT_SECONDS = 5.0
"""A child that takes less is not worth measuring for, nor is a search of less than ``SHORT_SEARCH`` seconds."""
SHORT_SEARCH = 600.0
MOST_CORES = 16
"""Cores up to which processes are started for the measurement: one each."""
PROBED_SECONDS = 0.5
"""How long every layout is measured."""
READY_SECONDS = 30.0
"""Longest that the processes may take to be ready; then nothing is measured."""
WORTH = 1.05
"""How many times more steps a second several threads for each child must give: one thread each is the usual layout."""
Rates = Callable[[int, int], float]
"""Steps a second in all, of so many children at once on so many threads each."""


@dataclass(frozen=True)
class Layout:
    """What was chosen, and why: ``side_by_side`` is how many times slower a child is than alone, None where that was not measured.

    ``workers`` is how many train at once where that does not follow from the threads: on a GPU.
    """

    threads: int
    words: str
    side_by_side: float | None = None
    workers: int | None = None


def open_question(config: SearchConfig, hardware: Hardware) -> bool:
    """Whether a layout is to be chosen at all: children train on this machine's cores, and nobody has said how many threads each has."""
    runner = config.runner
    on_gpu = bool(hardware.gpus) and runner.gpus_per_child != 0
    here = runner.kind == "ray" and runner.cluster is None and not on_gpu and config.evaluator in EVALUATORS.built_in
    return here and EVALUATORS[config.evaluator].needs_data and runner.threads_per_child is None and runner.workers is None


def choose_layout(
    config: SearchConfig, amount: Amount, hardware: Hardware, child_seconds: float, rates: "Callable[..., Iterator[Rates]] | None" = None
) -> Layout:
    """The layout that makes the most steps a second; measured where children and search are long enough.

    Args:
        config: a search of which ``open_question`` is true.
        amount: what there is to learn from.
        hardware: this machine.
        child_seconds: that a child takes alone on one core.
        rates: what measures; None starts processes.
    """
    cores = hardware.cores
    if cores == 1:
        return Layout(1, "one core")
    if child_seconds < SHORT_SECONDS or child_seconds * config.budget / cores < SHORT_SEARCH:
        return Layout(1, "one thread a child, not measured: children are short")
    if cores > MOST_CORES:
        return Layout(1, f"one thread a child, not measured: more than {MOST_CORES} cores")
    started = time.monotonic()
    try:
        with contextmanager(rates or probes)(config, amount, cores) as rate:
            alone, found = rate(1, 1), {threads: rate(cores // threads, threads) for threads in candidates(cores)}
    except (OSError, ValueError, TimeoutError) as problem:
        return Layout(1, f"one thread a child; it could not be measured: {problem}")
    best = max(found, key=lambda threads: found[threads])
    threads = best if found[best] > WORTH * found[1] else 1
    told = ", ".join(f"{cores // count} × {count}: {steps:.3g}" for count, steps in found.items())
    took = f"measured in {time.monotonic() - started:.0f} s"
    words = f"{threads} thread{'s' if threads > 1 else ''} a child (steps/s of children × threads: {told}; {took})"
    return Layout(threads, words, max(1.0, cores // threads * alone / found[threads]) if threads == 1 else None)


def candidates(cores: int) -> list[int]:
    """Threads a child that are tried: powers of two and all cores, where they fill the machine."""
    return [threads for threads in range(1, cores + 1) if cores % threads == 0 and (threads & (threads - 1) == 0 or threads == cores)]


def with_layout(config: SearchConfig, layout: Layout) -> SearchConfig:
    """The configuration with the layout in it: so the run's folder keeps it, and a resume uses it again.

    On CPUs the number of workers stays open: a resume on another machine fills that.
    """
    return with_overrides(config, {"runner.threads_per_child": layout.threads, "runner.workers": layout.workers})


def probes(config: SearchConfig, amount: Amount, cores: int) -> Iterator[Rates]:
    """Processes like Ray's workers, one for each core, that train a child on noise when they are told. Raises TimeoutError."""
    document = json.dumps({"config": config.model_dump(mode="json"), "amount": asdict(amount)})
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-m", "nas.runs.probe"]
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=environment)  # noqa: S603 - our own
        for _ in range(cores)
    ]
    try:
        _say(processes, document)
        if any(answer != "ready" for answer in _answers(processes, READY_SECONDS)):
            raise ValueError("a process did not come up")

        def rate(children: int, threads: int) -> float:
            _say(processes[:children], f"{threads} {PROBED_SECONDS}")
            return sum(float(answer) for answer in _answers(processes[:children], READY_SECONDS))

        yield rate
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _say(processes: "Sequence[subprocess.Popen[str]]", line: str) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(line + "\n")
        process.stdin.flush()


def _answers(processes: "Sequence[subprocess.Popen[str]]", seconds: float) -> list[str]:
    """A line of each. Raises TimeoutError."""
    from concurrent.futures import ThreadPoolExecutor

    def read(process: "subprocess.Popen[str]") -> str:
        assert process.stdout is not None
        return process.stdout.readline().strip()

    pool = ThreadPoolExecutor(len(processes))
    try:
        deadline = time.monotonic() + seconds
        waiting = [pool.submit(read, process) for process in processes]
        return [one.result(max(0.0, deadline - time.monotonic())) for one in waiting]
    except TimeoutError:
        raise TimeoutError(f"no answer within {seconds:.0f} s") from None
    finally:
        pool.shutdown(wait=False)
