"""The steps of a run on videos, from listed videos to a store of features and log-probabilities."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.data.data_source import DataSource
from backbones.data.degradation import Degradation
from backbones.data.loader import ClipSampling
from backbones.runs.continued import continue_learning, default_epochs, scan_learnable
from backbones.runs.extract import extract
from backbones.runs.final_labels import wants_final_labels, write_final_store
from backbones.runs.other_files import add_other_files
from backbones.runs.pilot import finish_pilot, start_pilot
from backbones.runs.presets import read_config, run_settings
from backbones.runs.run_settings import RunSettings
from backbones.runs.store_check import check_same_run
from backbones.runs.train import CheckpointPolicy, is_finished, read_videos, start, train, usable_length
from selavi_ref.datasets import Manifest, read_manifest, scan
from selavi_ref.datasets.modalities import learning_modalities, modalities_sentence, rows_modalities, with_modalities
from selavi_ref.datasets.run_lists import labelled_videos, record_contents
from selavi_ref.datasets.scan import scan_playable
from selavi_ref.datasets.segmentation import Segmentation
from selavi_ref.datasets.video_files import left_out_sentence
from selavi_ref.errors import FilePath, InputError
from selavi_ref.report.figures import check_drawing
from selavi_ref.runs.pilot_run import PilotRun
from selavi_ref.runs.processes import Exchange, SingleProcess, raise_together
from selavi_ref.runs.reporter import SILENT, Reporter, counted
from selavi_ref.runs.run import Run
from selavi_ref.runs.run_lock import locked
from selavi_ref.store import FeatureStore

# What `selavi_ref.api` calls on this module.
__all__ = [
    "CheckpointPolicy",
    "ClipSampling",
    "DataSource",
    "clip_disagreement",
    "continue_learning",
    "default_epochs",
    "extract_videos",
    "finish_run",
    "scan_learnable",
    "start_run",
    "usable_length",
]


def start_run(
    out: str | os.PathLike[str],
    listed: Manifest,
    n_clusters: int | str | None,
    *,
    most: int | None = None,
    segments: str | float | None = None,
    workers: int | None = None,
    reporter: Reporter = SILENT,
    **options: Any,
) -> None:
    """
    Scan listed videos, and make the folder of a new run on those that can be used.

    Parameters
    ----------
    out : path
        Folder of the run.
    listed : Manifest
        The videos, not scanned yet.
    n_clusters : int, "auto" or None
        Number of clusters; ``"auto"``: a pilot run comes first, from which it is estimated; None: that of the layout
        or of the settings file.
    most : int, optional
        Largest number of clusters that is estimated.
    segments : str or float, optional
        How videos are cut: ``"whole"``, ``"scenes"``, seconds of a segment, or ``"auto"``; see
        `selavi_ref.datasets.segmentation.Segmentation`. By default that of the settings file, or ``"auto"``.
    workers : int, optional
        Files that are scanned at the same time; by default one for each processor core.
    options
        Other options of `backbones.runs.presets.run_settings`; ``config`` may also be the path of a file.

    Raises
    ------
    InputError
        If a setting does not fit, no video can be used, or the folder holds a run already.
    """
    if not isinstance(options.get("config"), Mapping):
        options["config"] = read_config(options.get("config")) or {}
    estimated = n_clusters == "auto"
    cut = Segmentation.parse(options["config"].get("segments", "auto") if segments is None else segments)
    options["segments"] = cut.text
    chosen = options.pop("modalities", None) or options["config"].get("backbone", {}).get("modalities")
    options["modalities"] = chosen = None if chosen == "auto" else chosen
    # Refuse settings that do not fit before the long scan.
    known = run_settings(**options, clusters=2 if estimated else n_clusters, n_videos=1000)
    length = usable_length(known.backbone.clip)
    manifest = scan(listed, min_seconds=length, require="any", workers=workers, segments=cut, reporter=reporter)
    options["modalities"] = learning_modalities(manifest, length, chosen)
    manifest = with_modalities(manifest, options["modalities"], length)
    if estimated:
        check_drawing()
        run = start_pilot(out, manifest, options, most).pilot
    else:
        run = start(out, manifest, run_settings(**options, clusters=n_clusters, n_videos=len(manifest.usable)))
    skipped = len(manifest.skipped)
    reporter.info(
        f"{len(manifest.usable)} videos to learn from, {skipped} skipped"
        + (f" (reasons in {run.skipped_file})" if skipped else "")
    )
    rows = rows_modalities(manifest.usable, options["modalities"], length)
    reporter.info(modalities_sentence(rows, options["modalities"]))
    if left_out := left_out_sentence(listed.ignored):
        reporter.info(left_out)
    if len(set(manifest.usable.classes)) > 1:
        reporter.info("folders name classes: they are used for reporting only, never for learning")


def finish_run(
    out: str | os.PathLike[str],
    *,
    device: str = "auto",
    data_source: DataSource = DataSource(),  # noqa: B008
    checkpoint_policy: CheckpointPolicy = CheckpointPolicy(),  # noqa: B008
    exchange: Exchange = SingleProcess(),  # noqa: B008
    reporter: Reporter = SILENT,
) -> Run:
    """
    Take a run from where it is to its end: pilot run, training, features and log-probabilities of its videos.

    With several processes, all call this; parameters are those of `backbones.runs.train.train`.

    Raises
    ------
    InputError
        If there is no run, or it has no videos.
    StopRequest
        If the system has sent SIGTERM or SIGUSR1; the state is saved.
    RunInUseError
        If another job writes into the folder.
    """
    how: dict[str, Any] = {
        "device": device,
        "data_source": data_source,
        "exchange": exchange,
        "reporter": reporter,
    }
    with locked(out, exchange):
        return _finish(out, checkpoint_policy, exchange, reporter, how)


def _finish(
    out: str | os.PathLike[str],
    checkpoint_policy: CheckpointPolicy,
    exchange: Exchange,
    reporter: Reporter,
    how: Mapping[str, Any],
) -> Run:
    with raise_together(exchange):
        pilot = PilotRun(Path(out))
        under_way = pilot.under_way
    if under_way:
        finish_pilot(pilot, checkpoint_policy=checkpoint_policy, **how)
    with raise_together(exchange):
        run = Run.of_videos(out, f"continue with: selavi train-heads --resume --out {out}")
        if not run.videos_file.exists():
            raise InputError(
                f"{out} has no videos to learn from; name them with --resume to continue its checkpoint, "
                f"or start another run with its networks by --init {out}",
                path=out,
            )
        finished = is_finished(run)
    if not finished:
        training = train(run, checkpoint_policy=checkpoint_policy, **how)
        if training.failures and exchange.rank == 0:
            reporter.warn(
                f"{counted(len(training.failures), 'video')} could not always be decoded; see {run.failures_file}"
            )
    with raise_together(exchange):
        extracted = run.features_file.exists()
        manifest = read_manifest(run.videos_file) if extracted else read_videos(run)
    if not extracted:
        if wants_final_labels(RunSettings.from_dict(run.config), manifest):
            write_final_store(run, manifest, **how)
        else:
            extract(run, manifest, run.features_file, **how)
    add_other_files(run, **how)
    if exchange.rank == 0 and not run.contents_file.exists():
        record_contents(run, workers=how["data_source"].workers, reporter=reporter)
    return run


def extract_videos(
    run: Run,
    videos: FilePath | Manifest,
    out: str | os.PathLike[str],
    *,
    sampling: ClipSampling = ClipSampling(),  # noqa: B008
    degradation: Degradation = Degradation(),  # noqa: B008
    device: str = "auto",
    workers: int | None = None,
    exchange: Exchange = SingleProcess(),  # noqa: B008
    segments: str | float = "whole",
    reporter: Reporter = SILENT,
) -> None:
    """Scan any videos, and write their features and log-probabilities to a store; see `backbones.runs.extract`."""
    with raise_together(exchange):
        heard = reporter if exchange.rank == 0 else SILENT
        manifest = scan_playable(videos, workers=workers, segments=segments, reporter=heard)
    extract(
        run,
        manifest,
        out,
        sampling=sampling,
        degradation=degradation,
        device=device,
        data_source=DataSource(workers),
        exchange=exchange,
        reporter=reporter,
    )


def clip_disagreement(
    run: Run,
    clips_store: str | os.PathLike[str],
    n_clips: int,
    paths: list[str],
    *,
    device: str = "auto",
    workers: int | None = None,
    reporter: Reporter = SILENT,
) -> NDArray[np.float32]:
    """
    Return the fraction of each video's clips with another label than the video, averaged over the heads, shape (N,).

    Parameters
    ----------
    run : Run
        A trained run.
    clips_store : path
        Store of the predictions for the clips; written unless it exists.
    n_clips : int
        Clips of each video.
    paths : list of str
        The videos of the run.

    Raises
    ------
    InputError
        If the store exists, and is not of this run.
    """
    if not os.path.exists(clips_store):
        extract(
            run,
            labelled_videos(run),
            clips_store,
            sampling=ClipSampling(n_clips),
            device=device,
            data_source=DataSource(workers),
            reporter=reporter,
        )
    with FeatureStore(clips_store) as store:
        check_same_run(store, run, paths, reporter)
        disagreement: NDArray[np.float32] = store.get("disagreement").mean(1, dtype=np.float32)
    return disagreement
