"""Settings of fine-tuning: clips, learning rates and evaluation, by default as published."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from backbones.data.settings import NO_AUGMENTATION, AugmentSettings, ClipSettings
from backbones.learner.settings import BackboneSettings
from backbones.networks import registry
from backbones.networks.registry import NetworkSpec
from selavi_ref.errors import InputError
from selavi_ref.runs.run import RunKind

NORMS = ("none", "batch", "l2")
OPTIMIZERS = ("sgd", "adam")

# Published: short side 128..160, a 128 crop anywhere, flip, colour jitter.
AUGMENTATION = replace(NO_AUGMENTATION, scale=(1.0, 160 / 128), flip=0.5, jitter=0.4)
_FRAMES, _SIZE = 32, 128  # published, of networks that learnt from 30 frames of 112 x 112 pixels

_LEAST = {
    "epochs": 1,
    "batch_size": 2,
    "clips_per_video": 1,
    "learning_rate": 0,
    "base_learning_rate": 0,
    "momentum": 0,
    "weight_decay": 0,
    "warmup_epochs": 0,
    "warmup_factor": 1,
    "gamma": 0,
    "dropout": 0,
    "test_clips": 1,
    "test_crops": 1,
    "seed": 0,
}


@dataclass(frozen=True)
class FineTuneSettings:
    """
    Settings of a fine-tuning run; the defaults are those of the published program.

    Parameters
    ----------
    run, videos : str
        The run whose video network is fine-tuned, and the collection.
    layout : str
        Of the collection, whose lists divide it: ``"ucf101"`` or ``"hmdb51"``; "" where it is divided itself.
    folds : tuple of int
        Divisions of the collection, each of which is learnt and tested by itself.
    test_split : str
        The part of the collection that is tested.
    video_net : str
        Name of the network.
    clip, augment : ClipSettings, AugmentSettings
        What it sees, and how that is varied in training.
    from_scratch : bool
        Begin with random weights, for comparison.
    linear_probe : bool
        Leave the network as it is, batch norms too, and learn the classifier alone.
    epochs, batch_size, clips_per_video : int
        Passes over the videos, clips of one step, and clips of each video in one pass.
    optimizer : str
        One of `OPTIMIZERS`.
    learning_rate, base_learning_rate : float
        Learning rate of the classifier, and of the network.
    momentum, weight_decay : float
        Of the optimiser; Adam has no momentum.
    warmup_epochs, warmup_factor : int, float
        The rates rise from epoch to epoch to so many times their value, which they reach after so many epochs; with 0
        epochs they begin with their value and do not rise.
    milestones : tuple of int
        After so many epochs each, the rates are multiplied by `gamma`.
    gamma : float
        See there.
    dropout : float
        Before the classifier.
    norm : str
        Of the features, before dropout and classifier: one of `NORMS`. The batch norm has no weights of its own.
    test_clips, test_crops : int
        Clips of each video, evenly spread, and squares of each along the long side, whose logits are averaged.
    test_last_only : bool
        Test after the last epoch alone.
    eval_batch_size : int
        Clips tested at once.
    precision : str
        ``"float32"``, or ``"bfloat16"`` for an autocast network.
    seed : int
        Of everything random.
    kind : str
        Tells such a run from others.
    """

    run: str
    videos: str
    layout: str
    folds: tuple[int, ...]
    video_net: str
    clip: ClipSettings
    augment: AugmentSettings
    test_split: str = "test"
    from_scratch: bool = False
    linear_probe: bool = False
    epochs: int = 12
    batch_size: int = 32
    clips_per_video: int = 10
    optimizer: str = "sgd"
    learning_rate: float = 0.0025
    base_learning_rate: float = 0.00025
    momentum: float = 0.9
    weight_decay: float = 0.005
    warmup_epochs: int = 2
    warmup_factor: float = 8.0
    # Published as 6 and 10 less the warm-up, which its two schedules, one after the other, reach an epoch later.
    milestones: tuple[int, ...] = (7, 11)
    gamma: float = 0.05
    dropout: float = 0.0
    norm: str = "none"
    test_clips: int = 10
    test_crops: int = 3
    test_last_only: bool = False
    eval_batch_size: int = 64
    precision: str = "float32"
    seed: int = 0
    kind: str = RunKind.FINETUNE.value

    def __post_init__(self) -> None:
        for name, known in (
            ("norm", NORMS),
            ("optimizer", OPTIMIZERS),
            ("precision", ("float32", "bfloat16")),
            ("kind", (RunKind.FINETUNE.value,)),
        ):
            if getattr(self, name) not in known:
                raise InputError(f"{name} is {getattr(self, name)!r}; known are {', '.join(known)}")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if not (isinstance(value, (int, float)) and math.isfinite(value) and value >= least):
                raise InputError(f"{_option(name)} is {value!r}; it must be a number of at least {least:g}")
        for name in ("momentum", "dropout"):
            if not getattr(self, name) < 1:
                raise InputError(f"{_option(name)} is {getattr(self, name)!r}; it must be below 1")

    def factor(self, epoch: int) -> float:
        """Return the factor of the learning rates in an epoch, counted from 0."""
        rise = 1.0
        if self.warmup_epochs:
            rise += (self.warmup_factor - 1) * min(1.0, epoch / self.warmup_epochs)
        return rise * self.gamma ** sum(epoch >= milestone for milestone in self.milestones)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as they stand in ``config.toml``."""
        values = asdict(self)
        values["augment"]["scale"] = list(self.augment.scale)
        return values | {"folds": list(self.folds), "milestones": list(self.milestones)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FineTuneSettings:
        """
        Return the settings for a dict of `to_dict`.

        Raises
        ------
        InputError
            If something is missing, unknown or does not fit.
        """
        try:
            augment = dict(values["augment"])
            augment["scale"] = tuple(augment["scale"])
            parts: dict[str, Any] = {"clip": ClipSettings(**values["clip"]), "augment": AugmentSettings(**augment)}
            parts |= {name: tuple(values[name]) for name in ("folds", "milestones")}
            return cls(**{**values, **parts})
        except (KeyError, TypeError) as error:
            raise InputError(f"the settings of the fine-tuning do not fit: {error}") from error

    def changes(self, other: FineTuneSettings) -> list[str]:
        """Return the options in which other settings differ."""
        names = [item.name for item in fields(self) if getattr(self, item.name) != getattr(other, item.name)]
        return [_option(name) for name in names]


def input_settings(
    backbone: BackboneSettings,
    *,
    frames: int | None = None,
    fps: float | None = None,
    size: int | None = None,
    augment: Sequence[str] = (),
) -> dict[str, Any]:
    """
    Return the settings of network, clips and augmentation for fine-tuning a run.

    By default a network that is made for the published clip gets the published clip of fine-tuning, at the frame rate
    of its run; any other network gets the clip of its run.

    Parameters
    ----------
    backbone : BackboneSettings
        Settings of the run.
    frames, fps, size : optional
        Number of frames, frames per second, and pixels of the crop, if not the default.
    augment : sequence of str
        Changes of the augmentation: ``name=value``, or ``none``.

    Raises
    ------
    InputError
        If the network does not accept such clips, or a change is invalid.
    """
    spec = registry.find("video", backbone.video_net)
    published = _is_published(spec)
    usual = replace(backbone.clip, frames=_FRAMES, size=_SIZE) if published else backbone.clip
    clip = replace(usual, frames=frames or usual.frames, fps=fps or usual.fps, size=size or usual.size)
    spec.check(clip)
    change = AUGMENTATION if published else backbone.augment
    if "none" in augment:
        change = NO_AUGMENTATION
    change = change.changed([text for text in augment if text != "none"])
    # Videos that are held decoded have the size of the largest frame from which a crop is taken.
    decode_size = max(clip.decode_size, math.ceil(clip.size * (1.0 if change.warps else change.scale[1])))
    return {
        "video_net": backbone.video_net,
        "clip": replace(clip, decode_size=decode_size),
        "augment": change,
        "eval_batch_size": backbone.eval_batch_size,
    }


def _is_published(spec: NetworkSpec) -> bool:
    return spec.clip.get("frames") == 30 and spec.clip.get("size") == 112


def _option(name: str) -> str:
    """Return the command line option of a setting."""
    other = {
        "clips_per_video": "clips",
        "folds": "fold",
        "test_last_only": "last-only",
        "run": "RUN",
        "videos": "VIDEOS",
    }
    name = other.get(name, name)
    return name if name.isupper() else f"--{name.replace('_', '-')}"
