"""Clips without audio, for fine-tuning: most videos of the usual collections are silent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from backbones.data.clips import ClipSource, Crop, RawClip, StoredClips, StreamedClips
from backbones.data.data_source import DataSource, open_clips
from backbones.data.settings import ClipSettings
from selavi_ref.datasets import Manifest
from selavi_ref.runs.processes import Exchange, SingleProcess
from selavi_ref.runs.reporter import SILENT, Reporter

_NO_AUDIO = np.zeros((1, 1), np.float32)  # placeholder for log mel energies


class VideoOnlyClips:
    """
    Clips without audio of a collection, from which each fold takes those of its videos.

    Parameters
    ----------
    manifest : Manifest
        The usable videos.
    clip : ClipSettings
        Length and format of a clip.
    data_source : DataSource
        How clips are read; `selavi train` can use the same cache.
    exchange : Exchange
        The other processes of the run, which all call this.
    reporter : Reporter
        Receives progress.
    """

    def __init__(
        self,
        manifest: Manifest,
        clip: ClipSettings,
        data_source: DataSource,
        exchange: Exchange = SingleProcess(),  # noqa: B008
        reporter: Reporter = SILENT,
    ):
        self._source = open_clips(manifest, clip, data_source, exchange=exchange, reporter=reporter)
        self._rows = {path: row for row, path in enumerate(manifest.paths)}
        self._seconds = [entry.info.video_seconds if entry.info else None for entry in manifest]
        self._clip = replace(clip, audio_seconds=0.02, n_filters=1)  # the least audio that can be cached

    def part(self, paths: Sequence[str]) -> ClipSource:
        """Return the clips of some videos; a row is an index into `paths`."""
        rows = [self._rows[path] for path in paths]
        if isinstance(self._source, StoredClips):
            return StoredVideoOnlyClips([self._source.videos[row] for row in rows], self._clip)
        return StreamedVideoOnlyClips(paths, self._clip, [self._seconds[row] for row in rows])


class StoredVideoOnlyClips(StoredClips):
    """`StoredClips` without audio; the length of a video is that of its video stream."""

    def seconds(self, row: int) -> float:
        """Return the length of a video; see `ClipSource`."""
        return self._video(row).n_frames / self.format.fps

    def clip(self, row: int, start: float, crop: Crop, audio_shift: float = 0.0) -> RawClip:
        """Cut a clip out; see `ClipSource`."""
        return RawClip(super().clip(row, start, crop).frames, _NO_AUDIO)


class StreamedVideoOnlyClips(StreamedClips):
    """`StreamedClips` without audio, with the given lengths of the video streams."""

    def clip(self, row: int, start: float, crop: Crop, audio_shift: float = 0.0) -> RawClip:
        """Decode a clip; see `ClipSource`."""
        return RawClip(self._decode(row, start, crop, want_audio=False).frames, _NO_AUDIO)
