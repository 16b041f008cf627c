"""With which weights a run begins, and runs made of published checkpoints and the other way round."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backbones.learner.checkpoint import read_newest, write_checkpoint
from backbones.learner.torch_backbone import TorchBackbone
from backbones.networks import registry
from backbones.networks.model import MODALITIES
from backbones.networks.published_checkpoints import PublishedCheckpoint, read_published, write_published
from backbones.networks.registry import Base
from backbones.networks.weights import load_weights
from backbones.runs.presets import run_settings
from backbones.runs.run_settings import RunSettings
from selavi_ref.errors import InputError, printable
from selavi_ref.runs.checkpoints import Checkpoints
from selavi_ref.runs.run import Run


def load_initial_weights(backbone: TorchBackbone, settings: RunSettings) -> None:
    """
    Give the networks of a new run the weights that its settings name; the heads stay new.

    Raises
    ------
    InputError
        If a file cannot be read, or does not fit.
    """
    if settings.init:
        _take_networks(backbone, settings.init)
    for modality, path in (("video", settings.video_weights), ("audio", settings.audio_weights)):
        if path:
            network = backbone.model.network(modality)
            assert isinstance(network, Base)
            name = settings.backbone.video_net if modality == "video" else settings.backbone.audio_net
            load_weights(network, registry.find(modality, name), path)


def check_initial_weights(settings: RunSettings) -> RunSettings:
    """
    Return settings whose files and folders are found from anywhere, once it is sure that they are there and fit.

    Raises
    ------
    InputError
        As in `load_initial_weights`, but before a run is started.
    """
    found: dict[str, Any] = {}
    for name in ("init", "video_weights", "audio_weights"):
        path = getattr(settings, name)
        if path and not Path(path).exists():
            raise InputError(f"--{name.replace('_', '-')} {path} does not exist")
        found[name] = os.path.abspath(path) if path else ""
    wanted = settings.backbone.video_net, settings.backbone.audio_net
    if settings.init and (theirs := _networks_of(settings.init)) != wanted:
        raise InputError(f"--init {settings.init} has the networks {' and '.join(theirs)}, not {' and '.join(wanted)}")
    for modality, name in zip(MODALITIES, wanted, strict=True):
        if path := found[f"{modality}_weights"]:
            spec = registry.find(modality, name)
            load_weights(Base(spec.build()), spec, path)
    return replace(settings, **found)


def _networks_of(source: str) -> tuple[str, str]:
    """Return the names of the video and the audio network of a run folder or a published checkpoint."""
    if os.path.isdir(source):
        backbone = RunSettings.from_dict(Run.of_videos(source).config).backbone
        return backbone.video_net, backbone.audio_net
    found = read_published(source)
    return found.video_net, found.audio_net


def _take_networks(backbone: TorchBackbone, source: str) -> None:
    """Take over the networks of a run or a published checkpoint."""
    given = read_newest(Run.of_videos(source))["model"] if os.path.isdir(source) else read_published(source).model
    own = backbone.model.state_dict()
    for modality in MODALITIES:
        prefix = f"{modality}_network."
        for name in (name for name in own if name.startswith(prefix)):
            if name not in given or given[name].shape != own[name].shape:
                raise InputError(
                    f"--init {source}: its {modality} network is not that of this run; the first difference is {name}"
                )
            own[name] = given[name]
    backbone.model.load_state_dict(own)


def run_of_published(
    path: str | os.PathLike[str], folder: str | os.PathLike[str], *, sound_rate: int, mel_bands: int, sound_level: str
) -> tuple[Run, PublishedCheckpoint]:
    """
    Make a run folder of a published checkpoint, which can label, but has no videos of its own.

    Parameters
    ----------
    path : path
        The checkpoint.
    folder : path
        The run; new.
    sound_rate, mel_bands, sound_level
        Of the sound that it learnt from, which the file does not say; see `selavi convert`.

    Raises
    ------
    InputError
        If the file is no published checkpoint, or the folder holds a run already.
    """
    found = read_published(path)
    if len(set(found.clusters)) > 1:
        raise InputError(f"{printable(path)} has heads of different numbers of clusters: {found.clusters}")
    settings = run_settings(
        2,
        preset="published",
        clusters=found.clusters[0],
        heads=len(found.clusters),
        groups=1,
        video_net=found.video_net,
        audio_net=found.audio_net,
        mlp=found.mlp,
        sound_rate=sound_rate,
        mel_bands=mel_bands,
        sound_level=sound_level,
        device="cpu",
    )
    model = found.build()
    _check_width(found, settings, path)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9, weight_decay=settings.backbone.weight_decay)
    labels = found.selflabels if found.selflabels is not None else np.zeros((0, len(found.clusters)), np.int64)
    state: dict[str, Any] = {
        "step": found.epoch,
        "epoch": max(1, found.epoch),
        "per_epoch": 1,
        "finished": True,
        "settle_from": -1,
        "losses": torch.zeros(0, dtype=torch.float64),
        "failures": "[]",
        "labels": torch.from_numpy(labels.astype(np.int32)),
    }
    for head, K in enumerate(found.clusters):
        sizes = np.ones(K) if found.sizes is None else found.sizes[head]
        state[f"sizes_{head}"] = torch.from_numpy(sizes / sizes.sum())
    run = Run.prepare(folder)
    write_checkpoint(
        Checkpoints(run.checkpoint_folder).place(found.epoch),
        {
            "model": model.state_dict(),
            "optimizer": found.optimizer or optimizer.state_dict(),
            "random": torch.get_rng_state()[None],
            "cuda_random": None,
            "state": state,
        },
    )
    run.rewrite_config(settings.to_dict())
    return run, found


def published_of_run(run: Run, path: str | os.PathLike[str]) -> None:
    """
    Write the networks and labelling heads of a run as a published checkpoint.

    Raises
    ------
    InputError
        If the run's networks are none that the published layout has.
    """
    settings = RunSettings.from_dict(run.config)
    checkpoint = read_newest(run)
    state, heads = checkpoint["state"], range(settings.heads)
    overclustering_heads = settings.training.overclustering_heads > 0
    write_published(
        path,
        _labelling_part(checkpoint["model"], settings),
        epoch=int(state["epoch"]),
        sizes=[state[f"sizes_{head}"].numpy() for head in heads],
        selflabels=state["labels"][:, : settings.heads].numpy().astype(np.int64),
        optimizer=None if overclustering_heads else checkpoint["optimizer"],  # its moments are those of all heads
    )


def _labelling_part(model: Mapping[str, Tensor], settings: RunSettings) -> dict[str, Tensor]:
    """Return the weights without side heads; a single head has no number in its name."""
    kept = {}
    for name, value in model.items():
        root, _, rest = name.partition(".")
        if root.startswith("mlp_") and len(root) > 5:
            if int(root[5:]) >= settings.heads:
                continue
            root = root if settings.heads > 1 else root[:5]
        kept[f"{root}.{rest}"] = value
    return kept


def _check_width(found: PublishedCheckpoint, settings: RunSettings, path: str | os.PathLike[str]) -> None:
    backbone = settings.backbone
    for modality, name in (("video", backbone.video_net), ("audio", backbone.audio_net)):
        width = registry.find(modality, name).hidden
        if found.hidden and found.hidden[modality] != width:
            raise InputError(
                f"{printable(path)}: its {modality} heads have {found.hidden[modality]} hidden units; "
                f"those of {name} have {width} here"
            )
