"""Settings of a training run, as in its ``config.toml``, and the choice of device and precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from backbones.learner.settings import BackboneSettings
from selavi_ref.errors import InputError
from selavi_ref.selflabel.settings import TrainingSettings


@dataclass(frozen=True)
class RunSettings:
    """
    Settings of a training run.

    Parameters
    ----------
    clusters, heads : int
        Clusters K of each labelling head, and number H of these heads.
    overclusters : int
        Clusters of each over-clustering head; the number of these heads is in `training`.
    training : TrainingSettings
        Of the loop.
    backbone : BackboneSettings
        Of the networks.
    init : str
        A run folder or a published checkpoint whose networks, without their heads, the run begins with; "" for none.
    video_weights, audio_weights : str
        Files of weights that the networks begin with, such as torchvision's; "" for none.
    """

    clusters: int
    heads: int
    overclusters: int
    training: TrainingSettings
    backbone: BackboneSettings
    init: str = ""
    video_weights: str = ""
    audio_weights: str = ""

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
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: PyTorch finds no CUDA device here; choose cpu or auto")
    return device


def choose_precision(precision: str, device: str) -> str:
    """
    Return ``float32`` or ``bfloat16``; ``auto`` chooses bfloat16 on hardware that supports it natively.

    It is chosen when a run starts, and saved in its settings.
    """
    if precision != "auto":
        return precision
    if choose_device(device) == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    able: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bfloat16" if able.get("amx_bf16") or able.get("avx512_bf16") else "float32"
