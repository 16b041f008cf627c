"""Further learning of a finished run, with videos that were added and corrections of people, in a folder of its own."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backbones.data.data_source import DataSource
from backbones.data.loader import ClipSampling
from backbones.learner.checkpoint import read_newest, write_checkpoint
from backbones.networks.model import head_name
from backbones.runs.extract import checkpoint_consensus, extract
from backbones.runs.final_labels import wants_final_labels, write_final_store
from backbones.runs.run_settings import RunSettings
from backbones.runs.train import is_finished, train, usable_length, write_videos
from selavi_ref.datasets import Manifest, scan
from selavi_ref.datasets.modalities import with_modalities
from selavi_ref.ensemble.matching import number_like
from selavi_ref.runs.checkpoints import Checkpoints
from selavi_ref.runs.provenance import Provenance
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run
from selavi_ref.selflabel.constraints import Constraints, write_constraints
from selavi_ref.store import FeatureStore

_SHARE = 0.15  # of the epochs that the run has learnt for: the default length of further learning
_FEWEST_EPOCHS = 5
_RATE = 0.5  # times the learning rate of the run, from which it falls to zero


def default_epochs(run: Run) -> int:
    """Return the number of epochs of further learning: 15 % of those that a run has learnt for, at least 5."""
    return max(_FEWEST_EPOCHS, math.ceil(_SHARE * int(read_newest(run)["state"]["epoch"])))


def continue_learning(
    run: Run,
    folder: str | os.PathLike[str],
    manifest: Manifest,
    labelled: Manifest,
    *,
    epochs: int,
    clusters: int,
    head_labels: NDArray[np.int32],
    reference: NDArray[np.int32],
    constraints: Constraints | None = None,
    device: str = "auto",
    data_source: DataSource = DataSource(),  # noqa: B008
    reporter: Reporter = SILENT,
) -> Run:
    """
    Learn from the present networks of a run on, in another folder; a second call goes on where the first one stopped.

    The learning rate starts at half of the run's and falls to zero. Heads keep their clusters, and get further ones at
    the end. Labels get the numbers that agree most with those before.

    Parameters
    ----------
    run : Run
        A finished run; it stays as it is.
    folder : path
        Folder of the continued run, which has the settings, checkpoints and store of a finished one at the end.
    manifest : Manifest
        The N scanned videos to learn from.
    labelled : Manifest
        All videos that get a row in the store.
    epochs : int
        Epochs to learn for.
    clusters : int
        Clusters of each main head, at least as many as before.
    head_labels : array
        Labels of the videos by each main head, in its own numbers, int32, shape (N, H); -1 if unknown.
    reference : array
        Labels of the videos in the result before, int32, shape (N,); -1 if unknown.
    constraints : Constraints, optional
        Corrections of people.
    device, data_source, reporter
        As in `backbones.runs.train.train`.

    Returns
    -------
    Run
        The continued run.
    """
    continued = Run(folder)
    settings = replace(RunSettings.from_dict(run.config), clusters=clusters)
    if not continued.config_file.exists():
        continued.folder.mkdir(exist_ok=True)
        state = _start_state(run, settings, len(manifest), head_labels, reporter)
        write_checkpoint(Checkpoints(continued.checkpoint_folder).next_path(0), state)
        write_videos(continued, manifest)
        if constraints is not None:
            write_constraints(constraints, continued.constraints_file)
        continued.rewrite_config(_short(settings, epochs).to_dict())  # last: from here on it is a run
    if not is_finished(continued):
        train(continued, device=device, data_source=data_source, reporter=reporter)
    _number(run, continued, settings, reference)
    continued.rewrite_config(settings.to_dict())  # of the run; the schedule was only that of the further learning
    if not continued.features_file.exists() and wants_final_labels(settings, labelled):
        start = np.append(reference, np.full(len(labelled) - len(reference), -1, np.int32)).astype(np.int32)
        write_final_store(
            continued,
            labelled,
            device=device,
            data_source=data_source,
            start=start,
            constraints=constraints,
            reporter=reporter,
        )
    if not continued.features_file.exists():
        with FeatureStore(run.features_file) as store:
            made_by = Provenance.of(store)
        extract(
            continued,
            labelled,
            continued.features_file,
            sampling=ClipSampling(made_by.clips or 1, made_by.crops or 1),
            device=device,
            data_source=DataSource(data_source.workers),
            reporter=reporter,
        )
    return continued


def _short(settings: RunSettings, epochs: int) -> RunSettings:
    """Return settings with a schedule that starts from networks that have learnt."""
    training = replace(
        settings.training,
        epochs=epochs,
        settle_epochs=0,
        overclustering_from=0.0,
        learning_rate=_RATE * settings.training.learning_rate,
        warmup_epochs=min(1.0, epochs / 5),
        bn_warmup_batches=0,
        decay="cosine",
        labellings=epochs,
        labelling_power=1.0,
        align=False,
    )
    return replace(settings, training=training)


def _start_state(
    run: Run, settings: RunSettings, n_videos: int, head_labels: NDArray[np.int32], reporter: Reporter
) -> dict[str, Any]:
    """Return the newest checkpoint of a run as the start of further learning, with heads of more clusters."""
    checkpoint = read_newest(run, reporter)
    old = checkpoint["state"]
    n_heads, K = len(settings.head_sizes), settings.clusters
    labels = np.full((n_videos, n_heads), -1, np.int32)
    labels[:, : settings.heads] = head_labels
    state: dict[str, Any] = {
        "step": 0,
        "epoch": 0,
        "per_epoch": 1,
        "finished": False,
        "settle_from": -1,
        "losses": torch.zeros(0, dtype=torch.float64),
        "failures": "[]",
        "labels": torch.from_numpy(labels),
    }
    for head in range(n_heads):
        sizes = old[f"sizes_{head}"].numpy()
        potentials = old.get(f"potentials_{head}")
        if head < settings.heads and len(sizes) < K:
            more = K - len(sizes)
            sizes = np.concatenate([sizes, np.full(more, sizes.mean())])
            if potentials is not None:
                values = potentials.numpy()
                middle = float(np.median(values[np.isfinite(values)]))
                potentials = torch.from_numpy(np.concatenate([values, np.full(more, middle)]))
        state[f"sizes_{head}"] = torch.from_numpy(sizes / sizes.sum())
        if potentials is not None:
            state[f"potentials_{head}"] = potentials
    optimizer = {**checkpoint["optimizer"], "state": {}}
    return {
        **checkpoint,
        "model": _with_more_outputs(checkpoint["model"], settings),
        "optimizer": optimizer,
        "state": state,
    }


def _with_more_outputs(model: dict[str, Tensor], settings: RunSettings) -> dict[str, Tensor]:
    """Return weights whose main heads have more outputs: like the others on average, with small random differences."""
    model = dict(model)
    generator = torch.Generator().manual_seed(settings.training.seed)
    for space in settings.backbone.spaces:
        for head in range(settings.heads):
            name = head_name(space, head, len(settings.head_sizes))
            layer = f"{name}.block_forward.8" if f"{name}.block_forward.8.weight" in model else name
            weight, bias = model[f"{layer}.weight"], model[f"{layer}.bias"]
            more = settings.clusters - len(bias)
            noise = torch.randn((more, weight.shape[1]), generator=generator) * weight.float().std()
            model[f"{layer}.weight"] = torch.cat([weight, (weight.mean(0) + noise).to(weight.dtype)])
            model[f"{layer}.bias"] = torch.cat([bias, bias.mean().expand(more)])
    return model


def _number(run: Run, continued: Run, settings: RunSettings, reference: NDArray[np.int32]) -> None:
    """Write into the newest checkpoint how clusters are numbered, and epochs and steps with those before."""
    checkpoint = read_newest(continued)
    state = checkpoint["state"]
    if "numbers" in state:
        return
    arrays = {"labels": state["labels"].numpy(), "epoch": state["epoch"]}
    consensus = checkpoint_consensus(arrays, settings)
    labels = arrays["labels"][:, : settings.heads]
    votes = np.zeros((len(labels), settings.clusters), np.int64)
    for head, groups in enumerate(consensus.groups):
        np.add.at(votes, (np.arange(len(labels)), groups[labels[:, head]]), 1)
    numbers = number_like(votes.argmax(1).astype(np.int32), reference, settings.clusters)
    before = read_newest(run)["state"]
    state |= {
        "numbers": torch.from_numpy(numbers),
        "step": int(state["step"]) + int(before["step"]),
        "epoch": int(state["epoch"]) + int(before["epoch"]),
    }
    write_checkpoint(Checkpoints(continued.checkpoint_folder).next_path(state["step"]), checkpoint)


def scan_learnable(run: Run, listed: Manifest, *, workers: int | None = None, reporter: Reporter = SILENT) -> Manifest:
    """Scan videos for what a run needs to learn from them; those that it cannot learn from are skipped."""
    backbone = RunSettings.from_dict(run.config).backbone
    length = usable_length(backbone.clip)
    scanned = scan(listed, min_seconds=length, require="any", workers=workers, reporter=reporter)
    return with_modalities(scanned, backbone.modalities, length)
