"""The file formats that are opened: all of FFmpeg but lists of other files or addresses."""

from __future__ import annotations

from functools import cache
from typing import Any

# A list in disguise (an .mp4 that begins like a list of ffconcat) would have other files of the user read.
_LISTS = frozenset(
    {"applehttp", "concat", "dash", "hls", "imf", "lavfi", "rtp", "rtsp", "sap", "sdp", "webm_dash_manifest"}
)


@cache
def open_options() -> dict[str, str]:
    """Return the options with which FFmpeg opens files of this machine that name no others."""
    import av

    return {"protocol_whitelist": "file", "format_whitelist": ",".join(sorted(av.formats_available - _LISTS))}


def text_options(av: Any) -> dict[str, str]:
    """Return what makes PyAV take titles and the like that are not UTF-8; from version 19 on it always does."""
    return {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
