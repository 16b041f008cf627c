"""Settings of a training run, as in its ``config.toml``, and the choice of device and precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from backbones.learner.settings import BackboneSettings
from selavi_ref.errors import InputError
from selavi_ref.runs.setting_fields import check_settings, described, setting
from selavi_ref.selflabel.settings import TrainingSettings


@dataclass(frozen=True)
class RunSettings:
    """Settings of a training run; the help of each field describes it."""

    clusters: int = field(metadata=described("Clusters K of each main head", minimum=1))
    heads: int = field(
        metadata=described(
            "Main heads H, each of which learns its own labels",
            minimum=1,
            option="heads",
            default_text="5",
            published=10,
        )
    )
    overclusters: int = field(metadata=described("Clusters of each over-clustering head", minimum=0))
    training: TrainingSettings
    backbone: BackboneSettings
    final_labels: str = setting(
        "heads",
        help="Where the labels come from. heads: the consensus of the heads; crossfit: cross-fitted self-labelling on "
        "what the networks have learnt and on statistics of the sounds, with at least 16 videos for each cluster",
        choices=("heads", "crossfit"),
        option="final-labels",
        default_text="crossfit",
        published="heads",
    )
    segments: str = setting(
        "auto", help="How videos are cut into segments, each with a label of its own", option="segments"
    )
    init: str = setting(
        "",
        help="Run or published checkpoint: the new run has its networks and begins with their weights; heads are new",
        option="init",
    )
    video_weights: str = setting(
        "", help="File of weights that the video network begins with, such as torchvision's", option="video-weights"
    )
    audio_weights: str = setting(
        "",
        help="File of weights that the audio network begins with; of pictures, too",
        option="audio-weights",
    )

    def __post_init__(self) -> None:
        check_settings(self, "")

    @property
    def head_sizes(self) -> tuple[int, ...]:
        """Number of clusters of every head, the labelling ones first."""
        return (self.clusters,) * self.heads + (self.overclusters,) * self.training.overclustering_heads

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as they stand in ``config.toml``."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunSettings:
        """
        Return the settings for a dict of `to_dict`.

        Raises
        ------
        InputError
            If something is missing or unknown.
        """
        try:
            parts = {
                "training": TrainingSettings.from_dict(values["training"]),
                "backbone": BackboneSettings.from_dict(values["backbone"]),
            }
            return cls(**{**values, **parts})
        except (KeyError, TypeError) as error:
            raise InputError(f"the settings of the run do not fit: {error}") from error


def choose_device(device: str) -> str:
    """
    Return the PyTorch device for ``auto``, ``cpu`` or ``cuda``.

    Raises
    ------
    InputError
        If the device is not available.
    """
    import torch  # here, because reading settings does not need it

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: PyTorch finds no CUDA device here; choose cpu or auto", option="device")
    return device


def choose_precision(precision: str, device: str) -> str:
    """
    Return ``float32`` or ``bfloat16``; ``auto`` chooses bfloat16 on hardware that supports it natively.

    It is chosen when a run starts, and saved in its settings.
    """
    if precision != "auto":
        return precision
    import torch

    if choose_device(device) == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    able: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bfloat16" if able.get("amx_bf16") or able.get("avx512_bf16") else "float32"
