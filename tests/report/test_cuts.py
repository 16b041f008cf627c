"""Clips cut without encoding: all pictures and all sound of the segment are in them, whatever the container."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from selavi_ref.report.cuts import cut
from tests.support.media_files import tone, write_video

GROUP, SECONDS = 36, 10  # GROUP: frames from one key frame to the next


def frames_and_seconds_of_sound(path: Path) -> tuple[int, float]:
    with av.open(str(path)) as file:
        frames = sum(1 for _ in file.decode(video=0))
    with av.open(str(path)) as file:
        samples = sum(frame.samples for frame in file.decode(audio=0))
        return frames, samples / file.streams.audio[0].rate


@pytest.mark.parametrize(
    ("ending", "codec", "audio_codec"),
    [
        ("mp4", "libx264", "aac"),
        ("mov", "libx264", "pcm_s16le"),
        ("mkv", "libx264", "aac"),
        ("mkv", "mpeg4", "flac"),
        ("ts", "libx264", "aac"),
        ("mpg", "mpeg2video", "mp2"),
        ("avi", "mpeg4", "mp3"),
        ("flv", "libx264", "aac"),
    ],
)
def test_a_clip_has_all_pictures_of_its_segment_from_a_key_frame_on(
    tmp_path: Path, ending: str, codec: str, audio_codec: str
) -> None:
    fps = 24 if ending == "mpg" else 12  # MPEG-2 knows few rates
    rate = 22050 if ending == "flv" else 24000
    source = write_video(
        tmp_path / f"a.{ending}",
        n_frames=SECONDS * fps,
        fps=fps,
        sound=tone(SECONDS, 500, rate),
        sample_rate=rate,
        codec=codec,
        audio_codec=audio_codec,
        g=str(GROUP),
        bf="2",
    )
    for start, end in ((0, 3), (1, 3.5), (3, 6), (4.25, SECONDS), (0, SECONDS)):
        clip = tmp_path / f"clip.{ending}"
        cut(f"{source}#t={start},{end}", clip)
        frames, sound = frames_and_seconds_of_sound(clip)
        assert (end - start) * fps - 1 <= frames <= (end - start) * fps + GROUP + 3
        assert sound == pytest.approx(frames / fps, abs=0.4)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a.{ending}", f"clip.{ending}"]
