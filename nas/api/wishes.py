"""From the names that flags and the Python face's arguments share to configurations. No torch, no ray."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.errors import ConfigError
from nas.loggers.registry import check_installed
from nas.runs.config import GIVEN, SearchConfig, fitted_config
from nas.runs.experience import source_of
from nas.runs.genotypes import beginnings, check_source, data_of, matched_of, resolve_genotype
from nas.tools.files import check_not_blank
from nas.tools.hardware import auto_preset, check_device, detect
from nas.training.fitting import Choice
from search_spaces.genotype import Genotype
from search_spaces.plugins import guess, is_code, trust

if TYPE_CHECKING:
    from nas.data.settings import DataSettings
    from nas.runners.distributed import Group
    from nas.training.config import TrainConfig

Place = str | PathLike[str]
"""A path, or a name that stands for one."""
Assignments = Sequence[str] | Mapping[str, Any]
"""Settings by dotted name: ``["fidelity.epochs=3"]`` as ``--set`` gives them, or ``{"fidelity.epochs": 3}``."""

SEARCH_SETTINGS = {
    "space": "space",
    "budget": "budget",
    "seed": "seed",
    "controller": "controller.name",
    "evaluator": "evaluator",
    "epochs": "fidelity.epochs",
    "cells": "fidelity.cells",
    "filters": "fidelity.filters",
    "match": "match",
    "limit": "limit",
    "objective": "objective",
    "latency_on": "latency_on",
    "workers": "runner.workers",
    "gpus_per_child": "runner.gpus_per_child",
    "address": "runner.address",
    "runner": "runner.kind",
    "time_limit": "runner.time_limit",
    "sync": "runner.sync",
    "cards": "cards",
    "warm_start": "warm_start",
    "learn_from": "learn_from",
    "log": "log",
}
"""Arguments of a search, and the settings they stand for; ``data`` and ``data_dir`` come beside them."""
EXECUTION = ("device", "threads", "loader_workers", "log")
"""What may be said anew when a training goes on, beside where its images are now (``data``, ``data_dir``)."""
FIXED = (
    "epochs",
    "batch_size",
    "precision",
    "settings",
    "skeleton",
    "cells",
    "filters",
    "image_size",
    "weights",
    "seed",
    "micro_batch",
    "compile",
    "output",
)
"""What may not."""


def path_of(said: Place, option: str) -> Path:
    """The path that somebody names by an option, or by the argument of that name. Raises ConfigError for a blank one."""
    check_not_blank(said, option)
    return Path(said)


def absolute(folder: Place | None) -> str | None:
    """A folder as a run records it: so that the run can be resumed from anywhere."""
    return str(Path(folder).expanduser().resolve()) if folder else None


def data_settings(data: Place | None, data_dir: Place | None, said: str = "--data") -> dict[str, Any]:
    """``data``, a name, a folder of images or a file of them, and ``data_dir`` as dotted settings; None where nothing was said.

    Raises:
        ConfigError: it is none of them; ``said`` is how the person names what is wrong.
    """
    from nas.data.layouts import FILES, is_data_file
    from nas.data.names import printable
    from nas.data.registry import DATASETS  # here: it loads numpy

    trust([data])  # the user's own word
    named = [name for name in DATASETS if name != "folder"]
    if data is None or data in named or is_code(str(data)):
        return {"data.name": data, "data.root": absolute(data_dir)}
    place = Path(data).expanduser()
    if place.is_dir() or is_data_file(place):
        return {"data.name": "folder", "data.root": absolute(data_dir) or absolute(data)}
    raise ConfigError(
        f"{said} must be one of {', '.join(named)}, or an existing folder of images, or a file of them ({', '.join(FILES)}), "
        f"but got {printable(data)!r}{guess(str(data), named)}"
    )


def choose_preset(preset: str) -> tuple[str, str | None]:
    """The preset's name; for ``auto`` that of one which suits this machine, and why."""
    return auto_preset(detect()) if preset == "auto" else (preset, None)


