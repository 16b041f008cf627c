"""Which modalities files have, and on which a run learns."""

from __future__ import annotations

import pytest

from selavi_ref.datasets import Manifest, ManifestEntry
from selavi_ref.datasets.modalities import (
    learning_modalities,
    modalities_of,
    modalities_sentence,
    rows_modalities,
    with_modalities,
)
from selavi_ref.errors import InputError
from selavi_ref.media import VideoInfo


def entry(name: str, picture: float = 0.0, sound: float = 0.0) -> ManifestEntry:
    info = VideoInfo(name, picture, sound, 25.0, 64, 48, 16000, has_video=picture > 0, has_audio=sound > 0)
    return ManifestEntry(name, info=info)


def collection(both: int, silent: int, heard: int) -> Manifest:
    groups = [("b", both, (2.0, 2.0)), ("v", silent, (2.0, 0.0)), ("a", heard, (0.0, 2.0))]
    return Manifest([entry(f"{name}{i}.mp4", *lengths) for name, n, lengths in groups for i in range(n)], "here")


def test_a_modality_counts_if_it_is_long_enough() -> None:
    assert modalities_of(entry("a.mp4", 3.0, 0.4), 1.1) == ("video",)
    assert modalities_of(entry("a.mp4", 3.0, 0.4)) == ("video", "audio")
    assert modalities_of(entry("a.mp4", 0.04), 1.1) == ()
    assert modalities_of(entry("a.JPG", 0.04), 1.1) == ("video",)
    assert modalities_of(ManifestEntry("unscanned.mp4"), 1.1) == ("video", "audio")


@pytest.mark.parametrize(
    ("counts", "chosen"),
    [
        ((10, 0, 0), "video+audio"),
        ((1, 9, 0), "video+audio"),
        ((1, 10, 0), "video"),
        ((0, 5, 5), "video"),
        ((1, 4, 20), "audio"),
    ],
)
def test_a_run_learns_on_both_if_a_tenth_of_the_files_have_both(counts: tuple[int, int, int], chosen: str) -> None:
    assert learning_modalities(collection(*counts), 1.1) == chosen


def test_a_choice_that_no_file_allows_is_refused() -> None:
    silent = collection(0, 4, 0)
    assert learning_modalities(silent, 1.1, "video") == "video"
    for chosen in ("audio", "video+audio"):
        with pytest.raises(InputError) as error:
            learning_modalities(silent, 1.1, chosen)
        assert error.value.option == "modalities"
        assert error.value.value == chosen


def test_files_without_the_modality_are_skipped_with_the_reason() -> None:
    seen = with_modalities(collection(1, 1, 1), "audio", 1.1)
    assert [bool(one.skipped) for one in seen] == [False, True, False]
    assert "sound" in seen.entries[1].skipped
    assert not with_modalities(collection(1, 1, 1), "video+audio", 1.1).skipped.entries
    assert rows_modalities(seen.usable, "audio", 1.1) == [("audio",), ("audio",)]


def test_one_line_names_the_modalities_that_are_learnt() -> None:
    rows = rows_modalities(collection(3, 2, 0), "video+audio", 1.1)
    assert "2 have a picture only" in modalities_sentence(rows, "video+audio")
    assert "sound alone" in modalities_sentence([("audio",)], "audio")
