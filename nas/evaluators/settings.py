"""How one child is evaluated: fidelity, recipe, and the stand-in that scores by formula. No torch, no ray."""

from typing import Literal

from pydantic import Field

from nas.settings.base import Float, Settings


class Fidelity(Settings):
    """How thoroughly one child is trained: resource, depth, width, resolution and data fraction."""

    epochs: int = Field(20, ge=1, description="passes over the training examples")
    cells: int = Field(2, ge=1, le=50, description="N, normal cells a stage")
    filters: int = Field(32, ge=1, le=4096, description="F, filters of the first stage's cells")
    image_size: int | None = Field(None, ge=8, le=4096, description="side in pixels; null keeps the data set's own")
    train_examples: int | None = Field(None, ge=1, description="training images used at most, balanced over the classes; null uses all")
    validation_examples: int | None = Field(None, ge=1, description="validation images scored at most; null uses all of the split")


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
