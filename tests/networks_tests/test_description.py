"""A network's description: written and read without loss in a weights file's header, refused where it is damaged."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from nas.errors import UserError
from nas.networks.architecture import choose_architecture
from nas.networks.description import (
    METADATA_KEY,
    NetworkDescription,
    describe_untrained,
    from_document,
    from_metadata,
    to_document,
    to_metadata,
)
from nas.networks.weights.files import read_metadata, write_weights
from search_spaces.reference import load_reference


def described(genotype: str = "nasnet-a", skeleton: str = "nasnet-cifar") -> NetworkDescription:
    return describe_untrained(choose_architecture(load_reference(genotype), skeleton))


@pytest.mark.parametrize(
    ("genotype", "skeleton"),
    [("nasnet-a", "nasnet-mobile"), ("darts-v2", "darts-cifar"), ("convnext", "convnext-t"), ("resnext-8x64d", "resnet-50")],
)
def test_a_weights_file_keeps_the_description(genotype: str, skeleton: str, tmp_path: Path) -> None:
    description = described(genotype, skeleton)
    path = tmp_path / "w.safetensors"
    write_weights(path, {"x": torch.zeros(1)}, to_metadata(description))
    read = from_metadata(read_metadata(path), str(path))
    assert read == description
    assert read.architecture.genotype.name == description.architecture.genotype.name


def test_a_file_without_one_has_none() -> None:
    assert from_metadata({"format": "pt"}, "w.safetensors") is None


def test_normalisation_follows_the_images() -> None:
    assert described().mean == (0.4914, 0.4822, 0.4465)
    assert described("nasnet-a", "nasnet-mobile").mean == (0.485, 0.456, 0.406)
    grey = describe_untrained(choose_architecture(load_reference("nasnet-a"), "nasnet-cifar", channels=1))
    assert (grey.mean, grey.std) == ((0.5,), (0.5,))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "nas.network/2"}, "must be a mapping with `schema`"),
        ({"more": 1}, "must have the keys"),
        ({"classes": -1}, "`classes` must be an integer 0..100000"),
        ({"classes": True}, "`classes` must be"),
        ({"std": [0.0, 1.0, 1.0]}, "`std` must be 3 positive numbers"),
        ({"mean": [0.5]}, "`mean` must be 3 finite numbers"),
        ({"class_names": ["cat"]}, "`class_names` must be 10 texts, or none"),
        ({"facts": {"a": [1]}}, "`facts` must be"),
        ({"skeleton": {"kind": "nasnet", "name": "x", "cells": 0}}, "`cells` must be 1..50"),
        ({"skeleton": {"kind": "nasnet", "name": "x", "cells": "2"}}, "`skeleton`: cells"),
        ({"skeleton": {"kind": "nasnet", "name": "x", "depth": 2}}, "unknown key 'depth'"),
        ({"skeleton": {"kind": "spiral", "name": "x"}}, "one of nasnet, nasbench201, residual"),
        ({"genotype": {"schema": "nas.genotype/1"}}, "`cells`"),
    ],
)
def test_what_is_damaged_is_refused_with_the_rule(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_document(to_document(described()) | change, "w.safetensors")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, json.dumps(["nas.network/1"])])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"w\.safetensors"):
        from_metadata({METADATA_KEY: text}, "w.safetensors")
