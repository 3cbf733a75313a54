"""Chooses the evaluator that a configuration asks for; and the synthetic one, to try the whole engine in seconds. No torch."""

from nas.data.prepared import PreparedData
from nas.errors import ConfigError
from nas.evaluators.evaluator import Evaluator
from nas.evaluators.synthetic import SyntheticEvaluator
from nas.runs.config import SearchConfig
from search_spaces.registry import load_space


def build_evaluator(config: SearchConfig, data: PreparedData | None) -> Evaluator:
    """The evaluator of a search, for one worker: it sets the worker's CPU threads and takes a GPU where there is one for it.

    Args:
        config: the search.
        data: what ``prepare`` made; None for evaluators that train nothing.

    Raises:
        ConfigError: the evaluator trains, and there are no data.
        DataError: the table cannot be used.
    """
    if config.evaluator == "synthetic":
        return SyntheticEvaluator(config.synthetic, config.fidelity.epochs)
    if config.table is not None and config.evaluator == "table":
        from nas.evaluators.table import TableEvaluator

        return TableEvaluator.from_settings(config.table, load_space(config.space))
    if data is None:
        raise ConfigError("evaluator `train` needs a data set, but none was prepared")
    import torch

    from nas.evaluators.child import TrainingEvaluator

    torch.set_num_threads(config.runner.threads_per_child)
    share = config.runner.gpus_per_child
    if share == 0 or not torch.cuda.is_available():
        return TrainingEvaluator(data, config, "cpu")
    if share is not None and share < 1:
        torch.cuda.set_per_process_memory_fraction(share)  # Ray counts fractions of a GPU and does not enforce them
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True  # a child's shapes never change
    return TrainingEvaluator(data, config, "cuda")
