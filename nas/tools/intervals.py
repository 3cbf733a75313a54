"""How sure a measured share is, and a mean of few values."""

import math
import statistics
from collections.abc import Sequence

CONFIDENCE = 0.95
TWO_SIDED = 1.96
"""Standard errors on both sides that hold so much of a normal distribution."""


def half_width(mean: float, low: float, high: float) -> float:
    """What stands after ± : the wider side, since the interval of a share ends at 0 and 1 and its mean is not in the middle there."""
    return max(mean - low, high - mean)


def wilson(share: float, count: int) -> tuple[float, float]:
    """Wilson's interval (1927) of a share in [0, 1] that was measured on so many: with 95 % confidence the true one lies in it."""
    from scipy.stats import binomtest

    found = binomtest(round(share * count), count).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)


def half_of_mean(values: Sequence[float]) -> float:
    """Half of the 95 % interval of the mean of some values, by Student's t; NaN for one value."""
    from scipy.stats import t as student

    if len(values) < 2:
        return math.nan
    return float(student.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
