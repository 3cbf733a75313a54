"""Folders of images too many or too large to hold in memory: every file checked once, before training, and listed. No torch."""

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from nas.data.dataset import Images, Labels, stratified_choice
from nas.data.folder import TEST_SHARE, check_classes, find_files, to_rgb
from nas.errors import DataError

SCHEMA = "nas.images/1"
MEASURED_IMAGES = 1000
"""Images on which mean and deviation of a folder are measured: the mean's standard error is then below 0.01."""
SKIPPED_NAMED = 1000
"""Unreadable files that the index names; the others are counted only."""
READING_ERRORS = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)
"""What Pillow's decoders raise."""
_GREY_MODES = frozenset({"1", "L", "LA", "I", "I;16", "I;16B", "F"})


@dataclass(frozen=True)
class ImageFiles:
    """Files of one part of a data set, with their labels: all were readable when they were checked."""

    root: Path
    names: tuple[str, ...]
    labels: Labels

    def __len__(self) -> int:
        return len(self.names)

    def take(self, indices: Sequence[int] | np.ndarray[Any, np.dtype[np.int64]]) -> "ImageFiles":
        """Some of the files."""
        return ImageFiles(self.root, tuple(self.names[i] for i in indices), self.labels[np.asarray(indices, dtype=np.int64)])

    def open(self, index: int) -> Image.Image:
        """The decoded image, upright. Raises one of ``READING_ERRORS`` where the file has changed since it was checked."""
        return read_image(self.root / self.names[index])


@dataclass(frozen=True)
class ImageIndex:
    """A checked image folder: the readable files of its training and test part, and what was found on the way.

    ``side`` is the median of the shorter sides in pixels; ``channels`` is 1 where every file is greyscale, else 3; ``unusual``
    counts the files that are converted while they are read (greyscale among colours, CMYK, palette, transparency, 16 bit).
    """

    name: str
    class_names: tuple[str, ...]
    train: ImageFiles
    test: ImageFiles
    side: int
    channels: int
    skipped: tuple[str, ...]
    skipped_count: int
    unusual: dict[str, int]
    own_test_split: bool

    def notes(self) -> list[str]:
        """What a person should know before training: what was skipped, converted and split."""
        lines = []
        if self.skipped_count:
            lines.append(f"{self.skipped_count} files cannot be read as images and are skipped, for example {self.skipped[0]}")
        if self.unusual:
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.unusual.items()))
            lines.append(f"converted while reading: {kinds}")
        if self.own_test_split:
            lines.append(
                f"no test/ or val/ folder: a fifth ({len(self.test):,} images), drawn stratified with the split's seed, is the test part"
            )
        return lines


def read_image(path: Path) -> Image.Image:
    """A decoded image, turned as its EXIF data say. Raises one of ``READING_ERRORS``."""
    with Image.open(path) as opened:
        upright = ImageOps.exif_transpose(opened)
        upright.load()
        return upright


def index_folder(root: str, split_seed: int, progress: Callable[[int, int], None] | None = None) -> ImageIndex:
    """Decode every image below ``root`` once and list the readable ones; the layouts are those of ``nas.data.folder``.

    A folder without test/ or val/ is split: a fifth, stratified, drawn with ``split_seed``, becomes the test part.

    Args:
        root: the folder.
        split_seed: of the test part, where the folder brings none.
        progress: called with (files checked, files in all) now and then.

    Raises:
        DataError: the folder cannot be used; or a class has no readable training image.
    """
    found = find_files(root)
    files = [*found.train, *found.test]
    results: list[tuple[int, str] | str] = []
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:  # Pillow lets go of the GIL while it decodes
        for result in pool.map(_check, (path for path, _ in files)):
            results.append(result)
            if progress is not None and len(results) % 500 == 0:
                progress(len(results), len(files))
    base = Path(root).expanduser().resolve()
    good = [i for i, result in enumerate(results) if not isinstance(result, str)]
    train = _part(base, files, [i for i in good if i < len(found.train)])
    test = _part(base, files, [i for i in good if i >= len(found.train)])
    check_classes(train.labels, found.class_names, found.source)
    own_split = not found.test
    if own_split:
        train, test = _split_test(train, split_seed)
    elif not len(test):
        raise DataError(f"the test images beside {found.source} must hold at least one readable image, but none is left")
    facts = [result for result in results if not isinstance(result, str)]
    skipped = [f"{files[i][0]}: {result}" for i, result in enumerate(results) if isinstance(result, str)]
    modes = Counter(mode for _, mode in facts)
    grey = sum(count for mode, count in modes.items() if mode in _GREY_MODES)
    return ImageIndex(
        name=found.name,
        class_names=found.class_names,
        train=train,
        test=test,
        side=int(np.median([side for side, _ in facts])),
        channels=1 if grey == len(facts) else 3,
        skipped=tuple(skipped[:SKIPPED_NAMED]),
        skipped_count=len(skipped),
        unusual=_unusual(modes, all_grey=grey == len(facts)),
        own_test_split=own_split,
    )


