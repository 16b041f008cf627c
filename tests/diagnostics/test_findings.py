"""`check` reports each planted fault (collapse, outliers, copies, a second run that differs), and no other."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selavi_ref.diagnostics import agreement
from selavi_ref.diagnostics.check import check, verdict
from selavi_ref.diagnostics.file_measures import Measures, measure_all
from selavi_ref.diagnostics.finding import Finding, listed, percent, score
from selavi_ref.diagnostics.fit import far_out, misfits, modality_views
from selavi_ref.ensemble.labels import label_store
from selavi_ref.store import FeatureStore, StoreWriter
from tests.support.media_files import tone, write_video
from tests.support.refusal import refused

K = 4
SECTIONS = ["sizes", "confidence", "heads", "modalities", "clips", "stability"]


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return (x - np.log(np.exp(x).sum(-1, keepdims=True))).astype(np.float32)


def make_store(
    path,
    kinds,
    *,
    heads=3,
    sharpness=8.0,
    names=("video", "audio"),
    strangers=(),
    features=16,
    paths=None,
    present=None,
    clips=None,
    clusters=K,
    seed=0,
    provenance=None,
    **kwargs,
):
    """A store of videos of known clusters; strangers look and sound like none, and say so."""
    rng = np.random.default_rng(seed)
    n = len(kinds)
    odd = np.isin(np.arange(n), strangers)
    datasets, values = {}, {}
    for m in names:
        for h in range(heads):
            logits = rng.normal(size=(n, clusters))
            turn = np.random.default_rng(h).permutation(clusters)  # each head has a numbering of its own
            logits[np.arange(n), turn[kinds]] += sharpness * ~odd
            datasets[f"log_prob/{m}/{h}"] = clusters
            values[f"log_prob/{m}/{h}"] = log_softmax(np.where(odd[:, None], 0.1 * logits, logits))
        if features:
            centres = rng.normal(size=(clusters, features))
            spread = centres[kinds] + 0.3 * rng.normal(size=(n, features))
            datasets[f"features/{m}"] = features
            values[f"features/{m}"] = np.where(odd[:, None], rng.normal(size=(n, features)), spread)
    if clips is not None:
        datasets["disagreement"] = heads
        values["disagreement"] = np.full((n, heads), clips)
        provenance = {"clips": 3, **(provenance or {})}
    paths = paths or [f"videos/{i}.mp4" for i in range(n)]
    with StoreWriter(path, paths, datasets, provenance=provenance, **kwargs) as writer:
        writer.write(slice(None), values, present=present)
        writer.finish()
    return path


def report_of(path, **kwargs):
    with FeatureStore(path) as store:
        return check(store, label_store(store), rng=np.random.default_rng(0), **kwargs)


def named(report):
    found = {one.name: one for one in report.findings}
    assert len(found) == len(report.findings)
    return found


def even(n=200, seed=0):
    return np.random.default_rng(seed).permutation(np.arange(n) % K)


def consensus(path):
    with FeatureStore(path) as store:
        found = label_store(store)
    return dict(zip(found.paths, found.label.tolist(), strict=True))


def test_good_labels_are_trusted_and_the_order_is_fixed(tmp_path):
    path = make_store(tmp_path / "s.h5", even(), clips=0.02)
    again = make_store(tmp_path / "t.h5", even(), seed=5)
    report = report_of(path, other=("seed 1", consensus(again)))
    assert [one.name for one in report.findings] == [*SECTIONS, "shortcuts", "duplicates", "misfits", "verdict"]
    assert {one.severity for one in report.findings} == {"ok"}
    assert report.verdict.sentence.startswith("nothing speaks against the labels in the 7 checks")
    assert report.verdict.sentence.endswith("not checked: shortcuts and duplicates")
    assert "all 4 clusters come back" in named(report)["stability"].sentence
    assert report.videos.rows == []


def test_a_collapse_is_a_warning(tmp_path):
    path = make_store(tmp_path / "s.h5", np.r_[np.zeros(190, int), np.ones(10, int)])
    report = report_of(path)
    sizes = named(report)["sizes"]
    assert sizes.severity == "warning"
    assert sizes.figures["empty"] == 2
    assert sizes.figures["largest"] == pytest.approx(0.95)
    assert "are empty" in sizes.sentence
    assert report.verdict.severity == "warning"
    assert "sizes" in report.verdict.sentence


def test_one_empty_cluster_asks_for_a_look(tmp_path):
    sizes = named(report_of(make_store(tmp_path / "s.h5", np.arange(90) % 3)))["sizes"]
    assert (sizes.severity, sizes.figures["empty"]) == ("look", 1)
    assert "is empty" in sizes.sentence


def test_strangers_are_found_and_listed(tmp_path):
    strangers = [3, 50, 120]
    path = make_store(tmp_path / "s.h5", even(), strangers=strangers)
    report = report_of(path)
    assert named(report)["misfits"].figures["videos"] == 3
    suspicious = {row["path"]: row for row in report.videos.rows if "fits no cluster" in row["why"]}
    assert sorted(suspicious) == sorted(f"videos/{i}.mp4" for i in strangers)
    assert all(row["figure"] < 0.5 for row in suspicious.values())


def test_strangers_that_the_heads_are_sure_of_are_found_by_their_features(tmp_path):
    classes = even()
    path = make_store(tmp_path / "s.h5", classes)
    odd = make_store(tmp_path / "odd.h5", classes, strangers=[7, 8], seed=0)
    with FeatureStore(path) as sure, FeatureStore(odd) as store:
        labels = label_store(sure).label
        outlying = far_out(store, labels)
        found = misfits(np.ones(len(classes), np.float32), outlying, K)
        assert np.flatnonzero(found).tolist() == [7, 8]
        assert (far_out(sure, labels) < 6).all()


def test_fit_is_low_where_picture_and_sound_like_different_clusters(tmp_path):
    n, sure = 20, log_softmax(8.0 * np.eye(K)[np.arange(20) % K])
    other = sure.copy()
    other[0] = other[1]
    with StoreWriter(
        tmp_path / "s.h5", [str(i) for i in range(n)], {"log_prob/video/0": K, "log_prob/audio/0": K}
    ) as w:
        w.write(slice(None), {"log_prob/video/0": sure, "log_prob/audio/0": other})
        w.finish()
    with FeatureStore(tmp_path / "s.h5") as store:
        view = modality_views(store, np.arange(K, dtype=np.int32)[None])
        assert far_out(store, label_store(store).label) is None
    expected = np.sqrt(np.exp(sure) * np.exp(other)).max(1)
    assert np.allclose(view.fit, expected, atol=1e-5)
    assert view.fit[0] < 0.1 < 0.9 < view.fit[1:].min()
    assert (view.labels["video"][0], view.labels["audio"][0]) == (0, 1)


def test_labels_of_modalities_are_in_the_numbering_of_the_labels(tmp_path):
    classes = even()
    path = make_store(tmp_path / "s.h5", classes, heads=5)
    with FeatureStore(path) as store:
        labels = label_store(store)
        agreed = agreement.modalities(labels.label, modality_views(store, agree_of(labels)).labels, K)
        assert np.array_equal(modality_views(store, agree_of(labels)).labels["video"], labels.label)
    assert agreed.figures["equal"] == 1


def agree_of(labels):
    from selavi_ref.ensemble.consensus import find_consensus

    return find_consensus(labels.heads, K).groups


def test_modalities_that_share_nothing_are_a_warning(tmp_path):
    rng = np.random.default_rng(1)
    sight = even()
    alone = {"video": sight.astype(np.int32), "audio": rng.permutation(sight).astype(np.int32)}
    finding = agreement.modalities(alone["video"], alone, K)
    assert finding.severity == "warning"
    assert abs(finding.figures["kappa"]) < 0.15
    alone["audio"] = np.where(np.arange(200) < 194, alone["video"], 0).astype(np.int32)
    assert agreement.modalities(alone["video"], alone, K).severity == "ok"


def test_the_cluster_in_which_modalities_differ_is_named():
    sight = (np.arange(200) % K).astype(np.int32)
    sound = np.where((sight == 2) & (np.arange(200) < 100), 3, sight).astype(np.int32)
    finding = agreement.modalities(sight, {"video": sight, "audio": sound}, K)
    assert "they differ most in cluster 2 (50 % of its 50)" in finding.sentence


def test_a_second_run_is_matched_whatever_its_numbers(tmp_path):
    first = even().astype(np.int32)
    same = agreement.stability(first, (10 * ((first + 1) % K)).astype(np.int32), "seed 1")
    assert same.severity == "ok"
    assert same.figures["accuracy"] == 1
    assert same.figures["nmi"] == pytest.approx(1)
    assert "NMI 1.00" in same.sentence
    other = np.random.default_rng(1).permutation(first)
    differs = agreement.stability(first, other, "seed 1")
    assert differs.severity == "warning"
    assert differs.figures["lost"] == K
    merged = agreement.stability(first, np.minimum(first, 2), "seed 1")
    assert merged.severity == "look"
    assert merged.figures["lost"] == 0


def test_a_second_run_may_know_only_some_of_the_videos(tmp_path):
    path = make_store(tmp_path / "s.h5", even())
    known = {p: c for i, (p, c) in enumerate(consensus(path).items()) if i < 50}
    known |= {"elsewhere.mp4": 3, "videos/60.mp4": -1, "videos/61.mp4": 10**12}
    finding = named(report_of(path, other=("old", known)))["stability"]
    assert finding.figures["videos"] == 51
    assert not named(report_of(path, other=("empty", {})))["stability"].measured


def test_clips_are_compared(tmp_path):
    path = make_store(tmp_path / "s.h5", even())
    assert "--clips" in named(report_of(path))["clips"].sentence
    many = make_store(tmp_path / "many.h5", even(), clips=0.5)
    report = report_of(many)
    assert named(report)["clips"].severity == "warning"
    assert len(report.videos.rows) == 200


def test_heads_are_compared_and_equal_heads_give_little_evidence(tmp_path):
    path = make_store(tmp_path / "s.h5", even())
    assert named(report_of(path))["heads"].figures["nmi"] == pytest.approx(1, abs=0.05)
    taught = make_store(tmp_path / "t.h5", even(), provenance={"settings": {"training": {"overclustering_heads": 5}}})
    assert "says little" in named(report_of(taught))["heads"].sentence
    noise = make_store(tmp_path / "n.h5", even(), sharpness=0.3)
    assert named(report_of(noise))["heads"].severity == "warning"
    assert report_of(noise).verdict.severity == "warning"


def test_labels_that_nothing_vouches_for_are_no_good_news(tmp_path):
    path = make_store(tmp_path / "s.h5", even(), heads=1, names=("audio",))
    report = report_of(path)
    assert "the labels rest on the sound alone" in named(report)["modalities"].sentence
    assert report.verdict.severity == "look"
    assert "nothing vouches" in report.verdict.sentence


@pytest.mark.parametrize("names", [("depth", "text"), ("video",), ("a\nb", "video", "audio")])
def test_any_modalities_will_do(tmp_path, names):
    report = report_of(make_store(tmp_path / "s.h5", even(80), names=names))
    assert report.verdict.severity == "ok"
    assert all("\n" not in one.sentence for one in report.findings)


def test_videos_without_label_or_with_one_modality_are_left_where_they_are(tmp_path):
    has = np.arange(200) % 4
    present = {"video": has != 1, "audio": (has == 0) | (has == 1)}
    neither = has == 3
    present["video"] = present["video"] & ~neither
    path = make_store(tmp_path / "s.h5", even(), present=present)
    report = report_of(path)
    assert named(report)["sizes"].figures["labelled"] == 150
    assert named(report)["modalities"].figures["one_only"] == 100
    assert report.videos.rows == []
    nothing = make_store(tmp_path / "t.h5", even(), present={"video": has < 0, "audio": has < 0})
    assert report_of(nothing).verdict.severity == "warning"


@pytest.mark.parametrize("features", [0, 8])
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize(("n", "clusters"), [(1, 1), (2, 1), (2, 4), (30, 1), (5, 2)])
def test_tiny_collections_and_single_clusters_give_a_report(tmp_path, n, clusters, heads, features):
    classes = np.arange(n) % clusters
    path = make_store(tmp_path / "s.h5", classes, heads=heads, clusters=clusters, features=features)
    measures = [Measures(f"videos/{i}.mp4") for i in range(n)]
    report = report_of(path, measures=measures, other=("twin", consensus(path)))
    assert report.verdict.name == "verdict"
    assert json.loads(report.table().json())["figures"]["sizes"]["clusters"] == clusters
    assert all(one.sentence and not one.sentence.endswith(".") for one in report.findings)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_any_labels_give_scores_between_0_and_1_and_the_same_for_any_numbering(seed):
    rng = np.random.default_rng(seed)
    n, clusters = int(rng.integers(1, 60)), int(rng.integers(1, 7))
    a, b = (rng.integers(-1, clusters, n).astype(np.int32) for _ in range(2))
    renumbered = np.where(b >= 0, rng.permutation(clusters)[b], -1).astype(np.int32)
    first, second = (agreement.stability(a, other, "x").figures for other in (b, renumbered))
    if first.get("measured", 1):
        assert 0 <= first["accuracy"] <= 1
        for name in ("accuracy", "nmi", "ami", "lost"):
            assert first[name] == pytest.approx(second[name], abs=1e-9)
    sizes = agreement.sizes(a, clusters)
    assert 0 <= sizes.figures.get("evenness", 0) <= 1 + 1e-12


def test_planted_copies_and_a_planted_shortcut_in_real_files(tmp_path):
    rng = np.random.default_rng(0)
    paths = []
    for number in range(40):
        pictures = np.repeat(rng.integers(0, 255, (6, 6, 8, 3)).astype(np.uint8), 8, axis=1).repeat(8, axis=2)
        sound = tone(0.5, rng.uniform(200, 2000)) * rng.uniform(0, 1, 24).repeat(1000)
        codec = ("aac", "libmp3lame")[number % 2]
        name = tmp_path / (f"{number}.mkv" if number != 5 else "odd\nname.mkv")
        write_video(name, n_frames=6, fps=12, pictures=pictures, sound=sound, audio_codec=codec, preset="ultrafast")
        paths.append(str(name))
    shutil.copy(paths[0], tmp_path / "copy.mkv")
    shutil.copy(paths[1], tmp_path / "damaged.mkv")
    with open(tmp_path / "damaged.mkv", "r+b") as file:
        file.truncate(300)
    paths += [str(tmp_path / "copy.mkv"), str(tmp_path / "damaged.mkv")]
    classes = np.r_[np.arange(40) % 2, 1, 0]  # the copy has another label than its original
    path = make_store(tmp_path / "s.h5", classes, paths=paths, clusters=2)
    report = report_of(path, measures=measure_all(paths))
    found = named(report)
    assert found["shortcut: codec"].severity == "warning"
    assert found["duplicates"].figures["identical"] == 1
    assert found["duplicates"].figures["split"] == found["duplicates"].figures["groups"] == 1
    assert "1 file could not be read" in found["duplicates"].sentence
    assert report.verdict.severity == "warning"
    why = {row["path"]: row["why"] for row in report.videos.rows}
    assert set(why) == {paths[0], paths[40], paths[41]}
    assert "with another label" in why[paths[0]]
    assert "could not be read" in why[paths[41]]
    assert not any("shortcut" in one for one in named(report_of(path)) if one != "shortcuts")


def test_labels_of_other_videos_are_refused(tmp_path):
    with FeatureStore(make_store(tmp_path / "s.h5", even(20))) as store:
        labels = label_store(store)
    with FeatureStore(make_store(tmp_path / "t.h5", even(24))) as store, refused(path=tmp_path / "t.h5"):
        check(store, labels, rng=np.random.default_rng(0))


def test_true_classes_change_nothing(tmp_path):
    plain = report_of(make_store(tmp_path / "s.h5", even()))
    classes = [str(c) for c in np.random.default_rng(3).integers(0, 9, 200)]
    assert report_of(make_store(tmp_path / "t.h5", even(), classes=classes)).findings == plain.findings


def test_the_verdict_follows_its_rule():
    def verdict_of(*findings):
        return verdict([Finding(name, level, "", {"measured": int(name != "clips")}) for name, level in findings])

    assert verdict_of(("heads", "ok"), ("misfits", "warning")).severity == "look"
    assert verdict_of(("heads", "ok"), ("shortcut: codec", "warning")).severity == "warning"
    assert verdict_of(("heads", "warning"), ("duplicates", "look")).sentence.endswith("look also at duplicates")
    assert verdict_of(("sizes", "ok"), ("clips", "ok")).severity == "look"
    assert verdict_of(("sizes", "ok"), ("heads", "ok")).severity == "ok"


@given(st.floats(0, 1))
def test_only_nothing_is_0_per_cent_and_only_all_is_100(share):
    assert (percent(share) == "0 %") == (share == 0)
    assert (percent(share) == "100 %") == (share > 1 - 1e-12)
    assert (score(share) == "1.00") == (share > 1 - 1e-12)


def test_lists_are_written_in_words():
    assert listed([]) == ""
    assert listed([1]) == "1"
    assert listed([1, 2]) == "1 and 2"
    assert listed([1, 2, 3]) == "1, 2 and 3"
    assert listed(range(9)) == "0, 1, 2, 3, 4 and 4 more"
