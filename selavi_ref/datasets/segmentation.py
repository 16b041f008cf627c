"""How videos are cut into segments: not at all, into windows of one length, or at the cuts between scenes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from selavi_ref.errors import InputError
from selavi_ref.media.container import VideoInfo
from selavi_ref.media.decoder import LIMIT, run_guarded
from selavi_ref.media.scenes import scene_bounds
from selavi_ref.media.segments import Segment, exact_seconds, windows

LONG = 60.0  # seconds; longer videos are cut unless the user says otherwise
WINDOW = 10.0  # seconds of a segment of a long video, as in AudioSet, Kinetics and VGG-Sound
SHORTEST = 1.0  # seconds of a window that a user may ask for
_SECONDS_PER_SECOND = 10.0  # allowed for looking for scenes in a second of video


@dataclass(frozen=True)
class Segmentation:
    """
    How videos are cut into segments.

    Parameters
    ----------
    kind
        ``"auto"``: videos of more than `LONG` seconds into windows of `WINDOW` seconds; ``"whole"``: not at all;
        ``"windows"``: into windows of `seconds`; ``"scenes"``: where the picture changes all at once.
    seconds
        Length of a window.
    """

    kind: str = "whole"
    seconds: float = WINDOW

    @classmethod
    def parse(cls, text: str | float | Segmentation) -> Segmentation:
        """
        Return the segmentation of a text: ``auto``, ``whole``, ``scenes``, or seconds, also as a clock time.

        Raises
        ------
        InputError
            If it is none of these.
        """
        if isinstance(text, Segmentation):
            return text
        if text in ("auto", "whole", "scenes"):
            return cls(str(text))
        try:
            seconds = exact_seconds(text) if isinstance(text, str) else float(text)
        except (TypeError, ValueError):
            seconds = math.nan
        if not SHORTEST <= seconds <= 86400:
            raise InputError(
                f"--segments {text}: write whole, scenes, or seconds from {SHORTEST:g} on, such as 10",
                option="segments",
                value=text,
            )
        return cls("windows", seconds)

    @property
    def text(self) -> str:
        """Text from which `parse` makes this segmentation again."""
        return f"{self.seconds:.10g}" if self.kind == "windows" else self.kind

    def bounds(self, info: VideoInfo, limit: float = LIMIT) -> list[tuple[float, float]]:
        """
        Return start and end of each segment of a file, seconds; none if it stays whole.

        Parameters
        ----------
        info
            Properties of the whole file.
        limit
            Seconds allowed for a short file; a long one gets more.

        Raises
        ------
        MediaError
            If scenes are to be found, and the file cannot be decoded.
        """
        seconds = info.seconds
        if self.kind == "whole" or (self.kind == "auto" and seconds <= LONG):
            return []
        if self.kind == "scenes":
            found: Sequence[tuple[float, float]] = []
            if info.has_video:
                found = run_guarded(scene_bounds, info.path, limit=limit + _SECONDS_PER_SECOND * seconds)
            return list(found) if len(found) > 1 else []
        found = windows(seconds, self.seconds)
        return list(found) if len(found) > 1 else []

    def segments(self, info: VideoInfo, limit: float = LIMIT) -> list[Segment]:
        """Cut a file into its segments; a file that stays whole is one segment. Parameters are those of `bounds`."""
        bounds = self.bounds(info, limit)
        return [Segment(info.path, start, end) for start, end in bounds] or [Segment(info.path)]
