"""Images kept as bytes in tables: parquet files, webdataset shards, data sets of Hugging Face on disk; all by ``datasets``. No torch.

``datasets`` copies parquet files and shards once to a file that is mapped into memory, where any row is found at once.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from glob import escape
from pathlib import Path, PurePosixPath
from typing import Any

from nas.data.cifar import data_home
from nas.data.csv_file import LABELS
from nas.data.listing import Listing, Member, refused
from nas.data.names import PARTS, Role, class_name, in_order, part_of, part_within, parts_in_words, printable, roles_of, some
from nas.data.walk import Walk
from nas.errors import DataError
from nas.tools.words import counted

READERS = {".parquet": "parquet", ".tar": "webdataset"}
"""Suffixes of tables, and who of ``datasets`` reads them."""
LABEL_COLUMNS = (*LABELS, "labels", "cls")
IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp")
"""Which one is taken where a table has several columns of images."""
SAVED = ({"dataset_dict.json"}, {"dataset_info.json", "state.json"})
"""Files that ``save_to_disk`` leaves: of all parts, of one."""
Found = dict[Role, list[str]]


@dataclass(frozen=True)
class Source:
    """What lies at ``root``: folders of data sets saved (``reader`` is empty), or files that ``reader`` reads; by part, relative to it.

    The part ``train`` of a data set saved with all its parts stands for them all.
    """

    root: Path
    reader: str
    found: Found

    def paths(self) -> list[Path]:
        """Every file that belongs to it."""
        places = [self.root / name for names in self.found.values() for name in names]
        return [path for place in places for path in ([place] if place.is_file() else sorted(place.rglob("*"))) if path.is_file()]


@dataclass(frozen=True)
class _Table:
    """One part's rows, and where their images and labels are. ``label`` may lead into a column of structures."""

    rows: Any
    image: str
    label: tuple[str, ...]
    class_names: tuple[str, ...] | None


@dataclass(frozen=True)
class _Tables:
    source: Source
    parts: Mapping[Role, _Table]
    left: tuple[str, ...]
    stamp: tuple[int, int]


class _Rows:
    """A store of tables' rows, named by part and number: ``train/17``."""

    def read(self, root: Path, name: str) -> bytes:
        part, _, number = name.partition("/")
        table = next(table for role, table in _opened(root).parts.items() if role == part)
        try:
            content = table.rows[int(number)][table.image]
        except Exception as problem:  # see _reasons
            raise OSError(f"the row cannot be read: {problem}") from None
        if isinstance(content, Mapping):
            content = content.get("bytes")
        if not isinstance(content, bytes):
            raise OSError("the row holds no image's bytes")
        return content

    def stamp(self, root: Path, name: str) -> tuple[int, int]:
        return _opened(root).stamp


ROWS = _Rows()


def find_source(base: Path, walk: Walk | None) -> Source | None:
    """The tables at a file or below a folder, none opened. Raises DataError where it is unclear which part they are."""
    if walk is None:
        return Source(base.parent, READERS[base.suffix.lower()], {"train": [base.name]})
    folders = [(folder.path, set(folder.others)) for folder in walk.tree.walk()]
    whole, single = ([path for path, files in folders if marks <= files] for marks in SAVED)
    if whole:
        return Source(base, "", {"train": whole[:1]})
    if single:
        return Source(base, "", _by_part(base, single))
    for suffix, reader in READERS.items():
        files = [name for name in walk.tree.all_others() if name.lower().endswith(suffix)]
        if files:
            return Source(base, reader, _by_part(base, files))
    return None


def _by_part(base: Path, names: list[str]) -> Found:
    parts = {name: _part(name) for name in names}
    if not any(parts.values()):
        return {"train": names}
    if unclear := [name for name, part in parts.items() if part is None]:
        raise refused(base, f"has files of parts beside others of which no word tells the part: {some(unclear)}")
    return {role: [name for name in names if parts[name] == role] for role in PARTS if role in parts.values()}


def _part(path: str) -> Role | None:
    """The part that a file's name or the innermost of its folders' names tells."""
    for name in (PurePosixPath(path).name.partition(".")[0], *reversed(PurePosixPath(path).parts[:-1])):
        if role := part_of(name):
            return role
        if within := part_within(name):
            return within[0]
    return None


