"""Which heights and widths an exported program takes besides the network's own, and how torch.export is told."""

from typing import Any

from torch import Tensor
from torch.export import Dim

from nas.exports.handover import Handover
from nas.exports.verify import example_images
from search_spaces.networks.network import Network
from search_spaces.networks.residual_network import ResidualNetwork


def side_step(network: Network) -> int:
    """From one side that the program takes to the next: 1 where all may come.

    Cells pad strided operations by what a side leaves over when it is halved. A program has that written into it for one remainder,
    so that it takes the sides which leave as much over as the network's own. Residual networks pad all sides alike.
    """
    return 1 if isinstance(network, ResidualNetwork) else network.feature_info[-1].stride


def free_shapes(handover: Handover, step: int | None) -> dict[int, Any]:
    """The free dimensions of images (batch, channels, height, width); None for ``step`` frees the batch alone."""
    free: dict[int, Any] = {0: Dim("batch", min=1)}
    if step == 1:
        return free | {2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    if step is not None:
        rest = handover.architecture.image_size % step
        for axis, name in ((2, "height_steps"), (3, "width_steps")):
            steps = step * Dim(name, min=1)
            free[axis] = steps + rest if rest else steps
    return free


def traced_images(handover: Handover, step: int | None) -> Tensor:
    """Images to trace the network with: larger than its own where sides are free, as maps of one pixel are a case of their own."""
    own = handover.architecture.image_size
    return example_images(handover) if step is None else example_images(handover, sides=(own + 2 * step, own + 3 * step))


def checked_sides(handover: Handover, step: int | None) -> tuple[tuple[int, int, int], ...]:
    """Batch, height and width of the images that a program is tried on: the network's own size and, where it may come, another."""
    own = handover.architecture.image_size
    other = (1, own, own) if step is None else (1, own + 2 * step, own + 3 * step)
    return (3, own, own), other


def sides_in_words(handover: Handover, step: int | None) -> str:
    """What may come."""
    own = handover.architecture.image_size
    if step is None:
        return f"any batch of {own}×{own} pixels"
    if step == 1:
        return "any batch, height and width"
    return f"any batch, and heights and widths of {own} pixels and multiples of {step} more or less"
