"""Measured latency and throughput of a network: the number of operations alone does not say how fast a branched cell runs."""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nas.networks.onnx_session import INPUT, OUTPUT, PACKAGES, open_session, quiet_exporter
from nas.tools.environment import absent
from nas.tools.words import lacking
from search_spaces.errors import UserError
from search_spaces.networks.cost import evaluation_mode
from search_spaces.networks.folding import fold
from search_spaces.plugins import guess

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class LatencyError(UserError):
    """A measurement cannot be made as asked. Choose another device, dtype or number."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds that one batch takes through the network, in evaluation mode, and the conditions they were measured under.

    ``p10`` and ``p90`` are percentiles over ``runs`` batches. ``threads`` is PyTorch's number of CPU threads.
    """

    median: float
    p10: float
    p90: float
    fastest: float
    runs: int
    warmup: int
    batch_size: int
    channels: int
    image_size: int
    device: str
    dtype: str
    channels_last: bool
    threads: int
    folded: bool = False
    """Whether it is that of the network folded for inference: convolutions and norms as one."""

    @property
    def throughput(self) -> float:
        """Images a second, at the median."""
        return self.batch_size / self.median

    def __str__(self) -> str:
        """One line with the conditions, milliseconds a batch and images a second."""
        place = self.device if "cuda" in self.device else f"{self.device}, {self.threads} thread{'s' if self.threads != 1 else ''}"
        layout = "channels last" if self.channels_last else "channels first"
        spread = f"p10 {self.p10 * 1e3:.2f}, p90 {self.p90 * 1e3:.2f}, {self.runs} runs after {self.warmup}"
        images = f"{self.channels}×{self.image_size}×{self.image_size}, {self.dtype}, {layout}{', folded' if self.folded else ''}"
        return f"{self.median * 1e3:.2f} ms a batch of {self.batch_size} ({spread}), {self.throughput:,.1f} images/s; {images}, {place}"


def measure_latency(
    network: nn.Module,
    *,
    image_size: int,
    channels: int = 3,
    batch_size: int = 1,
    device: str = "cpu",
    dtype: str = "float32",
    channels_last: bool = True,
    runs: int = 50,
    warmup: int = 10,
    folded: bool = False,
) -> Latency:
    """Time forward passes of random images, one batch after the other.

    Every run is timed from before the call until its result exists: on a GPU the device is synchronised around each. The
    network is moved and converted for the measurement and is left on ``device``, in its own mode. ``bfloat16`` and ``float16``
    run under autocast, as in training.

    Args:
        network: maps images (batch, channels, image_size, image_size) to anything.
        image_size: side in pixels.
        channels: of an image.
        batch_size: images at once: 1 measures latency, a large one throughput.
        device: ``cpu``, ``cuda`` or ``cuda:1``.
        dtype: float32, bfloat16 or float16.
        channels_last: memory format of images and weights.
        runs: batches timed.
        warmup: batches before, not timed: the first ones choose algorithms and fill caches.
        folded: time the network as ``search_spaces.networks.folding`` makes it for inference, which is always channels-last.

    Raises:
        LatencyError: there is no such device or dtype, or a number is out of range.
    """
    place = _device(device)
    if dtype not in DTYPES:
        raise LatencyError(f"the dtype must be one of {', '.join(DTYPES)}, but got {dtype!r}{guess(dtype, DTYPES)}")
    if batch_size < 1 or runs < 1 or warmup < 0:
        raise LatencyError(
            f"at least one image, one run and no fewer than 0 for warm-up are needed, but got {batch_size}, {runs}, {warmup}"
        )
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    network.to(place, memory_format=memory_format)  # type: ignore[call-overload]
    timed_network = fold(network) if folded else network
    images = torch.randn(batch_size, channels, image_size, image_size, device=place).to(memory_format=memory_format)
    with evaluation_mode(timed_network), torch.inference_mode(), torch.autocast(place.type, DTYPES[dtype], enabled=dtype != "float32"):
        seconds = _timed(lambda: timed_network(images), runs, warmup, place)
    return _latency(
        seconds,
        warmup=warmup,
        batch_size=batch_size,
        channels=channels,
        image_size=image_size,
        device=_device_name(place),
        dtype=dtype,
        channels_last=channels_last,
        threads=torch.get_num_threads(),
        folded=folded,
    )


def measure_onnx_latency(network: nn.Module, *, image_size: int, channels: int = 3, runs: int = 50, warmup: int = 10) -> Latency:
    """Time onnxruntime on random images, one after the other, on as many CPU threads as PyTorch has. The network stays as it was.

    Args:
        network: maps images (1, channels, image_size, image_size) to logits.
        image_size: side in pixels.
        channels: of an image.
        runs: images timed.
        warmup: images before, not timed.

    Raises:
        LatencyError: what that takes is not installed.
    """
    if missing := absent(PACKAGES):
        raise LatencyError(f"latency on onnx needs {lacking(missing)}: pip install 'nas-engine[export]'")
    images = torch.randn(1, channels, image_size, image_size)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        with evaluation_mode(network), quiet_exporter():
            torch.onnx.export(
                network, (images,), path, dynamo=True, external_data=False, input_names=[INPUT], output_names=[OUTPUT], verbose=False
            )
        session = open_session(path, torch.get_num_threads())
        seconds = _timed(lambda: session.run([OUTPUT], {INPUT: images.numpy()}), runs, warmup, torch.device("cpu"))
    return _latency(
        seconds,
        warmup=warmup,
        batch_size=1,
        channels=channels,
        image_size=image_size,
        device="onnxruntime",
        dtype="float32",
        channels_last=False,
        threads=torch.get_num_threads(),
    )


def _timed(run: Callable[[], object], runs: int, warmup: int, place: torch.device) -> list[float]:
    """Seconds of every run after those for warm-up."""
    seconds = []
    for _ in range(warmup + runs):
        _synchronise(place)
        start = time.perf_counter()
        run()
        _synchronise(place)
        seconds.append(time.perf_counter() - start)
    return seconds[warmup:]


def _latency(seconds: list[float], **conditions: Any) -> Latency:  # noqa: ANN401 - fields of Latency
    """What the seconds of all runs come to."""
    timed = sorted(seconds)
    tenths = statistics.quantiles(timed, n=10, method="inclusive") if len(timed) > 1 else timed * 9
    return Latency(
        median=statistics.median(timed), p10=tenths[0], p90=tenths[8], fastest=timed[0], runs=len(timed), **conditions
    )


def _device(name: str) -> torch.device:
    try:
        place = torch.device(name)
    except RuntimeError:
        raise LatencyError(f"the device must be cpu, cuda or cuda:N, but got {name!r}") from None
    if place.type not in ("cpu", "cuda"):
        raise LatencyError(f"the device must be cpu, cuda or cuda:N, but got {name!r}")
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise LatencyError(f"device {name!r} was asked for, but PyTorch sees {torch.cuda.device_count()} GPUs")
    return place


def _device_name(place: torch.device) -> str:
    return f"{place} ({torch.cuda.get_device_name(place)})" if place.type == "cuda" else str(place)


def _synchronise(place: torch.device) -> None:
    if place.type == "cuda":
        torch.cuda.synchronize(place)
