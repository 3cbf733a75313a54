"""The table of evaluators: who scores a search's children, what its workers share, and which options it takes. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from nas.errors import ConfigError
from nas.evaluators.evaluator import Evaluator
from nas.evaluators.function import FunctionEvaluator
from nas.evaluators.settings import EvaluationConfig
from nas.evaluators.synthetic import SyntheticEvaluator
from nas.settings.reading import validated
from search_spaces.plugins import Registry
from search_spaces.registry import load_space

if TYPE_CHECKING:
    from nas.data.prepared import PreparedData


def _the_data(config: EvaluationConfig, data: PreparedData | None) -> object:
    return data


@dataclass(frozen=True)
class EvaluatorRow:
    """An evaluator as a search finds it.

    Attributes:
        build: makes the evaluator of one worker, from the configuration and what the workers share.
        needs_data: whether the data set of the configuration is read and prepared, once, in the driver.
        prepare: makes what the workers share, once, in the driver, from the configuration and the data (None without
            ``needs_data``); by default the data themselves. Every worker gets the same: on Ray it lies once in the object store
            of each machine, where arrays are read without a copy. What workers shall *change* together (the weights of a
            supernet, say) is an actor of Ray's own, whose handle can be shared this way.
        options: the settings of ``evaluator_options``; None takes none.
        about: what it is, for a person.
    """

    build: Callable[[EvaluationConfig, Any], Evaluator]
    needs_data: bool = False
    prepare: Callable[[EvaluationConfig, PreparedData | None], object] = _the_data
    options: type[BaseModel] | None = None
    about: str = ""


def _row(found: object) -> EvaluatorRow:
    if isinstance(found, EvaluatorRow):
        return found
    if callable(found) and not isinstance(found, type):
        return EvaluatorRow(lambda config, shared: FunctionEvaluator(found), about=(found.__doc__ or "").partition("\n")[0])
    raise TypeError(f"must be a nas.evaluators.registry.EvaluatorRow, or a function from genotype to reward, but got {found!r:.200}")


def _training(config: EvaluationConfig, data: PreparedData | None) -> Evaluator:
    """Sets the worker's CPU threads and takes a GPU where there is one for it."""
    if data is None:
        raise ConfigError("evaluator `train` needs a data set, but none was prepared")
    import torch

    from nas.evaluators.child import TrainingEvaluator

    torch.set_num_threads(config.runner.threads)
    share = config.runner.gpus_per_child
    if share == 0 or not torch.cuda.is_available():
        return TrainingEvaluator(data, config, "cpu")
    if share is not None and share < 1 and config.runner.kind == "ray":
        torch.cuda.set_per_process_memory_fraction(share)  # Ray counts fractions of a GPU and does not enforce them
    torch.set_float32_matmul_precision("high")
    return TrainingEvaluator(data, config, "cuda")


def _table(config: EvaluationConfig, data: PreparedData | None) -> Evaluator:
    from nas.evaluators.table import TableEvaluator

    assert config.table is not None  # the settings say so
    return TableEvaluator.from_settings(config.table, load_space(config.space))


def _given(config: EvaluationConfig, shared: object) -> Evaluator:
    raise ConfigError("the evaluator of this run was given in Python: only there can it be used again")


EVALUATORS: Registry[EvaluatorRow] = Registry(
    "evaluator",
    "nas.evaluators",
    {
        "train": EvaluatorRow(_training, needs_data=True, about="trains the child's network and scores it on the validation split"),
        "synthetic": EvaluatorRow(
            lambda config, shared: SyntheticEvaluator(config.synthetic, config.fidelity.epochs), about="a formula, to try the engine"
        ),
        "table": EvaluatorRow(lambda config, table: table, prepare=_table, about="looks up architectures that somebody has trained"),
        "given": EvaluatorRow(_given, about="an object or a function, given in Python"),
    },
    _row,
    ConfigError,
)
"""Every evaluator: a new one is a file in this package and a row here."""


def check_evaluator_options(name: str, options: Mapping[str, Any]) -> BaseModel | None:
    """The options of an evaluator, complete and valid; None where it takes none.

    Raises:
        ConfigError: the name or an option breaks a rule.
        PluginError: an evaluator from outside cannot be imported.
    """
    model = EVALUATORS[name].options
    if model is None:
        if options:
            raise ConfigError(f"evaluator {name!r} takes no evaluator_options, but got {', '.join(options)}")
        return None
    try:
        return validated(model, dict(options))
    except ConfigError as problem:
        raise ConfigError(f"evaluator_options of {name!r}: {problem}") from None


def prepare_data(
    config: EvaluationConfig, index_file: Path | None = None, progress: Callable[[int, int], None] | None = None
) -> PreparedData | None:
    """The data of a search, those of its rungs in ``more``, where its evaluator needs them; the other two as in ``prepare``.

    Raises UserError.
    """
    if not EVALUATORS[config.evaluator].needs_data:
        return None
    from nas.data.prepared import prepare

    further = [config.at_rung(rung).preparation() for rung in range(1, len(config.ladder) + 1)]
    return prepare(config.data, config.preparation(), further, index_file=index_file, progress=progress)


def prepare_shared(config: EvaluationConfig, data: PreparedData | None) -> object:
    """What all workers of a search share: made once, in the driver. Raises UserError."""
    return EVALUATORS[config.evaluator].prepare(config, data)


def build_evaluator(config: EvaluationConfig, shared: object) -> Evaluator:
    """The evaluator of a search, for one worker.

    Args:
        config: the search.
        shared: what ``prepare_shared`` made.

    Raises:
        UserError: the evaluator or its options cannot be used.
    """
    return EVALUATORS[config.evaluator].build(config, shared)
