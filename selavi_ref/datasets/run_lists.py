"""The videos of a run: those that it has learnt from, and those that were added to its labels since."""

from __future__ import annotations

import os
from collections.abc import Iterable

from selavi_ref.datasets.contents import Content, read_contents, stamp_of, with_digests, write_contents
from selavi_ref.datasets.manifest import Manifest, ManifestEntry, read_manifest
from selavi_ref.datasets.scan import list_videos
from selavi_ref.errors import FilePath, InputError
from selavi_ref.media.segments import file_of
from selavi_ref.runs.cores import usable_cores
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run


def learnt_videos(run: Run) -> list[ManifestEntry]:
    """Return the videos that a run has learnt from; none for a run that has no list."""
    return _entries(run.videos_file)


def added_videos(run: Run) -> list[ManifestEntry]:
    """Return the videos that were labelled by `selavi update` and not learnt from."""
    return _entries(run.added_file)


def labelled_videos(run: Run) -> Manifest:
    """Return all videos in the table of labels of a run, in its order: learnt ones, then added ones."""
    return Manifest([*learnt_videos(run), *added_videos(run)], str(run.folder))


def skipped_videos(run: Run) -> list[ManifestEntry]:
    """Return the files that could not be learnt from."""
    return _entries(run.skipped_file)


def _entries(path: object) -> list[ManifestEntry]:
    try:
        return read_manifest(str(path)).entries
    except InputError:
        return []  # there is none, or it lists nothing


def unknown_videos(run: Run, videos: FilePath) -> list[str]:
    """Return the absolute paths of the listed files that a run has never seen; none for a run without videos."""
    known = {os.path.abspath(file_of(entry.path)) for entry in (*labelled_videos(run), *skipped_videos(run))}
    listed = [os.path.abspath(file_of(path)) for path in list_videos(videos).paths] if known else []
    return [path for path in dict.fromkeys(listed) if path not in known]


def known_contents(run: Run, paths: Iterable[str]) -> dict[str, Content]:
    """
    Return what is known of the contents of a run's files, by path.

    Parameters
    ----------
    run
        The run, whose ``contents.csv`` has digests; runs of older versions know only size and time of change.
    paths
        The files, or parts of them.
    """
    recorded = read_contents(run.contents_file)
    listed = {file_of(entry.path): entry.stamp for entry in (*learnt_videos(run), *added_videos(run))}
    paths = dict.fromkeys(map(file_of, paths))
    return {path: recorded.get(path) or Content(path, listed.get(path, "")) for path in paths}


def record_contents(
    run: Run, paths: Iterable[str] | None = None, *, workers: int | None = None, reporter: Reporter = SILENT
) -> None:
    """Write digests of the videos of a run, or of given ones, by which `selavi update` knows them after a move."""
    known = known_contents(run, labelled_videos(run).paths if paths is None else map(os.path.abspath, paths))
    contents = [each if each.stamp else Content(path, stamp_of(path)) for path, each in known.items()]
    with reporter.bar(len(contents), "recording contents", "video") as bar:
        done = with_digests(contents, workers or usable_cores(), bar.update)
    write_contents(done, run.contents_file, run.folder)
