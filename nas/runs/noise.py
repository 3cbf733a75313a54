"""How far the rewards of a run can be trusted: their standard error, and what chance is. No torch."""

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.data.dataset import Labels

FAR = 2.0
"""Standard errors beyond which a difference is taken for more than luck."""


@dataclass(frozen=True)
class Yardstick:
    """What the children of a run are scored on: so many images, of which ``chance`` is the share of the commonest class."""

    images: int
    chance: float

    def error(self, accuracy: float) -> float:
        """Standard error of an accuracy in [0, 1], binomial: √(p (1 − p) / n), with one success and one failure added.

        So that 0 and 1 have one as well: Agresti and Coull 1998, The American Statistician 52.
        """
        p, n = (accuracy * self.images + 1) / (self.images + 2), self.images + 2
        return math.sqrt(p * (1 - p) / n)

    def digits(self, accuracy: float) -> int:
        """Decimals of an accuracy that say something."""
        return max(2, min(4, -math.floor(math.log10(self.error(accuracy) / 2))))

    def document(self) -> dict[str, Any]:
        """As the ledger keeps it."""
        return {"images": self.images, "chance": round(self.chance, 6)}


def yardstick_of(labels: "Labels") -> Yardstick:
    """Of the validation images' labels."""
    return Yardstick(len(labels), max(Counter(labels.tolist()).values()) / len(labels))


def guesses(best: float, yardstick: Yardstick) -> str | None:
    """That children have learnt nothing, of the best reward of all, where that may be chance; else None."""
    chance = yardstick.chance
    if best > chance + FAR * yardstick.error(chance):
        return None
    return (
        f"no cell does better than chance ({chance:.1%} of {yardstick.images:,} images): these children have learnt nothing, and the "
        "order says nothing; train them longer (--epochs) or on larger images (--set fidelity.image_size=…)"
    )
