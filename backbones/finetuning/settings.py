"""Settings of fine-tuning: clips, learning rates and evaluation, by default as published."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from backbones.data.settings import NO_AUGMENTATION, AugmentSettings, ClipSettings
from backbones.learner.settings import BackboneSettings
from selavi_ref.errors import InputError
from selavi_ref.runs.run import RunKind
from selavi_ref.runs.setting_fields import check_settings, described, setting, settings_of

# Published: short side 128..160, a 128 crop anywhere, flip, colour jitter.
AUGMENTATION = replace(NO_AUGMENTATION, scale=(1.0, 160 / 128), flip=0.5, jitter=0.4)
_FRAMES, _SIZE = 32, 128  # published, of networks that learnt from 30 frames of 112 x 112 pixels


@dataclass(frozen=True)
class FineTuneSettings:
    """Settings of a fine-tuning run, by default as published; the help of each field describes it."""

    run: str = field(metadata=described("Run whose video network is fine-tuned"))
    videos: str = field(metadata=described("Collection"))
    layout: str = field(
        metadata=described(
            "VIDEOS is this published collection, which is divided by its own lists",
            option="layout",
            default_text="none, but a list with path, class and split, or a folder ROOT/{train,test}/{class}/VIDEO",
        )
    )
    folds: tuple[int, ...] = field(
        metadata=described("Folds of ucf101 or hmdb51, each learnt and tested by itself", option="fold")
    )
    video_net: str = field(metadata=described("Video network"))
    clip: ClipSettings
    augment: AugmentSettings
    test_split: str = setting("test", help="Part of any other collection to test on", option="test-split")
    from_scratch: bool = setting(False, help="Begin with random weights, for comparison", option="from-scratch")
    video_weights: str = setting(
        "",
        help="File of weights to begin with instead of those of RUN, such as torchvision's supervised ones",
        option="video-weights",
    )
    linear_probe: bool = setting(
        False, help="Learn the classifier alone, and leave the network as it is, batch norms too", option="linear-probe"
    )
    epochs: int = setting(12, help="Passes over the videos", minimum=1, option="epochs")
    batch_size: int = setting(32, help="Clips of one step, of all processes together", minimum=2, option="batch-size")
    clips_per_video: int = setting(10, help="Clips of each video in an epoch", minimum=1, option="clips")
    optimizer: str = setting("sgd", help="Optimiser; adam has no momentum", choices=("sgd", "adam"), option="optimizer")
    learning_rate: float = setting(
        0.0025, help="Base learning rate of the classifier", minimum=0, option="learning-rate"
    )
    base_learning_rate: float = setting(
        0.00025, help="Base learning rate of the network", minimum=0, option="base-learning-rate"
    )
    momentum: float = setting(0.9, help="Momentum of gradient descent", minimum=0, below=1, option="momentum")
    weight_decay: float = setting(0.005, help="Weight decay of the optimiser", minimum=0, option="weight-decay")
    warmup_epochs: int = setting(
        2, help="Epochs over which the learning rates rise; 0: they do not", minimum=0, option="warmup-epochs"
    )
    warmup_factor: float = setting(
        8.0, help="Multiple of the learning rates that they rise to", minimum=1, option="warmup-factor"
    )
    # Published as 6 and 10 less the warm-up, which its two schedules, one after the other, reach an epoch later.
    milestones: tuple[int, ...] = setting(
        (7, 11), help="Numbers of epochs after each of which the learning rates fall; none: never", option="milestones"
    )
    gamma: float = setting(
        0.05, help="What the learning rates are multiplied by at a milestone", minimum=0, option="gamma"
    )
    dropout: float = setting(0.0, help="Dropout before the classifier", minimum=0, below=1, option="dropout")
    norm: str = setting(
        "none",
        help="Normalisation of features before dropout and classifier; batch norm has no weights of its own",
        choices=("none", "batch", "l2"),
        option="norm",
    )
    test_clips: int = setting(
        10,
        help="Clips of a test video, evenly spread, whose logits are averaged",
        minimum=1,
        option="test-clips",
    )
    test_crops: int = setting(
        3, help="Square crops of each test clip, along the long side of the picture", minimum=1, option="test-crops"
    )
    test_last_only: bool = setting(False, help="Test after the last epoch alone, which saves time", option="last-only")
    eval_batch_size: int = setting(64, help="Clips that are tested at once", minimum=1)
    precision: str = setting(
        "float32", help="Number format of the network", choices=("float32", "bfloat16"), option="precision"
    )
    seed: int = setting(0, help="Seed of all random numbers", minimum=0, option="seed")
    kind: str = setting(RunKind.FINETUNE.value, help="Kind of run", choices=(RunKind.FINETUNE.value,))

    def __post_init__(self) -> None:
        check_settings(self)

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
    from backbones.networks import registry  # with PyTorch, which reading settings does not need

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


def _is_published(spec: Any) -> bool:
    return spec.clip.get("frames") == 30 and spec.clip.get("size") == 112


def _option(name: str) -> str:
    """Return the command-line option or argument of a setting."""
    options = {item.name: details.option for item, details in settings_of(FineTuneSettings)}
    return name.upper() if name in ("run", "videos") else f"--{options.get(name) or name}"