def _check(path: Path) -> tuple[int, str] | str:
    """The shorter side and the mode of a readable image, else why it cannot be read."""
    try:
        image = read_image(path)
        to_rgb(image)
        return min(image.size), image.mode
    except READING_ERRORS as problem:
        return str(problem).splitlines()[0] if str(problem) else type(problem).__name__


def _part(base: Path, files: list[tuple[Path, int]], chosen: list[int]) -> ImageFiles:
    names = tuple(str(files[i][0].expanduser().resolve().relative_to(base)) for i in chosen)
    return ImageFiles(base, names, np.asarray([files[i][1] for i in chosen], dtype=np.int64))


def _split_test(files: ImageFiles, seed: int) -> tuple[ImageFiles, ImageFiles]:
    count = int(len(files) * TEST_SHARE)
    if count < 1:
        raise DataError(f"a folder without test/ must hold at least {int(1 / TEST_SHARE)} images to split, but it has {len(files)}")
    test = stratified_choice(files.labels, count, np.random.default_rng(seed))
    return files.take(np.setdiff1d(np.arange(len(files)), test)), files.take(test)


def _unusual(modes: Counter[str], all_grey: bool) -> dict[str, int]:
    names = {"CMYK": "CMYK", "P": "palette", "RGBA": "transparent", "LA": "transparent", "YCbCr": "YCbCr", "LAB": "LAB"}
    unusual: Counter[str] = Counter()
    for mode, count in modes.items():
        if mode in names:
            unusual[names[mode]] += count
        elif mode.startswith("I") or mode == "F":
            unusual["16-bit"] += count
        elif mode in _GREY_MODES and not all_grey:
            unusual["greyscale"] += count
    return dict(unusual)


def measure(files: ImageFiles, channels: int, side: int, seed: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of every channel, of pixels scaled to [0, 1], on up to ``MEASURED_IMAGES`` files scaled to ``side`` pixels."""
    from nas.data.proxy import channel_statistics

    chosen = np.sort(np.random.default_rng([seed, 3]).permutation(len(files))[:MEASURED_IMAGES])
    return channel_statistics(np.stack([fit(files.open(int(i)), channels, side) for i in chosen]))


def fit(image: Image.Image, channels: int, side: int) -> Images:
    """(side, side, channels): the shorter side scaled, the middle cut out."""
    fitted = np.asarray(ImageOps.fit(to_channels(image, channels), (side, side), method=Image.Resampling.BICUBIC))
    return fitted.reshape(side, side, channels)


def to_channels(image: Image.Image, channels: int) -> Image.Image:
    """The image as greyscale (1 channel) or RGB (3), from any of Pillow's modes."""
    coloured = to_rgb(image)
    return coloured.convert("L") if channels == 1 else coloured


def index_document(index: ImageIndex) -> str:
    """The index as a JSON text, so that a resumed training sees the same files in the same order."""
    document = {
        "schema": SCHEMA,
        "name": index.name,
        "root": str(index.train.root),
        "classes": list(index.class_names),
        "side": index.side,
        "channels": index.channels,
        "own_test_split": index.own_test_split,
        "unusual": index.unusual,
        "skipped_count": index.skipped_count,
        "skipped": list(index.skipped),
        "train": list(zip(index.train.names, index.train.labels.tolist(), strict=True)),
        "test": list(zip(index.test.names, index.test.labels.tolist(), strict=True)),
    }
    return json.dumps(document)


def read_index(path: Path) -> ImageIndex:
    """The index in a file that ``index_document`` made.

    Raises:
        DataError: it cannot be read, or is no such file.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema"] != SCHEMA:
            raise ValueError(f"its schema is {document['schema']!r}")
        root = Path(document["root"])
        classes = tuple(str(name) for name in document["classes"])

        def part(name: str) -> ImageFiles:
            labels = np.asarray([int(label) for _, label in document[name]], dtype=np.int64)
            if len(labels) and not 0 <= labels.min() <= labels.max() < len(classes):
                raise ValueError("a label is out of range")
            names = tuple(str(file) for file, _ in document[name])
            if any(Path(file).is_absolute() or ".." in Path(file).parts for file in names):
                raise ValueError("a file lies outside the folder")
            return ImageFiles(root, names, labels)

        return ImageIndex(
            str(document["name"]), classes, part("train"), part("test"), int(document["side"]), int(document["channels"]),
            tuple(map(str, document["skipped"])), int(document["skipped_count"]),
            {str(kind): int(count) for kind, count in document["unusual"].items()}, bool(document["own_test_split"]),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise DataError(
            f"{path}: must be the list of a folder's images that a training wrote, but {problem or type(problem).__name__}"
        ) from None
