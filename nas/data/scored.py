"""Which images of a data set a trained network is scored on: none that it learned from counts as new. No torch."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nas.data.dataset import ArrayPart, Dataset, ImageFiles, Part
from nas.data.image_index import fingerprint, listed_digests, load_folder
from nas.data.names import class_name, some
from nas.data.registry import load_dataset
from nas.data.settings import DataSettings
from nas.data.split import split
from nas.errors import ConfigError, DataError
from search_spaces.plugins import guess

PARTS = ("test", "validation", "train", "all")
"""What of a data set may be scored."""
NAMED = 20
"""Classes that a message names."""
UNKNOWN = "which images these weights learned from is not kept beside them: any that are in this folder count as new ones"
MOVED = (
    "the network was trained on these very images, then in other classes, parts or copies, and which it learned from is not kept beside "
    "these weights: on new ones it may be worse"
)
UNSURE = (
    "whether the test part is the one that was held out when the network was trained is not kept beside these weights: it is if its "
    "images are, by the same names and in the same classes"
)
HELD_OUT = "the test part, which was held out when the network was trained on these images"


def check_part(part: str | None) -> None:
    """Raise ConfigError where there is no part of that name; None is for whoever asks."""
    if part is not None and part not in PARTS:
        raise ConfigError(f"--part must be one of {', '.join(PARTS)}, but got {part!r}{guess(part, PARTS)}")


@dataclass(frozen=True)
class Learned:
    """What is known of the images that a network was trained on.

    ``name`` is that of the data set; ``images`` and ``held_out`` are fingerprints of all its files and of its test part's;
    ``digests`` are those of the files it learned from or was chosen by. Empty where they are not known.
    """

    name: str = ""
    images: str = ""
    held_out: str = ""
    digests: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Chosen:
    """The images that are scored, and in words which they are and why."""

    part: Part
    name: str
    said: str
    notes: tuple[str, ...] = ()


def learned(name: str, images: str, held_out: str, index_file: Path | None) -> Learned:
    """What is known; with the list of a training's folder, its very images. Raises DataError where the list is damaged."""
    if index_file is None or not index_file.is_file():
        return Learned(name, images, held_out)
    every, test = listed_digests(index_file)
    return Learned(name, fingerprint(every) or images, fingerprint(test) or held_out, every - test)


def load_scored(settings: DataSettings, index_file: Path | None) -> Dataset:
    """The data set, for scoring: a folder may hold one class alone, or a test part alone. Raises DataError."""
    listed = index_file if index_file is not None and index_file.is_file() else None
    if settings.name == "folder" and settings.root is not None:
        return load_folder(settings.root, listed, scoring=True)
    return load_dataset(settings, listed)


def choose_scored(dataset: Dataset, settings: DataSettings, wanted: str | None, known: Learned) -> Chosen:
    """The part that is scored.

    Where nobody says: the data set's own test part; of the images that the network was trained on, those that were held out; else the
    whole folder. Nothing that the network is known to have learned from is among them.

    Args:
        dataset: what is scored.
        settings: how it is split.
        wanted: one of ``PARTS``; None where nobody says.
        known: of the network's training.

    Raises:
        UserError: there is no such part, or no image is left.
    """
    if wanted is not None:
        return _asked_for(dataset, settings, wanted, known)
    if dataset.test is not None:
        return _unseen(dataset.test, "test", "its test part", known, _unknown(dataset, dataset.test, known))
    whole = _whole(dataset)
    if known.digests and _trained_on_this(dataset, known):
        return replace(_unseen(whole, "test", "", known), said=HELD_OUT)
    test = split(dataset, settings).test if _trained_on_this(dataset, known) else None
    if test is not None and _held_out(test, known):
        return Chosen(test, "test", HELD_OUT)
    if test is not None and not known.held_out:
        return Chosen(test, "test", "the test part", (UNSURE,))
    kind = "data set" if isinstance(whole, ArrayPart) else "folder"
    return _unseen(whole, "all", f"the whole {kind}, which has no parts", known, _unknown(dataset, whole, known))


def _asked_for(dataset: Dataset, settings: DataSettings, wanted: str, known: Learned) -> Chosen:
    check_part(wanted)
    parts = None if wanted == "all" else split(dataset, settings)
    part = _whole(dataset) if parts is None else getattr(parts, wanted)
    said = "all images" if parts is None else f"the {wanted} part"
    warning = _warning(dataset, part, wanted, known)
    return Chosen(part, wanted, said, (*(parts.notes if parts is not None else ()), *warning))


