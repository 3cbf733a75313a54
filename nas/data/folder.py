"""A folder of images as a data set: one sub-folder for every class, optionally under train/ and test/. No torch."""

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from nas.data.dataset import Dataset, Images, Labels, stratified_choice
from nas.errors import DataError

logger = logging.getLogger(__name__)

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
TRAIN_NAMES = ("train",)
TEST_NAMES = ("test", "val", "validation")
TEST_SHARE = 0.2
SPLIT_SEED = 0
NAMED_IN_LOG = 10


def load_folder(root: str, image_size: int) -> Dataset:
    """Read every image below ``root`` as ``image_size`` × ``image_size`` RGB.

    ``root/train/CLASS/*`` and ``root/test/CLASS/*`` (or val/, validation/); or ``root/CLASS/*``, of which a fifth, drawn
    stratified with seed 0, becomes the test part. The shorter side is scaled to ``image_size``, then the middle is cut out.
    Greyscale, palette, CMYK and 16-bit images are converted; transparency is laid on white. Files that cannot be read as
    images are named in the log and in ``Dataset.skipped``.

    Raises:
        DataError: there is no such folder, a class of the test part is unknown, fewer than two classes or no image is left,
            or the images would not fit in memory.
    """
    files = find_files(root)
    names, source = files.class_names, files.source
    _check_memory(len(files.train) + len(files.test), image_size)
    train_images, train_labels, skipped = _read_all(files.train, image_size)
    check_classes(train_labels, names, source)
    if not files.test:
        return _with_own_split(files.name, train_images, train_labels, names, skipped)
    test_images, test_labels, test_skipped = _read_all(files.test, image_size)
    if not len(test_labels):
        raise DataError(f"the test images beside {source} must hold at least one readable image, but none is left")
    return Dataset(files.name, train_images, train_labels, test_images, test_labels, names, skipped=skipped + test_skipped)


@dataclass(frozen=True)
class FolderFiles:
    """The image files below a folder, each with its label, in a fixed order; ``test`` is empty where the folder brings no split."""

    name: str
    source: Path
    class_names: tuple[str, ...]
    train: list[tuple[Path, int]]
    test: list[tuple[Path, int]]


def find_files(root: str) -> FolderFiles:
    """List the images below ``root`` in the layouts of ``load_folder``, without opening any.

    Raises:
        DataError: there is no such folder, fewer than two classes, a class of the test part is unknown, or the test part has no
            images in class folders.
    """
    base = Path(root).expanduser()
    if not base.is_dir():
        raise DataError(f"the image folder must exist, but {base} does not; name one with --set data.root=FOLDER")
    train_folder = _first_folder(base, TRAIN_NAMES)
    test_folder = _first_folder(base, TEST_NAMES)
    if train_folder is None and test_folder is not None:
        raise DataError(f"{base} has {test_folder.name}/ but no train/ folder beside it")
    source = train_folder or base
    names = _class_names(source)
    train = _files(source, names)
    test = _files(test_folder, names) if test_folder else []
    if test_folder is not None and not test:
        raise DataError(f"{test_folder} must hold its images in one sub-folder for each class, like {source}, but none is left")
    return FolderFiles(base.name, source, names, train, test)


def _first_folder(base: Path, names: tuple[str, ...]) -> Path | None:
    return next((base / name for name in names if (base / name).is_dir()), None)


def _class_names(source: Path) -> tuple[str, ...]:
    names = tuple(sorted(entry.name for entry in source.iterdir() if entry.is_dir() and not entry.name.startswith(".")))
    if len(names) < 2:
        raise DataError(f"{source} must have one sub-folder of images for each of at least 2 classes, but it has {len(names)}")
    return names


def _files(source: Path, names: tuple[str, ...]) -> list[tuple[Path, int]]:
    """Every image file with its label, in a fixed order."""
    for entry in sorted(source.iterdir()):
        if entry.is_dir() and not entry.name.startswith(".") and entry.name not in names:
            raise DataError(f"{source}: class folder {entry.name!r} has no counterpart among the training classes: {', '.join(names[:20])}")
    found = []
    for label, name in enumerate(names):
        folder = source / name
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()) if folder.is_dir() else []
        found += [(path, label) for path in paths]
    return found


def _check_memory(count: int, image_size: int) -> None:
    if not hasattr(os, "sysconf"):
        return  # Windows does not tell
    need = count * image_size * image_size * 3
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if need > have / 2:
        raise DataError(
            f"the images must fit in half of the memory ({have / 2e9:.1f} GB), "
            f"but {count:,} at {image_size} pixels need {need / 1e9:.1f} GB; choose a smaller --set data.image_size"
        )


def check_classes(labels: Labels, names: tuple[str, ...], source: Path) -> None:
    """Raise DataError unless every class has an image among these labels."""
    if not len(labels):
        raise DataError(f"{source} must hold images ({', '.join(sorted(SUFFIXES))}), but no readable one is left")
    empty = sorted(set(range(len(names))) - set(labels.tolist()))
    if empty:
        raise DataError(f"{source}: every class must have a readable image, but {names[empty[0]]!r} has none")


def _with_own_split(name: str, images: Images, labels: Labels, names: tuple[str, ...], skipped: tuple[str, ...]) -> Dataset:
    count = int(len(labels) * TEST_SHARE)
    if count < 1:
        raise DataError(f"a folder without test/ must hold at least {int(1 / TEST_SHARE)} images to split, but it has {len(labels)}")
    test = stratified_choice(labels, count, np.random.default_rng(SPLIT_SEED))
    train = np.setdiff1d(np.arange(len(labels)), test)
    return Dataset(name, images[train], labels[train], images[test], labels[test], names, skipped=skipped)


def _read_all(files: list[tuple[Path, int]], image_size: int) -> tuple[Images, Labels, tuple[str, ...]]:
    """All readable images with their labels, and the names of the others. Threads decode: Pillow lets go of the GIL."""
    images = np.empty((len(files), image_size, image_size, 3), dtype=np.uint8)
    labels: list[int] = []
    skipped: list[str] = []
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for (path, label), result in zip(files, pool.map(lambda item: _read_image(item[0], image_size), files), strict=True):
            if isinstance(result, str):
                skipped.append(f"{path}: {result}")
            else:
                images[len(labels)] = result
                labels.append(label)
    for name in skipped[:NAMED_IN_LOG]:
        logger.warning("skipped, not a readable image: %s", name)
    if len(skipped) > NAMED_IN_LOG:
        logger.warning("skipped %d more files that are not readable images", len(skipped) - NAMED_IN_LOG)
    return images[: len(labels)], np.asarray(labels, dtype=np.int64), tuple(skipped)


def _read_image(path: Path, image_size: int) -> Images | str:
    """The image as (size, size, 3), or why it cannot be read."""
    try:
        with Image.open(path) as opened:
            upright = ImageOps.exif_transpose(opened)
            fitted = ImageOps.fit(to_rgb(upright), (image_size, image_size), method=Image.Resampling.BICUBIC)
            return np.asarray(fitted)
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as problem:  # what Pillow's decoders raise
        return str(problem).splitlines()[0] if str(problem) else type(problem).__name__


def to_rgb(image: Image.Image) -> Image.Image:
    """Any of Pillow's modes as RGB: 16-bit values scaled, transparency laid on white."""
    if image.mode.startswith("I"):  # 16 bits a pixel: Pillow's own conversion would clip at 255
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", coloured.size, "white"), coloured).convert("RGB")
    return image.convert("RGB")
