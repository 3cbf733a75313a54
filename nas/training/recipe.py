"""Recipes: how a network is trained to convergence, as settings that a person can read and copy. No torch, no ray."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from nas.data.settings import LARGE_SIDE, AugmentationSettings, CropMode, Normalisation, Preparation
from nas.errors import ConfigError
from nas.settings.base import Float, Settings
from nas.settings.reading import Document, PackagedYaml, apply_overrides, document, named_document, validated
from search_spaces.plugins import Registry
from search_spaces.strict_yaml import dump_document


class OptimizerSettings(Settings):
    """The optimiser, with the learning rate from which the schedule starts."""

    name: Literal["sgd", "rmsprop", "adamw", "muon"] = Field(
        "sgd", description="rmsprop is TensorFlow's: epsilon inside the square root; muon steps by whole matrices, AdamW by the rest"
    )
    learning_rate: Float = Field(0.1, gt=0, description="the largest of the schedule")
    per_images: int | None = Field(
        None,
        ge=1,
        description="images a step that learning_rate is meant for: it is scaled linearly for another batch_size; null: as it is",
    )
    momentum: Float = Field(0.9, ge=0, lt=1, description="of sgd, rmsprop and muon")
    nesterov: bool = Field(False, description="of sgd, and of muon's matrices")
    betas: tuple[Float, Float] = Field((0.9, 0.999), strict=False, description="of adamw and of what muon leaves to it")
    decay: Float = Field(0.9, ge=0, lt=1, description="of rmsprop's mean of squares")
    epsilon: Float = Field(1e-8, gt=0, description="of rmsprop, adamw and muon")
    weight_decay: Float = Field(5e-4, ge=0, description="L2 (sgd, rmsprop) or decoupled (adamw, muon)")
    decay_vectors: bool = Field(
        False, description="biases, norms and layer scales decay too, not only weights of convolutions and linear layers"
    )
    layer_decay: Float | None = Field(
        None, gt=0, le=1, description="factor on the learning rate for every layer group further from the head"
    )
    clip_norm: Float | None = Field(None, gt=0, description="global gradient norm; null does not clip")


class ScheduleSettings(Settings):
    """The learning rate over training, for every step by itself."""

    kind: Literal["cosine", "linear", "step", "milestones", "constant"] = "cosine"
    final: Float = Field(0.0, ge=0, description="learning rate at the end, of cosine and linear")
    every_epochs: Float = Field(2.4, gt=0, description="of step: epochs between two multiplications")
    milestones: tuple[Float, ...] = Field((), strict=False, description="of milestones: shares of the training, each multiplies once")
    factor: Float = Field(0.1, gt=0, lt=1, description="of step and milestones")
    warmup_epochs: Float = Field(0.0, ge=0, description="linear from 0, before the schedule begins")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind == "milestones" and (not self.milestones or any(not 0 < share < 1 for share in self.milestones)):
            raise ValueError(f"milestones must be shares of the training between 0 and 1, but got {list(self.milestones)}")
        return self


class RegularisationSettings(Settings):
    """What the recipe changes in the network and the loss; null leaves what the skeleton says."""

    auxiliary_weight: Float = Field(0.0, ge=0, description="weight of the auxiliary head's loss; 0 builds none")
    drop_path_keep: Float | None = Field(None, gt=0, le=1, description="final probability to keep a path (or a residual branch)")
    dropout: Float | None = Field(None, ge=0, lt=1, description="before the classifier")
    label_smoothing: Float = Field(0.0, ge=0, lt=1)
    norm_momentum: Float | None = Field(None, gt=0, le=1, description="share of a batch in batch norm's moving statistics")


class EmaSettings(Settings):
    """Moving average of the weights, by which the network is scored and saved."""

    decay: Float = Field(0.9999, gt=0, lt=1)
    warmup: bool = Field(False, description="TensorFlow's: at most (1 + updates) / (10 + updates)")


class ResolutionSettings(Settings):
    """Training on shrunk images first: cheaper steps while the network learns what is coarse."""

    start: Float = Field(1.0, gt=0, le=1, description="share of the side at the beginning; 1 is off")
    full_from: Float = Field(
        0.5, ge=0, le=1, description="share of the training from which images have their full side; linear in steps of 4 pixels"
    )


class TrainingSettings(Settings):
    """How a network is trained, whatever for how long. ``batch_size`` counts the images of one step, over all workers and passes."""

    batch_size: int = Field(128, ge=1)
    normalisation: Normalisation = Field("measured", description="mean and deviation: of the training images, of ImageNet, or 0.5 and 0.5")
    crop_fraction: Float = Field(0.875, gt=0, le=1, description="share of the shorter side that scoring sees, of images from files")
    crop_mode: CropMode = Field(
        "center", description="of images from files: center cuts out the middle, squash shows the whole image, scaled to a square"
    )
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    regularisation: RegularisationSettings = RegularisationSettings()
    resolution: ResolutionSettings = ResolutionSettings()
    ema: EmaSettings | None = None
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"

    @model_validator(mode="after")
    def _check_resolution(self) -> Self:
        if self.resolution.start < 1 and not self.augmentation.batched:
            raise ValueError(
                "resolution.start below 1 needs an augmentation of whole batches (crop none, shift or upsample, and nothing else)"
            )
        return self


class Recipe(TrainingSettings):
    """A whole training: the settings, for how long, and at what size."""

    name: str = "custom"
    epochs: int = Field(100, ge=1, le=100_000)
    image_size: int | None = Field(None, ge=8, le=2048, description="null takes the data's own, or the skeleton's")

    @model_validator(mode="after")
    def _check_warmup(self) -> Self:
        if self.schedule.warmup_epochs >= self.epochs and self.schedule.warmup_epochs > 0:
            raise ValueError(f"schedule.warmup_epochs must be below epochs ({self.epochs}), but got {self.schedule.warmup_epochs:g}")
        return self

    def preparation(self, *, image_size: int | None = None, train_examples: int | None = None, stream: bool = False) -> Preparation:
        """How images are prepared for this recipe; ``stream`` reads files anew every epoch, also small ones."""
        return Preparation(
            image_size=image_size,
            large_side=self.image_size or LARGE_SIDE,
            normalisation=self.normalisation,
            crop_fraction=self.crop_fraction if self.augmentation.crop == "inception" else 1.0,
            crop_mode=self.crop_mode,
            interpolation=self.augmentation.interpolation,
            train_examples=train_examples,
            whole_batches=self.augmentation.batched and not stream,
            mirrored=self.augmentation.flip,
        )


RECIPES: Registry[Document] = Registry("recipe", "nas.recipes", PackagedYaml("recipes"), document, ConfigError, "or give a YAML file")
"""Recipes by name: a new one is a YAML file in ``nas/recipes``."""


def recipe_names() -> tuple[str, ...]:
    """The recipes that come with the package, or with another that is installed."""
    return tuple(RECIPES)


def load_recipe(name_or_path: str, overrides: dict[str, Any] | None = None) -> Recipe:
    """A recipe that the user names, with settings changed by dotted names; None stands for a flag not given.

    A warm-up longer than half of the epochs asked for shrinks to a tenth of them, unless it is itself among the overrides.

    Raises:
        UserError: there is no recipe or YAML file of that name, or a setting breaks its rule.
    """
    read = named_document(RECIPES, name_or_path)
    label = Path(name_or_path).stem if name_or_path not in RECIPES else name_or_path
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    changed = apply_overrides({"name": label, **read}, given)
    schedule, epochs = changed.get("schedule"), changed.get("epochs")
    if isinstance(schedule, dict) and isinstance(epochs, int) and "schedule.warmup_epochs" not in given and "epochs" in given:
        warmup = schedule.get("warmup_epochs", 0)
        if isinstance(warmup, int | float) and warmup > epochs / 2 > 0:  # epochs below 1 break a rule, and nothing follows from them
            schedule["warmup_epochs"] = epochs / 10
    return validated(Recipe, changed)


def recipe_yaml(recipe: Recipe) -> str:
    """The recipe as a YAML text that ``--recipe FILE`` takes."""
    return dump_document(recipe.model_dump(mode="json"))
