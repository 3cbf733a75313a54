"""Registers a file's model with timm, makes it with its weights, and writes logits and features of given images."""

import importlib.util
import sys
from typing import Any

import timm
import torch
from safetensors.torch import load_file, save_file

source, name, weights, given, written = sys.argv[1:]
spec = importlib.util.spec_from_file_location("exported", source)
assert spec is not None and spec.loader is not None
module = importlib.util.module_from_spec(spec)
sys.modules["exported"] = module
spec.loader.exec_module(module)
images = load_file(given)["images"]
model: Any = timm.create_model(name, checkpoint_path=weights).eval()
with torch.inference_mode():
    results = {"logits": model(images), "head": model.forward_head(model.forward_features(images))}
    backbone: Any = timm.create_model(name, features_only=True, pretrained=bool(model.pretrained_cfg.get("file"))).eval()
    backbone.model.load_state_dict(model.state_dict(), strict=False)
    for i, (found, channels) in enumerate(zip(backbone(images), backbone.feature_info.channels(), strict=True)):
        assert found.shape[1] == channels
        results[f"map_{i}"] = found
    model.reset_classifier(7)
    assert model(images).shape == (len(images), 7)
ours = sorted({"nas", "search_spaces", "controllers"} & set(sys.modules))
if ours:
    sys.exit(f"the file must stand alone, but it imports {', '.join(ours)}")
save_file({key: value.contiguous() for key, value in results.items()}, written)
