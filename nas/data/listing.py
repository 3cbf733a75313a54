"""What a place with images was understood to hold: the images of every part with their labels, none of them opened. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nas.data.names import Role, printable
from nas.data.stores import DISK, Store
from nas.errors import DataError

LAYOUTS = (
    "a folder with one sub-folder of images for each class; such folders under train/ and test/ (or val/, or all three); a CSV file of "
    "path and label (and split), or a folder with one; parquet files, webdataset shards (.tar), a data set of Hugging Face saved to disk"
)
Member = tuple[str, int]
"""An image's name in its store, and its label."""


@dataclass(frozen=True)
class Listing:
    """The images below ``root`` in a fixed order, by part; a part that the place does not bring is missing.

    ``part_names`` are the parts' own; ``layout`` says in a sentence how the place was understood, ``notes`` what a person should know.
    """

    root: Path
    name: str
    class_names: tuple[str, ...]
    parts: Mapping[Role, list[Member]]
    part_names: Mapping[Role, str]
    layout: str
    notes: tuple[str, ...] = ()
    store: Store = field(default=DISK)


def refused(place: Path, problem: str) -> DataError:
    """That the place is none that is understood, and what would be."""
    return DataError(f"{printable(place)} {problem}. Understood are: {LAYOUTS}")


def class_folders(count: int) -> str:
    """A number of them in words."""
    return f"{count} class folder{'s' if count != 1 else ''}"


def joined(names: list[str]) -> str:
    """Names in a sentence."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
