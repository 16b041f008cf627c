"""Which files a run is given: those of a folder of the types that the run has, or of chosen ones, or of a list."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from contextlib import suppress

from selavi_ref.api.video_runs import Videos, as_manifest
from selavi_ref.datasets import Manifest
from selavi_ref.datasets.run_lists import labelled_videos
from selavi_ref.datasets.scan import list_videos
from selavi_ref.datasets.video_files import MODALITIES_OF_TYPES, file_type, left_out_sentence
from selavi_ref.errors import InputError, printable
from selavi_ref.heads.any_run import learnt_store
from selavi_ref.media.segments import file_of
from selavi_ref.runs.modality_names import BOTH
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run, RunKind
from selavi_ref.store import FeatureStore


def list_for_run(
    run: Run,
    videos: Videos,
    types: Collection[str] | None = None,
    *,
    names: Sequence[str] | None = None,
    reporter: Reporter = SILENT,
) -> Manifest:
    """
    Return the files that a run is given, without opening them.

    Parameters
    ----------
    run : Run
        A run on videos, or of heads on features that encoders have computed.
    videos : path, sequence of paths, or Manifest
        A folder, a list file or paths of videos.
    types : collection of str, optional
        Types of files of a folder to take, see `selavi_ref.datasets.video_files.FILE_TYPES`; by default those that the
        run has, or, in a folder without any of these, the videos, else the sounds, else the pictures.
    names : sequence of str, optional
        Rows of the run; by default they are read.
    reporter
        Receives what was left out of a folder.

    Raises
    ------
    InputError
        If there are no files, `types` are given for something that is no folder, or the run can use none of them.
    """
    if types is not None:
        _refuse_unusable(run, types)
    if not isinstance(videos, (str, os.PathLike)) or not os.path.isdir(videos):
        return as_manifest(videos, types)
    listed = None
    if types is None and (known := _types_of(run, names)) != {"videos"}:
        with suppress(InputError):
            listed = list_videos(videos, known)
    listed = listed or list_videos(videos, types)
    if types is None and (left_out := left_out_sentence(listed.ignored)):
        reporter.info(left_out)
    return listed


def _types_of(run: Run, names: Sequence[str] | None) -> set[str]:
    """Return the types of the files that a run has."""
    if names is None and run.kind is RunKind.HEADS:
        with FeatureStore(learnt_store(run)) as store:
            names = store.paths
    names = labelled_videos(run).paths if names is None else names
    return {file_type(file_of(name)) for name in names} - {""} or {"videos"}


def _refuse_unusable(run: Run, types: Collection[str]) -> None:
    """Raise an `InputError` if a run has learnt on no modality of the given types of files."""
    learnt = _modalities_of(run)
    known = [kind for kind in types if kind in MODALITIES_OF_TYPES]  # others are refused when files are listed
    if not known or len(known) < len(types) or any(learnt & MODALITIES_OF_TYPES[kind] for kind in known):
        return
    (modality,) = learnt
    what = {"video": "the picture", "audio": "the sound"}[modality]
    fitting = " or ".join(kind for kind, has in MODALITIES_OF_TYPES.items() if modality in has)
    raise InputError(
        f"--files {','.join(known)}: {printable(run.folder)} has learnt on {what} alone; choose {fitting}",
        option="files",
        value=list(known),
    )


def _modalities_of(run: Run) -> set[str]:
    """Return on which of ``"video"`` and ``"audio"`` a run has learnt; both, where that is not known."""
    if run.kind is not RunKind.HEADS:
        return set(str(run.config.get("backbone", {}).get("modalities", BOTH)).split("+"))
    with FeatureStore(learnt_store(run)) as store:
        encoders = store.provenance.get("encoders", {})
    used = run.config.get("modalities", list(encoders))
    inputs = [encoders[space].get("input") for space in used if space in encoders]
    if not inputs or not all(inputs):
        return set(BOTH.split("+"))
    return {"audio" if each.get("sample_rate") else "video" for each in inputs}
