from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from selavi_ref.errors import MediaError
from selavi_ref.media import probe, read_clip
from selavi_ref.media.container import import_av, open_media
from tests.support.media_files import tone, write_video
from tests.support.refusal import refused


def test_probe_returns_the_properties_of_a_file(tmp_path: Path) -> None:
    info = probe(write_video(tmp_path / "a.mp4", n_frames=50, fps=25, size=(80, 60), sound=tone(1.5, 440)))
    assert info.video_seconds == pytest.approx(2.0)
    assert info.audio_seconds == pytest.approx(1.5, abs=0.025)
    assert info.seconds == info.video_seconds
    assert (info.fps, info.width, info.height, info.sample_rate) == (25.0, 80, 60, 48000)
    assert info.has_video
    assert info.has_audio


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile other.mp4\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nother.mp4\n#EXT-X-ENDLIST\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    ],
    ids=["ffconcat", "hls", "sdp"],
)
@pytest.mark.parametrize("ending", ["mp4", "ts", "avi"])
def test_lists_of_other_files_in_disguise_are_not_followed(tmp_path: Path, text: str, ending: str) -> None:
    write_video(tmp_path / "other.mp4", n_frames=10)
    path = tmp_path / f"list.{ending}"
    path.write_text(text)
    with refused(MediaError, path=path):
        probe(path)


def test_a_missing_length_is_found_from_the_packets(tmp_path: Path) -> None:
    """A live stream in Matroska has neither a length nor an index."""
    path = tmp_path / "live.mkv"
    write_video(tmp_path / "whole.mp4", n_frames=60, sound=tone(2.0, 440))
    with av.open(tmp_path / "whole.mp4") as source, av.open(path, "w", options={"live": "1"}) as out:
        copies = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream_index]
                out.mux(packet)
    with av.open(path) as live:
        assert live.duration is None
    info = probe(path)
    assert info.video_seconds == pytest.approx(2.0, abs=0.05)
    assert info.audio_seconds == pytest.approx(2.0, abs=0.05)


def test_silent_and_pictureless_files(tmp_path: Path) -> None:
    silent = probe(write_video(tmp_path / "silent.mp4", n_frames=40))
    assert (silent.has_video, silent.has_audio, silent.audio_seconds, silent.sample_rate) == (True, False, 0.0, 0)
    deaf = probe(write_video(tmp_path / "sound_only.mp4", n_frames=0, sound=tone(2.0, 440)))
    assert (deaf.has_video, deaf.has_audio, deaf.width, deaf.video_seconds) == (False, True, 0, 0.0)


def test_cover_art_is_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    write_video(tmp_path / "song.mov", n_frames=0, sound=tone(2.0, 440))
    with av.open(tmp_path / "song.mov") as source, av.open(path, "w") as out:
        copy = out.add_stream_from_template(source.streams.audio[0])
        cover = out.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        frame.pts = 0
        packets = [*cover.encode(frame), *cover.encode()]
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = copy
                out.mux(packet)
        for packet in packets:
            out.mux(packet)
    with av.open(path) as written:
        assert written.streams.video
    assert not probe(path).has_video


def test_pixels_that_are_not_square_are_shown_square(tmp_path: Path) -> None:
    path = write_video(tmp_path / "dvd.mkv", n_frames=5, size=(64, 48), aspect="2:1", codec="mpeg4")
    with av.open(path) as container:
        aspect = container.streams.video[0].sample_aspect_ratio
    if aspect in (None, 1):
        pytest.skip("this PyAV does not write an aspect ratio")
    assert probe(path).width == round(64 * aspect)


def test_any_error_inside_an_open_file_names_the_file(tmp_path: Path) -> None:
    """Sizes that no picture has make PyAV raise errors of many kinds."""
    path = write_video(tmp_path / "a.mp4", n_frames=5)
    for error in (OverflowError("value too large"), av.error.PatchWelcomeError(0, "not implemented")):
        with refused(MediaError, path=tmp_path / "a.mp4"), open_media(path):
            raise error


def test_a_damaged_pixel_aspect_is_taken_for_square(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", n_frames=5, size=(48, 96), aspect="10:1")
    with av.open(path) as container:
        assert container.streams.video[0].sample_aspect_ratio == 10
    assert probe(path).width == 48
    assert read_clip(path, 0, 0.1, fps=30, frames=2, size=24, sample_rate=8000).frames.shape == (2, 48, 24, 3)


def test_other_files_are_errors_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("not a video\n" * 100)
    with refused(MediaError, path=tmp_path / "text.mp4"):
        probe(tmp_path / "text.mp4")
    with refused(MediaError, path=tmp_path / "missing.mp4"):
        probe(tmp_path / "missing.mp4")


def test_a_play_list_does_not_open_other_files(tmp_path: Path) -> None:
    write_video(tmp_path / "other.ts", n_frames=10)
    (tmp_path / "list.mp4").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.3,\nhttp://127.0.0.1:9/{tmp_path.name}/other.ts\n#EXT-X-ENDLIST\n"
    )
    with pytest.raises(MediaError):
        probe(tmp_path / "list.mp4")


def test_importing_the_package_loads_neither_pyav_nor_torch() -> None:
    code = "import sys, selavi_ref.media; print([m for m in ('av', 'torch', 'numba', 'PIL') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_without_pyav_the_error_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with refused():
        import_av()
