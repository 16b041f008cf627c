"""Loading: clips depend on their number alone, show what was asked for, and survive videos that do not."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backbones.data.augment import DRAWS
from backbones.data.clips import Crop, StoredClips, StreamedClips
from backbones.data.degradation import Degradation
from backbones.data.loader import ClipSampling, TrainingClips, TrainingLoader, eval_batches, prefetch
from backbones.data.settings import NO_AUGMENTATION, PUBLISHED_AUGMENTATION, AugmentSettings, ClipSettings
from selavi_ref.errors import MediaError
from selavi_ref.media import log_mel, read_clip
from selavi_ref.media.decoder import run_guarded
from selavi_ref.media.video_cache import ClipCache
from tests.support import broken_decoders
from tests.support.media_files import bursts, tone, write_video
from tests.support.refusal import refused

CLIP = ClipSettings(frames=4, fps=10.0, decode_size=32, size=28, sample_rate=8000, n_filters=20)
PUBLISHED = replace(PUBLISHED_AUGMENTATION, scale=(1.0, 32 / 28), time_shift=0.2)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Six videos of four seconds, of different shapes, whose left is red and whose right is blue."""
    root = tmp_path_factory.mktemp("videos")
    made = []
    for number, size in enumerate([(96, 48), (64, 48), (48, 48), (48, 80), (64, 64), (96, 48)]):
        pictures = np.zeros((120, size[1], size[0], 3), np.uint8)
        pictures[..., 0] = np.linspace(250, 0, size[0])[None, None, :]
        pictures[..., 2] = np.linspace(0, 250, size[0])[None, None, :]
        pictures[..., 1] = np.arange(120)[:, None, None] * 2
        wave = bursts(4.0, [1.0, 2.5], 48000) + 0.1 * tone(4.0, 300 + 100 * number)
        made.append(str(write_video(root / f"{number}.mp4", n_frames=120, size=size, pictures=pictures, sound=wave)))
    return made


def all_batches(source, workers: int, seed=(1, 2), numbers=((0, 1, 2), (3, 4, 5)), augment=PUBLISHED):
    loader = TrainingLoader(source, augment, workers)
    return list(loader.batches([np.array(batch) for batch in numbers], seed))


def same(one, other) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("frames", "mel", "draws"))


def test_clips_are_the_same_whoever_decodes_them_and_in_whatever_order(paths: list[str]) -> None:
    source = StreamedClips(paths, CLIP)
    here, there = all_batches(source, 0), all_batches(source, 2)
    assert all(same(a, b) for a, b in zip(here, there, strict=True))
    late = all_batches(source, 0, numbers=((3, 4, 5),))[0]
    assert same(late, here[1])
    assert not same(all_batches(source, 0, seed=(1, 3))[0], here[0])


def test_a_loader_goes_through_many_epochs_with_the_same_processes(paths: list[str]) -> None:
    loader = TrainingLoader(StreamedClips(paths, CLIP), PUBLISHED, 1)
    rows = [np.arange(3), np.arange(3, 6)]
    epochs = [list(loader.batches(rows, (0, epoch))) for epoch in range(3)]
    assert all(len(epoch) == 2 for epoch in epochs)
    fresh = all_batches(StreamedClips(paths, CLIP), 0, seed=(0, 2))
    assert all(same(a, b) for a, b in zip(epochs[2], fresh, strict=True))


def test_numbers_beyond_the_collection_are_further_clips_of_its_videos(paths: list[str]) -> None:
    clips = TrainingClips(StreamedClips(paths, CLIP), PUBLISHED)
    rows = [clips[(7,), 2 + 6 * again][0] for again in range(3)]
    assert rows == [2, 2, 2]
    shown = [clips[(7,), 2 + 6 * again][1][0][0].frames for again in range(3)]
    assert not np.array_equal(shown[0], shown[1])
    assert not np.array_equal(shown[1], shown[2])


