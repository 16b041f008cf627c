"""Listed videos are found from any current folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from selavi_ref.datasets.locations import locate


@pytest.mark.parametrize("here", [".", "demo", "demo/run", "/"])
def test_relative_paths_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: str) -> None:
    video = tmp_path / "demo/videos/dog/a.mp4"
    video.parent.mkdir(parents=True)
    video.write_bytes(b"x")
    (tmp_path / "demo/run").mkdir()
    monkeypatch.chdir(tmp_path / here)
    located = locate(["demo/videos/dog/a.mp4", "demo/videos/gone.mp4"], tmp_path / "demo/run")
    assert located.files == [str(video), str(tmp_path / "demo/videos/gone.mp4")]
    assert located.base == (None if here == "." else str(tmp_path))


def test_nothing_there_is_as_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert locate(["a.mp4", "/b.mp4"], tmp_path) == ([str(tmp_path / "a.mp4"), "/b.mp4"], None)
    assert locate([], tmp_path) == ([], None)
