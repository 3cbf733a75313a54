"""Durations and sizes as a person says them."""


def duration(seconds: float) -> str:
    """Seconds as a person says them: ``42 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def top5_words(share: float) -> str:
    """A top-5 accuracy in [0, 1], to be added to a sentence; nothing where it is 1, as it is by nature with five classes or fewer."""
    return f", top-5 {100 * share:.2f} %" if share < 1 else ""


def megabytes(count: int) -> str:
    """Bytes as a person says them: ``12 MB``, ``3.4 GB``."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(1, round(count / 1e6))} MB"