def _warning(dataset: Dataset, part: Part, wanted: str, known: Learned) -> tuple[str, ...]:
    """What must be said where images are asked for that the network has met, or may have."""
    if known.digests and isinstance(part, ImageFiles):
        met = sum(digest in known.digests for digest in part.digests)
    elif wanted == "test" or not _trained_on_this(dataset, known):
        return _unknown(dataset, part, known)
    else:
        met = len(part)
    return (f"the network learned from up to {met:,} of these images or was chosen by them: on new ones it may be worse",) if met else ()


def _unknown(dataset: Dataset, part: Part, known: Learned) -> tuple[str, ...]:
    """What must be said of images that would be held out, or new, where it is not known which the network has met."""
    if known.digests or not isinstance(part, ImageFiles) or _held_out(part, known):
        return ()
    if not _trained_on_this(dataset, known):
        return (UNKNOWN,)
    return (MOVED if known.held_out else UNSURE,)


def _unseen(part: Part, name: str, said: str, known: Learned, notes: tuple[str, ...] = ()) -> Chosen:
    """The part without the images that the network has met. Raises DataError where none is left."""
    if not isinstance(part, ImageFiles) or not known.digests.intersection(part.digests):
        return Chosen(part, name, said, notes)
    kept = part.take([i for i, digest in enumerate(part.digests) if digest not in known.digests])
    if not len(kept):
        raise DataError(
            f"{part.root}: the network learned from every one of these {_count(part)} or was chosen by it, so none is left to score; "
            "`--part all` scores them all the same"
        )
    met = len(part) - len(kept)
    return Chosen(kept, name, f"{said}, but for {met:,} of {_count(part)} that the network learned from or was chosen by", notes)


def _trained_on_this(dataset: Dataset, known: Learned) -> bool:
    """Whether these are the images of the training, whatever their names, classes and parts; by name, where it kept no more."""
    whole = _whole(dataset)
    if isinstance(whole, ImageFiles) and known.images:
        return fingerprint(whole.digests) == known.images
    return not known.images and dataset.name == known.name


def _held_out(part: Part, known: Learned) -> bool:
    """Whether a test part of the training's data set is the one that the training held out; an array's has no other."""
    return not isinstance(part, ImageFiles) or (bool(known.held_out) and fingerprint(part.digests) == known.held_out)


def _whole(dataset: Dataset) -> Part:
    """All parts in one."""
    parts = [part for part in (dataset.train, dataset.validation, dataset.test) if part is not None]
    labels = np.concatenate([part.labels for part in parts])
    if arrays := [part.images for part in parts if isinstance(part, ArrayPart)]:
        return ArrayPart(np.concatenate(arrays), labels)
    files = [part for part in parts if isinstance(part, ImageFiles)]
    names = tuple(name for part in files for name in part.names)
    return replace(files[0], names=names, labels=labels, digests=tuple(digest for part in files for digest in part.digests))


def _count(part: Part) -> str:
    return f"{len(part):,} images"


# ---------------------------------------------------------------------------------------------------- classes


def in_classes_of(part: Part, own: tuple[str, ...], known: tuple[str, ...], name: str) -> tuple[Part, str]:
    """The part with the network's labels, found by the classes' names; and what there is to say of it.

    Args:
        part: its labels count ``own``.
        own: the data set's classes.
        known: the network's.
        name: the data set's.

    Raises:
        ConfigError: the network does not know a class.
    """
    if own == known:
        return part, ""
    places = {class_name(one): i for i, one in enumerate(known)}
    if unknown := [one for one in own if class_name(one) not in places]:
        raise ConfigError(
            f"{name} has {_classes(len(own))} ({some(own, NAMED)}), of which the network does not know {some(unknown, NAMED)}; "
            f"it knows {_classes(len(known))}: {some(known, NAMED)}"
        )
    labels = np.asarray([places[class_name(one)] for one in own], dtype=np.int64)[part.labels]
    what = f"{len(own)} of the network's {_classes(len(known))}" if len(own) < len(known) else "the network's, in another order"
    return replace(part, labels=labels), f"{what}; matched by name"


def _classes(count: int) -> str:
    return "1 class" if count == 1 else f"{count} classes"
