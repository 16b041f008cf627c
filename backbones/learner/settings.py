"""Settings of a run's backbone: networks, clips, augmentation, optimiser and precision."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Self

from backbones.data.settings import PUBLISHED_AUGMENTATION, AugmentSettings, ClipSettings
from selavi_ref.errors import InputError
from selavi_ref.runs.modality_names import BOTH, CHOICES
from selavi_ref.runs.setting_fields import check_settings, published, setting


@dataclass(frozen=True)
class BackboneSettings:
    """Settings of the networks, their input and their optimiser; the help of each field describes it."""

    video_net: str = setting(
        "nano",
        help="Video network: nano, tiny, r2plus1d_18, r3d_18, mc3_18, s3d, mvit_v2_s, swin3d_t, or of another package",
        option="video-net",
        default_text="nano; r2plus1d_18 with --preset published or one-gpu",
    )
    audio_net: str = setting(
        "nano",
        help="Audio network: nano, tiny, resnet9, resnet18, resnet34, resnet50, or one of another package",
        option="audio-net",
        default_text="nano, tiny or resnet9: as large as the video network",
    )
    clip: ClipSettings = field(default_factory=ClipSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    dropout: float = setting(0.0, help="Dropout of the heads", minimum=0, below=1, option="dropout", published=0.3)
    mlp: bool = setting(True, help="Heads have a hidden layer; else they are linear", option="mlp")
    concatenate: bool = setting(
        False,
        help="One set of heads on the concatenated features of both networks, in place of one for each network; for "
        "comparison",
        option="concatenate-features",
    )
    eval_batch_size: int = setting(256, help="Clips of one step when nothing is learnt", minimum=1, published=64)
    optimizer: str = setting(
        "sgd",
        help="sgd is stochastic gradient descent with momentum; muon is the same, with steps of convolutional filters "
        "that are orthogonalised, and reaches good labels in fewer epochs",
        choices=("muon", "sgd"),
        option="optimizer",
        default_text="muon; sgd with --preset published or one-gpu",
    )
    momentum: float = setting(0.9, help="Momentum of gradient descent", minimum=0, below=1, option="momentum")
    weight_decay: float = setting(
        1e-4, help="Weight decay of gradient descent", minimum=0, option="weight-decay", published=1e-5
    )
    mel_normalise: str = setting(
        "collection",
        help="collection measures mean, deviation and floor of log energies at the start; given takes the clip's",
        choices=("collection", "given"),
        published="given",
    )
    precision: str = setting(
        "float32",
        help="Number format of the networks; heads always learn in float32",
        choices=("float32", "bfloat16"),
        option="precision",
        default_text="bfloat16 where the hardware has it",
        published="float32",
    )
    sync_batch_norm: bool = setting(
        True, help="With several processes: batch norms span the whole step, not the process", option="sync-batch-norm"
    )
    compile: bool = setting(
        False,
        help="Compile the networks by torch.compile, which takes a minute and a C++ compiler",
        option="compile",
    )

    modalities: str = setting(
        BOTH,
        help="What is learnt on: video+audio, or one of them, of which two augmented views stand for the modalities",
        choices=CHOICES,
        option="modalities",
        default_text="auto: both, if a tenth of the files have both; else the one that more files have",
    )

    def __post_init__(self) -> None:
        check_settings(self, "backbone.")

    @property
    def spaces(self) -> tuple[str, ...]:
        """Feature spaces that have heads: the modalities, or ``"video+audio"`` with concatenated features."""
        return (self.modalities,) if self.concatenate else tuple(self.modalities.split("+"))

    @classmethod
    def for_networks(cls, video_net: str, audio_net: str) -> Self:
        """Return the default settings of a pair of networks: small ones for a small video network, else the paper's."""
        from backbones.networks import registry  # with PyTorch, which reading settings does not need

        video, audio = registry.find("video", video_net), registry.find("audio", audio_net)
        try:
            clip = ClipSettings(**{**video.clip, **audio.clip})
        except TypeError as error:
            raise InputError(
                f"networks {video_net} and {audio_net} are made for clips of another kind: {error}"
            ) from error
        if video.small:
            return cls(video_net, audio_net, clip)
        return published(cls, video_net=video_net, audio_net=audio_net, clip=clip, augment=PUBLISHED_AUGMENTATION)

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
            augment = {"background": 0.0, **values["augment"]}  # runs of 0.1.0 have none
            augment["scale"] = tuple(augment["scale"])
            parts = {"clip": ClipSettings(**values["clip"]), "augment": AugmentSettings(**augment)}
            return cls(**{**values, **parts})
        except (KeyError, TypeError, ValueError) as error:
            option = getattr(error, "option", None)
            raise InputError(f"settings of the backbone do not fit: {error}", option=option) from error
