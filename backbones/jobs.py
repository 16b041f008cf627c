"""What the commands do with a run folder: start it, and carry it out to its end."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from backbones.beginning import begin_with, checked_beginning
from backbones.checkpoint import read_checkpoint
from backbones.clips import ClipSource, mel_statistics
from backbones.learner import TorchBackbone
from backbones.recipe import RunSettings, choose_device
from backbones.sources import Loading, n_processes, open_source
from selavi_ref.backbone import working_datasets
from selavi_ref.checkpoints import Checkpoints
from selavi_ref.errors import CheckpointError, InputError
from selavi_ref.exchange import Alone, Exchange, agreed, share
from selavi_ref.media import Manifest, read_manifest, write_manifest
from selavi_ref.report.events import Events
from selavi_ref.report.progress import bar
from selavi_ref.run import Run, write_text
from selavi_ref.stopping import stoppable
from selavi_ref.store import WorkingStore, shard_path
from selavi_ref.training import Progress, Training

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
    settings = checked_beginning(settings)
    settings.training.sizes.draw(settings.clusters, len(usable), np.random.default_rng(0))  # fails before all else
    run = Run.prepare(folder)
    absolute = [replace(entry, path=os.path.abspath(entry.path)) for entry in manifest]
    write_manifest(replace(manifest, entries=[e for e in absolute if not e.skipped]), run.videos_file)
    write_manifest(replace(manifest, entries=[e for e in absolute if e.skipped]), run.skipped_file)
    run.rewrite_config(settings.to_dict())  # last: from here on the folder is a run
    return run


@dataclass(frozen=True)
class Keeping:
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
    loading: Loading = Loading(),  # noqa: B008
    keeping: Keeping = Keeping(),
    exchange: Exchange = Alone(),  # noqa: B008
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
    with stoppable() as stops:
        with agreed(exchange):
            settings = RunSettings.from_dict(run.config)
            manifest = read_manifest(run.videos_file)
        source = open_source(manifest, settings.backbone, loading, exchange=exchange)
        checkpoints = keeping.checkpoints(run)
        if not checkpoints.newest_first():
            settings = _with_sound_level(run, settings, source, exchange)
        with agreed(exchange):
            backbone = TorchBackbone(
                settings.backbone,
                settings.head_sizes,
                source,
                device=choose_device(device),
                workers=n_processes(source, loading),
                seed=settings.training.seed,
                exchange=exchange,
            )
            store = _working_store(run, keeping, manifest.paths, backbone, settings, exchange)
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
                warn=lambda message: click.echo(message, err=True) if exchange.rank == 0 else None,
            )
            if not training.restore():
                with agreed(exchange):
                    begin_with(backbone, settings)
            if exchange.rank == 0:
                run.forget_log_after(training.step)
                events.restart(run.records)
            stops.ask = training.request_stop
            _learn(training, exchange)
            stops.ask = None
        store.path.unlink(missing_ok=True)
    if training.failures and exchange.rank == 0:
        reasons = "".join(f"{reason}\n" for _, reason in sorted(training.failures.items()))
        write_text(run.failures_file, reasons)
    return training


def _learn(training: Training, exchange: Exchange) -> None:
    """Carry out what is left of a training, showing how far it is."""
    with bar(training.total_steps, "learning", "step", initial=training.step, shown=exchange.rank == 0) as progress:

        def told(now: Progress) -> None:
            progress.total = now.total
            progress.set_postfix_str(
                f"epoch {now.epoch}, loss {now.loss:.3f}, rate {now.rate:.3g}, "
                f"labelling {now.labelling_seconds:.1f} s ({now.changed:.0%} changed)",
                refresh=False,
            )
            progress.update(1)

        training.run(told)
    if not training.finished:
        training.finish()


def _working_store(
    run: Run,
    keeping: Keeping,
    paths: Sequence[str],
    backbone: TorchBackbone,
    settings: RunSettings,
    exchange: Exchange,
) -> WorkingStore:
    """Make the store of this process's share of the videos, which only it uses."""
    own = share(len(paths), exchange)
    if not own:
        raise InputError(f"{exchange.size} processes are more than the {len(paths)} videos to learn from")
    folder = Path(keeping.scratch or run.folder)
    place = shard_path(folder / run.working_file.name, exchange.rank, exchange.size)
    datasets = working_datasets(backbone, settings.training.side_heads)
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
    with agreed(exchange):
        if exchange.rank == 0:
            rng = np.random.default_rng(settings.training.seed)
            mean, std = mel_statistics(source, rng.permutation(len(source))[:_MEL_SAMPLE].tolist())
            clip = replace(settings.backbone.clip, mel_mean=mean, mel_std=std, mel_floor=mean - 4 * std)
            run.rewrite_config(replace(settings, backbone=replace(settings.backbone, clip=clip)).to_dict())
    settings = RunSettings.from_dict(run.config)
    source.settings = settings.backbone.clip
    return settings
