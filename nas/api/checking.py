"""Looks at a data set before anybody trains: ``nas.check_data``."""

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from nas.api.wishes import Place, data_settings
from nas.data.cifar import SPECS, unofficial_files
from nas.data.settings import DataSettings
from nas.errors import ConfigError, DataError

if TYPE_CHECKING:
    from nas.data.image_index import Progress
    from nas.data.survey import Survey


def check_data(
    data: Place, *, data_dir: Place | None = None, sheet: str | PathLike[str] | None = None, progress: "Progress | None" = None
) -> "Survey":
    """What a data set holds: layout, classes by part, sizes, modes, unreadable files, copies, imbalance; and what a person should know.

    Example::

        found = nas.check_data("my-images/", sheet="sheet.png")
        print(found.warnings)

    Args:
        data: a data set's name, a folder of images or a file of them.
        data_dir: folder that a named data set is kept in.
        sheet: PNG file for some images of every class as a network will see them.
        progress: told (files checked, files in all).

    Raises:
        DataError: the data set cannot be used.
        ConfigError: there is no such data set, or the sheet cannot be written.
    """
    from nas.data.survey import survey

    if sheet is not None and Path(sheet).suffix.lower() != ".png":
        raise ConfigError(f"the sheet must be a file that ends in .png, but got {Path(sheet).name!r}")
    wanted = {key.removeprefix("data."): value for key, value in data_settings(data, data_dir, "PATH").items()}
    found = survey(DataSettings(**wanted), progress)
    if str(data) in SPECS and (altered := unofficial_files(SPECS[str(data)], str(data_dir) if data_dir else None)):
        raise DataError(f"{', '.join(map(str, altered))}: not the official file (its checksum differs); remove it to fetch it anew")
    if sheet is not None:
        _draw(found, Path(sheet))
    return found


def _draw(found: "Survey", sheet: Path) -> None:
    from nas.data.contact_sheet import contact_sheet
    from nas.data.prepared import own_side
    from nas.data.settings import Preparation

    side = own_side(found.dataset, Preparation().large_side)
    try:
        contact_sheet(found.dataset, found.parts.train, side).save(sheet, "PNG")
    except OSError as problem:
        raise ConfigError(f"the sheet {sheet} cannot be written: {problem.strerror or problem}") from None
