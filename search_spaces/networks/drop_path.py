"""ScheduledDropPath (Zoph et al. 2018, arXiv 1707.07012): drops whole paths of a cell, per example, more and more as training goes on."""

import torch
from torch import Tensor


def scheduled_keep(final_keep: float, cell: int, cells: int, progress: Tensor | float, by_depth: bool = True) -> Tensor | float:
    """Probability with which a cell keeps a path now.

    As in the released NASNet code (``drop_connect_version`` v3)::

        k1 = 1 − (cell + 1) / cells · (1 − final_keep)
        k2 = 1 − progress · (1 − k1)

    The paper describes the second line only (with ``k1 = final_keep``: pass ``by_depth=False``, as DARTS does).

    Args:
        final_keep: probability in the last cell at the end of training.
        cell: index of the cell among all cells of the network in execution order, stem and reduction cells included.
        cells: number of all cells.
        progress: share of training done, in [0, 1].
        by_depth: whether the drop probability grows with depth.
    """
    drop = (1 - final_keep) * ((cell + 1) / cells if by_depth else 1)
    return 1 - progress * drop


def path_factors(paths: int, examples: Tensor, keep: Tensor | float) -> Tensor:
    """One factor per path and example: 0 with probability 1 − ``keep``, else 1 / ``keep``, so that the expectation stays.

    Args:
        paths: number of paths that are dropped independently.
        examples: any tensor (batch, …); the factors take its batch size, dtype and device.
        keep: probability to keep a path, above 0.

    Returns:
        Factors (paths, batch, 1, 1, 1).
    """
    draws = torch.rand(paths, examples.shape[0], 1, 1, 1, device=examples.device)
    return ((draws < keep) / keep).to(examples.dtype)


def drop_path(path: Tensor, keep: Tensor | float) -> Tensor:
    """A path (batch, channels, height, width) with whole examples zeroed and the others rescaled."""
    return path * path_factors(1, path, keep)[0]
