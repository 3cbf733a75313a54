"""Loads a folder in the hub's form with timm, and by the class in its module where there is one; writes the logits of given images."""

import importlib
import sys
from typing import Any

import timm
import torch
from safetensors.torch import load_file, save_file

folder, name, given, written = sys.argv[1:]
sys.dont_write_bytecode = True  # the folder is handed over as it is
images = load_file(given)["images"]
networks: dict[str, Any] = {}
if name:
    sys.path.insert(0, folder)
    module: Any = importlib.import_module(name)
    networks["from_pretrained"] = module.Network.from_pretrained(folder)
networks["logits"] = timm.create_model(f"local-dir:{folder}", pretrained=True)
with torch.inference_mode():
    results = {key: network.eval()(images) for key, network in networks.items()}
ours = sorted({"nas", "search_spaces", "controllers"} & set(sys.modules))
if ours:
    sys.exit(f"the folder must stand alone, but it imports {', '.join(ours)}")
save_file({key: value.contiguous() for key, value in results.items()}, written)
