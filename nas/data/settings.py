"""Which images a search or a training is about, and how they are split. No torch."""

from pydantic import Field

from nas.settings.base import Settings


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
