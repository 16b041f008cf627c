"""Starting a training run on videos, and training it to its end."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from backbones.data.clips import ClipSource
from backbones.data.data_source import DataSource, n_loader_processes, open_clips
from backbones.data.settings import ClipSettings
from backbones.learner.checkpoint import read_training_checkpoint
from backbones.learner.torch_backbone import TorchBackbone
from backbones.runs.audio_level import measure_audio_level
from backbones.runs.initial_weights import check_initial_weights, load_initial_weights
from backbones.runs.run_settings import RunSettings, choose_device
from selavi_ref.datasets import Manifest, read_manifest, write_manifest
from selavi_ref.datasets.modalities import rows_modalities
from selavi_ref.errors import CheckpointError, InputError
from selavi_ref.runs.atomic import write_text
from selavi_ref.runs.checkpoints import Checkpoints
from selavi_ref.runs.checksums import forget_checksum, record_checksum, verify_checksum
from selavi_ref.runs.processes import Exchange, SingleProcess, local_rows, raise_together
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run
from selavi_ref.runs.session import training_session
from selavi_ref.selflabel.backbone import working_datasets
from selavi_ref.selflabel.constraints import read_constraints
from selavi_ref.selflabel.training import Training
from selavi_ref.store import WorkingStore, shard_path


def start(folder: str | os.PathLike[str], manifest: Manifest, settings: RunSettings) -> Run:
    """
    Make a run folder for a scanned collection: settings, usable videos, and skipped videos with their reasons.

    Raises
    ------
    InputError
        If no video can be used, there are fewer videos than clusters, or the folder holds a run already.
    """
    check_usable(manifest, settings.clusters)
    settings = check_initial_weights(settings)
    if len(set(learnt_modalities(manifest.usable, settings))) > 1:
        needs = "needs picture and sound of every video"
        if settings.backbone.concatenate:
            raise InputError(f"--concatenate-features {needs}; leave it out", option="concatenate-features")
        if settings.training.labeller == "kmeans":
            raise InputError(f"--labeller kmeans {needs}; give --modalities video, or audio", option="labeller")
    settings.training.sizes.draw(settings.clusters, len(manifest.usable), np.random.default_rng(0))
    run = Run.prepare(folder)
    write_videos(run, manifest)
    run.rewrite_config(settings.to_dict())  # last: from here on the folder is a run
    return run


def usable_length(clip: ClipSettings) -> float:
    """Return the seconds that a video to learn from must have: a little more than a clip."""
    return max(1.1, clip.length + 0.1)


def learnt_modalities(manifest: Manifest, settings: RunSettings) -> list[tuple[str, ...]]:
    """Return the modalities on which a run learns each video of its collection."""
    backbone = settings.backbone
    return rows_modalities(manifest, backbone.modalities, usable_length(backbone.clip))


def check_usable(manifest: Manifest, clusters: int) -> None:
    """Raise an `InputError` if a collection has too few usable videos to learn so many clusters."""
    usable, skipped = manifest.usable, manifest.skipped
    if not len(usable):
        first = skipped.entries[0]
        raise InputError(
            f"{manifest.source}: none of {len(manifest)} videos can be used; {first.path}: {first.skipped}",
            path=manifest.source,
        )
    if len(usable) < 2:
        raise InputError(
            f"{manifest.source} has only one usable video; learning needs at least two", path=manifest.source
        )
    if len(usable) < clusters:
        raise InputError(
            f"--clusters {clusters}: {manifest.source} has only {len(usable)} usable videos, "
            "and every cluster needs at least one",
            option="clusters",
        )


def write_videos(run: Run, manifest: Manifest) -> None:
    """
    Write the lists of the usable and of the skipped videos of a run, with absolute paths.

    Skipped files are labelled, too, by what they have, or get the reason in the table of labels.
    """
    absolute = [replace(entry, path=os.path.abspath(entry.path)) for entry in manifest]
    skipped = [entry for entry in absolute if entry.skipped]
    write_manifest(replace(manifest, entries=skipped), run.skipped_file)
    if added := [replace(entry, skipped="" if entry.info else entry.skipped) for entry in skipped if entry.stamp]:
        write_manifest(replace(manifest, entries=added), run.added_file)
    forget_checksum(run.videos_file)
    write_manifest(replace(manifest, entries=[e for e in absolute if not e.skipped]), run.videos_file)
    record_checksum(run.videos_file)


def read_videos(run: Run) -> Manifest:
    """
    Read the videos of a run that is not finished.

    Raises
    ------
    InputError
        If the list was changed since the run was started: labels and steps belong to the rows of the old one.
    """
    verify_checksum(run.videos_file, "restore it, or start another run with --out")
    return read_manifest(run.videos_file)


@dataclass(frozen=True)
class CheckpointPolicy:
    """
    When checkpoints are written, and which are kept.

    Parameters
    ----------
    minutes : float
        Interval of checkpoints within an epoch, minutes; one is also written at the end of each epoch.
    keep_every : int
        Interval of permanent checkpoints, epochs; 0: none. The last three are always kept.
    scratch : str, optional
        Folder of each process's working store, which may be on a local disk; by default the run folder.
    """

    minutes: float = 15.0
    keep_every: int = 25
    scratch: str | None = None

    def __post_init__(self) -> None:
        if self.scratch is not None and not os.path.isdir(self.scratch):
            raise InputError(f"--scratch {self.scratch} is not a folder", option="scratch")

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
    Train a run to its end, from its newest checkpoint if there is one.

    Parameters
    ----------
    run : Run
        As made by `start`.
    device : str
        See `choose_device`.
    data_source : DataSource
        How clips are read.
    checkpoint_policy : CheckpointPolicy
        When checkpoints are written.
    exchange : Exchange
        Exchange with the other processes of the run, all of which call this.

    Returns
    -------
    Training
        With the labels of the last self-labelling, made from the final networks.

    Raises
    ------
    StopRequest
        If the system has sent SIGTERM or SIGUSR1; the state is saved.
    """
    with training_session(run, exchange=exchange, reporter=reporter) as session:
        with raise_together(exchange):
            settings = RunSettings.from_dict(run.config)
            manifest = read_videos(run)
        clip = settings.backbone.clip
        rows = learnt_modalities(manifest, settings)
        source = open_clips(manifest, clip, data_source, exchange=exchange, reporter=session.reporter, modalities=rows)
        checkpoints = checkpoint_policy.checkpoints(run)
        if not checkpoints.newest_first():
            settings = _with_audio_level(run, settings, source, exchange)
        with raise_together(exchange):
            backbone = TorchBackbone(
                settings.backbone,
                settings.head_sizes,
                source,
                device=choose_device(device),
                workers=n_loader_processes(source, data_source),
                seed=settings.training.seed,
                exchange=exchange,
                reporter=session.reporter,
            )
            store = _working_store(run, checkpoint_policy, manifest.paths, rows, backbone, settings, exchange)
        with store:
            training = Training(
                backbone,
                settings.training,
                store,
                checkpoints,
                session.log,
                exchange=exchange,
                classes=manifest.classes,
                constraints=read_constraints(run.constraints_file),
                reporter=session.reporter,
            )
            if not session.restore(training):
                with raise_together(exchange):
                    load_initial_weights(backbone, settings, session.reporter)
            session.learn(training)
            training.finish()
        store.path.unlink(missing_ok=True)
    if training.failures and exchange.rank == 0:
        reasons = "".join(f"{reason}\n" for _, reason in sorted(training.failures.items()))
        write_text(run.failures_file, reasons)
    return training


