"""Clips of the segments of long files, read in order: each part of a file is decoded once, ahead of its turn."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from backbones.data.clips import BOTH, Crop, RawClip, StoredClips, StreamedClips, cache_format, decode_rows, time_limit
from backbones.data.settings import ClipSettings
from selavi_ref.media.decoder import parallel_map
from selavi_ref.media.segments import groups, segment_of
from selavi_ref.media.video_cache import DecodedVideo

_LONGEST_WHOLE = 60.0  # seconds; of longer files that are no segments, only the clips are decoded
_AHEAD = 2  # groups per thread that are decoded before their turn
_Group = tuple[list[int], list[DecodedVideo | str]]


class SequentialClips:
    """
    Decodes segments that follow each other in one file together, in separate processes, a few groups ahead.

    Rows are to be asked for in ascending order; any other order is right too, but slow. Memory is that of a few groups
    of at most two minutes or 64 MB each. Frames are held as `StoredClips` holds them.

    Parameters
    ----------
    paths : sequence of str
        Segments, and whole files.
    settings : ClipSettings
        Length and format of a clip.
    seconds : sequence of float or None
        Lengths of the segments.
    workers : int
        Groups that are decoded at the same time.
    """

    def __init__(
        self, paths: Sequence[str], settings: ClipSettings, seconds: Sequence[float | None], workers: int
    ) -> None:
        self.settings = settings
        self._paths, self._seconds, self._workers = list(paths), list(seconds), max(1, workers)
        self._streamed = StreamedClips(paths, settings, seconds)
        self._layout = cache_format(settings)
        held = [row for row, path in enumerate(paths) if not self._is_long(row, path)]
        of_held = groups([self._paths[row] for row in held], self._layout.group_seconds())
        self._groups = [[held[number] for number in group] for group in of_held]
        self._group_of = {row: number for number, group in enumerate(self._groups) for row in group}
        self._current = -1
        self._held = StoredClips([], settings)
        self._ahead: Generator[tuple[int, _Group]] | None = None

    def __len__(self) -> int:
        return len(self._paths)

    def modalities(self, row: int) -> tuple[str, ...]:
        """Return the modalities of a row; see `ClipSource`."""
        return BOTH

    def seconds(self, row: int) -> float:
        """Return the length of a segment in seconds; see `ClipSource`."""
        if row not in self._group_of:
            return self._streamed.seconds(row)
        return self._group(row).seconds(self._groups[self._current].index(row))

    def clip(self, row: int, start: float, crop: Crop, audio_shift: float = 0.0) -> RawClip:
        """Cut a clip out; see `ClipSource`."""
        if row not in self._group_of:
            return self._streamed.clip(row, start, crop, audio_shift)
        return self._group(row).clip(self._groups[self._current].index(row), start, crop, audio_shift)

    def _is_long(self, row: int, path: str) -> bool:
        known = self._seconds[row]
        return segment_of(path).whole and (known is None or known > _LONGEST_WHOLE)

    def _group(self, row: int) -> StoredClips:
        """Return the group of a row, decoded."""
        wanted = self._group_of[row]
        if wanted == self._current:
            return self._held
        if self._ahead is None or wanted != self._current + 1:
            self.close()
            self._ahead = parallel_map(self._decode, range(wanted, len(self._groups)), self._workers, _AHEAD)
        self._current, (_, videos) = next(self._ahead)
        self._held = StoredClips(videos, self.settings)
        if self._current == len(self._groups) - 1:
            self.close()
        return self._held

    def _decode(self, number: int) -> _Group:
        rows = self._groups[number]
        limit = sum(time_limit(self._seconds[row]) for row in rows)
        return rows, decode_rows([self._paths[row] for row in rows], self._layout, limit)

    def close(self) -> None:
        """End the processes that decode ahead."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None
