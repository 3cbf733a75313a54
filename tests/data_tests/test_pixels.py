"""From image to pixels: the arithmetic is torchvision's, whatever the size and the orientation."""

import math

import numpy as np
import pytest
from PIL import Image

from nas.data.pixels import as_array, middle

SIZES = ((37, 51), (51, 37), (40, 40), (101, 33), (33, 101), (64, 65), (200, 150), (9, 300))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("side", "fraction"), [(8, 1.0), (31, 1.0), (32, 0.875), (33, 0.9), (28, 0.875)])
@pytest.mark.parametrize("size", SIZES)
def test_the_middle_is_that_of_torchvisions_resize_and_center_crop(
    size: tuple[int, int], side: int, fraction: float, interpolation: str
) -> None:
    from torchvision.transforms import InterpolationMode, v2

    image = Image.fromarray(np.random.default_rng(sum(size)).integers(256, size=(size[1], size[0], 3), dtype=np.uint8))
    whole = v2.Compose([v2.Resize(math.floor(side / fraction), InterpolationMode(interpolation)), v2.CenterCrop(side)])
    found = middle(image, side, fraction, interpolation)
    assert found.size == (side, side)
    np.testing.assert_array_equal(as_array(found), np.asarray(whole(image)))
