"""A working directory with a search, a training and a comparison in it, as small as they get."""

from pathlib import Path

import pytest

import nas
from nas.comparisons.networks import Member, Plan, run_comparison
from nas.data.settings import DataSettings
from nas.networks.description import skeleton_document
from nas.networks.scaling import Target
from nas.training.config import TrainConfig
from nas.training.recipe import load_recipe
from nas.training.session import train_network
from search_spaces.reference import load_reference
from search_spaces.skeletons import NASNetSkeleton

TINY = load_recipe("fast", {"epochs": 1, "batch_size": 64})
DIGITS = DataSettings(name="digits")


def make_place(folder: Path) -> Path:
    """runs/first, a search of six children and a rung; trained/net, of its best cell; compared/, of two, one of which cannot be built."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        settings = {"evaluator": "synthetic", "synthetic.noise": 0.05, "data.name": "digits", "ladder": [{"children": 2, "seeds": 2}]}
        run = nas.search("nasnet", budget=6, controller="random", runner="local", run="runs/first", seed=3, settings=settings)
        small = skeleton_document(NASNetSkeleton(1, 2), "small")
        train_network(run.best, TrainConfig(skeleton=small, data=DIGITS, recipe=TINY, train_examples=64), "trained/net")
        members = [Member("resnet", load_reference("resnext-1x64d")), Member("nasnet-a", load_reference("nasnet-a"))]
        base = TrainConfig(skeleton={}, data=DIGITS, recipe=TINY, device="cpu", train_examples=64)
        run_comparison(members, Plan(Target("macs", 30_000), base, 1, Path("compared"), workers=1), lambda line: None)
    return folder
