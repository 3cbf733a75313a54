"""Searches, trainings and comparisons taken care of: removed, renamed, and given a note. No torch."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from filelock import Timeout

from nas.api.things import Thing
from nas.errors import RunError
from nas.runs import folder as run_folder
from nas.tools.files import holds_working_directory, write_atomically
from nas.tools.labels import read_label, write_label
from nas.tools.locks import folder_lock
from nas.training.folder import config_yaml, known_trainings

LONGEST_NOTE = 1000
"""Characters that a note may have: it is a line."""


@contextmanager
def at_rest(thing: Thing) -> Iterator[None]:
    """Keep other processes out of the thing. Raises RunError where one is at work there, or the folder may not be written to."""
    try:
        with folder_lock(thing.lock_file):
            yield
    except Timeout:
        raise RunError(f"{thing.path}: a process is at work in this {thing.kind}; stop it first (Ctrl-C, or its end)") from None
    except OSError as problem:
        raise RunError(f"{thing.path}: cannot be changed: {problem.strerror or problem}") from None


def remove(thing: Thing) -> list[Path]:
    """Remove all that the thing wrote into its folder, and the folder where nothing else is in it.

    Returns:
        What is left there, which somebody else wrote.

    Raises:
        RunError: a process is at work there, or it may not be removed.
    """
    with at_rest(thing):
        return thing.folder.remove()


def rename(thing: Thing, name: str) -> Path:
    """Give the thing's folder another name, in the same place; or move it, where a path is given. Its former name still finds it.

    Trainings that start from weights in a training that is renamed are told where they are now.

    Raises:
        RunError: a process is at work there, something has the name, the folder cannot be moved there, or the working directory is in it.
    """
    said = Path(name).expanduser()
    target = thing.path.parent / said if len(said.parts) == 1 else said
    if not said.parts or said.name in ("", "..") or name == "last":
        raise RunError(f"a name must be that of a folder, and not `last`, but got {name!r}")
    if thing.kind == "search":
        run_folder.check_name(target)
    if target.exists() or target.is_symlink():
        raise RunError(f"{target}: something has this name; choose another")
    old = thing.path.absolute()
    if holds_working_directory(old):
        raise RunError(f"{thing.path}: cannot have another name while it is, or holds, the working directory; go up first: cd ..")
    with at_rest(thing):
        thing.path.rename(target)
        label = read_label(target)
        former = (*(one for one in label.formerly if one not in (old.name, target.absolute().name)), old.name)
        write_label(target, replace(label, formerly=former if old.name != target.absolute().name else label.formerly))
        if thing.kind == "training":
            _tell_those_who_start_from(old, target.absolute())
    return target


def _tell_those_who_start_from(old: Path, new: Path) -> None:
    for place in known_trainings():
        config = place.config()
        weights = None if config.weights is None else Path(config.weights)
        if weights is not None and weights.is_relative_to(old):
            moved = str(new / weights.relative_to(old))
            write_atomically(place.config_file, config_yaml(config.model_copy(update={"weights": moved})))


def note(thing: Thing, text: str) -> None:
    """Keep a line with the thing, in the place of an earlier one; nothing removes it. Raises RunError."""
    if "\n" in text.strip() or len(text) > LONGEST_NOTE:
        raise RunError(f"a note must be one line of at most {LONGEST_NOTE:,} characters, but got {len(text):,} in {len(text.splitlines())}")
    try:
        write_label(thing.path, replace(read_label(thing.path), note=text.strip()))
    except OSError as problem:
        raise RunError(f"{thing.path}: cannot be changed: {problem.strerror or problem}") from None