def test_a_training_clip_is_scaled_while_decoding_and_cut_out_exactly(paths: list[str]) -> None:
    """As published: short side between 28 and 32 pixels, then a square of 28 anywhere, the sound 0.2 s off at most."""
    _, ((clip, draws),), _ = TrainingClips(StreamedClips(paths, CLIP), PUBLISHED)[(5,), 0]
    drawn = dict(zip(DRAWS, draws.tolist(), strict=True))
    side = round(28 * (1 + (32 / 28 - 1) * drawn["scale"]))
    shift = 0.2 * (2 * drawn["time_shift"] - 1)
    start = drawn["start"] * 3.0
    options = {"fps": 10.0, "frames": 4, "size": side, "sample_rate": 8000}
    whole = read_clip(paths[0], start, 1.0, audio_shift=shift, **options)
    down, across = (round(drawn[name] * room) for name, room in (("down", side - 28), ("across", 2 * side - 28)))
    np.testing.assert_array_equal(clip.frames[0], whole.frames[:, down : down + 28, across : across + 28])
    np.testing.assert_array_equal(clip.mel, log_mel(whole.samples, 8000, n_filters=20))


def test_three_squares_are_left_middle_and_right(paths: list[str]) -> None:
    view = Crop.for_evaluation(CLIP, NO_AUGMENTATION, 3)
    clip = StreamedClips(paths, CLIP).clip(0, 1.0, view)
    assert clip.frames.shape == (3, 4, 28, 28, 3)
    red, blue = clip.frames[..., 0].mean((1, 2, 3)), clip.frames[..., 2].mean((1, 2, 3))
    assert red[0] > red[1] + 40 > red[2] + 80
    assert blue[0] < blue[1] - 40 < blue[2] - 80
    middle = StreamedClips(paths, CLIP).clip(0, 1.0, Crop.for_evaluation(CLIP, NO_AUGMENTATION))
    np.testing.assert_array_equal(middle.frames[0], clip.frames[1])


@pytest.mark.parametrize("workers", [0, 2])
def test_looks_hold_every_clip_and_every_square_of_each_video(paths: list[str], tmp_path: Path, workers: int) -> None:
    silent = str(write_video(tmp_path / "silent.mp4", n_frames=60))
    gone = str(tmp_path / "gone.mp4")
    source = StreamedClips([*paths[:3], silent, gone], CLIP)
    seen = list(eval_batches(source, range(5), NO_AUGMENTATION, ClipSampling(4, 3), batch_size=3, workers=workers))
    assert [look.rows.tolist() for look in seen] == [[0, 1, 2], [3, 4]]
    assert seen[0].frames.shape == (3 * 4 * 3, 4, 28, 28, 3)
    assert seen[0].mel.shape[:2] == (3 * 4, 20)
    assert seen[1].present["video"].tolist() == [True, False]
    assert seen[1].present["audio"].tolist() == [False, False]
    assert seen[1].reasons[0] == ""
    assert "gone.mp4" in seen[1].reasons[1]
    starts = [(m + 0.5) / 4 * 3.0 for m in range(4)]
    view = Crop.for_evaluation(CLIP, NO_AUGMENTATION, 3)
    for m, start in enumerate(starts):
        expected = source.clip(1, start, view).frames
        np.testing.assert_array_equal(seen[0].frames[12 + 3 * m : 15 + 3 * m].numpy(), expected)


class Breaking(StreamedClips):
    """The decoder crashes on one video and hangs in another."""

    def clip(self, row, start, view, audio_shift=0.0):
        if row == 1:
            run_guarded(broken_decoders.crash, self.paths[row])
        if row == 4:
            run_guarded(broken_decoders.hang, self.paths[row], limit=0.3)
        return super().clip(row, start, view, audio_shift)


@pytest.mark.parametrize("workers", [0, 2])
def test_videos_on_which_the_decoder_crashes_or_hangs_are_replaced_and_reported(paths: list[str], workers: int) -> None:
    batches = all_batches(Breaking(paths, CLIP), workers)
    result = dict(failure for batch in batches for failure in batch.failures)
    assert sorted(result) == [1, 4]
    assert result[1].endswith("1.mp4: the decoder crashed on it (SIGSEGV)")
    assert result[4].endswith("4.mp4: reading it took longer than 0.3 s")
    rows = np.concatenate([batch.rows for batch in batches])
    assert len(rows) == 6
    assert not {1, 4} & set(rows.tolist())


