"""Where images lie and how: a place is understood in one of the ways of ``nas.data.listing``, or refused with what it holds. No torch."""

from dataclasses import replace
from pathlib import Path

from nas.data.csv_file import SUFFIXES as CSV_SUFFIXES
from nas.data.csv_file import Table, find_csv, labels_of, read_csv, usable_tables
from nas.data.folder import find_class_folders, has_class_folders, look_through
from nas.data.listing import Listing, refused
from nas.data.names import class_name, printable, some
from nas.data.tables import READERS, find_source, read_tables
from nas.data.walk import Folder, Walk
from nas.errors import DataError

FILES = (*CSV_SUFFIXES, *READERS)
"""Suffixes of single files that are data sets."""
WHERE_NOW = "--data of `nas evaluate`, and of `nas train` and `nas search` with --resume; --data-dir of `nas resume` and `nas finalists`"
"""How a person says that the images of a training or a search have moved."""


def is_data_file(path: Path) -> bool:
    """Whether a file may be a data set, by its name."""
    return path.suffix.lower() in FILES and path.is_file()


def find_images(root: str, *, scoring: bool = False) -> Listing:
    """List the images at a folder or file without opening any; where they are only scored, one class or a test part alone will do.

    Raises:
        DataError: there is no such place, or it is none of the layouts; the message says which there are and what was found.
    """
    base = Path(root).expanduser()
    if base.is_file():
        return _file(base, scoring)
    if not base.is_dir():
        raise DataError(f"the image folder must exist, but {printable(base)} does not; name where the images are now ({WHERE_NOW})")
    walk = Walk(base)
    if find_source(base, walk) is not None and not has_class_folders(look_through(walk.tree)):
        listing = read_tables(base, scoring)
        return replace(listing, notes=(*listing.notes, *walk.notes()))
    start = look_through(walk.tree)
    tables = usable_tables(base / start.path, start.others)
    if tables and not has_class_folders(start):
        return find_csv(walk, start, tables, scoring)
    lists = [name for name in start.others if name.lower().endswith(CSV_SUFFIXES)]
    if lists and not tables and len(start.holding) < 2:
        problem = f"has no class folders, and {some(lists)} no first line that names a column of paths and one of labels"
        raise refused(base / start.path, problem)
    listing = find_class_folders(walk, start, scoring)
    return replace(listing, notes=(*listing.notes, *_unread(base, start, listing, tables)))


def _file(base: Path, scoring: bool) -> Listing:
    if base.suffix.lower() in CSV_SUFFIXES:
        return read_csv(base, scoring)
    if base.suffix.lower() in READERS:
        return read_tables(base, scoring)
    raise refused(base, f"is a file whose name must end in {', '.join(FILES)}, or else a folder must be named")


def _unread(base: Path, start: Folder, listing: Listing, tables: list[Table]) -> list[str]:
    """That CSV files beside class folders say the same. Raises DataError where they say something else."""
    for table in tables:
        others = sorted(labels_of(table) - {class_name(name) for name in listing.class_names})
        if others:
            raise refused(
                base / start.path,
                f"has class folders ({some(listing.class_names)}) and {printable(table.file.name)} with other classes ({some(others)}); "
                "name the CSV file in place of the folder, or move it away",
            )
    return [f"{some(table.file.name for table in tables)}: not read, since the folders say the classes"] if tables else []
