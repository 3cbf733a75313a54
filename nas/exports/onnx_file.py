"""Writes a network as ONNX with its description inside, and runs such a file with onnxruntime. Needs the extra ``export``."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from nas.exports.free_sides import free_shapes, traced_images
from nas.exports.handover import Handover
from nas.networks.description import METADATA_KEY
from nas.networks.onnx_session import INPUT, OUTPUT, open_session, quiet_exporter


def write_onnx(handover: Handover, network: nn.Module, path: str | Path, step: int | None) -> None:
    """Write the network in evaluation mode: ``images`` (batch, channels, height, width) to ``logits`` (batch, classes), one file.

    ``step`` says which heights and widths may come (``nas.exports.free_sides``); None fixes them.

    Raises:
        RuntimeError: the network cannot be written so.
    """
    import onnx

    with quiet_exporter():
        torch.onnx.export(
            network,
            (traced_images(handover, step),),
            path,
            dynamo=True,
            external_data=False,
            dynamic_shapes=(free_shapes(handover, step),),
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {METADATA_KEY: handover.metadata_text()})
    model.doc_string = f"{handover.architecture.name}; images minus mean, divided by std, see the metadata"
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def onnx_logits(path: Path, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What onnxruntime computes for images (batch, channels, size, size)."""
    session = open_session(path, torch.get_num_threads())
    result: npt.NDArray[np.float32] = session.run([OUTPUT], {INPUT: images})[0]
    return result
