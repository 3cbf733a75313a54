"""A checked folder of images: every file decoded once, listed with a digest of its bytes, and found unchanged ever after. No torch."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import UnidentifiedImageError

from nas.data.dataset import Dataset, ImageFiles
from nas.data.folder import FolderFiles, check_classes, find_files
from nas.data.pixels import GREY_MODES, READING_ERRORS, decode, digest_of, to_rgb
from nas.data.settings import DataSettings
from nas.data.split import split
from nas.errors import DataError
from nas.tools.files import write_atomically

SCHEMA = "nas.images/2"
FIRST_SCHEMA = "nas.images/1"
"""Listed names and labels only, already split; read so that trainings begun then go on."""
SKIPPED_NAMED = 5

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class CheckedFile:
    """What is known of one file. ``side`` is the shorter one in pixels; ``problem`` says why it cannot be read as an image."""

    digest: str
    size: int
    changed_ns: int
    side: int = 0
    mode: str = ""
    problem: str = ""


def load_folder(root: str, index_file: Path | None = None, progress: Progress | None = None, *, scoring: bool = False) -> Dataset:
    """The readable images below ``root``, in the layouts of ``nas.data.folder``.

    Where ``index_file`` exists, the folder (which may have moved) must hold the images that it lists; files whose size and time
    are as they were are not read again. Else every file is decoded once, and the list is written there.

    ``scoring`` says that nothing is trained on them: see ``find_files``.

    Raises:
        DataError: the folder cannot be used, a class has no readable training image, or the images are not those of the list.
    """
    found = find_files(root, scoring=scoring)
    before = _read(index_file) if index_file is not None and index_file.is_file() else None
    files = _check_all(found, _known(before), progress)
    dataset = _dataset(found, files)
    if before is not None:
        _check_same(before, dataset, index_file)
        if before["schema"] == FIRST_SCHEMA:
            _check_same_test(before, dataset)
    if index_file is not None and (before is None or before["schema"] != SCHEMA or before["root"] != root):
        index_file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(index_file, json.dumps(_document(root, dataset, files)))
    return dataset


def listed_digests(index_file: Path) -> tuple[frozenset[str], frozenset[str]]:
    """Digests of all images that a training listed, and of those in its test part. Raises DataError where the list is damaged."""
    before = _read(index_file)
    digests = {name: checked.digest for name, checked in before["files"].items() if not checked.problem}
    names = before["test"]
    if not names:
        labels = np.asarray(list(before["train"].values()), dtype=np.int64)
        files = ImageFiles(Path(before["root"]), tuple(before["train"]), labels, tuple(digests.get(name, "") for name in before["train"]))
        test = split(Dataset("", files, None, tuple(before["classes"]), side=1, channels=3), DataSettings()).test
        assert isinstance(test, ImageFiles)
        names = test.names
    return frozenset(digests.values()), frozenset(digests[name] for name in names if name in digests)


def fingerprint(digests: Iterable[str]) -> str:
    """64 bits that tell whether two folders hold the same images, whatever their names and order; nothing where there are none."""
    known = sorted(set(digests))
    return digest_of("\n".join(known).encode()) if known else ""


def _check_all(found: FolderFiles, known: Mapping[str, CheckedFile], progress: Progress | None) -> dict[str, CheckedFile]:
    """Every file by its name relative to the folder. Threads decode: Pillow lets go of the GIL."""
    paths = [path for path, _ in (*found.train, *found.test)]
    files: dict[str, CheckedFile] = {}
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        names = [path.relative_to(found.base).as_posix() for path in paths]
        checks = pool.map(_check, paths, (known.get(name) for name in names))
        for name, checked in zip(names, checks, strict=True):
            files[name] = checked
            if progress is not None and len(files) % 500 == 0:
                progress(len(files), len(paths))
    return files


def _check(path: Path, known: CheckedFile | None) -> CheckedFile:
    try:
        status = path.stat()
        if known is not None and (known.size, known.changed_ns) == (status.st_size, status.st_mtime_ns):
            return known
        content = path.read_bytes()
    except OSError as problem:
        return CheckedFile("", 0, 0, problem=problem.strerror or type(problem).__name__)
    digest = digest_of(content)
    try:
        image = decode(content)
        to_rgb(image)
    except READING_ERRORS as problem:
        return CheckedFile(digest, status.st_size, status.st_mtime_ns, problem=reason(problem))
    return CheckedFile(digest, status.st_size, status.st_mtime_ns, min(image.size), image.mode)


def reason(problem: Exception) -> str:
    """Why a file is no image, in a few words that are the same every time."""
    if isinstance(problem, OSError) and problem.strerror:
        return problem.strerror
    if isinstance(problem, UnidentifiedImageError):  # its text names the buffer in memory by its address
        return "no known image format"
    return str(problem).splitlines()[0] if str(problem) else type(problem).__name__


def _dataset(found: FolderFiles, files: Mapping[str, CheckedFile]) -> Dataset:
    def part(listed: list[tuple[Path, int]]) -> ImageFiles:
        named = [(path.relative_to(found.base).as_posix(), label) for path, label in listed]
        good = [(name, label) for name, label in named if not files[name].problem]
        labels = np.asarray([label for _, label in good], dtype=np.int64)
        return ImageFiles(found.base, tuple(name for name, _ in good), labels, tuple(files[name].digest for name, _ in good))

    train, test = part(found.train), part(found.test) if found.test else None
    check_classes(train.labels, found.class_names, found.source)
    if test is not None and not len(test):
        raise DataError(f"the test images beside {found.source} must hold at least one readable image, but none is left")
    readable = [checked for checked in files.values() if not checked.problem]
    grey = all(checked.mode in GREY_MODES for checked in readable)
    return Dataset(
        name=found.name,
        train=train,
        test=test,
        class_names=found.class_names,
        side=int(np.median([checked.side for checked in readable])),
        channels=1 if grey else 3,
        mirrors=None,
        notes=tuple(_notes(files, grey)),
    )


def _notes(files: Mapping[str, CheckedFile], grey: bool) -> list[str]:
    """What a person should know before training: what was skipped and converted."""
    lines = []
    skipped = [f"{name} ({checked.problem})" for name, checked in files.items() if checked.problem]
    if skipped:
        more = f" and {len(skipped) - SKIPPED_NAMED} more" if len(skipped) > SKIPPED_NAMED else ""
        lines.append(f"{len(skipped)} files cannot be read as images and are skipped: {', '.join(skipped[:SKIPPED_NAMED])}{more}")
    unusual = _unusual(Counter(checked.mode for checked in files.values() if not checked.problem), grey)
    if unusual:
        lines.append("converted while reading: " + ", ".join(f"{count} {kind}" for kind, count in sorted(unusual.items())))
    return lines


def _unusual(modes: Counter[str], all_grey: bool) -> Counter[str]:
    names = {"CMYK": "CMYK", "P": "palette", "RGBA": "transparent", "LA": "transparent", "YCbCr": "YCbCr", "LAB": "LAB"}
    unusual: Counter[str] = Counter()
    for mode, count in modes.items():
        if mode in names:
            unusual[names[mode]] += count
        elif mode.startswith("I") or mode == "F":
            unusual["16-bit"] += count
        elif mode in GREY_MODES and not all_grey:
            unusual["greyscale"] += count
    return unusual


# ---------------------------------------------------------------------------------------------------- the list as a file


def _document(root: str, dataset: Dataset, files: Mapping[str, CheckedFile]) -> dict[str, Any]:
    def listed(part: ImageFiles) -> list[list[object]]:
        return [[name, label] for name, label in zip(part.names, part.labels.tolist(), strict=True)]

    assert isinstance(dataset.train, ImageFiles)
    return {
        "schema": SCHEMA,
        "root": root,
        "classes": list(dataset.class_names),
        "train": listed(dataset.train),
        "test": listed(dataset.test) if isinstance(dataset.test, ImageFiles) else None,
        "files": {name: list(asdict(checked).values()) for name, checked in files.items()},
    }


def _read(path: Path) -> dict[str, Any]:
    """The list in a file, checked. Raises DataError."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema"] not in (SCHEMA, FIRST_SCHEMA):
            raise ValueError(f"its schema is {document['schema']!r}")
        classes = [str(name) for name in document["classes"]]
        for part in (document["train"], document["test"] or []):
            for name, label in part:
                if type(label) is not int or not 0 <= label < len(classes):
                    raise ValueError("a label is out of range")
                if Path(name).is_absolute() or ".." in Path(name).parts:
                    raise ValueError("a file lies outside the folder")
        files = {str(name): CheckedFile(*values) for name, values in document.get("files", {}).items()}
        root = str(document["root"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise DataError(
            f"{path}: must be the list of a folder's images that a training wrote, but {problem or type(problem).__name__}"
        ) from None
    return {"schema": document["schema"], "root": root, "classes": classes, "files": files, **_names(document)}


def _names(document: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    return {part: {str(name): label for name, label in document[part] or []} for part in ("train", "test")}


def _known(before: Mapping[str, Any] | None) -> Mapping[str, CheckedFile]:
    return before["files"] if before is not None else {}


def _check_same_test(before: Mapping[str, Any], now: Dataset) -> None:
    """Raise DataError where a training of version 0.1 drew its test part with another seed: others trained on those images."""
    test = split(now, DataSettings()).test
    assert isinstance(test, ImageFiles)
    if set(test.names) != set(before["test"]):
        raise DataError(
            f"{test.root}: this training was begun by version 0.1, which drew the test part with data.split_seed; it is the same in all "
            "commands now, so that no test image is ever trained on: begin the training again"
        )


def _check_same(before: Mapping[str, Any], now: Dataset, index_file: Path | None) -> None:
    """Raise DataError where the folder holds other images than those listed."""
    assert isinstance(now.train, ImageFiles)
    parts = [now.train, now.test] if isinstance(now.test, ImageFiles) else [now.train]
    found = {name: digest for part in parts for name, digest in zip(part.names, part.digests, strict=True)}
    listed = {*before["train"], *before["test"]}
    gone, new = sorted(listed - found.keys()), sorted(found.keys() - listed)
    other = sorted(name for name in listed & found.keys() if name in before["files"] and before["files"][name].digest != found[name])
    if not (gone or new or other) and before["classes"] == list(now.class_names):
        return
    what = [f"{len(names)} {word} ({names[0]})" for names, word in ((gone, "missing"), (new, "new"), (other, "changed")) if names]
    raise DataError(
        f"{now.train.root}: a training must go on with the images it began with (listed in {index_file}), but there are "
        f"{', '.join(what) or 'other classes'}; put them back, name where they are now with --data, or begin another training"
    )
