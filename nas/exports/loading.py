"""How each export is loaded where it is used, in a few lines of Python for its model card. No torch at import."""

import keyword
import math
from collections.abc import Callable
from pathlib import Path

from nas.exports.handover import Handover

_MODES = {1: "L", 3: "RGB"}
"""Pillow's modes of images with so many channels."""

Loader = Callable[[Handover, Path], str]
"""From what was handed over and the file or folder it is in to lines of Python, run where that file or folder lies."""


def by_this_package(handover: Handover, path: Path) -> str:
    """Of weights that describe themselves."""
    return f"import nas\n\nnetwork = nas.load_network({path.name!r})\nprint(network.description.class_names)"


def torch_program(handover: Handover, path: Path) -> str:
    """Of a program of torch.export."""
    return f"import torch\n\nnetwork = torch.export.load({path.name!r}).module()\nlogits = network({_zeros(handover)})"


def onnx_model(handover: Handover, path: Path) -> str:
    """Of an ONNX file."""
    chosen = handover.architecture
    side, mode = chosen.image_size, _MODES.get(chosen.channels)
    if mode is None:
        zeros = f"np.zeros((1, {chosen.channels}, {side}, {side}), np.float32)"
        use = f'session = onnxruntime.InferenceSession({path.name!r})\n(logits,) = session.run(["logits"], {{"images": {zeros}}})'
        return f"import numpy as np\nimport onnxruntime\n\n{use}"
    mean, std = ([round(value, 7) for value in values] for values in (handover.mean, handover.std))
    kept = "(short, int(short * height / width)) if width <= height else (int(short * width / height), short)"
    size = "(short, short)" if handover.crop_mode == "squash" else kept
    return f"""
import json

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession({path.name!r})
names = json.loads(session.get_modelmeta().custom_metadata_map["network"])["class_names"]

image = ImageOps.exif_transpose(Image.open("image.jpg")).convert({mode!r})
short, (width, height) = {math.floor(side / handover.crop_fraction)}, image.size
size = {size}
image = image.resize(size, Image.Resampling.{handover.interpolation.upper()})
left, top = (round((length - {side}) / 2) for length in image.size)
pixels = np.asarray(image.crop((left, top, left + {side}, top + {side})), np.float32).reshape({side}, {side}, {chosen.channels}) / 255
images = ((pixels - np.float32({mean})) / np.float32({std})).transpose(2, 0, 1)[None]

(logits,) = session.run(["logits"], {{"images": images}})
best = int(logits.argmax())
print(names[best] if names else best)
""".strip()


def python_module(handover: Handover, path: Path) -> str:
    """Of a standalone file."""
    statement, module = _importing(path.stem)
    if handover.weights is None:
        return f"{statement}\n\nnetwork = {module}.Network().eval()"
    weights = path.with_suffix(".safetensors").name
    classify = f'logits = network({module}.normalise({module}.read_image("image.jpg")))'
    return f"{statement}\n\nnetwork = {module}.load({weights!r})\n{classify}"


def timm_module(handover: Handover, path: Path) -> str:
    """Of a file that registers its network."""
    from nas.exports.timm_file import model_name

    trained = "" if handover.weights is None else ", pretrained=True"
    imports = f"import timm\nimport {path.stem}  # registers the network"
    return f"{imports}\n\nnetwork = timm.create_model({model_name(handover)!r}{trained}).eval()"


def timm_weights(handover: Handover, path: Path) -> str:
    """Of weights by timm's names."""
    from nas.exports.published import published_in

    name, chosen = published_in("timm", handover.architecture), handover.architecture
    if name is None:
        return by_this_package(handover, path)
    sizes = f"num_classes={chosen.classes}, in_chans={chosen.channels}"
    return f"import timm\n\nnetwork = timm.create_model({name!r}, checkpoint_path={path.name!r}, {sizes}).eval()"


def torchvision_weights(handover: Handover, path: Path) -> str:
    """Of weights by torchvision's names."""
    from nas.exports.published import published_in

    name = published_in("torchvision", handover.architecture)
    if name is None:
        return by_this_package(handover, path)
    return f"""
from safetensors.torch import load_file
from torchvision import models

network = models.get_model({name!r}, num_classes={handover.architecture.classes})
network.load_state_dict(load_file({path.name!r}))
network.eval()
""".strip()


def hub_folder(handover: Handover, path: Path) -> str:
    """Of a folder in the hub's form, from here or from the hub."""
    from nas.exports.hub_folder import own_module

    module = own_module(handover)
    lines = ["import json", "import sys" if module else "", "", "import timm"]
    lines += ["", 'folder = "."  # the folder of this file; or huggingface_hub.snapshot_download("USER/NAME")']
    if module is not None:
        lines += ["sys.path.insert(0, folder)", f"import {module}  # registers the network with timm: code, to be read first", ""]
    lines.append('network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()  # or "hf-hub:USER/NAME"')
    if module is not None:
        lines.append(f"network = {module}.Network.from_pretrained(folder)  # the same by huggingface_hub alone")
    lines = [line for i, line in enumerate(lines) if line or i != 1]
    mode = _MODES.get(handover.architecture.channels)
    return "\n".join([*lines, *(_HUB_USE.format(mode=mode).splitlines() if mode else [])])


_HUB_USE = """
from PIL import Image
from timm.data import create_transform

with open(f"{{folder}}/config.json", encoding="utf-8") as file:
    config = json.load(file)
prepared = {{key: config["pretrained_cfg"][key] for key in ("input_size", "crop_pct", "crop_mode", "interpolation", "mean", "std")}}
transform = create_transform(**prepared, is_training=False)
logits = network(transform(Image.open("image.jpg").convert({mode!r}))[None])
best = int(logits.argmax())
print(config["label_names"][best] if "label_names" in config else best)"""


def _zeros(handover: Handover) -> str:
    chosen = handover.architecture
    return f"torch.zeros(1, {chosen.channels}, {chosen.image_size}, {chosen.image_size})"


def _importing(stem: str) -> tuple[str, str]:
    """A statement that imports the file of that stem, and the module's name after it."""
    if stem.isidentifier() and not keyword.iskeyword(stem):
        return f"import {stem}", stem
    return f"import importlib\n\nnet = importlib.import_module({stem!r})", "net"
