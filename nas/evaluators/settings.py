"""How children are evaluated: fidelity, recipe, where and how many at once, when compared; and stand-ins for training. No torch, no ray."""

import copy
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from nas.data.settings import DataSettings, Preparation
from nas.errors import ConfigError
from nas.settings.base import Float, Settings
from nas.settings.reading import apply_overrides, validated
from nas.training.recipe import Recipe, TrainingSettings, load_recipe

FOLDER_SIDE = 64
"""Side in pixels of the large images of a folder where a search does not say."""


Width = Annotated[Float, AfterValidator(lambda filters: int(filters) if filters.is_integer() else filters)]
"""A number of filters; a whole one stays an int, as it is shown."""


class Fidelity(Settings):
    """How thoroughly one child is trained: resource, depth, width, resolution and data fraction."""

    epochs: int = Field(20, ge=1, description="passes over the training examples")
    cells: int = Field(2, ge=1, le=50, description="N, normal cells a stage")
    filters: Width = Field(32, ge=1, le=4096, description="F, filters of the first stage's cells; a fraction as in the skeletons")
    image_size: int | None = Field(None, ge=8, le=4096, description="side in pixels; null keeps the data set's own")
    train_examples: int | None = Field(None, ge=1, description="training images used at most, balanced over the classes; null uses all")
    validation_examples: int | None = Field(None, ge=1, description="validation images scored at most; null uses all of the split")
    mirrored: bool = Field(
        False, description="score every image as it is and mirrored, by the mean of both: less noise (never where the data set forbids it)"
    )


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


