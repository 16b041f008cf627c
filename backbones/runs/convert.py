"""Conversion of published checkpoints to runs, and of runs to published checkpoints."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backbones.learner.checkpoint import read_newest, write_checkpoint
from backbones.networks import registry
from backbones.networks.published_checkpoints import PublishedCheckpoint, read_published, write_published
from backbones.runs.presets import run_settings
from backbones.runs.run_settings import RunSettings
from backbones.runs.train import check_usable, write_videos
from selavi_ref.datasets import Manifest
from selavi_ref.errors import InputError, printable
from selavi_ref.runs.checkpoints import Checkpoints
from selavi_ref.runs.modality_names import BOTH
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run


def import_published(
    path: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    sound_level: str = "none",
    clip: Mapping[str, Any] | None = None,
) -> tuple[Run, PublishedCheckpoint]:
    """
    Make a run folder from a published checkpoint; it can label videos, and be continued after `add_videos`.

    Parameters
    ----------
    path : path
        The checkpoint.
    folder : path
        The new run folder.
    sound_level : str
        Normalisation of log mel energies; see `selavi convert`.
    clip : mapping, optional
        Fields of `ClipSettings` other than the published ones. The file does not say which clips it was trained on.

    Raises
    ------
    InputError
        If the file is not a published checkpoint, or the folder holds a run already.
    """
    checkpoint = read_published(path)
    if len(set(checkpoint.clusters)) > 1:
        raise InputError(
            f"{printable(path)} has heads of different numbers of clusters: {checkpoint.clusters}", path=path
        )
    settings = run_settings(
        2,
        preset="published",
        clusters=checkpoint.clusters[0],
        heads=len(checkpoint.clusters),
        groups=min(2, len(checkpoint.clusters)),
        align=False,  # its modalities have learnt the same labels
        video_net=checkpoint.video_net,
        audio_net=checkpoint.audio_net,
        mlp=checkpoint.mlp,
        sound_level=sound_level,
        config={"backbone": {"clip": _with_decode_size(clip or {})}},
        device="cpu",
    )
    model = checkpoint.build()
    _check_hidden_width(checkpoint, settings, path)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9, weight_decay=settings.backbone.weight_decay)
    labels = (
        checkpoint.selflabels
        if checkpoint.selflabels is not None
        else np.zeros((0, len(checkpoint.clusters)), np.int64)
    )
    state: dict[str, Any] = {
        "step": checkpoint.epoch,
        "epoch": max(1, checkpoint.epoch),
        "per_epoch": 1,
        "finished": True,
        "settle_from": -1,
        "losses": torch.zeros(0, dtype=torch.float64),
        "failures": "[]",
        "labels": torch.from_numpy(labels.astype(np.int32)),
    }
    for head, K in enumerate(checkpoint.clusters):
        sizes = np.ones(K) if checkpoint.sizes is None else checkpoint.sizes[head]
        state[f"sizes_{head}"] = torch.from_numpy(sizes / sizes.sum())
    run = Run.prepare(folder)
    write_checkpoint(
        Checkpoints(run.checkpoint_folder).next_path(checkpoint.epoch),
        {
            "model": model.state_dict(),
            "optimizer": checkpoint.optimizer or optimizer.state_dict(),
            "random": torch.get_rng_state()[None],
            "cuda_random": None,
            "state": state,
        },
    )
    run.rewrite_config(settings.to_dict())
    return run, checkpoint


def add_videos(run: Run, manifest: Manifest, epochs: int | None = None, reporter: Reporter = SILENT) -> None:
    """
    Give a run from a published checkpoint the videos of its training, so that it can be continued.

    Networks, heads, momentum, cluster sizes and epoch are those of the checkpoint. Pseudo-labels are found anew before
    the first step, since a checkpoint does not say which videos its own belong to.

    Parameters
    ----------
    run : Run
        As made by `import_published`.
    manifest : Manifest
        The scanned collection.
    epochs : int, optional
        Number of epochs of the whole training, those of the checkpoint included; by default 200, as published.
    reporter : Reporter
        Receives a warning if the newest checkpoint is damaged.

    Raises
    ------
    InputError
        If there are fewer usable videos than clusters.
    """
    settings = RunSettings.from_dict(run.config)
    check_usable(manifest, settings.clusters)
    training = replace(settings.training, align=False, epochs=epochs or settings.training.epochs)
    settings = replace(settings, training=training)
    checkpoint = read_newest(run, reporter)
    unlabelled = torch.full((len(manifest.usable), settings.heads), -1, dtype=torch.int32)
    state = {**checkpoint["state"], "labels": unlabelled, "finished": False}
    path = Checkpoints(run.checkpoint_folder).next_path(int(state["step"]))
    write_checkpoint(path, {**checkpoint, "state": state})
    run.rewrite_config(settings.to_dict())
    write_videos(run, manifest)  # last: from here on the run can be continued


def export_published(run: Run, path: str | os.PathLike[str], reporter: Reporter = SILENT) -> None:
    """
    Write the networks and labelling heads of a run as a published checkpoint.

    Parameters
    ----------
    run : Run
        A trained run.
    path : path
        The file to write.
    reporter : Reporter
        Receives a warning if the newest checkpoint is damaged.

    Raises
    ------
    InputError
        If the published layout does not have the run's networks.
    """
    settings = RunSettings.from_dict(run.config)
    if settings.backbone.modalities != BOTH:
        raise InputError(
            f"{printable(run.folder)} has learnt on {settings.backbone.modalities} alone; published networks on both",
            path=run.folder,
        )
    if settings.backbone.concatenate:
        raise InputError(
            f"{printable(run.folder)} has heads on concatenated features, which published networks have not",
            path=run.folder,
        )
    checkpoint = read_newest(run, reporter)
    state, heads = checkpoint["state"], range(settings.heads)
    others = settings.training.overclustering_heads > 0 or settings.backbone.optimizer != "sgd"
    write_published(
        path,
        _labelling_weights(checkpoint["model"], settings),
        epoch=int(state["epoch"]),
        sizes=[state[f"sizes_{head}"].numpy() for head in heads],
        selflabels=state["labels"][:, : settings.heads].numpy().astype(np.int64),
        # Its momentum includes those of the over-clustering heads, or is of an optimiser that the format does not know.
        optimizer=None if others else checkpoint["optimizer"],
    )


def _labelling_weights(model: Mapping[str, Tensor], settings: RunSettings) -> dict[str, Tensor]:
    """Return the weights without over-clustering heads; a single head has no number in its name."""
    weights = {}
    for name, value in model.items():
        root, _, rest = name.partition(".")
        if root.startswith("mlp_") and len(root) > 5:
            if int(root[5:]) >= settings.heads:
                continue
            root = root if settings.heads > 1 else root[:5]
        weights[f"{root}.{rest}"] = value
    return weights


def _check_hidden_width(checkpoint: PublishedCheckpoint, settings: RunSettings, path: str | os.PathLike[str]) -> None:
    backbone = settings.backbone
    for modality, name in (("video", backbone.video_net), ("audio", backbone.audio_net)):
        width = registry.find(modality, name).hidden
        if checkpoint.hidden and checkpoint.hidden[modality] != width:
            raise InputError(
                f"{printable(path)}: its {modality} heads have {checkpoint.hidden[modality]} hidden units; "
                f"those of {name} have {width} here",
                path=path,
            )


def _with_decode_size(clip: Mapping[str, Any]) -> dict[str, Any]:
    """Return clip settings whose videos are held in the published proportion to the size of the crop."""
    return {**clip, **({"decode_size": math.ceil(clip["size"] * 160 / 112)} if "size" in clip else {})}
