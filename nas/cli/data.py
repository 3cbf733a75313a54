"""``nas data``."""

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import say
from nas.errors import ConfigError, DataError


def data(
    name: Annotated[str, typer.Argument(help="cifar10, cifar100 or digits.")] = "cifar10",
    data_dir: Annotated[Path | None, typer.Option(help="Folder to keep the data in; default $NAS_DATA or ~/.cache/nas/data.")] = None,
) -> None:
    """Fetch a data set where it is missing, and verify it."""
    from nas.api.wishes import absolute
    from nas.data.cifar import SPECS, unofficial_files
    from nas.data.registry import load_dataset
    from nas.data.settings import DataSettings

    if name not in ("cifar10", "cifar100", "digits"):
        raise ConfigError(f"a data set to fetch must be one of cifar10, cifar100, digits, but got {name!r}")
    dataset = load_dataset(DataSettings(name=name, root=absolute(data_dir)))
    if name in SPECS and (altered := unofficial_files(SPECS[name], str(data_dir) if data_dir else None)):
        raise DataError(f"{', '.join(map(str, altered))}: not the official file (its checksum differs); remove it to fetch it anew")
    height, width, channels = dataset.train_images.shape[1:]
    say(
        f"{name}: {len(dataset.train_images):,} training and {len(dataset.test_images):,} test images, "
        f"{height}×{width}×{channels}, {dataset.classes} classes: {', '.join(dataset.class_names[:10])}"
        f"{', …' if dataset.classes > 10 else ''}"
    )