def _dotted(document: Mapping[str, Any], group: str = "") -> dict[str, Any]:
    """Settings of a child's training by their dotted names, short ones (``learning_rate``) among them."""
    found: dict[str, Any] = {}
    for name, value in document.items():
        name = f"{group}{name}" if group else _OLD_NAMES.get(name, name)
        found |= _dotted(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return found


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


def rung_epochs(first: int, reduction: int, epochs: int) -> tuple[int, ...]:
    """The epochs at which children are compared: ``first`` · ``reduction``^k, all before the last epoch."""
    rungs = []
    while first < epochs:
        rungs.append(first)
        first *= reduction
    return tuple(rungs)


class HalvingSettings(Settings):
    """Early stopping: at each rung only the best share of the children goes on."""

    reduction: int = Field(3, ge=2, description="1/reduction of the children go on at a rung; each rung is so many times the one before")
    first: int = Field(1, ge=1, description="epoch of the first rung; must be below fidelity.epochs")


class RungSettings(Fidelity):
    """A rung of the ladder above the search's own children: who goes up to it, and what is another fidelity there than in the search.

    Of the fidelity only what a rung says counts (pydantic's set fields), so that null can say "all images". The others are the search's.
    """

    children: int | None = Field(None, ge=1, le=100_000, description="cells that go up to this rung at most")
    share: Float | None = Field(None, gt=0, le=1, description="or the share of the cells that ended at the rung below")
    seeds: int = Field(1, ge=1, le=100, description="times that each cell is trained here")
    recipe: str | None = Field(None, description="a recipe, or a YAML file of one, to train by here; null trains as in the search")
    training: dict[str, Any] = Field(default_factory=dict, description="what is trained otherwise here than so")

    @model_validator(mode="after")
    def _check_who(self) -> Self:
        if (self.children is None) == (self.share is None):
            raise ValueError("a rung of the ladder needs either `children` (how many go up to it) or `share` (of the rung below)")
        return self

    @model_serializer(mode="wrap")
    def _said(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document: dict[str, Any] = whole(self)
        return {name: value for name, value in document.items() if name in self.model_fields_set}

    def fidelity(self, search: Fidelity) -> Fidelity:
        """The fidelity here, of a search whose own children have that one."""
        return search.model_copy(update={name: getattr(self, name) for name in self.model_fields_set & set(Fidelity.model_fields)})


class RunnerSettings(Settings):
    """Where and how many children are trained at once."""

    kind: Literal["ray", "local"] = Field(
        "ray", description="local trains children inside this process: one at a time, or as many as workers says, in threads, for a GPU"
    )
    address: str | None = Field(None, description="Ray cluster to join (auto or HOST:PORT); null starts Ray on this machine")
    workers: int | None = Field(None, ge=1, description="children at once; null fills the machine")
    gpus_per_child: Float | None = Field(None, ge=0, description="whole or fractional GPUs; null gives one where there is a GPU, else none")
    threads_per_child: int | None = Field(
        None, ge=1, description="CPU threads of a child's training; null: as measured when a long search begins, else one"
    )
    cpu_nodes: bool = Field(False, description="where children take GPUs: train some on nodes without one, too")
    time_limit: Float | None = Field(None, gt=0, description="seconds a child may take; null sets none")
    heartbeat: Float | None = Field(300.0, gt=0, description="seconds without a batch after which a child hangs; null waits for ever")
    checkpoint_seconds: Float = Field(60.0, ge=0, description="least time between two checkpoints of a child; rungs always make one")
    max_attempts: int = Field(3, ge=1, description="times a child is started when its worker is lost")
    sync: str | None = Field(None, description="URL that the run folder is mirrored to as it grows (s3://, gs://, file://, …)")
    sync_seconds: Float = Field(5.0, gt=0, description="seconds between two syncs")
    failures_in_a_row: int = Field(20, ge=1, description="failed children one after the other that end the search (resumable)")

    @property
    def threads(self) -> int:
        """CPU threads of a child's training."""
        return self.threads_per_child or 1

    @property
    def cluster(self) -> str | None:
        """The cluster to join: as set, else the one that this process is a job of (Ray sets RAY_ADDRESS); None starts Ray here."""
        given = os.environ.get("RAY_ADDRESS", "")
        return self.address or (given if given and not given.startswith("http") else None)


class EvaluationConfig(Settings):
    """What evaluators and runners are told: how children are scored, on which images, at which fidelity, where, and when compared."""

    space: str = "nasnet"
    evaluator: str = Field("train", description="train, synthetic (a formula), table (looks up), …: see `nas list evaluators`")
    evaluator_options: dict[str, Any] = Field(default_factory=dict, description="the evaluator's own, where it has any")
    synthetic: SyntheticSettings = SyntheticSettings()
    table: TableSettings | None = Field(None, description="where evaluator=table looks up")
    data: DataSettings = DataSettings()
    fidelity: Fidelity = Fidelity()
    training: ChildTraining = Field(default_factory=lambda: TrainingSettings.model_validate(CHILD_DEFAULTS))
    halving: HalvingSettings | None = Field(None, description="early stopping; null trains every child to the end")
    ladder: list[RungSettings] = Field(default_factory=list, description="rungs to which the best cells go up, trained anew at each")
    runner: RunnerSettings = RunnerSettings()

    @model_validator(mode="after")
    def _check_table(self) -> Self:
        if self.evaluator == "table" and self.table is None:
            raise ValueError("evaluator=table needs table.path (a CSV file) and table.column (its validation accuracies)")
        return self

    @model_validator(mode="after")
    def _check_ladder(self) -> Self:
        for rung in range(1, len(self.ladder) + 1):
            self.at_rung(rung)
        return self

    def at_rung(self, rung: int) -> Self:
        """How children are evaluated at a rung of the ladder, 0 being the search's own: trained to the end there. Raises ConfigError."""
        if rung == 0:
            return self
        said = self.ladder[rung - 1]
        basis = self._trained_as(said)
        try:
            training = validated(TrainingSettings, apply_overrides(basis, _dotted(said.training)))
        except ConfigError as problem:
            raise ConfigError(f"ladder.{rung - 1}.training: {problem}") from None
        return self.model_copy(update={"fidelity": said.fidelity(self.fidelity), "training": training, "halving": None, "ladder": []})

    def spelt_out(self, rung: RungSettings) -> RungSettings:
        """The rung with its recipe as settings, so that a run goes on as it began whatever becomes of a recipe's file. Raises UserError."""
        if rung.recipe is None:
            return rung
        training = self.model_copy(update={"ladder": [rung]}).at_rung(1).training.model_dump(mode="json")
        said = {name: getattr(rung, name) for name in rung.model_fields_set - {"recipe"}}
        return validated(RungSettings, {**said, "training": training})

    def _trained_as(self, rung: RungSettings) -> dict[str, Any]:
        """The training that a rung's own settings are laid over: by the recipe that it names, else the search's. Raises UserError."""
        if rung.recipe is None:
            return self.training.model_dump(mode="json")
        recipe = load_recipe(rung.recipe, {"epochs": rung.fidelity(self.fidelity).epochs})
        return {name: value for name, value in recipe.model_dump(mode="json").items() if name in TrainingSettings.model_fields}

    def recipe(self) -> Recipe:
        """How a child is trained."""
        return Recipe(name="search", epochs=self.fidelity.epochs, **dict(self.training))

    def preparation(self) -> Preparation:
        """How a child's images are prepared; the test part is not read."""
        fidelity = self.fidelity
        wanted = self.recipe().preparation(image_size=fidelity.image_size, train_examples=fidelity.train_examples)
        mirrored = wanted.mirrored or fidelity.mirrored
        return replace(wanted, large_side=FOLDER_SIDE, validation_examples=fidelity.validation_examples, mirrored=mirrored, test=False)

    def rungs(self) -> tuple[int, ...]:
        """The epochs at which children are compared; none without early stopping."""
        if self.halving is None:
            return ()
        return rung_epochs(self.halving.first, self.halving.reduction, self.fidelity.epochs)
