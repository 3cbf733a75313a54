"""Do exported networks score on CIFAR-10's test set what the training said, where this package is not installed? Imports nothing of it.

    python -m venv fresh && fresh/bin/pip install torch torchvision timm safetensors onnxruntime pillow
    fresh/bin/python -I benchmarks/exported_accuracy.py --data-dir DIR --images N found.py:found.safetensors found_timm.py found.onnx

DIR, or a folder under it, holds the official ``test_batch.bin``. Python files are given with their weights, timm files
register themselves, and ONNX files run in onnxruntime. What an export says about resizing and normalisation is followed.
"""

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

BATCH = 250
Logits = Callable[[torch.Tensor], torch.Tensor]
"""Pixels (batch, 3, side, side) from 0 to 255 to logits (batch, 10)."""


def main() -> None:
    """Score every export given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--images", type=int, default=10_000, help="of the test set, from its beginning")
    parser.add_argument("exports", nargs="+", help="FILE.py:WEIGHTS, TIMM_FILE.py or FILE.onnx")
    arguments = parser.parse_args()
    assert importlib.util.find_spec("nas") is None, "the package is installed here: this shows nothing about independence"
    images, labels = read_test_set(arguments.data_dir)
    images, labels = images[: arguments.images], labels[: arguments.images]
    for export in arguments.exports:
        logits, side, method = load(export)
        right = 0
        for start in range(0, len(labels), BATCH):
            pixels = resized(images[start : start + BATCH], side, method)
            right += int((logits(pixels).argmax(1).numpy() == labels[start : start + BATCH]).sum())
        print(f"{export}: {100 * right / len(labels):.2f} % of {len(labels):,} test images")


def read_test_set(folder: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Images (10000, 32, 32, 3) and labels of the binary version: one byte of label and 3,072 of planes a record."""
    found = sorted(folder.rglob("test_batch.bin"))
    if not found:
        sys.exit(f"{folder}: no test_batch.bin; lay out CIFAR-10's binary version there")
    records = np.fromfile(found[0], np.uint8).reshape(-1, 3073)
    return records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), records[:, 0]


def resized(images: npt.NDArray[np.uint8], side: int, method: str) -> torch.Tensor:
    """The images as pixels (batch, 3, side, side), resized the way the export says."""
    if side != images.shape[1]:
        how = Image.Resampling[method.upper()]
        images = np.stack([np.asarray(Image.fromarray(image).resize((side, side), how)) for image in images])
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)


def load(export: str) -> tuple[Logits, int, str]:
    """What maps pixels to logits, the side it wants and how images are resized to it."""
    if export.endswith(".onnx"):
        return load_onnx(export)
    path, _, weights = export.partition(":")
    module = import_file(Path(path))
    if weights:
        network = module.load(weights)
        return inference(lambda pixels: network(module.normalise(pixels))), module.IMAGE_SIZE, module.INTERPOLATION
    import timm

    name = next(iter(module.default_cfgs))
    network = timm.create_model(name, pretrained=True).eval()
    settings = timm.data.resolve_data_config(model=network)
    mean, std = (torch.tensor(settings[key]).view(-1, 1, 1) for key in ("mean", "std"))
    return inference(lambda pixels: network((pixels.float() / 255 - mean) / std)), settings["input_size"][-1], settings["interpolation"]


def inference(logits: Logits) -> Logits:
    """The same without gradients."""
    return torch.inference_mode()(logits)


def load_onnx(export: str) -> tuple[Logits, int, str]:
    """A session, with the preparation that the file's metadata state."""
    import onnxruntime

    session = onnxruntime.InferenceSession(export)
    said = json.loads(session.get_modelmeta().custom_metadata_map["network"])
    mean, std = (np.array(said[key], np.float32).reshape(-1, 1, 1) for key in ("mean", "std"))
    given = session.get_inputs()[0]

    def logits(pixels: torch.Tensor) -> torch.Tensor:
        prepared = (pixels.numpy().astype(np.float32) / 255 - mean) / std
        return torch.from_numpy(session.run(None, {given.name: prepared})[0])

    return logits, int(said["image_size"]), said["facts"].get("interpolation", "bicubic")


def import_file(path: Path) -> ModuleType:
    """A Python file as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
