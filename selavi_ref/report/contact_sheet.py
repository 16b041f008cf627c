"""A picture of the clusters: one row for each, with frames of its most typical videos."""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from selavi_ref.datasets.video_files import file_type
from selavi_ref.ensemble.label_table import read_csv
from selavi_ref.errors import MediaError, SelaviError, printable
from selavi_ref.media import probe, read_clip
from selavi_ref.media.segments import file_of
from selavi_ref.media.sound_picture import spectrogram

_GAP = 3
_PAPER, _INK = (250, 250, 248), (60, 60, 60)


def contact_sheet(
    labels: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    columns: int = 12,
    side: int = 80,
    most_clusters: int = 40,
) -> None:
    """
    Draw frames from the middle of the most confidently labelled videos of each cluster.

    Parameters
    ----------
    labels : path
        Table of labels.
    out : path
        PNG file to write.
    columns : int
        Videos shown of each cluster.
    side : int
        Pixels of a frame's side.
    most_clusters : int
        Rows; the largest clusters are shown.

    Raises
    ------
    SelaviError
        If the table cannot be read, or the picture not be written.
    """
    from PIL import Image, ImageDraw, ImageFont

    members: dict[int, list[tuple[float, str]]] = defaultdict(list)
    for row in read_csv(labels):
        if row["label"] != "":
            members[int(row["label"])].append((-float(row.get("confidence") or 0), row["path"]))
    chosen = sorted(sorted(members, key=lambda label: -len(members[label]))[:most_clusters])
    margin = 96
    step = side + _GAP
    sheet = Image.new("RGB", (margin + columns * step + _GAP, max(1, len(chosen)) * step + _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(14)
    for line, label in enumerate(chosen):
        top = _GAP + line * step
        draw.text((10, top + side // 2 - 16), f"label {label}", _INK, font)
        draw.text((10, top + side // 2 + 2), f"{len(members[label])} videos", _INK, font)
        for column, (_, path) in enumerate(sorted(members[label])[:columns]):
            sheet.paste(Image.fromarray(_middle_frame(path, side)), (margin + column * step, top))
    partial = f"{os.fspath(out)}.partial"
    try:
        sheet.save(partial, format="PNG", optimize=True)
        os.replace(partial, out)
    except OSError as error:
        with suppress(OSError):
            os.unlink(partial)
        raise SelaviError(f"{printable(out)} cannot be written: {error.strerror or error}", path=out) from error


def _middle_frame(path: str, side: int) -> NDArray[np.uint8]:
    """Return the square in the middle of the middle frame, uint8 (side, side, 3); of a sound its energies."""
    try:
        if file_type(file_of(path)) == "sounds":
            return spectrogram(path, 3.0, side, side)
        middle = probe(path).video_seconds / 2
        clip = read_clip(path, middle, 0.04, fps=25, frames=1, size=side, sample_rate=8000, want_audio=False)
    except MediaError:
        return np.full((side, side, 3), 200, np.uint8)
    if not len(clip.frames):
        return np.full((side, side, 3), 200, np.uint8)
    frame = clip.frames[0]
    top, left = (frame.shape[0] - side) // 2, (frame.shape[1] - side) // 2
    return frame[top : top + side, left : left + side]
