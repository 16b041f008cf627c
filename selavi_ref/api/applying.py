"""Log-probabilities by a run for any videos: by its networks, or by its heads on features, given or computed first."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py

from selavi_ref.api.heads_update import as_rows, check_encoders
from selavi_ref.api.listing import list_for_run
from selavi_ref.api.predictions import as_feature_store
from selavi_ref.api.video_runs import Videos, text_search, video_runs
from selavi_ref.datasets.scan import scan_playable
from selavi_ref.errors import FilePath, InputError, printable
from selavi_ref.heads.any_run import apply, learnt_store
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run, RunKind


def is_features(videos: Videos | Mapping[str, Any]) -> bool:
    """Return whether arrays, or the path of a store, were given in place of files to encode."""
    if not isinstance(videos, (str, os.PathLike)):
        return isinstance(videos, Mapping)
    return as_rows(videos) is not None or (os.path.isfile(videos) and bool(h5py.is_hdf5(videos)))


def apply_run(
    run: Run,
    videos: Videos | Mapping[str, Any],
    out: FilePath,
    *,
    clips: int | None = None,
    crops: int = 1,
    encoded: FilePath | None = None,
    segments: str | float | None = None,
    types: Collection[str] | None = None,
    device: str = "auto",
    workers: int | None = None,
    reporter: Reporter = SILENT,
) -> None:
    """
    Write the log-probabilities of a run of any kind to a store.

    Parameters
    ----------
    run, videos, clips, crops, segments, types, device, workers, reporter
        See `selavi_ref.api.Run.predict`; `clips` and `crops` are of runs on videos.
    out : path
        The store to write.
    encoded : path, optional
        See `apply_heads_run`.

    Raises
    ------
    InputError
        If there are no videos, or the features do not fit.
    """
    cut = run.usual_segments if segments is None else segments
    options: dict[str, Any] = {"segments": cut, "device": device, "workers": workers, "reporter": reporter}
    if run.kind is RunKind.HEADS:
        apply_heads_run(run, videos, out, encoded=encoded, types=types, **options)
        return
    if isinstance(videos, Mapping):
        raise InputError(
            f"{printable(run.folder)} has learnt from videos; name videos, not arrays", option="videos", path=run.folder
        )
    runs = video_runs()
    sampling = runs.ClipSampling(clips or run.usual_clips, crops)
    listed = list_for_run(run, videos, types, reporter=reporter)
    runs.extract_videos(run, listed, out, sampling=sampling, **options)


def apply_heads_run(
    run: Run,
    videos: Videos | Mapping[str, Any],
    out: FilePath,
    *,
    encoded: FilePath | None = None,
    segments: str | float | None = None,
    types: Collection[str] | None = None,
    device: str = "auto",
    workers: int | None = None,
    reporter: Reporter = SILENT,
) -> None:
    """
    Write the log-probabilities of a run of heads on features to a store.

    Parameters
    ----------
    run : Run
        The run.
    videos : path, sequence of paths, Manifest, or mapping
        A store of features by the same models, arrays of them by their names, or files for the encoders of the run.
    out : path
        The store to write.
    encoded : path, optional
        Where the features of files are written, and an interrupted encoding is continued; by default a temporary file.
    segments, types, device, workers, reporter
        See `selavi_ref.api.Run.predict`.

    Raises
    ------
    InputError
        If there are no files, the features do not fit, or those of the run were not computed by encoders.
    """
    with TemporaryDirectory(prefix="selavi-encoded-") as temporary:
        if is_features(videos):
            if types is not None:
                raise InputError("--files goes with a folder, not with features", option="files", value=list(types))
            store = as_feature_store(videos, temporary)
        else:
            check_encoders(run, "label")
            store = Path(temporary) / "encoded.h5" if encoded is None else encoded
            files = scan_playable(
                list_for_run(run, videos, types, reporter=reporter),  # type: ignore[arg-type]
                workers=workers,
                segments=run.usual_segments if segments is None else segments,
                reporter=reporter,
            )
            text_search().encode_files(
                learnt_store(run), files, store, device=device, workers=workers, reporter=reporter
            )
        apply(run, store, out, reporter)
