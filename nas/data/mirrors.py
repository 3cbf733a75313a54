"""Whether a mirror image keeps its class: a look at the classes' names, then at the pictures themselves. No torch."""

import math
import re
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from nas.data.pixels import READING_ERRORS, to_rgb

LOOKED_AT = 400
"""Images looked at, at most: comparing all pairs of them takes a second, reading them another."""
SIDE = 12
_SIDED = re.compile(r"(^|[^a-z])(left|right|links|rechts|gauche|droite|clockwise|anticlockwise|counterclockwise)([^a-z]|$)")


def judge_mirrors(names: Sequence[str], labels: npt.NDArray[np.int64], open_image: Callable[[int], Image.Image]) -> tuple[bool, str]:
    """Whether a mirror image keeps its class, and why not.

    It does not where a class is named for a side, or where all are single characters. Else each of some hundred images is
    recognised by its nearest neighbour among the others (leave one out, 12×12 pixels): as it is, and mirrored. Where mirrored ones
    are recognised less often, by more than three standard errors of the difference, mirroring changes what an image is.

    Args:
        names: of the classes.
        labels: (images,), the class of each.
        open_image: the decoded image of an index.

    Returns:
        Whether mirroring is safe, and the reason in words, empty where it is.
    """
    if sided := [name for name in names if _SIDED.search(name.lower().replace("_", " "))]:
        return False, f"a class is called {sided[0]!r}"
    if all(len(name) == 1 for name in names):
        return False, "the classes are single characters"
    chosen = np.unique(np.linspace(0, len(labels) - 1, min(LOOKED_AT, len(labels))).round().astype(np.int64))
    kept, pictures = [], []
    for index in chosen.tolist():
        try:
            small = to_rgb(open_image(index)).resize((SIDE, SIDE), Image.Resampling.BOX)
        except READING_ERRORS:
            continue
        kept.append(index)
        pictures.append(np.asarray(small, dtype=np.float32))
    if len(kept) < 2:
        return True, ""
    plain, mirrored = _recognised(np.stack(pictures), labels[kept])
    better, worse = int((plain & ~mirrored).sum()), int((mirrored & ~plain).sum())
    if better - worse <= 3 * math.sqrt(better + worse):  # McNemar's test
        return True, ""
    return False, f"of {len(kept)} images {plain.mean():.0%} resemble their own class, of their mirror images {mirrored.mean():.0%}"


def _recognised(pictures: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which images (number, side, side, 3) have their nearest neighbour in their own class: as they are, and mirrored."""

    def own_class(queries: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        distances = (queries**2).sum(axis=1)[:, None] - 2 * queries @ known.T + (known**2).sum(axis=1)
        np.fill_diagonal(distances, np.inf)
        found: npt.NDArray[np.bool_] = labels[distances.argmin(axis=1)] == labels
        return found

    centred = pictures - pictures.mean(axis=(1, 2), keepdims=True)
    known = centred.reshape(len(centred), -1)
    return own_class(known), own_class(centred[:, :, ::-1].reshape(len(centred), -1))
