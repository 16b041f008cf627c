"""From the options of `selavi train` to a run's settings: the paper's for its networks, small ones for a CPU."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace

from backbones.jobs import RunSettings, choose_device, choose_precision
from backbones.settings import (
    NO_AUGMENTATION,
    PUBLISHED_AUGMENTATION,
    AugmentSettings,
    BackboneSettings,
    ClipSettings,
)
from selavi_ref.errors import InputError
from selavi_ref.schedule import TrainingSettings
from selavi_ref.selflabel import ClusterSizes
from selavi_ref.transport import marginals

_STEPS = 50  # times the square root of the number of videos: steps that a small network learns for
_SMALL_COLLECTION = 1000  # below so many videos, smaller batches give more steps
_FINENESS, _LEAST_FINE = 5, 8  # side heads have so many times more clusters, of at least so many videos
_LEAST_EPOCHS = 10
_LEAST_SOUND = 0.1  # seconds
_MOST_STEPS = 4000  # or twice the usual steps, if that is more: when to settle even if the modalities do not agree
_LEAST_SETTLING = 800  # steps, or half of the usual ones, if that is more
_MOST_FINE = 2000  # fine clusters of all side heads together: their graph is that large, squared


def run_settings(
    n_videos: int,
    *,
    clusters: int,
    video_net: str = "tiny",
    audio_net: str | None = None,
    heads: int | None = None,
    groups: int = 1,
    distribution: str = "gaussian",
    spread: float | None = None,
    strength: float = 10.0,
    epochs: int | None = None,
    labellings: int | None = None,
    batch_size: int | None = None,
    rate: float | None = None,
    frames: int | None = None,
    stride: int = 1,
    clips_per_video: int = 1,
    sound_seconds: float = 1.0,
    sound_rate: int | None = None,
    mel_bands: int | None = None,
    augment: Sequence[str] = (),
    precision: str = "auto",
    device: str = "auto",
    seed: int = 0,
) -> RunSettings:
    """
    Fill in what a user has left open, by the kind of video network and the number of videos.

    Raises
    ------
    InputError
        If an option does not fit the others.
    """
    for option, value in (("--strength", strength), ("--rate", rate or 1.0), ("--spread", spread or 0.0)):
        if not math.isfinite(value):
            raise InputError(f"{option} must be a finite number, not {value}")
    device = choose_device(device)
    small = video_net == "tiny"
    backbone = BackboneSettings.for_networks(video_net, audio_net or ("tiny" if small else "resnet9"))
    backbone = replace(
        backbone,
        clip=_clip(backbone.clip, frames, stride, sound_seconds, sound_rate, mel_bands),
        augment=_augmentation(backbone.augment, augment),
    )
    precision = choose_precision("float32" if precision == "auto" and not small else precision, device)
    batch = 32 if small and n_videos < _SMALL_COLLECTION else backbone.batch_size
    backbone = replace(backbone, precision=precision, batch_size=batch_size or batch)
    heads = heads or (5 if small else 10)
    if groups > heads:
        raise InputError(f"--groups {groups}: there are only {heads} heads to split")
    given: tuple[float, ...] = ()
    if distribution not in ("uniform", "gaussian", "zipf"):
        if not os.path.exists(distribution):
            raise InputError(
                f"--distribution {distribution}: not uniform, gaussian or zipf, and no file of that name exists"
            )
        given = tuple(marginals.read(distribution, clusters).tolist())
    side_clusters = min(_FINENESS * clusters, n_videos // _LEAST_FINE)
    side_heads = min(5, _MOST_FINE // side_clusters) if small and side_clusters >= 2 * clusters else 0
    usual, most, settling = _small_epochs(n_videos * clips_per_video, backbone.batch_size) if small else (200, 200, 0)
    adaptive = side_heads > 0 and epochs is None
    training = TrainingSettings(
        epochs=epochs or (most if adaptive else usual),
        settle_epochs=settling if adaptive else 0,
        batch_size=backbone.batch_size,
        clips_per_video=clips_per_video,
        rate=rate or (0.1 if small else 0.01),
        warmup_epochs=3.0 if small else 10.0,
        decay="cosine" if small else "constant",
        labellings=labellings or (100 if not small else 160 if adaptive else 80),
        groups=groups,
        sizes=ClusterSizes(distribution, (0.02 if small else 0.1) if spread is None else spread, given),
        strength=strength,
        side_heads=side_heads,
        seed=seed,
    )
    return RunSettings(clusters, heads, side_clusters, training, backbone)


def _clip(
    clip: ClipSettings,
    frames: int | None,
    stride: int,
    sound_seconds: float,
    sound_rate: int | None,
    mel_bands: int | None,
) -> ClipSettings:
    """Return the networks' own clip with what a user wants otherwise."""
    if sound_rate is not None and sound_rate % 100:
        raise InputError(f"--sound-rate {sound_rate}: a multiple of 100, so that 10 ms are whole samples")
    if not (math.isfinite(sound_seconds) and sound_seconds >= _LEAST_SOUND):
        raise InputError(f"--sound-seconds {sound_seconds:g}: at least {_LEAST_SOUND} s")
    return replace(
        clip,
        frames=frames or clip.frames,
        fps=clip.fps / stride,
        seconds=sound_seconds,
        sample_rate=sound_rate or clip.sample_rate,
        n_filters=mel_bands or clip.n_filters,
    )


def _augmentation(usual: AugmentSettings, assignments: Sequence[str]) -> AugmentSettings:
    """Return the usual changes, or ``none``, ``published`` or ``strong`` ones, with what ``name=value`` sets."""
    known = {"none": NO_AUGMENTATION, "published": PUBLISHED_AUGMENTATION, "strong": AugmentSettings()}
    named = [text for text in assignments if text in known]
    if len(named) > 1:
        raise InputError(f"--augment {' --augment '.join(named)}: name one of them")
    start = known[named[0]] if named else usual
    return start.changed([text for text in assignments if text not in known])


def _small_epochs(n_videos: int, batch_size: int) -> tuple[int, int, int]:
    """Return the usual epochs of a small network, the most, and those of settling, by the size of the collection."""
    steps_per_epoch = max(1, round(n_videos / batch_size))
    usual = max(_STEPS * n_videos**0.5, _LEAST_EPOCHS * steps_per_epoch)
    steps = (usual, max(_MOST_STEPS, 2 * usual), max(_LEAST_SETTLING, usual / 2))
    most, settling = (max(1, round(number / steps_per_epoch)) for number in steps[1:])
    return max(1, round(usual / steps_per_epoch)), most, settling
