"""A CSV file as a data set: a line for every image with its path, its class, and maybe its part. No torch."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from unicodedata import normalize

from nas.data.listing import Listing, Member, joined, refused
from nas.data.names import PARTS, Role, class_name, in_order, part_of, part_within, parts_in_words, printable, roles_of, some
from nas.data.walk import Folder, Walk
from nas.errors import DataError
from nas.tools.words import counted

PATHS = ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "image_name", "image_id", "img")
LABELS = ("label", "class", "target", "category", "class_name", "label_name")
SPLITS = ("split", "subset", "set", "part", "partition")
SUFFIXES = (".csv", ".tsv")
SEPARATORS = ",;\t|"


@dataclass(frozen=True)
class Table:
    """A CSV file whose header names a column of paths and one of labels; ``split`` is the place of the column of parts, if any."""

    file: Path
    separator: str
    path: int
    label: int
    split: int | None
    columns: int


@dataclass(frozen=True)
class Row:
    """A line's image, class and part."""

    line: int
    image: str
    label: str
    role: Role


def usable_tables(folder: Path, files: list[str]) -> list[Table]:
    """Those of a folder's files that are CSV with the columns that are needed."""
    tables = (_header(folder / name) for name in files if name.lower().endswith(SUFFIXES))
    return [table for table in tables if table is not None]


def read_csv(file: Path, scoring: bool = False) -> Listing:
    """The images that one CSV file lists, relative to its folder.

    Raises:
        DataError: its columns are not those needed, or a line is wrong; its number is named.
    """
    table = _header(file)
    if table is None:
        raise refused(file, f"must begin with a line that names its columns: one of {', '.join(PATHS[:7])}; one of {', '.join(LABELS[:4])}")
    return _listing(Walk(file.parent), "", [("train", table)], (file.stem, file), scoring)


def find_csv(walk: Walk, start: Folder, tables: list[Table], scoring: bool = False) -> Listing:
    """The images that the CSV files of a folder list; where there are several, their names must say for which part each is.

    Raises:
        DataError: see ``read_csv``; or several files without a word of a part in their names.
    """
    place = walk.base / start.path
    named: dict[Role, Table] = {}
    for table in tables if len(tables) > 1 else []:
        within = part_within(table.file.stem)
        if within is None:
            continue
        if within[0] in named:
            raise refused(place, f"has two CSV files for one part: {named[within[0]].file.name}, {table.file.name}; name one of them")
        named[within[0]] = table
    if len(tables) > 1 and "train" not in named:
        raise refused(place, f"has several CSV files of images ({some(table.file.name for table in tables)}): name one of them instead")
    used = list(named.items()) or [("train", tables[0])]
    listing = _listing(walk, start.path, used, (_name(walk.base), place), scoring)
    left = [name for name in start.others if name.lower().endswith(SUFFIXES) and all(name != table.file.name for _, table in used)]
    notes = [f"{some(left)}: not read, being no list of a part's images and their classes"] if left else []
    return Listing(**{**vars(listing), "notes": (*listing.notes, *notes)})


def _name(base: Path) -> str:
    return printable(base.resolve().name)


def labels_of(table: Table) -> set[str]:
    """The classes that the file names. Raises DataError."""
    return {class_name(label) for _, _, label, _ in _cells(table)}


# ---------------------------------------------------------------------------------------------------- the file


def _header(file: Path) -> Table | None:
    try:
        with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as opened:
            line = opened.readline(1 << 16)
    except OSError as problem:
        raise DataError(f"{printable(file)}: must be readable, but {problem.strerror}") from None
    for separator in SEPARATORS:
        try:
            cells = [cell.strip().lower().replace(" ", "_") for row in csv.reader([line], delimiter=separator) for cell in row]
        except csv.Error:
            continue
        places = [[place for place, cell in enumerate(cells) if cell in names] for names in (PATHS, LABELS, SPLITS)]
        if len(places[0]) == len(places[1]) == 1 and len(places[2]) <= 1:
            return Table(file, separator, places[0][0], places[1][0], places[2][0] if places[2] else None, len(cells))
    return None


def _cells(table: Table) -> Iterator[tuple[int, str, str, str | None]]:
    """Line number, path, label and split of every line but the first and empty ones."""
    with table.file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as opened:
        reader = csv.reader(opened, delimiter=table.separator, strict=True)
        try:
            next(reader)
            for row in reader:
                if any(row):
                    if len(row) != table.columns:
                        raise _wrong(
                            table, reader.line_num, f"must have {table.columns} columns as the first line has, but it has {len(row)}"
                        )
                    cells = [cell.strip() for cell in row]
                    yield reader.line_num, cells[table.path], cells[table.label], None if table.split is None else cells[table.split]
        except csv.Error as problem:
            raise _wrong(table, reader.line_num, f"must be CSV, but {problem}") from None


