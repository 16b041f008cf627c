"""Settings of a run's backbone: networks, clips, augmentation, optimiser and precision."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Self

from backbones.data.settings import PUBLISHED_AUGMENTATION, AugmentSettings, ClipSettings
from backbones.networks import registry
from selavi_ref.errors import InputError


@dataclass(frozen=True)
class BackboneSettings:
    """
    Settings of the networks, their input and their optimiser.

    Parameters
    ----------
    video_net, audio_net : str
        Names of networks; see `backbones.networks.registry`.
    clip, augment : ClipSettings, AugmentSettings
        What the networks see.
    dropout : float
        Of the heads.
    mlp : bool
        Whether heads have a hidden layer; else they are linear.
    eval_batch_size : int
        Clips looked at together when nothing is learnt.
    momentum, weight_decay : float
        Of stochastic gradient descent.
    mel_normalise : str
        ``"collection"`` measures mean, standard deviation and floor of the log energies on the collection at the start;
        ``"given"`` takes those of `clip`.
    precision : str
        ``"float32"``, or ``"bfloat16"`` for autocast networks (the heads stay in float32).
    sync_batch_norm : bool
        With several processes: whether batch norms see the whole step, not only this process's part.
    compile : bool
        Whether the networks are compiled by ``torch.compile``, which takes a minute and a C++ compiler.
    """

    video_net: str = "tiny"
    audio_net: str = "tiny"
    clip: ClipSettings = field(default_factory=ClipSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    dropout: float = 0.0
    mlp: bool = True
    eval_batch_size: int = 256
    momentum: float = 0.9
    weight_decay: float = 1e-4
    mel_normalise: str = "collection"
    precision: str = "float32"
    sync_batch_norm: bool = True
    compile: bool = False

    def __post_init__(self) -> None:
        if self.precision not in ("float32", "bfloat16"):
            raise InputError(f"backbone.precision is {self.precision!r}; known are float32, bfloat16")
        if self.mel_normalise not in ("collection", "given"):
            raise InputError(f"backbone.mel_normalise is {self.mel_normalise!r}; known are collection, given")
        if not 0 <= self.dropout < 1:
            raise InputError(f"backbone.dropout is {self.dropout}; it must be from 0 to below 1")

    @classmethod
    def for_networks(cls, video_net: str, audio_net: str) -> Self:
        """Return the default settings of a pair of networks: small ones for ``tiny``, the paper's for all others."""
        video, audio = registry.find("video", video_net), registry.find("audio", audio_net)
        try:
            clip = ClipSettings(**{**video.clip, **audio.clip})
        except TypeError as error:
            raise InputError(
                f"networks {video_net} and {audio_net} are made for clips of another kind: {error}"
            ) from error
        if video_net == "tiny":
            return cls(video_net, audio_net, clip)
        return cls(
            video_net,
            audio_net,
            clip,
            PUBLISHED_AUGMENTATION,
            dropout=0.3,
            eval_batch_size=64,
            weight_decay=1e-5,
            mel_normalise="given",
        )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """
        Return the settings for a dict of `dataclasses.asdict`.

        Raises
        ------
        InputError
            If a name is unknown or a value does not fit.
        """
        known = {item.name for item in fields(cls)}
        if unknown := set(values) - known:
            raise InputError(f"unknown setting {', '.join(sorted(unknown))}; known are {', '.join(sorted(known))}")
        try:
            augment = dict(values["augment"])
            augment["scale"] = tuple(augment["scale"])
            parts = {"clip": ClipSettings(**values["clip"]), "augment": AugmentSettings(**augment)}
            return cls(**{**values, **parts})
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"settings of the backbone do not fit: {error}") from error