def read_tables(root: Path, scoring: bool = False) -> Listing:
    """The images of the tables at a file or below a folder; where they are only scored, one class or a test part alone will do.

    Raises:
        DataError: ``datasets`` is not installed or cannot read them, or there is no column of images or of classes.
    """
    _opened.cache_clear()  # the files may have changed since
    tables = _opened(root)
    every = {part: _labels(root, table) for part, table in tables.parts.items()}
    labelled = {part: found for part, found in every.items() if any(found)}
    roles = roles_of({part: part for part in labelled}, scoring)
    if "train" not in roles:
        raise refused(root, f"must have a part with labels to train on, but it has {some([*every, *tables.left])}")
    given = tables.parts[roles["train"]].class_names
    used = in_order(label for label in labelled[roles["train"]] if label is not None)
    names = tuple(name for name in given if name in set(used)) if given else used
    if len(names) < 2 and not scoring:
        raise refused(root, f"must have images of at least 2 classes to train on, but it has {len(names)} ({some(names)})")
    parts = {role: _members(root, part, labelled[part], names) for role, part in roles.items()}
    kind = {"": "a saved data set", "parquet": "parquet files", "webdataset": "webdataset shards"}[tables.source.reader]
    layout = f"{kind} with {len(names)} classes{parts_in_words(labelled)}"
    notes = tuple(_notes(tables, every, [name for name in given or () if name not in names]))
    name = printable(root.resolve().stem if root.is_file() else root.resolve().name)
    return Listing(root, name, names, parts, roles, layout, notes, ROWS)


def _notes(tables: _Tables, labels: Mapping[Role, list[str | None]], unseen: list[str]) -> Iterator[str]:
    """What of the tables is not used."""
    for part, found in labels.items():
        if not any(found):
            yield f"the part {part} is not used: it has no labels"
        elif missing := found.count(None):
            one, several = f"row of the part {part} has no label and is", f"rows of the part {part} have no label and are"
            yield f"{counted(missing, one, several)} not used"
    if unseen:
        one, several = "class has no training image and is left out", "classes have no training image and are left out"
        yield f"{counted(len(unseen), one, several)}: {some(unseen)}"
    if tables.left:
        yield f"parts that are not used, being none to train, validate or test on: {some(tables.left)}"


def _members(root: Path, part: Role, labels: list[str | None], names: tuple[str, ...]) -> list[Member]:
    known = {name: number for number, name in enumerate(names)}
    if strange := next((label for label in labels if label is not None and label not in known), None):
        raise DataError(f"{printable(root)}: class {strange!r} of {part} has no counterpart among the training classes: {some(names, 20)}")
    return [(f"{part}/{row}", known[label]) for row, label in enumerate(labels) if label is not None]


def _labels(root: Path, table: _Table) -> list[str | None]:
    """The class of every row; None where it has none (also -1, as in test parts that are kept secret)."""
    with _reasons(root):
        values: Iterable[Any] = list(table.rows.select_columns([table.label[0]])[table.label[0]])
    for key in table.label[1:]:
        values = [(value or {}).get(key) for value in values]
    found: list[str | None] = []
    for value in values:
        if value is None or (table.class_names and value == -1):
            found.append(None)
        elif table.class_names and value in range(len(table.class_names)):
            found.append(table.class_names[value])
        elif isinstance(value, str | int) and not table.class_names:
            found.append(class_name(str(value)))
        elif table.class_names:
            raise refused(root, f"must have numbers of its {len(table.class_names)} classes in {table.label[0]}, but has {value!r}")
        else:
            raise refused(root, f"must have words or whole numbers as labels in {'.'.join(table.label)}, but has {value!r}")
    return found


# ---------------------------------------------------------------------------------------------------- opening


