"""The preset and the networks of a new run, where some of them are not given."""

from __future__ import annotations

import os

from backbones.learner.settings import BackboneSettings
from selavi_ref.errors import InputError

PRESETS = ("small", "published", "one-gpu")

_SMALL_NETWORK = "nano"


def choose_networks(
    preset: str | None, video_net: str | None, audio_net: str | None, init: str = ""
) -> tuple[str, BackboneSettings]:
    """
    Return the preset of a new run, and the default settings of its networks.

    Parameters
    ----------
    preset : str, optional
        One of `PRESETS`; by default ``"small"``, or ``"published"`` for a video network that is not small.
    video_net, audio_net : str, optional
        Names of networks; by default those of `init` if there is no preset, else those of the preset.
    init : str
        A run or a published checkpoint that the new run begins with, or "".

    Raises
    ------
    InputError
        If there is no such preset or network, or `init` is neither a run nor a checkpoint.
    """
    if preset is not None and preset not in PRESETS:
        raise InputError(f"--preset {preset}: known are {', '.join(PRESETS)}", option="preset")
    if preset is None and not (video_net or audio_net) and os.path.exists(init):
        from backbones.runs.initial_weights import networks_of

        video_net, audio_net = networks_of(init)
    preset = preset or ("small" if video_net is None or _is_small(video_net) else "published")
    video_net = video_net or (_SMALL_NETWORK if preset == "small" else "r2plus1d_18")
    return preset, BackboneSettings.for_networks(video_net, audio_net or _audio_net_for(video_net))


def _audio_net_for(video_net: str) -> str:
    """Return the default audio network beside a video network."""
    if not _is_small(video_net):
        return "resnet9"
    return "tiny" if video_net == "tiny" else _SMALL_NETWORK


def _is_small(video_net: str) -> bool:
    from backbones.networks import registry  # with PyTorch, which naming settings does not need

    return registry.find("video", video_net).small
