"""Augmentation: a pure function of its random numbers, the same for all frames of a clip."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backbones.augment import DRAWS, Draw, picture, sound
from backbones.settings import PUBLISHED_AUGMENTATION, AugmentSettings, ClipSettings

CLIP = ClipSettings(frames=3, decode_size=24, size=20, mel_mean=2.0, mel_std=3.0, mel_floor=-5.0)
NOTHING = AugmentSettings(0, 0, (1.0, 1.0), 0, 0, 0, 0, 0, 0, 0, 0, 0)


def frames(n=2, seed=0, side=24):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 255, (n, 3, side, side, 3), np.uint8))


def draw(n=2, seed=0):
    return Draw(torch.from_numpy(np.random.default_rng(seed).random((n, len(DRAWS)), np.float32)))


def draw_of(value, n=1):
    return Draw(torch.full((n, len(DRAWS)), float(value)))


@pytest.mark.parametrize("change", [AugmentSettings(), PUBLISHED_AUGMENTATION, NOTHING])
def test_shapes_and_finite_numbers(change):
    x = picture(frames(), CLIP, change, draw())
    assert x.shape == (2, 3, 3, 20, 20)
    assert torch.isfinite(x).all()
    y = sound(torch.randn(2, 64, 99), CLIP, change, draw())
    assert y.shape == (2, 1, 64, 99)


def test_the_same_numbers_give_the_same_clip_and_others_another():
    a, b = (picture(frames(), CLIP, AugmentSettings(), draw(seed=1)) for _ in range(2))
    assert torch.equal(a, b)
    assert not torch.equal(a, picture(frames(), CLIP, AugmentSettings(), draw(seed=2)))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_a_still_picture_stays_still(seed):
    still = frames(1, seed)[:, :1].expand(1, 3, 24, 24, 3)
    x = picture(still, CLIP, AugmentSettings(flip=0.5), draw(1, seed))
    assert torch.equal(x[:, :, 0], x[:, :, 1])
    assert torch.equal(x[:, :, 0], x[:, :, 2])


def test_without_changes_it_is_what_an_evaluation_sees():
    clip = ClipSettings(frames=3, decode_size=20, size=20)
    plain = picture(frames(side=20), clip, None, None)
    changed = picture(frames(side=20), clip, NOTHING, draw())
    assert torch.allclose(plain, changed, atol=1e-4)
    expected = (frames(side=20).float() / 255 - 0.45) / 0.225
    assert torch.allclose(plain, expected.permute(0, 4, 1, 2, 3), atol=1e-6)


def test_a_certain_flip_mirrors():
    clip = ClipSettings(frames=3, decode_size=20, size=20)
    flipped = picture(frames(side=20), clip, AugmentSettings(0, 0, (1, 1), 0, 1.0, 0, 0, 0, 0, 0, 0, 0), draw())
    assert torch.allclose(flipped, picture(frames(side=20), clip, None, None).flip(-1), atol=1e-4)


def test_a_grey_picture_has_equal_channels():
    x = picture(frames(), CLIP, AugmentSettings(grey=1.0), draw())
    assert torch.allclose(x[:, 0], x[:, 1], atol=1e-5)


def test_a_crop_shows_that_share_of_the_picture():
    ramp = torch.arange(20, dtype=torch.uint8).mul(10)[None, None, None, :, None].expand(1, 3, 20, 20, 3)
    clip = ClipSettings(frames=3, decode_size=20, size=20)
    change = AugmentSettings(0, 0, (0.5, 0.5), 0, 0, 0, 0, 0, 0, 0, 0, 0)
    row = picture(ramp, clip, change, draw_of(0.5))[0, 0, 0, 0] * 0.225 + 0.45
    assert float(row[-1] - row[0]) == pytest.approx(0.5 * 190 / 255, rel=0.06)


def test_sound_is_standardised_and_masks_hold_the_mean():
    mel = torch.full((1, 64, 99), 2.0)
    assert torch.allclose(sound(mel, CLIP, None, None), torch.zeros(1, 1, 64, 99))
    loud = torch.full((1, 64, 99), 8.0)
    masked = sound(loud, CLIP, AugmentSettings(volume=0, band_shift=0, band_mask=10, time_mask=20), draw_of(0.99))
    assert set(masked.unique().tolist()) == {0.0, 2.0}
    hidden = masked[0, 0] == 0
    assert int(hidden.all(1).sum()) == 10
    assert int(hidden.all(0).sum()) == 20


def test_silence_is_cut_off_at_the_floor():
    assert float(sound(torch.full((1, 64, 99), -36.0), CLIP, None, None).min()) == pytest.approx(-7 / 3)


def test_bands_shift_by_whole_bands():
    mel = torch.arange(64.0)[None, :, None].expand(1, 64, 99)
    change = AugmentSettings(volume=0, band_shift=4, band_mask=0, time_mask=0)
    up = sound(mel, CLIP, change, draw_of(0.999)) * 3 + 2
    assert up[0, 0, 0, 0] == pytest.approx(4.0, abs=1e-4)
    assert up[0, 0, -1, 0] == pytest.approx(63.0, abs=1e-4)