def _working_store(
    run: Run,
    checkpoint_policy: CheckpointPolicy,
    paths: Sequence[str],
    rows: Sequence[tuple[str, ...]],
    backbone: TorchBackbone,
    settings: RunSettings,
    exchange: Exchange,
) -> WorkingStore:
    """Create the working store of this process's rows, which no other process uses; `rows` has their modalities."""
    own = local_rows(len(paths), exchange)
    if not own:
        raise InputError(f"{exchange.size} processes are more than the {len(paths)} videos to learn from")
    folder = Path(checkpoint_policy.scratch or run.folder)
    path = shard_path(folder / run.working_file.name, exchange.rank, exchange.size)
    datasets = working_datasets(backbone, settings.training.overclustering_heads)
    part = slice(own.start, own.stop)
    present = {space: np.array([set(space.split("+")) <= set(row) for row in rows[part]]) for space in backbone.spaces}
    return WorkingStore.create(path, paths[part], datasets, present=present)


def is_finished(run: Run) -> bool:
    """Return whether the training of a run is complete, so that only its labels are to be written."""
    newest = Checkpoints(run.checkpoint_folder).newest_first()
    try:
        return bool(newest) and bool(read_training_checkpoint(newest[0])["state"]["finished"])
    except CheckpointError:
        return False  # `train` warns about it


def _with_audio_level(run: Run, settings: RunSettings, source: ClipSource, exchange: Exchange) -> RunSettings:
    """Return settings with the measured audio level, which the first process writes to the run's settings file."""
    if settings.backbone.mel_normalise != "collection" or "audio" not in settings.backbone.modalities:
        return settings
    with raise_together(exchange):
        if exchange.rank == 0:
            run.rewrite_config(measure_audio_level(settings, source).to_dict())
    settings = RunSettings.from_dict(run.config)
    source.settings = settings.backbone.clip
    return settings
