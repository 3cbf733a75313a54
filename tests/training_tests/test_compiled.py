"""``nas train --compile``: the forward pass of training is traced whole, without native kernels, and nothing else of a training changes."""

from contextlib import nullcontext
from functools import partial

import pytest
import torch

from nas.api.wishes import training_wish
from nas.data.embedded import make_synthetic
from nas.data.prepared import PreparedData
from nas.networks.description import skeleton_document
from nas.training.config import TrainConfig
from nas.training.recipe import load_recipe
from nas.training.session import build_for_training, make_trainer
from nas.training.trainer import Hooks, Trainer
from search_spaces.networks import fast
from search_spaces.networks.native import library
from search_spaces.reference import load_reference
from search_spaces.skeletons import NASNetSkeleton


def trained(compiled: bool, data: PreparedData) -> Trainer:
    """One epoch of two steps."""
    recipe = load_recipe("fast", {"epochs": 1, "batch_size": 8, "resolution.start": 1.0})
    settings = TrainConfig(skeleton=skeleton_document(NASNetSkeleton(1, 2), "small"), recipe=recipe, compile=compiled)
    trainer = make_trainer(build_for_training(load_reference("nasnet-a"), settings, data), data, settings)
    assert trainer.run_epoch(Hooks()) is not None
    return trainer


def test_a_compiled_training_is_one_graph_without_kernels_and_its_checkpoints_are_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager", fullgraph=True))  # traced, and run as it is
    dataset = make_synthetic(26, 10, 3, 8)
    first, second = (dataset.train.take(part) for part in (range(16), range(16, 26)))
    data = PreparedData("tiny", first, second, dataset.test, dataset.class_names, 3, 8, (0.5,) * 3, (0.25,) * 3, mirrors=True)
    plain = trained(False, data)
    with monkeypatch.context() as patched:
        patched.setattr(library, "load", lambda: pytest.fail("a kernel was asked for"))
        patched.setattr(fast, "scoring", nullcontext)  # which is no part of the graph
        compiled = trained(True, data)
    assert compiled.tensors().keys() == plain.tensors().keys()
    for name, value in plain.tensors().items():
        torch.testing.assert_close(compiled.tensors()[name], value, rtol=1e-3, atol=1e-4)
    assert compiled.twin().module is not compiled.module, "timing takes no compilation"


def test_the_flag_is_kept_with_the_training() -> None:
    assert training_wish("nasnet-a", {"data": "digits", "compile": True})[1].compile
    assert not training_wish("nasnet-a", {"data": "digits"})[1].compile
