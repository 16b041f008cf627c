"""Decoded videos of random pixels and energies."""

from __future__ import annotations

import numpy as np

from backbones.data.clips import cache_format
from backbones.learner.settings import BackboneSettings
from selavi_ref.media.video_cache import DecodedVideo


def random_videos(settings: BackboneSettings, n: int, seed: int = 0, seconds: float = 2.0) -> list[DecodedVideo]:
    """Return n videos in the format of a run's cache."""
    rng = np.random.default_rng(seed)
    clip = settings.clip
    shape = (round(seconds * cache_format(clip).fps), clip.decode_size, clip.decode_size, 3)
    frames = [rng.integers(0, 255, shape) for _ in range(n)]
    mels = [rng.normal(size=(clip.n_filters, round(seconds * 100) - 1)) for _ in range(n)]
    return [DecodedVideo(f.astype(np.uint8), m.astype(np.float32)) for f, m in zip(frames, mels, strict=True)]
