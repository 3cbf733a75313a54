"""How each export is loaded where it is used, in a few lines of Python for its model card. No torch at import."""

import keyword
from collections.abc import Callable
from pathlib import Path

from nas.exports.handover import Handover

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
    return f"""
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession({path.name!r})
images = np.zeros((1, {chosen.channels}, {chosen.image_size}, {chosen.image_size}), np.float32)
(logits,) = session.run(["logits"], {{"images": images}})
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
    start = 'import timm\n\nfolder = "."  # the folder of this file; or huggingface_hub.snapshot_download("USER/NAME")\n'
    if module is None:
        return f'{start}network = timm.create_model(f"local-dir:{{folder}}", pretrained=True).eval()  # or "hf-hub:USER/NAME"'
    return (
        f"import sys\n\n{start}sys.path.insert(0, folder)\nimport {module}  # registers the network with timm: code, to be read first\n\n"
        'network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()  # or "hf-hub:USER/NAME"\n'
        f"network = {module}.Network.from_pretrained(folder)  # the same by huggingface_hub alone"
    )


def _zeros(handover: Handover) -> str:
    chosen = handover.architecture
    return f"torch.zeros(1, {chosen.channels}, {chosen.image_size}, {chosen.image_size})"


def _importing(stem: str) -> tuple[str, str]:
    """A statement that imports the file of that stem, and the module's name after it."""
    if stem.isidentifier() and not keyword.iskeyword(stem):
        return f"import {stem}", stem
    return f"import importlib\n\nnet = importlib.import_module({stem!r})", "net"
