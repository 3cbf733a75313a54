"""CIFAR-10 and CIFAR-100 from the official files, in the binary or the Python layout; nothing from a file is executed. No torch.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009; the layouts are described at https://www.cs.toronto.edu/~kriz/cifar.html.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nas.data.dataset import ArrayPart, Dataset, Images, Labels, from_arrays
from nas.data.download import fetch, md5_of, unpack
from nas.data.plain_pickle import Array, load_plain_pickle
from nas.errors import DataError

SIDE = 32
PIXELS = 3 * SIDE * SIDE


@dataclass(frozen=True)
class CifarSpec:
    """What the official archive of a CIFAR data set holds."""

    name: str
    title: str
    url: str
    md5: str
    binary_folder: str
    binary_train: tuple[tuple[str, int], ...]
    binary_test: tuple[str, int]
    label_bytes: int
    names_file: str
    python_folder: str
    python_train: tuple[tuple[str, int], ...]
    python_test: tuple[str, int]
    python_labels: str
    class_names: tuple[str, ...]
    file_md5: tuple[tuple[str, str], ...] = ()


CIFAR10 = CifarSpec(
    name="cifar10",
    title="CIFAR-10",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    binary_folder="cifar-10-batches-bin",
    binary_train=tuple((f"data_batch_{i}.bin", 10_000) for i in range(1, 6)),
    binary_test=("test_batch.bin", 10_000),
    label_bytes=1,
    names_file="batches.meta.txt",
    python_folder="cifar-10-batches-py",
    python_train=tuple((f"data_batch_{i}", 10_000) for i in range(1, 6)),
    python_test=("test_batch", 10_000),
    python_labels="labels",
    class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    file_md5=(
        ("data_batch_1.bin", "5dd7e06a14cb22eb9f671a540d1b7c25"),
        ("data_batch_2.bin", "5ea93a67294ea407fff1d09f752e9692"),
        ("data_batch_3.bin", "942cd6a4bcdd0dd3c604fbe906cb4421"),
        ("data_batch_4.bin", "ae636b3ba5c66a11e91e8cb52e771fcb"),
        ("data_batch_5.bin", "53f37980c15c3d472c316c40844f3f0d"),
        ("test_batch.bin", "803d5f7f4d78ea53de84dbe85f74fb6d"),
        ("data_batch_1", "c99cafc152244af753f735de768cd75f"),
        ("data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec"),
        ("data_batch_3", "54ebc095f3ab1f0389bbae665268c751"),
        ("data_batch_4", "634d18415352ddfa80567beed471001a"),
        ("data_batch_5", "482c414d41f54cd18b22e5b47cb7c3cb"),
        ("test_batch", "40351d587109b95175f43aff81a1287e"),
    ),
)
CIFAR100 = CifarSpec(
    name="cifar100",
    title="CIFAR-100",
    url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    md5="03b5dce01913d631647c71ecec9e9cb8",
    binary_folder="cifar-100-binary",
    binary_train=(("train.bin", 50_000),),
    binary_test=("test.bin", 10_000),
    label_bytes=2,
    names_file="fine_label_names.txt",
    python_folder="cifar-100-python",
    python_train=(("train", 50_000),),
    python_test=("test", 10_000),
    python_labels="fine_labels",
    class_names=tuple(f"class {i}" for i in range(100)),
    file_md5=(("train", "16019d7e3df5f24257cddd939b257f8d"), ("test", "f0ef6b0ae62326f3e7ffdfab6717acfc")),
)
SPECS = {spec.name: spec for spec in (CIFAR10, CIFAR100)}


def data_home() -> Path:
    """Where data sets are kept: the folder in the environment variable NAS_DATA, else ~/.cache/nas/data."""
    return Path(os.environ.get("NAS_DATA") or Path.home() / ".cache" / "nas" / "data")


def bases(root: str | None) -> list[Path]:
    """The folders that a data set is looked for in; the first is where it is fetched into."""
    return [Path(root).expanduser()] if root else [data_home()]


def load_cifar(spec: CifarSpec, root: str | None, download: bool) -> Dataset:
    """Read the data set from ``root``, else NAS_DATA, else ~/.cache/nas/data, in either official layout; fetch it where it is missing.

    Raises:
        DataError: it is missing and cannot be fetched, or its files are incomplete or corrupt.
    """
    places = bases(root)
    found = find(spec, places)
    if found is None:
        if not download:
            looked = _listed(places)
            raise DataError(f"{spec.title} was not found in {looked}, and downloading is switched off. {ways_out(spec, places[0])}")
        fetch_cifar(spec, places[0])
        found = find(spec, places)
    if found is None:
        raise DataError(f"{spec.title}: the archive from {spec.url} holds no {spec.binary_folder} folder. {ways_out(spec, places[0])}")
    folder, read = found
    return read(spec, folder)


def unofficial_files(spec: CifarSpec, root: str | None) -> list[Path]:
    """The files in use whose contents are not the official ones, so far as their checksums are known (CIFAR-100's binary ones are not).

    ``load_cifar`` takes any file of the right size with labels in range; this tells whether it is CIFAR.

    Raises:
        DataError: the set is incomplete.
    """
    found = find(spec, bases(root))
    if found is None:
        return []
    folder, read = found
    used = (*spec.binary_train, spec.binary_test) if read is read_binary else (*spec.python_train, spec.python_test)
    known = dict(spec.file_md5)
    return [folder / name for name, _ in used if name in known and md5_of(folder / name) != known[name]]


def find(spec: CifarSpec, bases: Sequence[Path]) -> tuple[Path, Callable[[CifarSpec, Path], Dataset]] | None:
    """The first folder with a complete set of files, with the function that reads its layout; None where no such file exists.

    Raises:
        DataError: only incomplete sets were found.
    """
    partial: tuple[Path, list[str]] | None = None
    layouts = (
        (spec.binary_folder, (*spec.binary_train, spec.binary_test), read_binary),
        (spec.python_folder, (*spec.python_train, spec.python_test), read_python),
    )
    for base in bases:
        for folder_name, files, read in layouts:
            for folder in (base / folder_name, base):
                missing = [name for name, _ in files if not (folder / name).is_file()]
                if not missing:
                    return folder, read
                if len(missing) < len(files) and partial is None:
                    partial = folder, missing
    if partial is not None:
        folder, missing = partial
        lacks = ", ".join(missing)
        raise DataError(f"{spec.title} in {folder} is incomplete: {lacks} missing. Add the files, or remove the folder to fetch it anew.")
    return None


def fetch_cifar(spec: CifarSpec, base: Path) -> None:
    """Fetch the official archive into ``base``, check it, unpack it, and remove it.

    Raises:
        DataError: no network, or what came is not the official archive; the message names the two ways out.
    """
    archive = base / spec.url.rsplit("/", 1)[1]
    try:
        fetch(spec.url, archive, spec.md5)
        unpack(archive, base, spec.binary_folder)
    except DataError as error:
        raise DataError(f"{spec.title}: {error} {ways_out(spec, base)}") from None
    archive.unlink(missing_ok=True)


def ways_out(spec: CifarSpec, base: Path) -> str:
    """What a person can do who has no network, whatever command was typed: only some of them take another data set."""
    return (
        f"Two ways out: fetch {spec.url} by hand and unpack it so that {base / spec.binary_folder} exists "
        f"(or name the folder that has it with --data-dir), or take digits, which needs no download (`nas search --data digits`)."
    )


# ---------------------------------------------------------------------------------------------------- binary layout


def read_binary(spec: CifarSpec, folder: Path) -> Dataset:
    """Read the binary layout: records of the label bytes and 3 × 32 × 32 pixel bytes (CIFAR-100: coarse label, fine label).

    Raises:
        DataError: a file has the wrong size or a label out of range.
    """
    parts = [_read_binary_file(spec, folder / name, records) for name, records in spec.binary_train]
    test = _read_binary_file(spec, folder / spec.binary_test[0], spec.binary_test[1])
    return _dataset(spec, parts, test, _names_from_text(spec, folder / spec.names_file))


def _read_binary_file(spec: CifarSpec, path: Path, records: int) -> tuple[Images, Labels]:
    length = spec.label_bytes + PIXELS
    try:
        size = path.stat().st_size
        if size != records * length:
            raise DataError(f"{path}: must have {records * length:,} bytes ({records:,} records of {length:,}), but it has {size:,}")
        raw = np.fromfile(path, dtype=np.uint8).reshape(records, length)
    except OSError as problem:
        raise DataError(f"{path}: cannot be read: {problem.strerror or problem}") from None
    return _channels_last(raw[:, spec.label_bytes :]), _labels(spec, raw[:, spec.label_bytes - 1], path)


def _names_from_text(spec: CifarSpec, path: Path) -> tuple[str, ...]:
    """The class names in the archive's text file; the built-in ones where it is missing or does not fit."""
    try:
        names = tuple(path.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError):
        return spec.class_names
    return names if len(names) == len(spec.class_names) else spec.class_names


# ---------------------------------------------------------------------------------------------------- Python layout


def read_python(spec: CifarSpec, folder: Path) -> Dataset:
    """Read the Python layout, whose files are pickles, without executing anything they ask for.

    Raises:
        DataError: a file is not a plain pickle of the expected arrays, or its contents do not fit.
    """
    parts = [_read_python_file(spec, folder / name, records) for name, records in spec.python_train]
    test = _read_python_file(spec, folder / spec.python_test[0], spec.python_test[1])
    return _dataset(spec, parts, test, spec.class_names)


def _read_python_file(spec: CifarSpec, path: Path, records: int) -> tuple[Images, Labels]:
    content = load_plain_pickle(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: must hold a dictionary, but it holds a {type(content).__name__}")
    entries = {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in content.items()}
    array, labels = entries.get("data"), entries.get(spec.python_labels)
    if not isinstance(array, Array) or array.shape != (records, PIXELS) or array.code not in ("u1", "|u1"):
        raise DataError(f"{path}: 'data' must be a uint8 array of {records:,} × {PIXELS:,}")
    if len(array.raw) != records * PIXELS:
        raise DataError(f"{path}: 'data' must have {records * PIXELS:,} bytes, but it has {len(array.raw):,}")
    if not isinstance(labels, list) or len(labels) != records or not all(isinstance(label, int) for label in labels):
        raise DataError(f"{path}: {spec.python_labels!r} must be a list of {records:,} integers")
    pixels = np.frombuffer(array.raw, dtype=np.uint8).reshape((records, PIXELS), order="F" if array.fortran else "C")
    if min(labels) < 0 or max(labels) > 255:
        raise DataError(f"{path}: labels must be 0..{len(spec.class_names) - 1}, but got {min(labels)}..{max(labels)}")
    return _channels_last(pixels), _labels(spec, np.asarray(labels, dtype=np.uint8), path)


# ---------------------------------------------------------------------------------------------------- shared


def _channels_last(pixels: Images) -> Images:
    """(number, 3 × 32 × 32) plane by plane to (number, 32, 32, 3)."""
    return np.ascontiguousarray(pixels.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))


def _labels(spec: CifarSpec, raw: Images, path: Path) -> Labels:
    if raw.max() >= len(spec.class_names):
        raise DataError(f"{path}: labels must be 0..{len(spec.class_names) - 1}, but got {raw.max()}")
    return raw.astype(np.int64)


def _dataset(spec: CifarSpec, parts: list[tuple[Images, Labels]], test: tuple[Images, Labels], names: tuple[str, ...]) -> Dataset:
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return from_arrays(spec.name, ArrayPart(images, labels), ArrayPart(*test), names)


def _listed(paths: Sequence[Path]) -> str:
    return ", ".join(str(path) for path in paths)
