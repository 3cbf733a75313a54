"""The names that a shell completes: by an option's flag or an argument's metavar, so that a new command needs no line here. No torch.

A shell waits for each Tab, so nothing that loads numpy, pydantic or a search space is imported: a test holds the short lists here to
the registries.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path

import search_spaces
from nas.tools.shelves import RUNS, TRAINED
from search_spaces.plugins import installed_names

PACKAGE = Path(__file__).parents[2]
DATASETS = ("cifar10", "cifar100", "digits", "synthetic")
EVALUATORS = ("train", "synthetic", "table")
SPACES = ("nasnet", "nasnet-paper", "nasbench201")
CONTROLLERS = ("ppo", "reinforce", "evolution", "local_search", "random")
_CELLS = ("nasnet-cifar", "nasnet-mobile", "nasnet-large", "nasnet-large-timm", "pnasnet-mobile", "pnasnet-large", "amoebanet-cifar")
_OTHER_CELLS = ("amoebanet-large", "darts-cifar", "darts-imagenet", "nasbench201", "resnet-50", "resnet-101", "resnet-152")
_CONVNEXTS = ("t", "s", "b", "l", "xl", "cifar", "isotropic-s", "isotropic-b", "isotropic-l")
_STEPS = ("0", "1", "2", "3", "4", "5", "6", "7a", "7", "7b", "7c", "8", "9", "10", "11", "12")
SKELETONS = (
    *_CELLS,
    *_OTHER_CELLS,
    "resnet-29-cifar",
    *(f"convnext-{size}" for size in _CONVNEXTS),
    *(f"convnext-roadmap-{step}" for step in _STEPS),
)
_TEXTS = ("yaml", "json", "dot", "svg", "safetensors", "timm-weights", "torchvision-weights", "facebook-weights")
EXPORTS = (*_TEXTS, "csv", "parquet", "torch-export", "onnx", "timm", "python", "hf")
LISTS = ("runs", "spaces", "genotypes", "skeletons", "presets", "recipes", "controllers", "evaluators", "operations", "datasets", "exports")

Names = Callable[[], Iterable[str]]


def _stems(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.yaml"))


def presets() -> Iterable[str]:
    """The presets, and ``auto``."""
    return ["auto", *_stems(PACKAGE / "presets"), *installed_names("nas.presets")]


def recipes() -> Iterable[str]:
    """The recipes of trainings."""
    return [*_stems(PACKAGE / "recipes"), *installed_names("nas.recipes")]


def data_sets() -> Iterable[str]:
    """The data sets that have a name."""
    return [*DATASETS, *installed_names("nas.datasets")]


def evaluators() -> Iterable[str]:
    """What scores children."""
    return [*EVALUATORS, *installed_names("nas.evaluators")]


def exports() -> Iterable[str]:
    """The formats of ``nas export``."""
    return [*EXPORTS, *installed_names("nas.exports")]


def spaces() -> Iterable[str]:
    """The search spaces."""
    return [*SPACES, *installed_names("nas.spaces")]


def genotypes() -> Iterable[str]:
    """The reference genotypes."""
    return _stems(Path(search_spaces.__path__[0], "genotypes"))


def skeletons() -> Iterable[str]:
    """The skeletons: of an installed family only the family itself knows the names."""
    if not installed_names("nas.skeletons"):
        return SKELETONS
    from search_spaces.skeletons import SKELETONS as NAMED

    return NAMED


def controllers() -> Iterable[str]:
    """The controllers."""
    return [*CONTROLLERS, *installed_names("nas.controllers")]


def runs() -> Iterable[str]:
    """``last``, and the runs that are found by name, newest first."""
    return ["last", *sorted((path.name for path in RUNS.holding("ledger.jsonl")), reverse=True)]


def trainings() -> Iterable[str]:
    """``last``, and the trainings that are found by name."""
    return ["last", *(path.name for path in TRAINED.holding("metrics.jsonl"))]


def _known(*names: str) -> Names:
    return lambda: names


def _together(*kinds: Names) -> Names:
    return lambda: chain.from_iterable(kind() for kind in kinds)


OPTIONS: Mapping[str, Names] = {
    "space": spaces,
    "preset": presets,
    "recipe": recipes,
    "controller": controllers,
    "evaluator": evaluators,
    "skeleton": skeletons,
    "genotype": genotypes,
    "cards": genotypes,
    "warm-start": genotypes,
    "data": data_sets,
    "to": _together(_known("imagenet"), data_sets),
    "resume": runs,
    "runner": _known("ray", "local"),
    "device": _known("auto", "cpu", "cuda"),
    "latency-on": _known("cpu", "cuda", "onnx"),
    "log": _known("tensorboard", "wandb", "mlflow", "none"),
    "theme": _known("light", "dark", "auto"),
    "precision": _known("auto", "float32", "bfloat16", "float16"),
    "dtype": _known("float32", "bfloat16", "float16"),
    "which": _known("best", "last"),
    "part": _known("test", "validation", "train", "all"),
    "format": _known("table", "csv", "json"),
    "objective": _known("accuracy,macs", "accuracy,params"),
    "export format": exports,
    "bench objective": _known("synthetic"),
}
"""By flag; with the command's name before it where that flag means something else there."""

ARGUMENTS: Mapping[str, Names] = {
    "RUN": runs,
    "GENOTYPE": genotypes,
    "TRAINED": trainings,
    "NET": trainings,
    "NAME": _together(genotypes, skeletons, presets, recipes, spaces),
    "PATH": data_sets,
    "WHAT": _known(*LISTS),
}
"""By a word of the metavar, such as ``RUN|GENOTYPE``."""


def swiftly() -> None:
    """For a process that only completes: keep typer from loading what it renders help and converts values with, more than half the wait."""
    from typer import core

    for kind in (core.TyperOption, core.TyperArgument):
        kind.process_value = lambda self, ctx, value: value  # type: ignore[method-assign]
    with suppress(ImportError):
        from typer import _completion_classes

        _completion_classes._sanitize_help_text = lambda text: text


def candidates(command: str, flag: str | None, metavar: str) -> Iterable[str]:
    """The names that may stand at an option (its flag without dashes), or where it is None at an argument of that metavar."""
    if flag is not None:
        return OPTIONS.get(f"{command} {flag}", OPTIONS.get(flag, tuple))()
    words = re.findall(r"[A-Z]+", metavar.upper())
    return dict.fromkeys(chain.from_iterable(ARGUMENTS[word]() for word in words if word in ARGUMENTS))
