"""Every setting of a search, with its rule: what presets, flags and ``--set`` fill in, and what a run folder records. No torch, no ray."""

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from nas.halving import rung_epochs


def _number(value: object) -> object:
    """YAML 1.1 reads 1e-5 as text; take such text for the number it is."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


Float = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]


def _whole(value: object) -> object:
    """A run folder keeps the keys of a mapping as texts."""
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 10 else value


Epochs = Annotated[int, BeforeValidator(_whole)]


class Settings(BaseModel):
    """Frozen, typed strictly, and closed: an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Fidelity(Settings):
    """How thoroughly one child is trained: resource, depth, width, resolution and data fraction."""

    epochs: int = Field(20, ge=1, description="passes over the training examples")
    cells: int = Field(2, ge=1, le=50, description="N, normal cells a stage")
    filters: int = Field(32, ge=1, le=4096, description="F, filters of the first stage's cells")
    image_size: int | None = Field(None, ge=8, le=4096, description="side in pixels; null keeps the data set's own")
    train_examples: int | None = Field(None, ge=1, description="training images used at most, balanced over the classes; null uses all")
    validation_examples: int | None = Field(None, ge=1, description="validation images scored at most; null uses all of the split")


class DataSettings(Settings):
    """Which images, and how the validation split is taken from the training set."""

    name: str = Field("cifar10", description="cifar10, cifar100, digits, synthetic, or folder (images under root)")
    root: str | None = Field(None, description="folder that holds the data; null looks in NAS_DATA and ~/.cache/nas/data")
    validation_examples: int | None = Field(
        None, ge=1, description="images held out of the training set for the reward; null takes a tenth (CIFAR-10: 5,000), small sets more"
    )
    image_size: int | None = Field(
        None, ge=8, le=4096, description="side to which a folder's images are resized; null: fidelity.image_size, else 64"
    )
    split_seed: int = Field(0, ge=0)
    download: bool = Field(True, description="fetch a missing data set from its official address")


class TrainingSettings(Settings):
    """The recipe of a child's training (Zoph et al. 2018, appendix A.1, where it says)."""

    batch_size: int = Field(128, ge=1)
    learning_rate: Float = Field(0.1, gt=0, description="at the start; a single cosine ends at 0")
    momentum: Float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: Float = Field(5e-4, ge=0)
    clip_norm: Float | None = Field(5.0, gt=0, description="global gradient norm; null does not clip")
    drop_path_keep: Float = Field(1.0, gt=0, le=1, description="ScheduledDropPath's final keep probability; 1 is off")
    auxiliary_weight: Float = Field(0.0, ge=0, description="weight of the auxiliary head's loss; 0 builds none")
    label_smoothing: Float = Field(0.0, ge=0, lt=1)
    augmentation: Literal["none", "shift_flip", "paper"] = Field(
        "paper", description="paper: upsample by 5/4, random crop, flip; shift_flip: zero-pad by 1/8, random crop, flip; none"
    )
    flip: bool = Field(True, description="false where mirror images change the class, as with digits")
    cutout: int = Field(0, ge=0, description="side of the square erased from each training image; 0 is off")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"


FailureReason = Literal["exception", "diverged", "out_of_memory", "time_limit", "worker_lost", "hung"]


class SyntheticSettings(Settings):
    """How the synthetic evaluator behaves, to try the engine without training."""

    seconds: Float = Field(0.0, ge=0, description="duration of a child")
    noise: Float = Field(0.0, ge=0, description="standard deviation added to the reward")
    objective: int = Field(0, ge=0, description="seed of the objective: what is good differs from one to the next")
    failures: dict[FailureReason, Float] = Field(
        default_factory=dict, description="share of the children that fail, by reason; worker_lost ends the process that trains"
    )


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


class ControllerSettings(Settings):
    """Which controller proposes, and its own options."""

    name: str = "ppo"
    options: dict[str, int | float | str | bool | None] = Field(default_factory=dict)


