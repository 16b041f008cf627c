"""Initial weights of a run: from another run, a published checkpoint, or files of pretrained weights."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from backbones.learner.checkpoint import read_newest
from backbones.learner.torch_backbone import TorchBackbone
from backbones.networks import registry
from backbones.networks.model import MODALITIES
from backbones.networks.published_checkpoints import read_published
from backbones.networks.registry import Base
from backbones.networks.weights import load_weights
from backbones.runs.run_settings import RunSettings
from selavi_ref.errors import InputError
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run


def load_initial_weights(backbone: TorchBackbone, settings: RunSettings, reporter: Reporter = SILENT) -> None:
    """
    Load the initial weights that the settings of a new run name into its networks; heads keep their random weights.

    The reporter receives a warning if the newest checkpoint of a run named by ``init`` is damaged.

    Raises
    ------
    InputError
        If a file cannot be read, or does not fit.
    """
    if settings.init:
        _load_networks(backbone, settings.init, reporter)
    for modality, path in (("video", settings.video_weights), ("audio", settings.audio_weights)):
        if path:
            network = backbone.model.network(modality)
            assert isinstance(network, Base)
            name = settings.backbone.video_net if modality == "video" else settings.backbone.audio_net
            load_weights(network, registry.find(modality, name), path)


def check_initial_weights(settings: RunSettings) -> RunSettings:
    """
    Check that the initial weights exist and fit, and return the settings with absolute paths.

    Raises
    ------
    InputError
        As in `load_initial_weights`.
    """
    absolute: dict[str, Any] = {}
    for name in ("init", "video_weights", "audio_weights"):
        path = getattr(settings, name)
        if path and not Path(path).exists():
            raise InputError(f"--{name.replace('_', '-')} {path} does not exist")
        absolute[name] = os.path.abspath(path) if path else ""
    networks = settings.backbone.video_net, settings.backbone.audio_net
    if settings.init and (given := networks_of(settings.init)) != networks:
        raise InputError(
            f"--init {settings.init} has the networks {' and '.join(given)}, not {' and '.join(networks)}",
            option="init",
        )
    for modality, name in zip(MODALITIES, networks, strict=True):
        if path := absolute[f"{modality}_weights"]:
            if modality not in settings.backbone.modalities:
                only = settings.backbone.modalities
                raise InputError(f"--{modality}-weights {path}: the run learns on {only} alone, see --modalities")
            spec = registry.find(modality, name)
            load_weights(Base(spec.build()), spec, path)
    return replace(settings, **absolute)


def networks_of(source: str) -> tuple[str, str]:
    """
    Return the names of the video and the audio network of a run folder or a published checkpoint.

    Raises
    ------
    InputError
        If it is neither.
    """
    if os.path.isdir(source):
        backbone = RunSettings.from_dict(Run.of_videos(source).config).backbone
        return backbone.video_net, backbone.audio_net
    checkpoint = read_published(source)
    return checkpoint.video_net, checkpoint.audio_net


def _load_networks(backbone: TorchBackbone, source: str, reporter: Reporter) -> None:
    """Load the networks of a run or a published checkpoint."""
    of_run = os.path.isdir(source)
    given = read_newest(Run.of_videos(source), reporter)["model"] if of_run else read_published(source).model
    own = backbone.model.state_dict()
    for modality in backbone.modalities:
        prefix = f"{modality}_network."
        for name in (name for name in own if name.startswith(prefix)):
            if name not in given or given[name].shape != own[name].shape:
                raise InputError(
                    f"--init {source}: its {modality} network is not that of this run; the first difference is {name}",
                    option="init",
                )
            own[name] = given[name]
    backbone.model.load_state_dict(own)
