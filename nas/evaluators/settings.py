"""How one child is evaluated: fidelity, recipe, and the stand-in that scores by formula. No torch, no ray."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from nas.data.settings import DataSettings, Preparation
from nas.settings.base import Float, Settings
from nas.training.recipe import Recipe, TrainingSettings

FOLDER_SIDE = 64
"""Side in pixels of the large images of a folder where a search does not say."""


class Fidelity(Settings):
    """How thoroughly one child is trained: resource, depth, width, resolution and data fraction."""

    epochs: int = Field(20, ge=1, description="passes over the training examples")
    cells: int = Field(2, ge=1, le=50, description="N, normal cells a stage")
    filters: int = Field(32, ge=1, le=4096, description="F, filters of the first stage's cells")
    image_size: int | None = Field(None, ge=8, le=4096, description="side in pixels; null keeps the data set's own")
    train_examples: int | None = Field(None, ge=1, description="training images used at most, balanced over the classes; null uses all")
    validation_examples: int | None = Field(None, ge=1, description="validation images scored at most; null uses all of the split")


CHILD_DEFAULTS: dict[str, dict[str, object]] = {
    "optimizer": {"clip_norm": 5.0},
    "augmentation": {"crop": "upsample", "interpolation": "bilinear"},
}
"""Where the defaults of a child's training differ from a recipe's: as in Zoph et al. 2018, appendix A.1, where it says."""
_OLD_NAMES = {
    **{name: f"optimizer.{name}" for name in ("learning_rate", "momentum", "nesterov", "weight_decay", "clip_norm")},
    **{name: f"regularisation.{name}" for name in ("drop_path_keep", "auxiliary_weight", "label_smoothing")},
    **{name: f"augmentation.{name}" for name in ("flip", "cutout")},
}
_OLD_CROPS = {"none": "none", "shift_flip": "shift", "paper": "upsample"}


def child_training(document: object) -> object:
    """The settings of a child's training with their defaults, and with the short names (``learning_rate``) put in their places.

    Runs of version 0.1 recorded the short names, and they are handy with ``--set training.learning_rate=0.05``.
    """
    if not isinstance(document, Mapping):
        return document
    whole: dict[str, Any] = copy.deepcopy(CHILD_DEFAULTS)
    short = {name: value for name, value in document.items() if name in _OLD_NAMES}
    crop = document.get("augmentation")
    if isinstance(crop, str):
        if crop not in _OLD_CROPS:
            raise ValueError(f"augmentation must be a mapping, or one of {', '.join(_OLD_CROPS)}, but got {crop!r}")
        whole["augmentation"]["crop"] = _OLD_CROPS[crop]
        if crop == "none":
            short["flip"] = False
    for name, value in document.items():
        if name in _OLD_NAMES or (name == "augmentation" and isinstance(crop, str)):
            continue
        whole[name] = {**whole.get(name, {}), **value} if isinstance(value, Mapping) else value
    for name, value in short.items():
        group, _, key = _OLD_NAMES[name].partition(".")
        whole[group] = {**whole.get(group, {}), key: value}
    return whole


ChildTraining = Annotated[TrainingSettings, BeforeValidator(child_training)]
"""How a child is trained: the settings of a recipe, for ``fidelity.epochs``."""


FailureReason = Literal["exception", "diverged", "out_of_memory", "time_limit", "worker_lost", "hung"]


class SyntheticSettings(Settings):
    """How the synthetic evaluator behaves, to try the engine without training."""

    seconds: Float = Field(0.0, ge=0, description="duration of a child")
    noise: Float = Field(0.0, ge=0, description="standard deviation added to the reward")
    objective: int = Field(0, ge=0, description="seed of the objective: what is good differs from one to the next")
    failures: dict[FailureReason, Float] = Field(
        default_factory=dict, description="share of the children that fail, by reason; worker_lost ends the process that trains"
    )


def _whole(value: object) -> object:
    """A run folder keeps the keys of a mapping as texts."""
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 10 else value


Epochs = Annotated[int, BeforeValidator(_whole)]


FilePath = Annotated[str, AfterValidator(lambda path: str(Path(path).expanduser().absolute()))]
"""A file, absolute, so that a run finds it wherever it is resumed."""


class TableSettings(Settings):
    """The table of trained architectures that the table evaluator answers from; accuracies are shares or per cent."""

    path: FilePath = Field(description="CSV file (.csv or .csv.gz) with a row for every architecture")
    more: list[FilePath] = Field(default_factory=list, description="further files with the same rows in the same order")
    architecture: str = Field("arch", description="column with the architecture: the space's own notation, a JSON genotype, or actions")
    column: str | list[str] = Field(description="column with the validation accuracy; several are several trainings, one drawn by the seed")
    report: str | None = Field(None, description="column recorded beside the reward, say the test accuracy; the search never sees it")
    seconds: str | None = Field(None, description="column with the seconds that a training took")
    fidelities: dict[Epochs, str] = Field(default_factory=dict, description="epochs: column with the validation accuracy after them")


class EvaluationConfig(Settings):
    """What an evaluator is told: how children are scored, on which images, at which fidelity."""

    evaluator: str = Field("train", description="train, synthetic (a formula), table (looks up), …: see `nas list evaluators`")
    evaluator_options: dict[str, Any] = Field(default_factory=dict, description="the evaluator's own, where it has any")
    synthetic: SyntheticSettings = SyntheticSettings()
    table: TableSettings | None = Field(None, description="where evaluator=table looks up")
    data: DataSettings = DataSettings()
    fidelity: Fidelity = Fidelity()
    training: ChildTraining = Field(default_factory=lambda: TrainingSettings.model_validate(CHILD_DEFAULTS))

    @model_validator(mode="after")
    def _check_table(self) -> Self:
        if self.evaluator == "table" and self.table is None:
            raise ValueError("evaluator=table needs table.path (a CSV file) and table.column (its validation accuracies)")
        return self

    def recipe(self) -> Recipe:
        """How a child is trained."""
        return Recipe(name="search", epochs=self.fidelity.epochs, **dict(self.training))

    def preparation(self) -> Preparation:
        """How a child's images are prepared; the test part is not read."""
        fidelity = self.fidelity
        wanted = self.recipe().preparation(image_size=fidelity.image_size, train_examples=fidelity.train_examples)
        return replace(wanted, large_side=FOLDER_SIDE, validation_examples=fidelity.validation_examples, test=False)