def _wrong(table: Table, line: int, problem: str) -> DataError:
    return DataError(f"{printable(table.file)}, line {line}: {printable(problem)}")


# ---------------------------------------------------------------------------------------------------- its images


class _Images:
    """The images below a folder, found by what a CSV file calls them: a path from there, or its end, with or without suffix."""

    def __init__(self, tree: Folder, start: str) -> None:
        self._start = PurePosixPath(start)
        self._by_path: dict[str, str] = {}
        self._by_end: dict[str, list[str]] = {}
        for image in tree.all_images():
            plain = normalize("NFC", image)
            self._by_path[plain] = image
            for ending in {PurePosixPath(plain).name, PurePosixPath(plain).stem}:
                self._by_end.setdefault(ending, []).append(image)

    def find(self, table: Table, line: int, cell: str) -> str:
        path = PurePosixPath(normalize("NFC", cell.replace("\\", "/")))
        if path.is_relative_to(place := PurePosixPath(table.file.parent.resolve().as_posix())):
            path = path.relative_to(place)
        if path.is_absolute() or ".." in path.parts:
            raise _wrong(table, line, f"a path must lie below the CSV file's folder, but got {cell!r}")
        exact = self._by_path.get(str(self._start / path))
        if exact is not None:
            return exact
        found = [image for image in self._by_end.get(path.name, []) if _ends(image, path.parts) or _ends(_bare(image), path.parts)]
        if len(found) != 1:
            what = f"may be any of {some(found)}" if found else "is no image below the CSV file's folder"
            raise _wrong(table, line, f"{cell!r} {what}")
        return found[0]


def _bare(path: str) -> str:
    return str(PurePosixPath(path).with_suffix(""))


def _ends(path: str, parts: tuple[str, ...]) -> bool:
    return PurePosixPath(normalize("NFC", path)).parts[-len(parts) :] == parts


def _listing(walk: Walk, start: str, tables: list[tuple[Role, Table]], called: tuple[str, Path], scoring: bool) -> Listing:
    name, place = called
    images = _Images(walk.tree, start)
    rows = [row for role, table in tables for row in _rows(table, role, images)]
    if not rows:
        raise refused(place, "must list images, but there is no line of one")
    by_role: dict[Role, list[Row]] = {role: found for role in PARTS if (found := [row for row in rows if row.role == role])}
    roles = roles_of(by_role, scoring)
    if "train" not in roles:
        raise refused(place, f"must list images to train on, but lists only those of {joined(list(by_role))}")
    names = in_order(row.label for row in roles["train"])
    if len(names) < 2 and not scoring:
        raise refused(place, f"must name at least 2 classes, but names {len(names)} ({some(names)})")
    known = {label: number for number, label in enumerate(names)}
    if strange := next((row for found in roles.values() for row in found if row.label not in known), None):
        problem = f"class {strange.label!r} has no counterpart among the training classes: {some(names, 20)}"
        raise DataError(f"{printable(place)}, line {strange.line}: {problem}")
    parts: dict[Role, list[Member]] = {role: [(row.image, known[row.label]) for row in found] for role, found in roles.items()}
    layout = f"{joined([printable(table.file.name) for _, table in tables])} with {len(names)} classes"
    layout += parts_in_words(by_role)
    listed = {row.image for row in rows}
    unused = [image for image in walk.tree.all_images() if image not in listed]
    which = counted(len(unused), "image is in no line of it and is not used", "images are in no line of it and are not used")
    notes = [f"{which}: {some(unused, 3)}"] if unused else []
    return Listing(walk.base, printable(name), names, parts, {role: role for role in parts}, layout, (*notes, *walk.notes()))


def _rows(table: Table, default: Role, images: _Images) -> Iterator[Row]:
    """Its lines, each image once. Raises DataError."""
    before: dict[str, Row] = {}
    for line, path, label, split in _cells(table):
        if not path or not label:
            raise _wrong(table, line, f"must have a path and a label, but the {'label' if path else 'path'} is empty")
        role = default if split is None else part_of(split)
        if role is None:
            raise _wrong(table, line, f"the part must be train, val or test (or a word like them), but got {split!r}")
        row = Row(line, images.find(table, line, path), class_name(label), role)
        first = before.setdefault(row.image, row)
        if (first.label, first.role) != (row.label, row.role):
            raise _wrong(table, line, f"{path!r} has another class or part than in line {first.line}")
        if first is row:
            yield row
