"""Augmentation in batches does what the same steps do image by image."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nas.data.augmentation import Draws, augment, draw, normalise, plan_augmentation
from nas.data.settings import AugmentationSettings

SIZE, CHANNELS, BATCH = 16, 3, 12
MEAN, STD = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.25, 0.3])


def images(seed: int = 0, size: int = SIZE, channels: int = CHANNELS) -> torch.Tensor:
    return torch.randint(256, (BATCH, size, size, channels), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def plan(size: int = SIZE, mirrors: bool = True, **settings):
    return plan_augmentation(AugmentationSettings(**settings), size, mirrors)


def one_by_one(batch: torch.Tensor, made, draws: Draws, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """The reference: plain loops over single images, cropping by slices."""
    results = []
    for i, image in enumerate(batch):
        pixels = image.permute(2, 0, 1)[None].float()
        if made.upsample:
            pixels = F.interpolate(pixels, size=(made.canvas, made.canvas), mode="bilinear", align_corners=False)
        elif made.canvas > made.image_size:
            pixels = F.pad(pixels, ((made.canvas - made.image_size) // 2,) * 4)
        row, column = int(draws.row[i]), int(draws.column[i])
        pixels = pixels[0, :, row : row + made.image_size, column : column + made.image_size]
        if made.flip and draws.mirrored[i]:
            pixels = pixels.flip(2)
        pixels = (pixels / 255 - mean[:, None, None]) / std[:, None, None]
        if made.cutout:
            top, left = int(draws.cut_row[i]) - made.cutout // 2, int(draws.cut_column[i]) - made.cutout // 2
            pixels = pixels.clone()
            pixels[:, max(0, top) : max(0, top + made.cutout), max(0, left) : max(0, left + made.cutout)] = 0
        results.append(pixels)
    return torch.stack(results)


@pytest.mark.parametrize("name", ["none", "shift", "upsample"])
@pytest.mark.parametrize("cutout", [0, 5, 8])
@pytest.mark.parametrize(("size", "channels"), [(16, 3), (8, 1), (11, 3)])
def test_batched_augmentation_equals_that_of_single_images(name, cutout, size, channels):
    made = plan(size, crop=name, cutout=cutout)
    draws = draw(made, BATCH, torch.Generator().manual_seed(1))
    batch = images(size=size, channels=channels)
    mean, std = MEAN[:channels], STD[:channels]
    result, expected = augment(batch, made, draws, mean, std), one_by_one(batch, made, draws, mean, std)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)
    assert result.shape == (BATCH, channels, size, size) and result.dtype == torch.float32
    assert result.is_contiguous(memory_format=torch.channels_last)


def test_upsampling_crops_40_to_32_and_shift_pads_by_4():
    assert plan(32, crop="upsample").canvas == 40 and plan(32, crop="shift").canvas == 40
    assert plan(8, crop="shift").canvas == 10 and plan(32, crop="none").canvas == 32


def test_the_images_given_are_not_changed():
    batch = images()
    before = batch.clone()
    made = plan(crop="none", cutout=8)
    augment(batch, made, draw(made, BATCH, torch.Generator()), MEAN, STD)
    normalise(batch, MEAN, STD)
    assert torch.equal(batch, before)


def test_draws_cover_every_offset_evenly_and_differ_between_examples():
    made = plan(32, crop="upsample", cutout=8)
    draws = draw(made, 18_000, torch.Generator().manual_seed(0))
    for values, choices in ((draws.row, 9), (draws.column, 9), (draws.mirrored.long(), 2), (draws.cut_row, 32), (draws.cut_column, 32)):
        counts = torch.bincount(values, minlength=choices).double()
        assert len(counts) == choices
        expected = 18_000 / choices
        # Chi-squared with choices - 1 degrees of freedom: mean choices - 1, deviation sqrt(2 (choices - 1)); 6 deviations.
        assert ((counts - expected) ** 2 / expected).sum() < (choices - 1) + 6 * (2 * (choices - 1)) ** 0.5
    pairs = (draws.row, draws.column, draws.mirrored.long(), draws.cut_row, draws.cut_column)
    correlation = np.corrcoef(np.stack([values.numpy() for values in pairs]))
    assert np.abs(correlation - np.eye(5)).max() < 0.05


@pytest.mark.parametrize("name", ["none", "shift", "upsample"])
def test_mirroring_needs_the_setting_and_the_data_set(name):
    assert plan(crop=name).flip
    assert not plan(crop=name, flip=False).flip
    assert not plan(crop=name, mirrors=False).flip


def test_normalised_training_images_have_mean_0_and_deviation_1():
    batch = images()
    scaled = batch.double() / 255
    mean, std = scaled.mean((0, 1, 2)).float(), scaled.std((0, 1, 2), correction=0).float()
    result = normalise(batch, mean, std)
    torch.testing.assert_close(result.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(result.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5, rtol=0)


def test_cutout_erases_half_of_the_side_at_most():
    assert plan(16, cutout=12).cutout == 8 and plan(32, cutout=12).cutout == 12


def test_draws_can_be_taken_in_batches():
    draws = draw(plan(), 10, torch.Generator().manual_seed(0))
    assert torch.equal(torch.cat([draws.take(slice(4)).row, draws.take(slice(4, 10)).row]), draws.row)
    assert torch.equal(draws.take(slice(1, 10, 3)).row, draws.row[1::3]), "a worker's share"
    assert torch.equal(draws.take(slice(2, 3)).cut_column, draws.cut_column[2:3])