@lru_cache(maxsize=4)
def _opened(root: Path) -> _Tables:
    """The tables, open: once in every process."""
    source = find_source(root, Walk(root) if root.is_dir() else None)
    if source is None:
        raise DataError(f"{printable(root)} must hold tables of images, but there are none any more")
    parts: dict[Role, _Table] = {}
    left = []
    found = _read(source)
    if len(found) == 1 and not any(part_of(name) for name in found):
        found = dict.fromkeys(("train",), *found.values())
    for name, rows in found.items():
        role = part_of(name) or (within[0] if (within := part_within(name)) else None)
        if role is None or role in parts:
            left.append(name)
        else:
            parts[role] = _columns(root, rows)
    status = [path.stat() for path in source.paths()]
    return _Tables(source, parts, tuple(left), (sum(s.st_size for s in status), max(s.st_mtime_ns for s in status)))


def _read(source: Source) -> dict[str, Any]:
    """Every part's rows, mapped into memory."""
    try:
        import datasets
    except ImportError:
        raise DataError(
            f"{printable(source.root)}: tables of images are read by the package `datasets`: pip install 'nas-engine[data]'"
        ) from None
    paths = {role: [str(source.root / name) for name in names] for role, names in source.found.items()}
    with _reasons(source.root), _silent(datasets):
        if source.reader:
            files = {role: [escape(path) for path in names] for role, names in paths.items()}
            return dict(datasets.load_dataset(source.reader, data_files=files, cache_dir=str(data_home() / "tables")))
        saved = {role: [datasets.load_from_disk(path) for path in names] for role, names in paths.items()}
        if isinstance(saved["train"][0], dict):
            return dict(saved["train"][0])
        return {role: datasets.concatenate_datasets(found) for role, found in saved.items()}


@contextmanager
def _reasons(place: Path) -> Iterator[None]:
    """Turn errors into DataError: damaged tables raise a dozen kinds, of the package, of pyarrow, of tarfile, of the file system."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as problem:
        reason = str(problem.__cause__ or problem).partition("\n")[0]
        raise DataError(f"{printable(place)}: cannot be read by `datasets`: {printable(reason)}") from None


@contextmanager
def _silent(datasets: Any) -> Iterator[None]:  # noqa: ANN401 - a module
    """Without the package's own progress bars and warnings: what a person sees is the caller's to say."""
    shown, level = datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(level)
        if not shown:
            datasets.enable_progress_bars()


def _columns(root: Path, rows: Any) -> _Table:  # noqa: ANN401 - a data set of `datasets`
    """Which columns hold the images and the classes. Raises DataError."""
    import datasets

    features = rows.features
    images = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    images = images or [name for name, feature in features.items() if _holds_bytes(feature)]
    image = images[0] if len(images) == 1 else next((name for name in IMAGE_COLUMNS if name in images), None)
    if image is None:
        raise refused(
            root, f"must have one column of images as bytes, but has {some(images) or 'none'} among the columns {some(features, 20)}"
        )
    label = _label(root, features, datasets.ClassLabel)
    feature = features[label[0]]
    names = tuple(class_name(name) for name in feature.names) if isinstance(feature, datasets.ClassLabel) else None
    if isinstance(features[image], datasets.Image):
        with _silent(datasets):
            rows = rows.cast_column(image, datasets.Image(decode=False))
    pixels = rows.select_columns([image, label[0]])
    return _Table(pixels, image, label, names)


def _holds_bytes(feature: Any) -> bool:  # noqa: ANN401
    return getattr(feature, "dtype", "") in ("binary", "large_binary") or (isinstance(feature, Mapping) and "bytes" in feature)


def _label(root: Path, features: Mapping[str, Any], class_label: type) -> tuple[str, ...]:
    named = [name for name in features if name.lower() in LABEL_COLUMNS]
    typed = [name for name, feature in features.items() if isinstance(feature, class_label)]
    for found in ([name for name in named if name in typed], named, typed):
        if len(found) == 1:
            return (found[0],)
    inner = features.get("json")
    keys = [name for name in inner if name.lower() in LABEL_COLUMNS] if isinstance(inner, Mapping) else []
    if len(keys) == 1 and not named:
        return "json", keys[0]
    raise refused(
        root, f"must have one column of classes, called label or so, but has {some(named or typed) or 'none'} among {some(features, 20)}"
    )
