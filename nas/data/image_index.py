"""Checked images of a folder or file: each decoded once, listed with a digest of its bytes, and found unchanged ever after. No torch."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from nas.data import kept
from nas.data.dataset import Dataset, ImageFiles, Labels
from nas.data.layouts import WHERE_NOW, find_images
from nas.data.listing import Listing, Member
from nas.data.names import PARTS, SUFFIXES, Role, class_name, printable, some
from nas.data.pixels import GREY_MODES, ImageError, decode, digest_of, to_rgb
from nas.data.settings import DataSettings
from nas.data.split import split
from nas.errors import DataError
from nas.tools.files import write_atomically
from nas.tools.words import counted

SCHEMA = "nas.images/3"
SECOND_SCHEMA = "nas.images/2"
"""Had no validation part of the data set's own: what began then goes on without."""
FIRST_SCHEMA = "nas.images/1"
"""Listed names and labels only, already split; read so that trainings begun then go on."""
AT_ONCE = 50
"""Images that a thread takes from the queue: one by one, the queue costs more than looking whether a file is as it was."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class CheckedFile:
    """What is known of one file. Sides are in pixels, ``side`` is the shorter one; ``problem`` says why it cannot be read as an image."""

    digest: str
    size: int
    changed_ns: int
    side: int = 0
    mode: str = ""
    problem: str = ""
    long_side: int = 0  # lists of before have none


def load_folder(root: str, index_file: Path | None = None, progress: Progress | None = None, *, scoring: bool = False) -> Dataset:
    """The readable images at ``root``, a folder or file in one of the layouts of ``nas.data.listing``.

    Where ``index_file`` exists, the place (which may have moved) must hold the images that it lists; files whose size and time
    are as they were are not read again. Else every image is decoded once, and the list is written there.

    ``scoring`` says that nothing is trained on them: see ``find_images``.

    Raises:
        DataError: the folder cannot be used, a class has no readable training image, or the images are not those of the list.
    """
    found = find_images(root, scoring=scoring)
    before = _read(index_file) if index_file is not None and index_file.is_file() else None
    schema = SCHEMA
    if before is not None and before["schema"] != SCHEMA and "validation" in found.parts:
        schema, found = SECOND_SCHEMA, _without_validation(found)
    known = _known(before)
    files = _check_all(found, known or _kept(found.root), progress)
    if files != known:
        kept.keep_files(found.root, {name: list(astuple(checked)) for name, checked in files.items()})
    dataset = _dataset(found, files)
    if before is not None:
        _check_same(before, dataset, index_file)
        if before["schema"] == FIRST_SCHEMA:
            _check_same_test(before, dataset)
    if index_file is not None and (before is None or (before["schema"], before["root"], before["files"]) != (schema, root, files)):
        index_file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(index_file, json.dumps(_document(schema, root, dataset, files)))
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


def _without_validation(found: Listing) -> Listing:
    name = found.part_names["validation"]
    parts: dict[Role, list[Member]] = {role: members for role, members in found.parts.items() if role != "validation"}
    return replace(found, parts=parts, notes=(*found.notes, f"{name} is not used: this was begun before it would have been"))


def _kept(root: Path) -> dict[str, CheckedFile]:
    """What an earlier start found of the files; nothing where another version wrote it."""
    try:
        return {name: CheckedFile(*values) for name, values in kept.known_files(root).items()}
    except TypeError:
        return {}


def _check_all(found: Listing, known: Mapping[str, CheckedFile], progress: Progress | None) -> dict[str, CheckedFile]:
    """Every image by its name. Threads decode: Pillow lets go of the GIL."""
    names = list(dict.fromkeys(name for members in found.parts.values() for name, _ in members))
    files: dict[str, CheckedFile] = {}
    chunks = [names[start : start + AT_ONCE] for start in range(0, len(names), AT_ONCE)]
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        checks = pool.map(lambda chunk: [_check(found, name, known.get(name)) for name in chunk], chunks)
        for name, checked in zip(names, chain.from_iterable(checks), strict=True):
            files[name] = checked
            if progress is not None and len(files) % 500 == 0:
                progress(len(files), len(names))
    return files


def _check(found: Listing, name: str, known: CheckedFile | None) -> CheckedFile:
    try:
        size, changed_ns = found.store.stamp(found.root, name)
        if known is not None and (known.size, known.changed_ns) == (size, changed_ns):
            return known
        content = found.store.read(found.root, name)
    except OSError as problem:
        return CheckedFile("", 0, 0, problem=problem.strerror or str(problem) or type(problem).__name__)
    digest = digest_of(content)
    try:
        image = decode(content)
        to_rgb(image)
    except ImageError as problem:
        return CheckedFile(digest, size, changed_ns, problem=str(problem))
    return CheckedFile(digest, size, changed_ns, min(image.size), image.mode, long_side=max(image.size))


def _dataset(found: Listing, files: Mapping[str, CheckedFile]) -> Dataset:
    parts = {role: _part(found, role, files) for role in found.parts}
    notes = [*found.notes]
    check_classes(parts["train"].labels, found.class_names, found.root)
    if "test" in parts and not len(parts["test"]):
        raise DataError(f"the test images of {printable(found.root)} must hold at least one readable image, but none is left")
    if "validation" in parts and not len(parts["validation"]):
        del parts["validation"]
        notes.append(f"{found.part_names['validation']} is not used: none of its images can be read")
    readable = [checked for checked in files.values() if not checked.problem]
    grey = all(checked.mode in GREY_MODES for checked in readable)
    return Dataset(
        name=found.name,
        train=parts["train"],
        test=parts.get("test"),
        class_names=found.class_names,
        side=int(np.median([checked.side for checked in readable])),
        channels=1 if grey else 3,
        mirrors=None,
        notes=(*notes, *_class_notes(found, parts), *_notes(files, grey)),
        validation=parts.get("validation"),
        layout=found.layout,
    )


def _part(found: Listing, role: Role, files: Mapping[str, CheckedFile]) -> ImageFiles:
    good = [(name, label) for name, label in found.parts[role] if not files[name].problem]
    labels = np.asarray([label for _, label in good], dtype=np.int64)
    return ImageFiles(found.root, tuple(name for name, _ in good), labels, tuple(files[name].digest for name, _ in good), found.store)


def check_classes(labels: Labels, names: tuple[str, ...], place: Path) -> None:
    """Raise DataError unless every class has an image among these labels."""
    if not len(labels):
        raise DataError(f"{printable(place)} must hold images ({', '.join(sorted(SUFFIXES))}), but no readable one is left")
    empty = sorted(set(range(len(names))) - set(labels.tolist()))
    if empty:
        raise DataError(f"{printable(place)}: every class must have a readable image, but {names[empty[0]]!r} has none")


def _class_notes(found: Listing, parts: Mapping[Role, ImageFiles]) -> list[str]:
    """Classes of which there is too little to learn or to judge by."""
    lines = []
    counts = {role: np.bincount(part.labels, minlength=len(found.class_names)) for role, part in parts.items()}
    if single := [found.class_names[i] for i in np.flatnonzero(counts["train"] == 1)]:
        lines.append(f"classes with one training image only, which can be learned or judged by but not both: {some(single)}")
    for role, count in counts.items():
        lacking = [found.class_names[i] for i in np.flatnonzero(count == 0)]
        which = counted(len(lacking), "class, and says nothing of it", "classes, and says nothing of them")
        lines += [f"{found.part_names[role]} has no image of {which}: {some(lacking)}"] if lacking else []
    return lines


def _notes(files: Mapping[str, CheckedFile], grey: bool) -> list[str]:
    """What a person should know before training: what was skipped and converted."""
    lines = []
    skipped = [f"{name} ({checked.problem})" for name, checked in files.items() if checked.problem]
    if skipped:
        one, several = "file cannot be read as an image and is skipped", "files cannot be read as images and are skipped"
        lines.append(f"{counted(len(skipped), one, several)}: {some(skipped)}")
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


def _document(schema: str, root: str, dataset: Dataset, files: Mapping[str, CheckedFile]) -> dict[str, Any]:
    parts: dict[str, list[list[object]] | None] = {
        role: [[name, label] for name, label in zip(part.names, part.labels.tolist(), strict=True)] if part is not None else None
        for role, part in _parts_of(dataset).items()
    }
    return {
        "schema": schema,
        "root": root,
        "classes": list(dataset.class_names),
        **parts,
        "files": {name: astuple(checked) for name, checked in files.items()},
    }


def _parts_of(dataset: Dataset) -> dict[Role, ImageFiles | None]:
    parts = {role: getattr(dataset, role) for role in PARTS}
    assert all(part is None or isinstance(part, ImageFiles) for part in parts.values())
    return parts


def _read(path: Path) -> dict[str, Any]:
    """The list in a file, checked. Raises DataError."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema"] not in (SCHEMA, SECOND_SCHEMA, FIRST_SCHEMA):
            raise ValueError(f"its schema is {document['schema']!r}")
        classes = [str(name) for name in document["classes"]]
        for part in (document["train"], document["test"] or [], document.get("validation") or []):
            for name, label in part:
                if type(label) is not int or not 0 <= label < len(classes):
                    raise ValueError("a label is out of range")
                if os.path.isabs(name) or (".." in name and ".." in Path(name).parts):  # noqa: PTH117 - for every file of large sets
                    raise ValueError("a file lies outside the folder")
        files = {str(name): CheckedFile(*values) for name, values in document.get("files", {}).items()}
        root = str(document["root"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise DataError(
            f"{path}: must be the list of a folder's images that a search or a training wrote, but {problem or type(problem).__name__}"
        ) from None
    return {"schema": document["schema"], "root": root, "classes": classes, "files": files, **_names(document)}


def listed_files(path: Path) -> dict[str, CheckedFile]:
    """What a list knows of every file, the unreadable ones too, by its name. Raises DataError."""
    files: dict[str, CheckedFile] = _read(path)["files"]
    return files


def _names(document: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    return {part: {str(name): label for name, label in document.get(part) or []} for part in PARTS}


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
    """Raise DataError where there are other images than those listed, or the same ones in other classes or parts."""
    parts = {role: part for role, part in _parts_of(now).items() if part is not None}
    found = {name: digest for part in parts.values() for name, digest in zip(part.names, part.digests, strict=True)}
    listed = {name for part in PARTS for name in before[part]}
    gone, new = sorted(listed - found.keys()), sorted(found.keys() - listed)
    other = sorted(name for name in listed & found.keys() if name in before["files"] and before["files"][name].digest != found[name])
    moved = [] if gone or new or before["schema"] == FIRST_SCHEMA else _moved(before, parts)
    if not (gone or new or other or moved) and [class_name(name) for name in before["classes"]] == list(now.class_names):
        return
    words = ((gone, "missing"), (new, "new"), (other, "changed"), (moved, "of another class or part"))
    what = [f"{len(names)} {word} ({printable(names[0])})" for names, word in words if names]
    raise DataError(
        f"{printable(parts['train'].root)}: a search or a training must go on with the images it began with (listed in {index_file}), "
        f"but there are {', '.join(what) or 'other classes'}; put them back, "
        f"name where they are now ({WHERE_NOW}), or begin anew"
    )


def _moved(before: Mapping[str, Any], parts: Mapping[Role, ImageFiles]) -> list[str]:
    """Images listed with another label or in another part than now."""
    now = {(role, name): label for role, part in parts.items() for name, label in zip(part.names, part.labels.tolist(), strict=True)}
    then = {(role, name): label for role in PARTS for name, label in before[role].items()}
    return sorted({name for (_, name), _ in now.items() ^ then.items()})
