"""Labels over the time of videos, by a run: stretches of one label, from the posteriors of consecutive windows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from selavi_ref.api.applying import apply_run
from selavi_ref.api.heads_update import check_encoders
from selavi_ref.api.listing import list_for_run
from selavi_ref.api.predictions import label_features
from selavi_ref.api.progress import choose_reporter
from selavi_ref.api.video_runs import Videos
from selavi_ref.browser.annotations import annotations_of
from selavi_ref.datasets import Manifest
from selavi_ref.datasets.scan import scan_playable
from selavi_ref.errors import FilePath, InputError, printable
from selavi_ref.media.segments import file_of, segment_of
from selavi_ref.runs.reporter import Reporter, counted
from selavi_ref.runs.run import Run, RunKind
from selavi_ref.timeline.stretches import Timeline, timelines

WINDOW = 2.0  # seconds
_NAMED = 5  # videos without labels that are named


def label_timelines(
    run: FilePath,
    videos: Videos,
    *,
    window: float = WINDOW,
    head: str = "consensus",
    clips: int | None = None,
    as_learnt: bool = False,
    keep: FilePath | None = None,
    types: Collection[str] | None = None,
    device: str = "auto",
    workers: int | None = None,
    reporter: Reporter | None = None,
    progress: bool = False,
) -> list[Timeline]:
    """
    Label videos over time.

    Consecutive windows are labelled by the run, and smoothed by a hidden Markov model, whose strength is chosen by
    maximum likelihood on the windows of all videos together (`selavi_ref.timeline.hmm`).

    Parameters
    ----------
    run : path
        A run on videos, or of heads on features that encoders have computed.
    videos : path, sequence of paths, or Manifest
        A folder, a list file or paths of videos; times in a list are windows of their own.
    window : float
        Length of a window, seconds.
    head : str
        See `selavi_ref.ensemble.labels.label_store`.
    clips : int, optional
        Clips of each window, whose predictions are averaged, of a run on videos; see `Run.predict`.
    as_learnt : bool
        Ignore names and merged clusters that the run was given on its page.
    keep : path, optional
        File in which the features of the windows are kept until all are labelled, so that the same call after a stop
        continues where it was; removed at the end.
    types : collection of str, optional
        Of a folder, the types of files to take; see `Run.predict`.
    device, workers, reporter, progress
        See `selavi_ref.label_videos`.

    Returns
    -------
    list of Timeline
        One for each video, in their order; without stretches if it has no label.

    Raises
    ------
    InputError
        If there are no videos, no video can be labelled, or no features of them can be computed for the run, or it
        can use no files of such types.
    """
    folder = Run.open(run)
    if of_heads := folder.kind is RunKind.HEADS:
        check_encoders(folder, "label")
    else:
        Run.of_videos(run)
    reporter = choose_reporter(reporter, progress)
    annotations = None if as_learnt else annotations_of(folder).read()
    listed = list_for_run(folder, videos, types, reporter=reporter)
    manifest = scan_playable(listed, segments=window, workers=workers, reporter=reporter)
    usable = manifest.usable
    skipped = [(entry.path, entry.skipped) for entry in manifest.skipped]
    if not len(usable):
        raise _no_labels(len(listed), *skipped[0])
    _warn(reporter, skipped)
    with TemporaryDirectory(prefix="selavi-timeline-") as temporary:
        keep = Path(temporary) / "windows.h5" if keep is None else Path(keep)
        store = Path(temporary) / "log-probabilities.h5" if of_heads else keep
        apply_run(
            folder,
            usable,
            store,
            clips=clips,
            encoded=keep,
            segments="whole",
            device=device,
            workers=workers,
            reporter=reporter,
        )
        labels, names = label_features(store, head=head, annotations=annotations, with_posterior=True)
        assert labels.posterior is not None
        reasons = dict(zip(map(file_of, reversed(labels.paths)), reversed(labels.reasons), strict=True))  # of the first
        found, smoother = timelines(labels.paths, labels.posterior, lengths=_lengths(usable), names=names)
        keep.unlink()
    empty = [timeline.path for timeline in found if not timeline.stretches]
    unlabelled = [(path, reasons[path] or "it has neither picture nor sound") for path in empty]
    if len(unlabelled) == len(found):
        raise _no_labels(len(listed), *unlabelled[0])
    _warn(reporter, unlabelled)
    reporter.info(f"smoothed by the windows: one changes its label with probability {1 - smoother.stay:.3f}")
    return found


def _no_labels(n_videos: int, path: str, reason: str) -> InputError:
    """Return the error that no video can be labelled, with the reason of the first."""
    return InputError(
        f"none of {counted(n_videos, 'video')} can be labelled; {printable(path)}: {printable(reason)}", path=path
    )


def _warn(reporter: Reporter, unlabelled: Sequence[tuple[str, str]]) -> None:
    """Name the first files that have no labels, with their reasons, and count the others."""
    for path, reason in unlabelled[:_NAMED]:
        reporter.warn(f"{printable(path)} has no labels: {printable(reason)}")
    if len(unlabelled) > _NAMED:
        reporter.warn(f"{counted(len(unlabelled) - _NAMED, 'more video')} without labels")


def _lengths(manifest: Manifest) -> dict[str, float]:
    """Return the lengths of whole videos, seconds, and of files that a segment reaches to the end of."""
    lengths = {}
    for entry in manifest:
        segment = segment_of(entry.path)
        if entry.info is not None and segment.end == float("inf"):
            lengths[segment.file] = segment.start + entry.info.seconds
    return lengths