def search_wish(preset: str, settings: Assignments, given: Mapping[str, Any]) -> tuple[SearchConfig, tuple[Choice, ...]]:
    """The configuration of a search, and what of it was chosen to suit the images.

    ``given`` has arguments by their names (``SEARCH_SETTINGS``, ``data``, ``data_dir``, ``minutes``); None: not given.

    Raises:
        UserError: a name or a value breaks a rule.
    """
    budget, minutes = given.get("budget"), given.get("minutes")
    if budget is not None and minutes is not None:
        raise ConfigError(f"--budget and --minutes exclude each other, but got {budget} and {minutes:g}")
    flags = {SEARCH_SETTINGS[name]: value for name, value in given.items() if name in SEARCH_SETTINGS}
    flags |= {name: names(flags.get(name), name) for name in ("cards", "warm_start", "learn_from")}
    flags["log"] = logger_names(given.get("log"))
    found, choices = fitted_config(choose_preset(preset)[0], settings, {**flags, **data_settings(given.get("data"), given.get("data_dir"))})
    warm_start = [one for name in found.warm_start for one in beginnings(name)]
    return found.model_copy(update={"warm_start": warm_start, "learn_from": [source_of(name) for name in found.learn_from]}), choices


def names(said: str | Sequence[str] | None, option: str) -> list[str] | None:
    """Names that a person gives by an option in one text, with commas; ``none`` for none of them. None: not given.

    Raises:
        ConfigError: the text has no name in it.
    """
    if said is None or not isinstance(said, str):
        return None if said is None else [str(name) for name in said]
    found = [name.strip() for name in said.split(",") if name.strip()]
    if not found:
        raise ConfigError(f"--{option.replace('_', '-')} must have names, with commas between them, or be none, but got {said!r}")
    return [] if found == ["none"] else found


def logger_names(said: str | Sequence[str] | None) -> list[str] | None:
    """Names of loggers, which the user wrote, and so may import what they name. None: not given."""
    found = names(said, "log")
    trust(found or ())
    return found


def own_search_config(preset: str, settings: Assignments, given: Mapping[str, Any]) -> SearchConfig:
    """The configuration of a search whose rewards come from this process.

    Raises:
        UserError: a name or a value breaks a rule, or children shall be trained elsewhere.
    """
    if given.get("runner") not in (None, "local"):
        raise ConfigError(
            f"an evaluator that is an object or a function scores in this process: leave the runner out, but got {given['runner']!r}"
        )
    return search_wish(preset, settings, {**given, "evaluator": GIVEN, "runner": "local"})[0]


def check_names(given: Mapping[str, Any], *sources: str | Genotype) -> None:
    """Refuse a name that stands for nothing within a second: before torch is loaded, a run is read, or images are looked at.

    Args:
        given: arguments of ``nas.train`` and its kin by their names; None: not given.
        sources: what stands for genotypes.

    Raises:
        UserError: there is no such recipe, skeleton, device, data set, logger, genotype or run.
    """
    from nas.loggers.registry import LOGGERS
    from nas.training.recipe import load_recipe
    from search_spaces.skeletons import load_skeleton

    if given.get("recipe") is not None:
        load_recipe(given["recipe"])
    if given.get("skeleton") is not None:
        load_skeleton(given["skeleton"])
    if given.get("device") is not None:
        check_device(given["device"])
    data_settings(given.get("data"), given.get("data_dir"))
    for name in logger_names(given.get("log")) or ():
        LOGGERS.check(name)
    for source in sources:
        check_source(source)


