"""``nas data``."""

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import say
from nas.errors import DataError


def data(
    name: Annotated[str, typer.Argument(help="A data set (`nas list datasets`), or a folder of images.")] = "cifar10",
    data_dir: Annotated[Path | None, typer.Option(help="Folder to keep the data in; default $NAS_DATA or ~/.cache/nas/data.")] = None,
) -> None:
    """Fetch a data set where it is missing, verify it, and say what it holds."""
    from nas.api.wishes import data_settings
    from nas.data.cifar import SPECS, unofficial_files
    from nas.data.registry import load_dataset
    from nas.data.settings import DataSettings
    from nas.data.split import split

    settings = DataSettings(**{key.removeprefix("data."): value for key, value in data_settings(name, data_dir).items()})
    dataset = load_dataset(settings)
    if name in SPECS and (altered := unofficial_files(SPECS[name], str(data_dir) if data_dir else None)):
        raise DataError(f"{', '.join(map(str, altered))}: not the official file (its checksum differs); remove it to fetch it anew")
    parts = split(dataset, settings)
    for note in (*dataset.notes, *parts.notes):
        say(f"note: {note}")
    say(
        f"{dataset.name}: {len(parts.train) + len(parts.validation):,} training and {len(parts.test):,} test images, "
        f"{dataset.side}×{dataset.side}×{dataset.channels}, {dataset.classes} classes: {', '.join(dataset.class_names[:10])}"
        f"{', …' if dataset.classes > 10 else ''}"
    )
