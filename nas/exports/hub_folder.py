"""Lays out a folder as the Hugging Face hub and timm take it: the export format ``hf``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.exports.code import network_code
from nas.exports.handover import Handover
from nas.exports.published import published_in
from nas.exports.timm_file import LOADABLE_CHANNELS, classifier_name, model_name, timm_source
from nas.networks.description import to_metadata
from nas.networks.weights.files import WeightsError, write_weights
from search_spaces.genotype import to_yaml

if TYPE_CHECKING:
    from torch import Tensor

CONFIG, WEIGHTS, GENOTYPE = "config.json", "model.safetensors", "genotype.yaml"


def own_module(handover: Handover) -> str | None:
    """The name of the module that registers the network with timm; None where it is one of timm's own."""
    return None if _timms_own(handover) is not None else f"{model_name(handover)}_network"


def write_hub_folder(handover: Handover, folder: str | Path) -> str | None:
    """Make the folder: configuration, weights, genotype, and the module where timm needs one, whose name is returned.

    Raises:
        UserError: the genotype does not fit the skeleton.
    """
    folder = Path(folder)
    folder.mkdir()
    own = _timms_own(handover)
    (folder / GENOTYPE).write_text(to_yaml(handover.architecture.genotype), encoding="utf-8")
    name, state = own or (model_name(handover), dict(handover.weights or {}))
    write_weights(folder / WEIGHTS, state, to_metadata(handover))
    config = _config(handover, name, _timms_facts(name) if own else _module_facts(handover))
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    if own:
        return None
    module = f"{name}_network"
    (folder / f"{module}.py").write_text(timm_source(handover, hub=True), encoding="utf-8")
    return module


def _timms_own(handover: Handover) -> "tuple[str, dict[str, Tensor]] | None":
    """The network's name in timm and the weights by timm's names; None where timm has no such network."""
    from nas.networks.weights.layouts import in_layout

    name = published_in("timm", handover.architecture)
    if name is None:
        return None
    try:
        return name, in_layout(handover.network(), handover.architecture.skeleton, "timm")
    except WeightsError:  # timm's network of that name pads or averages otherwise
        return None


def _timms_facts(name: str) -> dict[str, Any]:
    import timm

    known = timm.get_pretrained_cfg(name)
    return {"first_conv": known.first_conv, "classifier": known.classifier}


def _module_facts(handover: Handover) -> dict[str, Any]:
    code = network_code(handover.architecture)
    return {"first_conv": code.first_conv, "classifier": classifier_name(code)}


def _config(handover: Handover, name: str, layers: dict[str, Any]) -> dict[str, Any]:
    """What timm reads: its keys, as ``timm.models.save_for_hf`` writes them."""
    chosen = handover.architecture
    side = chosen.image_size
    names = {"label_names": list(handover.class_names)} if handover.class_names else {}
    if chosen.channels not in LOADABLE_CHANNELS:
        layers = {**layers, "first_conv": None}
    prepared = {
        "input_size": [chosen.channels, side, side],
        "fixed_input_size": False,
        "pool_size": None,
        "crop_pct": handover.crop_fraction,
        "crop_mode": handover.crop_mode,
        "interpolation": handover.interpolation,
        "mean": list(handover.mean),
        "std": list(handover.std),
        "num_classes": chosen.classes,
        "custom_load": False,
    }
    return {"architecture": name, "num_classes": chosen.classes, "global_pool": "avg", **names, "pretrained_cfg": prepared | layers}
