"""From the options of `selavi train` to a run's settings: the paper's for its networks, small ones for a CPU."""

from __future__ import annotations

import os
from dataclasses import replace

from backbones.jobs import RunSettings, choose_precision
from backbones.settings import BackboneSettings
from selavi_ref.errors import InputError
from selavi_ref.selflabel import ClusterSizes
from selavi_ref.training import TrainingSettings
from selavi_ref.transport import marginals

_STEPS = 50  # times the square root of the number of videos: steps that a small network learns for
_SMALL_COLLECTION = 1000  # below so many videos, smaller batches give more steps
_FINENESS, _LEAST_FINE = 5, 8  # side heads have so many times more clusters, of at least so many videos
_LEAST_EPOCHS, _MOST_EPOCHS = 10, 200


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
    small = video_net == "tiny"
    backbone = BackboneSettings.for_networks(video_net, audio_net or ("tiny" if small else "resnet9"))
    precision = choose_precision("float32" if precision == "auto" and not small else precision, device)
    usual = 32 if small and n_videos < _SMALL_COLLECTION else backbone.batch_size
    backbone = replace(backbone, precision=precision, batch_size=batch_size or usual)
    heads = heads or (5 if small else 10)
    if groups > heads:
        raise InputError(f"--groups {groups}: there are only {heads} heads to split")
    if distribution not in ("uniform", "gaussian", "zipf"):
        if not os.path.exists(distribution):
            raise InputError(
                f"--distribution {distribution}: not uniform, gaussian or zipf, and no file of that name exists"
            )
        marginals.read(distribution, clusters)
        distribution = os.path.abspath(distribution)
    side_clusters = min(_FINENESS * clusters, n_videos // _LEAST_FINE)
    training = TrainingSettings(
        epochs=epochs or (epochs_for(n_videos, backbone.batch_size) if small else 200),
        batch_size=backbone.batch_size,
        rate=rate or (0.1 if small else 0.01),
        warmup_epochs=3.0 if small else 10.0,
        decay="cosine" if small else "constant",
        labellings=labellings or (80 if small else 100),
        groups=groups,
        sizes=ClusterSizes(distribution, (0.02 if small else 0.1) if spread is None else spread),
        strength=strength,
        side_heads=5 if small and side_clusters >= 2 * clusters else 0,
        seed=seed,
    )
    return RunSettings(clusters, heads, side_clusters, training, backbone)


def epochs_for(n_videos: int, batch_size: int) -> int:
    """Return the epochs in which a small network takes the steps that the collection's size asks for, within bounds."""
    steps_per_epoch = max(1, round(n_videos / batch_size))
    return max(_LEAST_EPOCHS, min(_MOST_EPOCHS, round(_STEPS * n_videos**0.5 / steps_per_epoch)))
