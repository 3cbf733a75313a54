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


@pytest.mark.parametrize(("side", "fraction"), [(8, 1.0), (31, 1.0), (32, 0.875), (28, 0.875)])
@pytest.mark.parametrize("size", SIZES)
def test_squashing_is_that_of_timm(size: tuple[int, int], side: int, fraction: float) -> None:
    from timm.data import create_transform

    image = Image.fromarray(np.random.default_rng(sum(size)).integers(256, size=(size[1], size[0], 3), dtype=np.uint8))
    how = {"interpolation": "bilinear", "crop_pct": fraction, "crop_mode": "squash", "use_prefetcher": True}
    expected = create_transform((3, side, side), is_training=False, **how)(image)
    np.testing.assert_array_equal(as_array(middle(image, side, fraction, "bilinear", "squash")).transpose(2, 0, 1), np.asarray(expected))


def test_squashing_shows_what_lies_at_the_border() -> None:
    image = Image.new("RGB", (300, 60))
    image.paste((255, 255, 255), (0, 0, 40, 60))
    assert as_array(middle(image, 30)).max() == 0 and as_array(middle(image, 30, mode="squash"))[:, :3].min() == 255
