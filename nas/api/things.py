"""What a folder holds, a search, a training or a comparison: found by name, of all kinds alike. No torch."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nas.comparisons.folder import TABLE_FILE, CompareFolder
from nas.data.settings import DataSettings
from nas.errors import RunError
from nas.runs import folder as run_folder
from nas.runs.folder import RunFolder
from nas.runs.genotypes import is_genotype
from nas.tools.labels import Label, read_label
from nas.tools.shelves import RUNS, TRAINED, folders_with, took_last
from nas.training.folder import TrainFolder, known_trainings
from search_spaces.plugins import guess

Kind = Literal["search", "training", "comparison"]
Folder = RunFolder | TrainFolder | CompareFolder


@dataclass(frozen=True)
class Thing:
    """A folder, and what kind of thing it holds."""

    kind: Kind
    folder: Folder

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.folder.path

    @property
    def label(self) -> Label:
        """What a person says of it."""
        return read_label(self.path)

    @property
    def changed(self) -> float:
        """When it was last written to, by the clock."""
        return _written(self.path, ("ledger.jsonl", "metrics.jsonl", "result.json", TABLE_FILE, "config.yaml"))

    @property
    def did(self) -> float:
        """When it did something last, by the clock: trained a child or an epoch; 0 for a start that came to nothing."""
        if isinstance(self.folder, RunFolder):
            return self.folder.last_deed() or 0.0
        return _written(self.path, ("metrics.jsonl", "result.json", TABLE_FILE))

    @property
    def lock_file(self) -> Path:
        """Held while a process works on it."""
        return self.folder.lock_file


def _written(folder: Path, names: Iterable[str]) -> float:
    """When any of these files was last written to, by the clock; 0 where there is none."""
    files = (folder / name for name in names)
    return max((file.stat().st_mtime for file in files if file.is_file()), default=0.0)


def thing_at(path: Path) -> Thing | None:
    """What a folder holds; None where it is none of ours."""
    if (path / TABLE_FILE).is_file():
        return Thing("comparison", CompareFolder(path))
    if (path / "ledger.jsonl").is_file():
        return Thing("search", RunFolder(path))
    if (path / "config.yaml").is_file():
        kind: Kind = "training" if (path / "genotype.yaml").is_file() else "search"
        return Thing(kind, TrainFolder(path) if kind == "training" else RunFolder(path))
    return None


def find_thing(name: str, others: Iterable[str] = ()) -> Thing:
    """The search, training or comparison of that path or name; ``last`` is that which did something last.

    ``others`` are names of other kinds that may have been meant. Raises RunError.
    """
    if name == "last":
        return _last()
    if (found := thing_named(name)) is not None:
        return found
    known = list(known_things())
    if renamed := [thing for thing in known if name in thing.label.formerly]:
        return renamed[-1]
    latest = ", ".join(str(thing.path) for thing in sorted(known, key=lambda thing: thing.changed)[:-6:-1]) or "none"
    hint = guess(name, ["last", *(thing.path.name for thing in known), *others])
    raise RunError(f"{name}: no run folder there{hint}, and no training or comparison; the latest: {latest}")


def _last() -> Thing:
    """What did something last, of whatever kind; of what never did, the newest. Raises RunError."""
    last = max(known_things(), key=lambda thing: (thing.did, thing.changed), default=None)
    if last is None:
        raise RunError("there is no search, training or comparison here yet; start one with `nas search` or `nas train`")
    took_last(last.path)
    return last


def thing_named(name: str) -> Thing | None:
    """What is at that path, or of that name in runs/ or trained/; None where there is nothing."""
    paths = (*RUNS.find(name), *TRAINED.find(name))
    return next((thing for path in paths if (thing := thing_at(path)) is not None), None)


def data_of_thing(name: object) -> DataSettings | None:
    """The data set of the search or training of that path or name; None where something else is named. Raises UserError."""
    if is_genotype(str(name)):  # which may be a whole cell in writing, too long a name for any file system
        return None
    thing = find_thing(name) if name == "last" else thing_named(str(name))
    return None if thing is None or isinstance(thing.folder, CompareFolder) else thing.folder.config().data


def known_things() -> Iterator[Thing]:
    """All that is found without a path: in runs/ and trained/ (``nas.tools.shelves``), and right below the working directory."""
    yield from (Thing("search", run) for run in run_folder.known_runs())
    yield from (Thing("training", place) for place in known_trainings())
    yield from (Thing("comparison", CompareFolder(path)) for path in folders_with(Path(), TABLE_FILE))


def things_in(place: Path) -> list[Thing]:
    """What a folder holds: the thing that it is itself, or those right below it and in its runs/, trained/ and compared/.

    Raises:
        RunError: there is no such folder.
    """
    if not place.is_dir():
        raise RunError(f"{place}: must be a folder with runs, trainings or comparisons, but there is none")
    own = thing_at(place)
    shelves = [place / name for name in ("runs", "trained", "compared")]
    below = [path for above in (place, *shelves) if above.is_dir() for path in sorted(above.iterdir()) if path.is_dir()]
    found = [thing for path in below if (thing := thing_at(path)) is not None]
    return [*([own] if own is not None else []), *found]
