"""What the commands do with a run folder: start it, and carry it out to its end."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from backbones.data.clips import ClipSource, mel_statistics
from backbones.data.data_source import DataSource, n_loader_processes, open_clips
from backbones.learner.checkpoint import read_checkpoint
from backbones.learner.torch_backbone import TorchBackbone
from backbones.runs.initial_weights import check_initial_weights, load_initial_weights
from backbones.runs.run_settings import RunSettings, choose_device
from selavi_ref.datasets import Manifest, read_manifest, write_manifest
from selavi_ref.errors import CheckpointError, InputError
from selavi_ref.runs.atomic import write_text
from selavi_ref.runs.checkpoints import Checkpoints
from selavi_ref.runs.processes import Exchange, SingleProcess, local_rows, raise_together
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run
from selavi_ref.runs.signals import stoppable
from selavi_ref.runs.tensorboard import Events
from selavi_ref.selflabel.backbone import working_datasets
from selavi_ref.selflabel.training import Training, TrainingProgress
from selavi_ref.store import WorkingStore, shard_path

_MEL_SAMPLE = 256  # videos whose sound sets the mean and spread of the log energies


def start(folder: str | os.PathLike[str], manifest: Manifest, settings: RunSettings) -> Run:
    """
    Make a run folder for a scanned collection: settings, the videos used, and those skipped with their reasons.

    Raises
    ------
    InputError
        If no video can be used, there are fewer videos than clusters, or the folder holds a run already.
    """
    usable, skipped = manifest.usable, manifest.skipped
    if not len(usable):
        first = skipped.entries[0]
        raise InputError(
            f"{manifest.source}: none of {len(manifest)} videos can be used; {first.path}: {first.skipped}"
        )
    if len(usable) < 2:
        raise InputError(f"{manifest.source} has only one usable video; learning needs at least two")
    if len(usable) < settings.clusters:
        raise InputError(
            f"--clusters {settings.clusters}: {manifest.source} has only {len(usable)} usable videos, "
            "and every cluster needs at least one"
        )
    settings = check_initial_weights(settings)
    settings.training.sizes.draw(settings.clusters, len(usable), np.random.default_rng(0))  # fails before all else
    run = Run.prepare(folder)
    absolute = [replace(entry, path=os.path.abspath(entry.path)) for entry in manifest]
    write_manifest(replace(manifest, entries=[e for e in absolute if not e.skipped]), run.videos_file)
    write_manifest(replace(manifest, entries=[e for e in absolute if e.skipped]), run.skipped_file)
    run.rewrite_config(settings.to_dict())  # last: from here on the folder is a run
    return run


@dataclass(frozen=True)
class CheckpointPolicy:
    """
    How a run's state is kept, and what is kept of it.

    Parameters
    ----------
    minutes : float
        Within an epoch a checkpoint is written every so many minutes, beside those at its end.
    keep_every : int
        One checkpoint is kept for good every so many epochs, beside the last three; 0: none.
    scratch : str, optional
        Folder for the features in hand of each process, which may be on a disk of its own machine.
    """

    minutes: float = 15.0
    keep_every: int = 25
    scratch: str | None = None

    def __post_init__(self) -> None:
        if self.scratch is not None and not os.path.isdir(self.scratch):
            raise InputError(f"--scratch {self.scratch} is not a folder")

    def checkpoints(self, run: Run) -> Checkpoints:
        """Return the checkpoints of a run."""
        return Checkpoints(run.checkpoint_folder, keep_every=self.keep_every, minutes=self.minutes)


def train(
    run: Run,
    *,
    device: str = "auto",
    data_source: DataSource = DataSource(),  # noqa: B008
    checkpoint_policy: CheckpointPolicy = CheckpointPolicy(),
    exchange: Exchange = SingleProcess(),  # noqa: B008
    reporter: Reporter = SILENT,
) -> Training:
    """
    Carry out a run from its newest checkpoint, or from the beginning, to its end.

    Parameters
    ----------
    run : Run
        As made by `start`.
    device : str
        See `choose_device`.
    loading : Loading
        Where the clips come from.
    keeping : Keeping
        Checkpoints.
    exchange : Exchange
        With the other processes of the run, all of which call this.

    Returns
    -------
    Training
        With the labels of the last self-labelling, made from the final networks.

    Raises
    ------
    StopRequest
        If the system has sent SIGTERM or SIGUSR1; the state is saved.
    """
    reporter = reporter if exchange.rank == 0 else SILENT
    with stoppable() as stops:
        with raise_together(exchange):
            settings = RunSettings.from_dict(run.config)
            manifest = read_manifest(run.videos_file)
        source = open_clips(manifest, settings.backbone.clip, data_source, exchange=exchange, reporter=reporter)
        checkpoints = checkpoint_policy.checkpoints(run)
        if not checkpoints.newest_first():
            settings = _with_sound_level(run, settings, source, exchange)
        with raise_together(exchange):
            backbone = TorchBackbone(
                settings.backbone,
                settings.head_sizes,
                source,
                device=choose_device(device),
                workers=n_loader_processes(source, data_source),
                seed=settings.training.seed,
                exchange=exchange,
            )
            store = _working_store(run, checkpoint_policy, manifest.paths, backbone, settings, exchange)
        with store, Events(run.events_folder if exchange.rank == 0 else None) as events:

            def log(record: Mapping[str, Any]) -> None:
                if exchange.rank == 0:
                    run.log(record)
                    events.add(record)

            training = Training(
                backbone,
                settings.training,
                store,
                checkpoints,
                log,
                exchange=exchange,
                classes=manifest.classes,
                reporter=reporter,
            )
            if not training.restore():
                with raise_together(exchange):
                    load_initial_weights(backbone, settings)
            if exchange.rank == 0:
                run.keep_records(training.covers)
                events.restart(run.records)
            stops.on_stop = training.request_stop
            _learn(training, reporter)
            stops.on_stop = None
        store.path.unlink(missing_ok=True)
    if training.failures and exchange.rank == 0:
        reasons = "".join(f"{reason}\n" for _, reason in sorted(training.failures.items()))
        write_text(run.failures_file, reasons)
    return training


def _learn(training: Training, reporter: Reporter) -> None:
    """Carry out what is left of a training, showing how far it is."""
    with reporter.bar(training.total_steps, "learning", "step", training.step) as bar:

        def show_progress(now: TrainingProgress) -> None:
            bar.total = now.total
            bar.note(now.summary)
            bar.update(1)

        training.run(show_progress)
    if not training.finished:
        training.finish()


def _working_store(
    run: Run,
    checkpoint_policy: CheckpointPolicy,
    paths: Sequence[str],
    backbone: TorchBackbone,
    settings: RunSettings,
    exchange: Exchange,
) -> WorkingStore:
    """Make the store of this process's share of the videos, which only it uses."""
    own = local_rows(len(paths), exchange)
    if not own:
        raise InputError(f"{exchange.size} processes are more than the {len(paths)} videos to learn from")
    folder = Path(checkpoint_policy.scratch or run.folder)
    place = shard_path(folder / run.working_file.name, exchange.rank, exchange.size)
    datasets = working_datasets(backbone, settings.training.overclustering_heads)
    return WorkingStore.create(place, paths[own.start : own.stop], datasets)


def is_finished(run: Run) -> bool:
    """Tell whether a run has come to its end, so that only its labels are left to be written."""
    newest = Checkpoints(run.checkpoint_folder).newest_first()
    try:
        return bool(newest) and bool(read_checkpoint(newest[0])["state"].get("finished"))
    except CheckpointError:
        return False  # going on from the one before will say so


def _with_sound_level(run: Run, settings: RunSettings, source: ClipSource, exchange: Exchange) -> RunSettings:
    """Measure the collection's log mel energies once, and keep the result in the run's settings."""
    if settings.backbone.mel_normalise != "collection":
        return settings
    with raise_together(exchange):
        if exchange.rank == 0:
            rng = np.random.default_rng(settings.training.seed)
            mean, std = mel_statistics(source, rng.permutation(len(source))[:_MEL_SAMPLE].tolist())
            clip = replace(settings.backbone.clip, mel_mean=mean, mel_std=std, mel_floor=mean - 4 * std)
            run.rewrite_config(replace(settings, backbone=replace(settings.backbone, clip=clip)).to_dict())
    settings = RunSettings.from_dict(run.config)
    source.settings = settings.backbone.clip
    return settings
