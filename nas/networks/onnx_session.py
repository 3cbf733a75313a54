"""A network as onnxruntime runs it: PyTorch's exporter kept quiet, and a session on so many threads. Needs the extra ``export``."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

INPUT, OUTPUT = "images", "logits"
"""What a network takes and gives, by name."""
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
"""What writing and running ONNX takes: the extra ``export``."""


def open_session(path: Path, threads: int) -> Any:  # noqa: ANN401 - onnxruntime has no types
    """The file's network, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@contextlib.contextmanager
def quiet_exporter() -> Iterator[None]:
    """PyTorch's exporter talks on standard output and warns of its own internals; neither is for the user."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(before)
