"""Which images a search or a training is about, how they are split, and what is done to those trained on. No torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from nas.settings.base import Float, Settings

Normalisation = Literal["measured", "imagenet", "half"]
"""Where mean and deviation come from: the training images, ImageNet, or 0.5 and 0.5."""
CropMode = Literal["center", "squash"]
"""Of an image that is no square: its middle, or the whole of it, squashed; timm's words."""
LARGE_SIDE = 224
"""Side in pixels at which large images are trained on where nobody says."""


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
    split_seed: int = Field(0, ge=0, description="of the validation split and of subsets; a test part does not depend on it")
    mirrors: bool | None = Field(None, description="whether mirror images keep their class; null: the data set says, a folder is looked at")
    download: bool = Field(True, description="fetch a missing data set from its official address")


def data_words(settings: DataSettings) -> str:
    """The data set's name; of a folder or file its own."""
    return Path(settings.root).name or settings.root if settings.name == "folder" and settings.root else settings.name


def data_flags(settings: DataSettings) -> list[str]:
    """The options of a command that name the data set; none for that which is taken where nothing is said."""
    if settings.name == "folder":
        return ["--data", settings.root or ""]
    named = [] if settings.name == DataSettings().name else ["--data", settings.name]
    return [*named, *(["--data-dir", settings.root] if settings.root else [])]


class AugmentationSettings(Settings):
    """What is done to the training images."""

    crop: Literal["none", "shift", "upsample", "inception"] = Field(
        "shift",
        description="shift: zero-pad by 1/8, random window; upsample: enlarge by 5/4, random window; "
        "inception: random area and aspect ratio, resized; none",
    )
    min_area: Float = Field(0.08, gt=0, le=1, description="of inception: smallest share of the image's area")
    flip: bool = Field(True, description="mirror half of the images (never where the data set forbids it, as with digits)")
    cutout: int = Field(0, ge=0, description="side of the square erased from each image; 0 is off")
    color_jitter: Float = Field(0.0, ge=0, le=1, description="brightness, contrast, saturation, in random order")
    lighting: Float = Field(0.0, ge=0, le=1, description="standard deviation of AlexNet's PCA lighting")
    rand_augment: str | None = Field(None, description="timm's notation, such as rand-m9-mstd0.5-inc1")
    random_erasing: Float = Field(0.0, ge=0, le=1, description="probability; one rectangle of noise")
    mixup: Float = Field(0.0, ge=0, description="alpha of mixup; 0 is off")
    cutmix: Float = Field(0.0, ge=0, description="alpha of CutMix; 0 is off. With both, half of the batches each")
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"

    @property
    def batched(self) -> bool:
        """Whether all of it can be done to whole batches of images in memory, in tensor operations."""
        return self.crop != "inception" and not (self.color_jitter or self.lighting or self.rand_augment or self.random_erasing)

    @property
    def mixes(self) -> bool:
        """Whether two images become one."""
        return self.mixup > 0 or self.cutmix > 0


@dataclass(frozen=True)
class Preparation:
    """How images are brought to a network.

    ``image_size`` is the side in pixels; None takes the images' own where they are small, else ``large_side``.
    ``crop_fraction`` is the share of the shorter side that scoring sees, of images from files, and ``crop_mode`` what becomes of
    those that are no squares. ``whole_batches`` says that the
    augmentation works on batches in memory; else files are read anew every epoch. ``mirrored`` says that it mirrors images: else
    nobody looks whether they keep their class. ``test`` is False where the test part must not
    be read: in a search.
    """

    image_size: int | None = None
    large_side: int = LARGE_SIDE
    normalisation: Normalisation = "measured"
    crop_fraction: float = 1.0
    crop_mode: CropMode = "center"
    interpolation: str = "bicubic"
    train_examples: int | None = None
    validation_examples: int | None = None
    whole_batches: bool = True
    mirrored: bool = True
    test: bool = True
