"""Properties of any media file: a video, a sound file or a picture."""

from __future__ import annotations

from selavi_ref.errors import FilePath
from selavi_ref.media.container import VideoInfo, probe_container
from selavi_ref.media.still import is_picture, probe_picture


def probe(path: FilePath) -> VideoInfo:
    """
    Read the properties of a video, a sound file or a picture; its first frame is decoded.

    A length that the header lacks is found by reading the packets without decoding them. A picture counts as a video
    of one frame, 0.04 s long.

    Parameters
    ----------
    path
        A file in any format that FFmpeg knows, or a picture (JPEG, PNG, WebP).

    Returns
    -------
    VideoInfo
        Lengths, sizes and rates.

    Raises
    ------
    MediaError
        If the file cannot be read; the message names the file and the reason.
    InputError
        If PyAV is not installed.
    """
    return probe_picture(path) if is_picture(path) else probe_container(path)