class RunnerSettings(Settings):
    """Where and how many children are trained at once."""

    kind: Literal["ray", "local"] = Field("ray", description="local trains one child at a time inside this process")
    address: str | None = Field(None, description="Ray cluster to join (auto or HOST:PORT); null starts Ray on this machine")
    workers: int | None = Field(None, ge=1, description="children at once; null fills the machine")
    gpus_per_child: Float | None = Field(None, ge=0, description="whole or fractional GPUs; null gives one where there is a GPU, else none")
    threads_per_child: int = Field(1, ge=1, description="CPU threads of a child's training")
    cpu_nodes: bool = Field(False, description="where children take GPUs: train some on nodes without one, too")
    time_limit: Float | None = Field(None, gt=0, description="seconds a child may take; null sets none")
    heartbeat: Float | None = Field(300.0, gt=0, description="seconds without a batch after which a child hangs; null waits for ever")
    checkpoint_seconds: Float = Field(60.0, ge=0, description="least time between two checkpoints of a child; rungs always make one")
    max_attempts: int = Field(3, ge=1, description="times a child is started when its worker is lost")
    sync: str | None = Field(None, description="URL that the run folder is mirrored to as it grows (s3://, gs://, file://, …)")
    sync_seconds: Float = Field(5.0, gt=0, description="seconds between two syncs")
    failures_in_a_row: int = Field(20, ge=1, description="failed children one after the other that end the search (resumable)")

    @property
    def cluster(self) -> str | None:
        """The cluster to join: as set, else the one that this process is a job of (Ray sets RAY_ADDRESS); None starts Ray here."""
        given = os.environ.get("RAY_ADDRESS", "")
        return self.address or (given if given and not given.startswith("http") else None)


class HalvingSettings(Settings):
    """Early stopping: at each rung only the best share of the children goes on."""

    reduction: int = Field(3, ge=2, description="1/reduction of the children go on at a rung; each rung is so many times the one before")
    first: int = Field(1, ge=1, description="epoch of the first rung; must be below fidelity.epochs")


class FinalistSettings(Settings):
    """The second stage: the best children trained again at a higher fidelity, with several seeds."""

    top: int = Field(25, ge=1, le=1000, description="children trained again")
    seeds: int = Field(3, ge=1, le=100, description="times that each is trained")
    epochs: int | None = Field(None, ge=1, description="null: as in the search")
    cells: int | None = Field(None, ge=1, le=50, description="null: as in the search")
    filters: int | None = Field(None, ge=1, description="null: as in the search")
    image_size: int | None = Field(None, ge=8, description="null: as in the search")
    train_examples: int | None = Field(None, ge=1, description="training images used at most; null uses all")


class SearchConfig(Settings):
    """The effective configuration of a search; a run folder keeps it as config.yaml."""

    preset: str = "custom"
    space: str = "nasnet"
    budget: int = Field(500, ge=1, description="children trained")
    seed: int = Field(0, ge=0)
    evaluator: Literal["train", "synthetic", "table"] = Field(
        "train", description="synthetic scores genotypes by formula, to try the engine; table looks them up among trained ones"
    )
    synthetic: SyntheticSettings = SyntheticSettings()
    table: TableSettings | None = Field(None, description="where evaluator=table looks up")
    data: DataSettings = DataSettings()
    fidelity: Fidelity = Fidelity()
    training: TrainingSettings = TrainingSettings()
    controller: ControllerSettings = ControllerSettings()
    halving: HalvingSettings | None = Field(None, description="early stopping; null trains every child to the end")
    finalists: FinalistSettings | None = Field(None, description="train the best again when the search has finished; null does not")
    runner: RunnerSettings = RunnerSettings()

    @model_validator(mode="after")
    def _check_table(self) -> Self:
        if self.evaluator == "table" and self.table is None:
            raise ValueError("evaluator=table needs table.path (a CSV file) and table.column (its validation accuracies)")
        return self

    def rungs(self) -> tuple[int, ...]:
        """The epochs at which children are compared; none without early stopping."""
        if self.halving is None:
            return ()
        return rung_epochs(self.halving.first, self.halving.reduction, self.fidelity.epochs)
