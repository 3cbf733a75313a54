"""Loads an export back and compares what it computes with the network it came from, where needed in a fresh process."""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor, nn

from nas.exports.handover import ExportError, Handover
from nas.networks.weights.files import read_weights, write_weights

SAME_LIBRARY = 1e-5
"""Largest difference of logits, as a share of the largest logit, where the same PyTorch computes both."""
OTHER_LIBRARY = 1e-3
"""The same where another library does, whose convolutions add up in another order."""


def example_images(handover: Handover, batch: int = 2, sides: tuple[int, int] | None = None) -> Tensor:
    """Normalised images (batch, channels, height, width) of noise, the same every time; of the network's own size where none is said."""
    chosen = handover.architecture
    height, width = sides or (chosen.image_size, chosen.image_size)
    return torch.randn(batch, chosen.channels, height, width, generator=torch.Generator().manual_seed(batch))


def logits(network: nn.Module, images: Tensor) -> Tensor:
    """What the network computes."""
    with torch.inference_mode():
        result: Tensor = network(images)
    return result.clone()


def compare(expected: Tensor, produced: Tensor, tolerance: float, what: str) -> str:
    """A sentence on how near the two are. Raises ExportError where they differ by more than ``tolerance`` of the largest value."""
    if expected.shape != produced.shape:
        raise ExportError(f"{what}: read back, its result has the shape {tuple(produced.shape)} and not {tuple(expected.shape)}")
    difference = float((expected - produced).abs().max() / expected.abs().max().clamp_min(1e-12))
    if not difference <= tolerance:  # NaN is none either
        rule = f"its results must equal the network's to {tolerance:.0e} of the largest"
        raise ExportError(f"{what}: read back, {rule}, but they differ by {difference:.1e}")
    return f"read back: logits equal the network's to {difference:.1e} of the largest (at most {tolerance:.0e} allowed)"


def run_elsewhere(script: str, arguments: Sequence[str | Path], images: Tensor, what: str) -> dict[str, Tensor]:
    """Run a script of ``nas.exports.checks`` in a fresh, isolated interpreter; returns the tensors that it wrote.

    It is called with the arguments, a file with ``images`` and the file to write. It must not have imported this package.

    Raises:
        ExportError: it failed; the message has its last words.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, written = Path(folder) / "given.safetensors", Path(folder) / "written.safetensors"
        write_weights(given, {"images": images})
        path = str(files("nas.exports.checks") / f"{script}.py")
        whole = [str(argument.resolve()) if isinstance(argument, Path) else argument for argument in arguments]
        command = [sys.executable, "-I", path, *whole, str(given), str(written)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False, cwd=folder)  # noqa: S603 - our own script
        if done.returncode != 0 or not written.exists():
            last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
            raise ExportError(f"{what}: it could not be read back in a fresh process: {last[0]}")
        return read_weights(written)