def test_a_collection_of_broken_videos_ends_in_one_error(tmp_path: Path) -> None:
    broken = []
    for n in range(2):
        (tmp_path / f"{n}.mp4").write_text("no video")
        broken.append(str(tmp_path / f"{n}.mp4"))
    with refused(MediaError):
        all_batches(StreamedClips(broken, CLIP), 0, numbers=((0, 1),))


def test_kept_and_cached_clips_are_those_of_the_files(paths: list[str], tmp_path: Path) -> None:
    """From times on the grid of the kept frames; at their size exactly, at another closely."""
    streamed = StreamedClips(paths, CLIP)
    kept = StoredClips.in_memory(paths, CLIP, 2)
    cached = StoredClips.cached(ClipCache(tmp_path, kept.format, jpeg=False), paths, CLIP, 2)
    jpeg = StoredClips.cached(ClipCache(tmp_path, kept.format), paths, CLIP, 2)
    assert kept.format.fps == 20.0
    for row in range(6):
        assert kept.seconds(row) == pytest.approx(streamed.seconds(row), abs=0.06)
        for view, close in ((Crop(32, 32, ((0.3, 0.8), (1, 0))), 0), (Crop(30, 28, ((0.5, 0.5),)), 5)):
            wanted = streamed.clip(row, 1.5, view)
            got = kept.clip(row, 1.5, view)
            assert np.abs(got.frames.astype(int) - wanted.frames).max() <= close
            again = cached.clip(row, 1.5, view)
            np.testing.assert_array_equal(again.frames, got.frames)
            np.testing.assert_array_equal(again.mel, got.mel)
            assert np.abs(jpeg.clip(row, 1.5, view).frames.astype(int) - wanted.frames).mean() < 4
            # The first window of a second read alone lacks the sample before it, the last one is padded.
            np.testing.assert_allclose(got.mel[:, 1:-1], wanted.mel[:, 1:-1], atol=1e-3)


def test_cached_clips_reach_worker_processes(paths: list[str], tmp_path: Path) -> None:
    source = StoredClips.cached(ClipCache(tmp_path, StoredClips([], CLIP).format), paths, CLIP, 2)
    here, there = all_batches(source, 0), all_batches(source, 2)
    assert all(same(a, b) for a, b in zip(here, there, strict=True))


class TestAhead:
    def test_items_come_in_order_and_some_before_they_are_asked_for(self) -> None:
        made: list[int] = []
        taken = prefetch((made.append(number) or number for number in range(20)), 3)
        assert next(taken) == 0
        deadline = time.monotonic() + 10
        while len(made) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert 4 <= len(made) <= 6
        assert list(taken) == list(range(1, 20))

    def test_an_error_comes_where_it_was_met(self) -> None:
        def broken() -> Iterator[int]:
            yield 1
            raise MediaError("no clip", path="a.mp4")

        taken = prefetch(broken())
        assert next(taken) == 1
        with refused(MediaError, path=Path("a.mp4")):
            next(taken)

    def test_what_is_no_longer_wanted_is_no_longer_made(self) -> None:
        made: list[int] = []
        before = threading.active_count()
        taken = prefetch(made.append(number) or number for number in range(10**9))
        next(taken)
        taken.close()
        assert threading.active_count() == before
        assert len(made) < 10

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_batches_for_a_gpu_are_those_of_others(self, paths: list[str]) -> None:
        source = StoredClips.in_memory(paths, CLIP, 1)
        asked = [np.arange(3), np.arange(3, 6), np.arange(6)]
        ways = (TrainingLoader(source, PUBLISHED, 0, pin=pin).batches(asked, [7]) for pin in (False, True))
        for plain, pinned in zip(*ways, strict=True):
            assert same(plain, pinned)
            assert pinned.frames.is_pinned()


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_come_through_pipes_where_shared_memory_is_full(paths, monkeypatch, workers):
    def full(tensor):
        raise RuntimeError("unable to allocate shared memory(shm): No space left on device (28)")

    plain = all_batches(StreamedClips(paths, CLIP), 0)
    monkeypatch.setattr(torch.Tensor, "share_memory_", full)  # in workers, too: they are forked
    with pytest.warns(UserWarning, match="/dev/shm"):
        batches = all_batches(StreamedClips(paths, CLIP), workers)
    assert all(map(same, plain, batches))
    with pytest.warns(UserWarning, match="/dev/shm"):
        looked_at = list(
            eval_batches(StreamedClips(paths, CLIP), range(3), NO_AUGMENTATION, ClipSampling(), batch_size=2, workers=1)
        )
    assert [len(batch.rows) for batch in looked_at] == [2, 1]
    assert all(isinstance(batch.frames, torch.Tensor) for batch in looked_at)


