"""Augmentation: a pure function of its random numbers, the same for all frames of a clip."""

import tomllib
from dataclasses import asdict, replace

import numpy as np
import pytest
import tomli_w
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backbones.data.augment import DRAWS, Draw, audio_input, video_input
from backbones.data.settings import NO_AUGMENTATION, PUBLISHED_AUGMENTATION, AugmentSettings, ClipSettings
from backbones.learner.settings import BackboneSettings
from tests.support.refusal import refused

CLIP = ClipSettings(frames=3, decode_size=24, size=20, mel_mean=2.0, mel_std=3.0, mel_floor=-5.0)
NOTHING = NO_AUGMENTATION


def frames(n=2, seed=0, side=24):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 255, (n, 3, side, side, 3), np.uint8))


def draw(n=2, seed=0):
    return Draw(torch.from_numpy(np.random.default_rng(seed).random((n, len(DRAWS)), np.float32)))


def draw_of(value, n=1):
    return Draw(torch.full((n, len(DRAWS)), float(value)))


@pytest.mark.parametrize("change", [AugmentSettings(), PUBLISHED_AUGMENTATION, NOTHING])
def test_shapes_and_finite_numbers(change):
    x = video_input(frames(), CLIP, change, draw())
    assert x.shape == (2, 3, 3, 20, 20)
    assert torch.isfinite(x).all()
    y = audio_input(torch.randn(2, 64, 99), CLIP, change, draw())
    assert y.shape == (2, 1, 64, 99)


def test_the_same_numbers_give_the_same_clip_and_others_another():
    a, b = (video_input(frames(), CLIP, AugmentSettings(), draw(seed=1)) for _ in range(2))
    assert torch.equal(a, b)
    assert not torch.equal(a, video_input(frames(), CLIP, AugmentSettings(), draw(seed=2)))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_a_still_picture_stays_still(seed):
    still = frames(1, seed)[:, :1].expand(1, 3, 24, 24, 3)
    x = video_input(still, CLIP, AugmentSettings(flip=0.5), draw(1, seed))
    assert torch.equal(x[:, :, 0], x[:, :, 1])
    assert torch.equal(x[:, :, 0], x[:, :, 2])


def test_without_changes_it_is_what_an_evaluation_sees():
    clip = ClipSettings(frames=3, decode_size=20, size=20)
    plain = video_input(frames(side=20), clip, None, None)
    changed = video_input(frames(side=20), clip, NOTHING, draw())
    assert torch.allclose(plain, changed, atol=1e-4)
    expected = (frames(side=20).float() / 255 - 0.45) / 0.225
    assert torch.allclose(plain, expected.permute(0, 4, 1, 2, 3), atol=1e-6)


def test_a_certain_flip_mirrors():
    clip = ClipSettings(frames=3, decode_size=20, size=20)
    flipped = video_input(frames(side=20), clip, replace(NO_AUGMENTATION, flip=1.0), draw())
    assert torch.allclose(flipped, video_input(frames(side=20), clip, None, None).flip(-1), atol=1e-4)


def test_a_grey_picture_has_equal_channels():
    x = video_input(frames(), CLIP, AugmentSettings(grey=1.0), draw())
    assert torch.allclose(x[:, 0], x[:, 1], atol=1e-5)


def test_a_jitter_changes_brightness_contrast_and_saturation_as_torchvision_does():
    change = replace(NOTHING, jitter=0.4, jitter_chance=1.0)
    clip = ClipSettings(frames=3, decode_size=20, size=20)
    numbers = torch.full((1, len(DRAWS)), 0.5)
    numbers[0, DRAWS.index("jitter_brightness")] = 0.0  # times 0.6
    darker = video_input(frames(1, side=20), clip, change, Draw(numbers)) * 0.225 + 0.45
    plain = video_input(frames(1, side=20), clip, None, None) * 0.225 + 0.45
    assert torch.allclose(darker, 0.6 * plain, atol=1e-3)
    numbers[0, DRAWS.index("jitter_brightness")] = 0.5
    numbers[0, DRAWS.index("jitter_saturation")] = 0.0
    paler = video_input(frames(1, side=20), clip, change, Draw(numbers)) * 0.225 + 0.45
    luma = (plain * torch.tensor([0.299, 0.587, 0.114])[None, :, None, None, None]).sum(1, keepdim=True)
    assert torch.allclose(paler, 0.6 * plain + 0.4 * luma, atol=5e-3)


def test_jitter_and_blur_have_a_probability():
    change = replace(NOTHING, jitter=0.4, jitter_chance=0.0, blur=0.0)
    clip = ClipSettings(frames=3, decode_size=20, size=20)
    plain = video_input(frames(side=20), clip, None, None)
    assert torch.allclose(video_input(frames(side=20), clip, change, draw()), plain, atol=1e-6)
    blurred = video_input(frames(side=20), clip, replace(NOTHING, blur=1.0), draw_of(0.9, 2))
    assert blurred.std() < 0.6 * plain.std()
    assert torch.allclose(blurred.mean(), plain.mean(), atol=0.1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(-30, 10))
