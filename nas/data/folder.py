"""A folder of images as a data set: one sub-folder for every class, optionally under train/ and test/. No torch."""

from dataclasses import dataclass
from pathlib import Path

from nas.data.dataset import Labels
from nas.errors import DataError

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
TRAIN_NAMES = ("train",)
TEST_NAMES = ("test", "val", "validation")


@dataclass(frozen=True)
class FolderFiles:
    """The image files below a folder, each with its label, in a fixed order; ``test`` is empty where the folder brings no split."""

    base: Path
    source: Path
    class_names: tuple[str, ...]
    train: list[tuple[Path, int]]
    test: list[tuple[Path, int]]

    @property
    def name(self) -> str:
        """The folder's own."""
        return self.base.resolve().name


def find_files(root: str, *, scoring: bool = False) -> FolderFiles:
    """List the images below ``root`` without opening any; where they are only scored, one class or a test part alone will do.

    ``root/train/CLASS/*`` and ``root/test/CLASS/*`` (or val/, validation/); or ``root/CLASS/*`` alone.

    Raises:
        DataError: there is no such folder, fewer than two classes, a class of the test part is unknown, or the test part has no
            images in class folders.
    """
    base = Path(root).expanduser()
    if not base.is_dir():
        raise DataError(f"the image folder must exist, but {base} does not; name one with --data FOLDER")
    train_folder = _first_folder(base, TRAIN_NAMES)
    test_folder = _first_folder(base, TEST_NAMES)
    if scoring and train_folder is None and test_folder is not None:
        base, test_folder = test_folder, None
    if train_folder is None and test_folder is not None:
        raise DataError(f"{base} has {test_folder.name}/ but no train/ folder beside it")
    source = train_folder or base
    names = _class_names(source, 1 if scoring else 2)
    train = _files(source, names)
    test = _files(test_folder, names) if test_folder else []
    if test_folder is not None and not test:
        raise DataError(f"{test_folder} must hold its images in one sub-folder for each class, like {source}, but none is left")
    return FolderFiles(base, source, names, train, test)


def _first_folder(base: Path, names: tuple[str, ...]) -> Path | None:
    return next((base / name for name in names if (base / name).is_dir()), None)


def _class_names(source: Path, least: int) -> tuple[str, ...]:
    names = tuple(sorted(entry.name for entry in source.iterdir() if entry.is_dir() and not entry.name.startswith(".")))
    if len(names) < least:
        raise DataError(f"{source} must have one sub-folder of images for each of at least {least} classes, but it has {len(names)}")
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


def check_classes(labels: Labels, names: tuple[str, ...], source: Path) -> None:
    """Raise DataError unless every class has an image among these labels."""
    if not len(labels):
        raise DataError(f"{source} must hold images ({', '.join(sorted(SUFFIXES))}), but no readable one is left")
    empty = sorted(set(range(len(names))) - set(labels.tolist()))
    if empty:
        raise DataError(f"{source}: every class must have a readable image, but {names[empty[0]]!r} has none")