def training_wish(source: str | Genotype | None, given: Mapping[str, Any]) -> "tuple[Genotype, TrainConfig, Path, tuple[Choice, ...]]":
    """What is trained, how, in which folder, and what was chosen to suit the images.

    Args:
        source: a run, a reference genotype, a genotype file, or a genotype; None where ``resume`` or ``again`` names a folder.
        given: arguments of ``nas.train`` by their names; None: not given.

    Raises:
        UserError: a name or a value breaks a rule.
    """
    from nas.training.setup import Request, configure, default_folder

    if given.get("resume") is not None:
        return _resumed_training(source, given)
    if given.get("again") is not None:
        return _repeated_training(source, given)
    if source is None:
        raise ConfigError("name what to train: a run folder, `last`, a reference genotype or a genotype file; or --resume FOLDER")
    check_names(given, source)
    genotype, config, choices = configure(
        Request(
            genotype=resolve_genotype(source, given.get("rank") or 1),
            own_data=own_data(given, source),
            matched=matched_of(source, given.get("rank") or 1),
            skeleton=given.get("skeleton"),
            cells=given.get("cells"),
            filters=given.get("filters"),
            data=data_settings(given.get("data"), given.get("data_dir")),
            recipe=given.get("recipe") or "fast",
            recipe_flags=_recipe_flags(given),
            assignments=given.get("settings") or (),
            settings=_training_settings(given),
        )
    )
    output = given.get("output")
    return genotype, config, path_of(output, "--output") if output is not None else default_folder(genotype, config), choices


_LONGER = (
    ". Its learning rate falls over the epochs that it began with, so more cannot follow: for longer, train the same cell "
    "in another folder with --epochs, from the beginning or from these weights (--weights FOLDER/best.safetensors)"
)
"""What to say to whoever wants a training to go on for longer."""


def _resumed_training(source: str | Genotype | None, given: Mapping[str, Any]) -> "tuple[Genotype, TrainConfig, Path, tuple[Choice, ...]]":
    from nas.training.folder import find_training

    if source is not None:
        raise ConfigError(f"--resume goes on with what is in its folder: no genotype may be given with it, but got {source!r}")
    changed = {name: value for name, value in _execution(given).items() if value is not None}
    fixed = [name for name in FIXED if given.get(name) is not None]
    if fixed:
        flags = ", ".join("--set" if name == "settings" else f"--{name.replace('_', '-')}" for name in fixed)
        raise ConfigError(
            "--resume goes on with the training's own settings: only --device, --threads, --loader-workers, --log and where its images are "
            f"now (--data, --data-dir) may be given with it, but got {flags}{_LONGER if 'epochs' in fixed else ''}"
        )
    place = find_training(Path(given["resume"]))
    config = place.config().model_copy(update=changed)
    check_installed(config.log)
    return place.genotype(), _with_images_at(config, given), place.path, ()


def _repeated_training(source: str | Genotype | None, given: Mapping[str, Any]) -> "tuple[Genotype, TrainConfig, Path, tuple[Choice, ...]]":
    from nas.training.folder import find_training

    fixed = [f"--{name.replace('_', '-')}" for name in FIXED if given.get(name) is not None and name not in ("settings", "output")]
    fixed += ["--set"] if given.get("settings") else []
    if source is not None or fixed:
        raise ConfigError(
            "--again trains what is in its folder by its settings: only --output, --device, --threads, --loader-workers and where its "
            f"images are now (--data, --data-dir) may be given with it, but got {source if source is not None else ', '.join(fixed)}"
        )
    place, changed = find_training(Path(given["again"])), {name: given[name] for name in EXECUTION if given.get(name) is not None}
    config = _with_images_at(place.config().model_copy(update=changed), given)
    beside = place.path.with_name(f"{place.path.absolute().name}-again")
    folder = path_of(given["output"], "--output") if given.get("output") is not None else beside
    if folder.resolve() == place.path.resolve():
        raise ConfigError(f"--again needs another folder than {place.path}; name it with --output, or go on here with --resume")
    return place.genotype(), config, folder, ()