def test_a_background_is_another_clip_and_quieter(seed, level):
    clip = replace(CLIP, mel_mean=0.0, mel_std=1.0, mel_floor=-60.0)
    mel = torch.from_numpy(np.random.default_rng(seed).normal(-5, 2, (3, 64, 99)).astype(np.float32))
    mel[1] += level
    mixed = audio_input(mel, clip, replace(NOTHING, background=1.0), draw(3, seed))[:, 0]
    assert (mixed >= mel - 1e-5).all()
    added = (mixed.double().exp() - mel.double().exp()).sum((1, 2))
    energies = mel.double().exp().sum((1, 2))
    assert (added <= energies * np.exp(-1.0) * 1.001).all()
    assert (added <= energies.sum() - energies + 1e-3).all()  # not louder than the other clip was
    assert (added > 0).any()
    only = audio_input(mel[:1], clip, replace(NOTHING, background=1.0), draw(1, seed))[:, 0]
    assert torch.allclose(only, mel[:1])


def test_volume_adds_to_energies_but_not_to_filters_without_a_bin():
    mel = torch.tensor([-36.0437, -20.0, 3.0])[None, :, None].expand(1, 3, 99)
    clip = replace(CLIP, mel_mean=0.0, mel_std=1.0, mel_floor=-40.0)
    louder = audio_input(mel, clip, replace(NOTHING, volume=0.1), draw_of(1.0))
    assert torch.allclose(louder[0, 0, :, 0], torch.tensor([-36.0437, -19.8, 3.2]), atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([AugmentSettings(), PUBLISHED_AUGMENTATION]))
def test_a_clip_is_varied_alike_alone_and_in_a_batch(seed, change):
    change = replace(change, blur=0.5, flip=0.5)
    whole, numbers = frames(4, seed), torch.from_numpy(np.random.default_rng(seed).random((4, len(DRAWS)), np.float32))
    together = video_input(whole, CLIP, change, Draw(numbers))
    alone = video_input(whole[2:3], CLIP, change, Draw(numbers[2:3]))
    assert torch.allclose(together[2], alone[0], atol=1e-5)


class TestSettings:
    def test_changes_are_written_name_value(self):
        changed = AugmentSettings().changed(["flip=0.5", "scale=1.1,1.4", "time-shift=0.5", "band_mask=3"])
        assert (changed.flip, changed.scale, changed.time_shift, changed.band_mask) == (0.5, (1.1, 1.4), 0.5, 3)

    @pytest.mark.parametrize(
        ("text", "option"),
        [
            ("flop=1", "augment"),
            ("flip", "augment"),
            ("flip=x", "augment"),
            ("scale=2", "augment"),
            ("band_mask=1.5", "augment"),
            ("flip=2", "augment.flip"),
            ("scale=0.5,2", "augment.scale"),
            ("rotation=-1", "augment.rotation"),
            ("jitter=1.5", "augment.jitter"),
            ("zoom=nan", "augment.zoom"),
        ],
    )
    def test_what_does_not_fit_is_named(self, text, option):
        with refused(option=option):
            AugmentSettings().changed([text])

    def test_they_survive_a_file_of_settings(self):
        settings = BackboneSettings.for_networks("r2plus1d_18", "resnet9")
        assert BackboneSettings.from_dict(tomllib.loads(tomli_w.dumps(asdict(settings)))) == settings


def test_settings_of_a_run_from_before_there_were_backgrounds_have_none():
    values = asdict(BackboneSettings())
    del values["augment"]["background"]
    assert BackboneSettings.from_dict(values).augment == replace(AugmentSettings(), background=0.0)


def test_sound_is_standardised_and_masks_hold_the_mean():
    mel = torch.full((1, 64, 99), 2.0)
    assert torch.allclose(audio_input(mel, CLIP, None, None), torch.zeros(1, 1, 64, 99))
    loud = torch.full((1, 64, 99), 8.0)
    masked = audio_input(loud, CLIP, AugmentSettings(volume=0, band_shift=0, band_mask=10, time_mask=20), draw_of(0.99))
    assert set(masked.unique().tolist()) == {0.0, 2.0}
    hidden = masked[0, 0] == 0
    assert int(hidden.all(1).sum()) == 10
    assert int(hidden.all(0).sum()) == 20


def test_silence_is_cut_off_at_the_floor():
    assert float(audio_input(torch.full((1, 64, 99), -36.0), CLIP, None, None).min()) == pytest.approx(-7 / 3)


def test_bands_shift_by_whole_bands():
    mel = torch.arange(64.0)[None, :, None].expand(1, 64, 99)
    change = AugmentSettings(volume=0, band_shift=4, band_mask=0, time_mask=0)
    up = audio_input(mel, CLIP, change, draw_of(0.999)) * 3 + 2
    assert up[0, 0, 0, 0] == pytest.approx(4.0, abs=1e-4)
    assert up[0, 0, -1, 0] == pytest.approx(63.0, abs=1e-4)
