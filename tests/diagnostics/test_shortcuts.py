"""Labels that depend on codec, loudness or colour are reported; random labels are not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selavi_ref.diagnostics.file_measures import Measures
from selavi_ref.diagnostics.shortcuts import Shortcut, _categories, _quantile_bins, shortcuts
from selavi_ref.diagnostics.suspicion import shortcut_findings
from tests.support.refusal import refused


def some_measures(n, rng):
    """Measures in which every quantity varies on its own."""
    return [
        Measures(
            str(row),
            container="mov",
            video_codec=str(rng.choice(["h264", "vp9", "av1"])),
            audio_codec="aac",
            width=int(rng.choice([320, 640])),
            height=240,
            fps=float(rng.choice([25, 29.97])),
            sample_rate=int(rng.choice([44100, 48000])),
            picture_seconds=float(rng.uniform(2, 60)),
            sound_seconds=2.0,
            bytes=int(rng.integers(1e5, 1e7)),
            loudness=float(rng.normal(-20, 5)),
            **dict(zip(("red", "green", "blue"), rng.uniform(0, 255, 3).tolist(), strict=True)),
        )
        for row in range(n)
    ]


def by_name(labels, measures, seed=1):
    return {one.name: one for one in shortcuts(labels, measures, np.random.default_rng(seed))}


def findings_of(labels, measures, seed=1):
    found = shortcuts(labels, measures, np.random.default_rng(seed))
    findings = shortcut_findings(found, len(labels))
    return {one.name.partition(": ")[2]: one for one in findings if one.severity != "ok"}


def test_labels_that_are_the_codec_are_found_out():
    measures = some_measures(300, np.random.default_rng(0))
    labels = np.unique([one.video_codec for one in measures], return_inverse=True)[1]
    codec = by_name(labels, measures)["codec"]
    assert codec.accuracy == pytest.approx(1)
    assert codec.adjusted == pytest.approx(1)
    assert codec.base < 0.45
    assert codec.together == codec.of
    finding = findings_of(labels, measures)
    assert list(finding) == ["codec"]
    assert finding["codec"].severity == "warning"
    assert "mov, " in finding["codec"].sentence


def test_labels_that_are_the_loudness_with_errors_are_found_out():
    rng = np.random.default_rng(2)
    measures = some_measures(400, rng)
    loudness = np.array([one.loudness for one in measures])
    labels = np.searchsorted(np.quantile(loudness, [0.25, 0.5, 0.75]), loudness)
    labels = np.where(rng.random(400) < 0.3, rng.integers(0, 4, 400), labels)
    finding = findings_of(labels, measures)
    assert list(finding) == ["loudness"]
    assert " dB" in finding["loudness"].sentence


def test_one_cluster_of_loud_videos_among_many_good_ones_is_found_out():
    rng = np.random.default_rng(8)
    measures = some_measures(1000, rng)
    loudness = np.array([one.loudness for one in measures])
    loud = (loudness >= np.quantile(loudness, 0.94)) & (rng.random(1000) < 0.7)
    finding = findings_of(np.where(loud, 0, rng.integers(1, 20, 1000)), measures)
    assert list(finding) == ["loudness"]
    assert finding["loudness"].severity == "look"
    assert "videos in cluster 0 have" in finding["loudness"].sentence


def test_labels_that_are_the_colour_are_found_out():
    measures = some_measures(600, np.random.default_rng(3))
    labels = [int(np.argmax([one.red, one.green, one.blue])) for one in measures]
    assert "mean colour" in findings_of(labels, measures)


def test_whether_a_video_has_sound_can_be_a_shortcut():
    measures = some_measures(100, np.random.default_rng(4))
    silent = [Measures(one.path, "mov", "h264", width=320, height=240, bytes=one.bytes) for one in measures[:50]]
    found = findings_of([0] * 50 + [1] * 50, [*silent, *measures[50:]])
    assert {"codec", "loudness"} <= set(found)
    assert found["loudness"].severity == "warning"


@settings(max_examples=15, derandomize=True)  # one labelling in 200 may look like a shortcut by chance
@given(st.integers(0, 2**32 - 1), st.integers(30, 300), st.integers(2, 12))
def test_random_labels_have_no_shortcut(seed, n, K):
    rng = np.random.default_rng(seed)
    measures = some_measures(n, rng)
    assert not findings_of(rng.integers(0, K, n), measures, seed)


def test_what_is_the_same_for_all_gives_nothing():
    measures = [Measures(str(row), "mov", "h264", "aac", width=64, height=48, loudness=-20.0) for row in range(50)]
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 50)
    assert shortcuts(labels, measures, rng) == []
    assert shortcuts(np.zeros(100, int), some_measures(100, rng), rng) == []
    assert not shortcut_findings([], 50)[0].measured


def test_videos_without_a_label_or_that_cannot_be_read_do_not_count():
    rng = np.random.default_rng(5)
    measures = some_measures(120, rng)
    labels = np.unique([one.video_codec for one in measures], return_inverse=True)[1]
    labels[100:] = -1
    measures[99] = Measures("99", reason="damaged")
    assert by_name(labels, measures)["codec"].accuracy == 1
    assert shortcuts(np.full(120, -1), measures, rng) == []
    with refused(option="labels"):
        shortcuts(labels[:5], measures, rng)


def test_too_few_videos_give_no_shortcut():
    rng = np.random.default_rng(6)
    for n in (0, 1, 2, 29):
        assert shortcuts(np.arange(n) % 2, some_measures(n, rng), rng) == []
    assert not shortcut_findings([], 2)[0].measured


def test_the_same_generator_gives_the_same_shortcuts():
    measures = some_measures(60, np.random.default_rng(7))
    labels = np.arange(60) % 3
    assert by_name(labels, measures, 1) == by_name(labels, measures, 1)


@given(st.lists(st.one_of(st.none(), st.floats(-100, 100), st.integers(0, 3)), min_size=1, max_size=200))
def test_every_value_lies_in_one_bin_and_equal_values_in_the_same(values):
    bins, kinds = _quantile_bins(values, lambda low, high: f"{low} to {high}")
    assert set(bins.tolist()) == set(range(len(kinds)))
    assert len(kinds) <= 17
    of = {}
    for value, number in zip(values, bins.tolist(), strict=True):
        assert of.setdefault(value, number) == number
        assert (kinds[number] == "none") == (value is None)


def test_rare_kinds_count_as_one():
    names = [f"kind {number}" for number in range(500) for _ in range(1 + (number < 40))]
    bins, kinds = _categories(names)
    assert len(kinds) == 64
    assert kinds[-1] == "rare ones"
    assert {kinds[number] for number in bins[:80]} == {f"kind {number}" for number in range(40)}


@pytest.mark.parametrize(("name", "severity"), [("file size", "look"), ("loudness", "warning")])
def test_what_an_encoder_makes_of_the_content_is_no_warning(name, severity):
    one = Shortcut(name, 0.6, 0.12, 0.49, 0.001, 10, 6, "30 kB", 26, 50, 0.065)
    (finding,) = shortcut_findings([one], 400)
    assert finding.severity == severity
    assert ("it may follow from what they show" in finding.sentence) == (severity == "look")