def _with_images_at(config: "TrainConfig", given: Mapping[str, Any]) -> "TrainConfig":
    return config.model_copy(update={"data": data_at(config.data, given)})


def data_at(data: "DataSettings", given: Mapping[str, Any]) -> "DataSettings":
    """The data set in another place, by ``data`` and ``data_dir``. That it holds the same images is checked when they are read."""
    where = data_settings(given.get("data"), given.get("data_dir"))
    if (where["data.name"] or data.name) != data.name:
        raise ConfigError(f"--resume: the data set that this began with is {data.name}, but --data names {where['data.name']}")
    return data if where["data.root"] is None else data.model_copy(update={"root": where["data.root"]})


def transfer_wish(
    source: str | Genotype, given: Mapping[str, Any]
) -> "tuple[Genotype, TrainConfig, Path, tuple[Choice, ...], str, Group | None]":
    """What is trained on another data set, how, and in which folder.

    Beside them: what was chosen to suit the images; which network that is, in words; and the workers, where there are many.

    Raises:
        UserError: a name or a value breaks a rule.
    """
    from nas.training.setup import default_folder
    from nas.training.transfer import Wish, configure_transfer, default_workers, target_data

    check_names(given, source)
    workers, least, address = given.get("workers"), given.get("least_workers"), given.get("address")
    if least is not None and least > (workers or 1):
        raise ConfigError(f"--least-workers must be at most --workers ({workers or 1}), but got {least}")
    to = str(given.get("to") or "imagenet")
    count, gpu = default_workers(workers, given.get("device"), address)
    genotype, config, network, choices = configure_transfer(
        Wish(
            genotype=resolve_genotype(source, given.get("rank") or 1),
            data=target_data(to, absolute(given.get("data_dir"))),
            imagenet=to == "imagenet",
            skeleton=given.get("skeleton"),
            matched=matched_of(source, given.get("rank") or 1),
            cells=given.get("cells"),
            filters=given.get("filters"),
            macs=given.get("macs"),
            params=given.get("params"),
            recipe=given.get("recipe"),
            recipe_flags=_recipe_flags(given),
            assignments=given.get("settings") or (),
            settings={**_training_settings(given), "checkpoint_steps": given.get("checkpoint_steps")},
            workers=count,
        )
    )
    folder = path_of(given["output"], "--output") if given.get("output") is not None else default_folder(genotype, config)
    if count == 1 and address is None:
        return genotype, config, folder, choices, network, None
    from nas.runners.distributed import Group

    return genotype, config, folder, choices, network, Group(count, least, gpu, address)


def own_data(given: Mapping[str, Any], *sources: str | Genotype) -> "DataSettings | None":
    """The data set that the runs among the sources were searched on; None where none of them is a run, or another set is named.

    Args:
        given: arguments of ``nas.train`` and its kin by their names: ``data`` and ``settings`` name a data set.
        sources: what stands for genotypes.

    Raises:
        ConfigError: the runs were searched on different ones.
    """
    from nas.data.settings import data_words
    from nas.training.setup import assigned_data

    if given.get("data") is not None or "name" in assigned_data(given.get("settings") or ()):
        return None
    found = {str(source): data for source in sources if (data := data_of(source)) is not None}
    if len({(data.name, data.root) for data in found.values()}) > 1:
        said = ", ".join(f"{source} on {data_words(data)}" for source, data in found.items())
        raise ConfigError(f"--data must name the images for all, since the runs were searched on different ones: {said}")
    return next(iter(found.values()), None)


def _recipe_flags(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: given.get(name) for name in ("epochs", "batch_size", "precision")}


def _training_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    names = ("image_size", "micro_batch", "seed", "compile")
    return {**{name: given.get(name) for name in names}, **_execution(given), "weights": absolute(given.get("weights"))}


def _execution(given: Mapping[str, Any]) -> dict[str, Any]:
    return {**{name: given.get(name) for name in EXECUTION}, "log": logger_names(given.get("log"))}
