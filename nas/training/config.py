"""What a training is told: the network, the data, the recipe, the seed; and its written form. No torch, no ray."""

from typing import Any, Literal

from pydantic import Field

from nas.data.settings import DataSettings, Preparation
from nas.loggers.registry import DEFAULT_LOGGERS, LoggerNames
from nas.networks.description import read_skeleton
from nas.settings.base import Settings
from nas.training.recipe import Recipe
from search_spaces.skeletons import Skeleton, adapted


class TrainConfig(Settings):
    """The effective configuration of a training; its folder keeps it as config.yaml, beside genotype.yaml."""

    skeleton: dict[str, Any] = Field(description="the macro network, as ``nas.networks.description.skeleton_document`` writes it")
    data: DataSettings = DataSettings()
    recipe: Recipe = Recipe()
    image_size: int | None = Field(None, ge=8, le=2048, description="side of the images; null keeps small images, else the recipe says")
    train_examples: int | None = Field(None, ge=1, description="training images used at most, balanced over the classes; null uses all")
    seed: int = Field(0, ge=0)
    weights: str | None = Field(None, description="file to start from; a classifier of another number of classes is left out")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    threads: int = Field(1, ge=1, description="CPU threads; another number may change the last bits of the result")
    compile: bool = Field(False, description="the forward pass of training goes through torch.compile; last bits of the result change")
    loader_workers: int = Field(0, ge=0, le=64, description="processes that read and augment images; the result does not depend on it")
    micro_batch: int | None = Field(
        None, ge=1, description="images of one pass; gradients are added up to recipe.batch_size; null: all at once"
    )
    streaming: Literal["auto", "always"] = Field("auto", description="always reads a folder's images anew every epoch, also small ones")
    checkpoint_epochs: int = Field(1, ge=1, description="epochs between two checkpoints")
    checkpoint_steps: int | None = Field(None, ge=1, description="steps between two checkpoints in the middle of an epoch; null makes none")
    log: LoggerNames = Field([*DEFAULT_LOGGERS], description="where scalars go: tensorboard, wandb, mlflow; none of them: []")


def preparation(config: TrainConfig) -> Preparation:
    """How the images of a training are prepared."""
    return config.recipe.preparation(
        image_size=config.image_size, train_examples=config.train_examples, stream=config.streaming == "always"
    )


def skeleton_of(config: TrainConfig) -> Skeleton:
    """The macro network that the configuration names, before the recipe changes it. Raises ConfigError."""
    return read_skeleton(config.skeleton, "config.yaml")[1]


def size_words(config: TrainConfig) -> str:
    """N and F as the flags call them, to be added to a network's name; of a skeleton from outside those that it has."""
    skeleton = config.skeleton
    said = [f"{letter}={skeleton[name]:g}" for letter, name in (("N", "cells"), ("F", "filters")) if name in skeleton]
    return "".join(f", {one}" for one in said)


def trained_skeleton(skeleton: Skeleton, recipe: Recipe) -> Skeleton:
    """The skeleton with what the recipe changes in it: auxiliary head, drop path (stochastic depth), dropout.

    Networks without cells of two inputs have no auxiliary head; NAS-Bench-201's takes neither drop path nor dropout.
    """
    wanted = recipe.regularisation
    auxiliary = True if wanted.auxiliary_weight > 0 else None
    return adapted(skeleton, auxiliary=auxiliary, drop_path_keep=wanted.drop_path_keep, dropout=wanted.dropout)
