"""How sure a measured share is."""

CONFIDENCE = 0.95


def wilson(share: float, count: int) -> tuple[float, float]:
    """Wilson's interval (1927) of a share in [0, 1] that was measured on so many: with 95 % confidence the true one lies in it."""
    from scipy.stats import binomtest

    found = binomtest(round(share * count), count).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)
