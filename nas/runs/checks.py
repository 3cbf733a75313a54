"""What can be known to be impossible before anything slow is done: a folder that is taken, no disk, no GPU, no cluster, no data."""

from pathlib import Path

from nas.data.registry import fetch, fetched_first, to_be_fetched
from nas.errors import ConfigError, RunError
from nas.evaluators.registry import EVALUATORS
from nas.runners.places import Node, check_fits, gpu_share
from nas.runs.config import SearchConfig, space_of
from nas.runs.experience import experience_of
from nas.runs.folder import RunFolder, check_new
from nas.tools.files import check_room
from nas.tools.hardware import Hardware
from nas.tools.locks import is_held
from nas.tools.shelves import RUNS
from nas.tools.stages import doing
from nas.tools.words import quoted
from nas.training.fitting import amount_of


def check_search(config: SearchConfig, path: str | Path | None, hardware: Hardware, fetching: bool = True) -> list[str]:
    """Refuse a search that cannot run, in seconds; returns what a person should know of one that can.

    Args:
        config: the search.
        path: folder of its run; None: one under runs/.
        hardware: this machine.
        fetching: whether data that are missing and can be had are fetched now; else the answer says that they will be.

    Raises:
        UserError: it cannot run as asked.
    """
    notes = check_place(RUNS.new() if path is None else Path(path))
    check_workers(config, hardware)
    experience_of(config, space_of(config))  # refuses what cannot be learnt from
    if not EVALUATORS[config.evaluator].needs_data:
        return notes
    if fetching and to_be_fetched(config.data):
        fetch(config.data)
    notes += fetching_notes(config)
    amount_of(config.data)  # refuses what is missing or too small
    return notes


def fetching_notes(config: SearchConfig) -> list[str]:
    """What a person should know of a search's images before they are fetched; nothing where that need not be. Raises DataError."""
    return fetched_first(config.data) if EVALUATORS[config.evaluator].needs_data else []


def check_going_on(config: SearchConfig, folder: RunFolder, hardware: Hardware) -> None:
    """Refuse to go on with a run that cannot, in seconds: another process has it, or something that it needs is not here."""
    if is_held(folder.lock_file):
        watch = f"watch it with `nas watch {quoted(folder.path)}`"
        raise RunError(f"{folder.path}: another process is running this search; stop it first, or {watch}")
    check_room(folder.path)
    check_workers(config, hardware)
    if EVALUATORS[config.evaluator].needs_data:
        amount_of(config.data)


def check_place(folder: Path) -> list[str]:
    """Raise RunError where a run cannot be begun in a folder: it holds one, nothing may be written there, or its disk is full.

    Returns:
        What a person should know of it: a folder above that is made too, which a slash in a name may not have been meant to.
    """
    check_new(folder)
    check_room(folder)
    above = folder.absolute().parent
    if above == RUNS.new().absolute() or above.is_dir():
        return []
    return [f"folder: {folder}; {folder.parent} is made too, and the run goes by its whole path, since it is not in {RUNS.new()}/"]


def check_workers(config: SearchConfig, hardware: Hardware) -> None:
    """Raise ConfigError where children need more of this machine than it has, or a cluster does not answer."""
    runner, gpus = config.runner, float(len(hardware.gpus))
    if runner.kind == "ray" and runner.cluster is not None:
        with doing(f"asking the Ray cluster at {runner.cluster}"):
            from nas.runners.ray_start import check_reachable  # brings ray

            check_reachable(runner.cluster)
    elif runner.kind == "ray":
        check_fits(runner, hardware.cores)
        gpu_share(runner, [Node("here", float(hardware.cores), gpus)])
    elif (runner.gpus_per_child or 0.0) > gpus:
        raise ConfigError(f"runner.gpus_per_child: {runner.gpus_per_child:g} GPUs are asked for each child, but this machine has {gpus:g}")
