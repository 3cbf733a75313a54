"""Writes a network as ONNX with its description inside, and runs such a file with onnxruntime. Needs the extra ``export``."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from nas.exports.free_sides import free_shapes, traced_images
from nas.exports.handover import Handover
from nas.networks.description import METADATA_KEY


def write_onnx(handover: Handover, network: nn.Module, path: str | Path, step: int | None) -> None:
    """Write the network in evaluation mode: ``images`` (batch, channels, height, width) to ``logits`` (batch, classes), one file.

    ``step`` says which heights and widths may come (``nas.exports.free_sides``); None fixes them.

    Raises:
        RuntimeError: the network cannot be written so.
    """
    import onnx

    with _quiet():
        torch.onnx.export(
            network,
            (traced_images(handover, step),),
            path,
            dynamo=True,
            external_data=False,
            dynamic_shapes=(free_shapes(handover, step),),
            input_names=["images"],
            output_names=["logits"],
            verbose=False,
        )
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {METADATA_KEY: handover.metadata_text()})
    model.doc_string = f"{handover.architecture.name}; images minus mean, divided by std, see the metadata"
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def onnx_logits(path: Path, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What onnxruntime computes for images (batch, channels, size, size)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    result: npt.NDArray[np.float32] = session.run(["logits"], {"images": images})[0]
    return result


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
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
