"""Stands in for a worker: a process that trains a child on noise for as long as it is told, and says how many steps it made a second.

``nas.runs.layout`` starts it. It reads a line of JSON (the configuration, what there is to learn from), says ``ready``, and answers every
line ``THREADS SECONDS`` with steps a second, until its input ends.
"""

import json
import sys
import time
from collections.abc import Iterable, Iterator

from nas.runs.config import config_from_document
from nas.training.fitting import Amount


def answers(lines: Iterable[str]) -> Iterator[str]:
    """What the process says, line by line, to what it reads."""
    import torch

    from nas.runs.expected import noise, reference_trainer, short
    from nas.training.numerics import flushed_denormals

    stream = iter(lines)
    document = json.loads(next(stream))
    config, amount = config_from_document(document["config"]), Amount(**document["amount"])
    data, device = noise(config, amount), torch.device("cpu")
    trainer = reference_trainer(short(config, data.image_size), data, device, 0)
    batches = list(trainer.batches.epoch(1, trainer.share, 0, trainer.steps_an_epoch))

    def steps(seconds: float) -> float:
        done, started = 0, time.perf_counter()
        while done == 0 or time.perf_counter() - started < seconds:
            trainer.step(batches[done % len(batches)])
            done += 1
        return done / (time.perf_counter() - started)

    with flushed_denormals(device):
        torch.set_num_threads(1)
        steps(0)
        yield "ready"
        for line in stream:
            threads, seconds = line.split()
            torch.set_num_threads(int(threads))
            yield f"{steps(float(seconds)):.4f}"


if __name__ == "__main__":
    for answer in answers(sys.stdin):
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()
