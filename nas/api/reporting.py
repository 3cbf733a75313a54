"""``nas.report``: a run, a training or a comparison as one page for a browser. No torch at import."""

from pathlib import Path
from typing import TYPE_CHECKING

from nas.api.run import Run
from nas.api.things import find_thing, thing_at
from nas.api.training import Training
from nas.api.wishes import Place, path_of
from nas.errors import ConfigError
from nas.runs import folder as run_folder
from nas.training.folder import TrainFolder, find_training

if TYPE_CHECKING:
    from nas.reports.parts import Report
    from nas.training.measured import Measured

NAME = "report.html"
"""A report in the folder that it is of, where no other file is named."""
SUFFIXES = (".html", ".htm")


def report(
    source: "Place | Run | Training", output: Place | None = None, *, against: "Place | Run | None" = None, evaluate: bool = False
) -> Path:
    """Write a report: one HTML file that needs no network, made from what the folder has.

    Example::

        nas.report("last", "report.html")

    Args:
        source: a run, a training or a comparison: the object, its folder, a name under runs/ or trained/, ``last`` for what did something
            last; or the results of ``nas bench``, a .json file.
        output: the file to write; None: report.html in that folder, or beside the file.
        against: of a run: another one whose children say what random search finds.
        evaluate: of a training: measure its weights now, for accuracy by class and confusion.

    Returns:
        The file.

    Raises:
        UserError: there is nothing of the kind there, it is damaged, or the file cannot be written.
    """
    place = _find(source, against is not None, evaluate)
    target = _target(place, output)
    _check_installed()
    made = _made(place, against, evaluate)
    from nas.reports.page import write_page

    write_page(made, target)
    return target


def _find(source: "Place | Run | Training", search: bool, training: bool) -> Path:
    """The folder or file that is meant; ``last`` is of the kind that an option asks for, where one does. Raises RunError."""
    if isinstance(source, Run | Training):
        return source.path
    if str(source) == "last" and search != training:
        return run_folder.find("last").path if search else find_training(Path("last")).path
    path = Path(source)
    return path if path.suffix == ".json" and path.is_file() else find_thing(str(source)).path


def _target(place: Path, output: Place | None) -> Path:
    """The file to write. Raises ConfigError where it cannot be one."""
    if output is None:
        return place / NAME if place.is_dir() else place.with_suffix(".html")
    path = path_of(output, "--output")
    if path.suffix.lower() not in SUFFIXES or path.is_dir():
        raise ConfigError(f"--output must name a file that ends in {' or '.join(SUFFIXES)}, but got {str(output)!r}")
    if not path.parent.is_dir():
        raise ConfigError(f"--output must name a file in a folder that exists, but there is no {path.parent}")
    return path


def _check_installed() -> None:
    try:
        import altair  # noqa: F401 - whether it is there
        import vl_convert  # noqa: F401
    except ImportError as missing:
        raise ConfigError(f"a report needs {missing.name}, which is not installed: pip install altair vl-convert-python") from None


def _made(place: Path, against: "Place | Run | None", evaluate: bool) -> "Report":
    """The report of what is there. Raises UserError, also for an option that does not go with it."""
    thing = thing_at(place)
    kind = "comparison" if thing is None else thing.kind
    if against is not None and kind != "search":
        raise ConfigError(f"--against goes with the report of a search, but {place} is a {kind}")
    if evaluate and kind != "training":
        raise ConfigError(f"--evaluate goes with the report of a training, but {place} is a {kind}")
    if kind == "search":
        from nas.reports.search import search_report

        other = against.path if isinstance(against, Run) else against
        return search_report(run_folder.RunFolder(place), None if other is None else run_folder.find(str(other)))
    if kind == "training":
        from nas.reports.training import training_report

        return training_report(TrainFolder(place), _measured(place) if evaluate else None)
    from nas.reports.comparison import bench_report, comparison_report

    return comparison_report(place) if place.is_dir() else bench_report(place)


def _measured(place: Path) -> "Measured":
    from nas.api.training import evaluate

    return evaluate(place).measured