class TestDegradation:
    def test_shrinking_leaves_the_mean_colour_and_takes_detail(self) -> None:
        noise = np.random.default_rng(0).integers(0, 255, (1, 2, 32, 32, 3)).astype(np.uint8)
        spreads = []
        for factor in (1, 2, 4, 8, 64):
            worse = Degradation(shrink=factor).degrade_frames(noise)
            assert worse.shape == noise.shape
            assert abs(worse.mean() - noise.mean()) < 3
            spreads.append(worse.std(axis=(2, 3)).mean())
        assert spreads == sorted(spreads, reverse=True)
        assert spreads[-1] < 0.5

    @settings(max_examples=30, deadline=None)
    @given(st.floats(-20, 40), st.integers(0, 99))
    def test_noise_lies_so_many_decibels_below_the_sound(self, level: float, seed: int) -> None:
        wave = tone(1.0, 440, 24000).astype(np.float32)
        noisy = Degradation(noise=level).degrade_samples(wave, seed)
        assert noisy.dtype == np.float32
        measured = 10 * np.log10(np.mean(wave**2) / np.mean((noisy - wave) ** 2))
        assert measured == pytest.approx(level, abs=0.3)
        np.testing.assert_array_equal(noisy, Degradation(noise=level).degrade_samples(wave, seed))

    def test_attenuation_and_its_limit(self) -> None:
        wave = tone(1.0, 440, 24000).astype(np.float32)
        quiet = Degradation(attenuate=20).degrade_samples(wave, 0)
        assert np.abs(quiet).max() == pytest.approx(0.05, rel=1e-2)
        assert not Degradation(attenuate=120).degrade_samples(wave, 0).any()

    @pytest.mark.parametrize("wrong", [{"shrink": 0}, {"attenuate": -1.0}, {"noise": float("nan")}])
    def test_wrong_arguments_are_refused(self, wrong) -> None:
        with refused(option=next(iter(wrong))):
            Degradation(**wrong)

    def test_a_source_gives_degraded_clips(self, paths: list[str]) -> None:
        view = Crop.for_evaluation(CLIP, NO_AUGMENTATION)
        plain = StreamedClips(paths, CLIP).clip(0, 1.0, view)
        worse = StreamedClips(paths, CLIP, degradation=Degradation(8, 0.0, 0.0)).clip(0, 1.0, view)
        assert worse.frames[0, 0, :, :, 0].std() < plain.frames[0, 0, :, :, 0].std()
        assert worse.mel.min() > plain.mel.min()


@settings(max_examples=50, deadline=None)
@given(scale=st.floats(0, 1), down=st.floats(0, 1), across=st.floats(0, 1), published=st.booleans())
def test_a_view_always_fits_its_picture(scale: float, down: float, across: float, published: bool) -> None:
    change = PUBLISHED if published else AugmentSettings()
    view = Crop.for_training(CLIP, change, scale, down, across)
    assert view.window == (28 if published else 32)
    assert view.window <= view.side <= 32


class Garbage:
    """Part of a cycle that only the garbage collector frees, which it then writes down."""

    def __init__(self, file):
        self.file, self.itself = file, self

    def __del__(self):
        self.file.write_text(str(os.getpid()))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system with fork")
def test_a_forked_worker_frees_no_garbage_of_its_parent(tmp_path):
    gc.disable()
    try:
        Garbage(tmp_path / "freed")
        child = os.fork()
        if not child:
            gc.collect()
            os._exit(0)
        os.waitpid(child, 0)
        assert not (tmp_path / "freed").exists()
    finally:
        gc.enable()
    gc.collect()
    assert (tmp_path / "freed").read_text() == str(os.getpid())
