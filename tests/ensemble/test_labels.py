"""Labels of a store without true classes: heads are combined, every video has one row, and odd names survive."""

import numpy as np
import pytest

from selavi_ref.ensemble.consensus import find_consensus
from selavi_ref.ensemble.labels import label_store
from selavi_ref.ensemble.posterior import posterior
from selavi_ref.errors import InputError
from selavi_ref.metrics import normalized_mutual_info_score
from selavi_ref.selflabel.self_labelling import self_label
from selavi_ref.store import FeatureStore, StoreWriter, WorkingStore
from selavi_ref.store.joint_log_prob import joint_log_prob
from tests.support.noisy_heads import K, log_softmax, make_store
from tests.support.refusal import refused


def test_the_consensus_is_better_than_the_mean_head(tmp_path):
    classes = make_store(tmp_path / "s.h5")
    with FeatureStore(tmp_path / "s.h5") as store:
        found = label_store(store)
    heads = [normalized_mutual_info_score(classes, column) for column in found.heads.T]
    assert normalized_mutual_info_score(classes, found.label) > np.mean(heads)
    assert (found.label != found.runner_up).all()
    assert ((found.confidence > 1 / K) & (found.confidence <= 1)).all()
    assert "5 heads" in found.source


def test_one_head_can_be_asked_for_and_an_unknown_one_is_refused(tmp_path):
    make_store(tmp_path / "s.h5", heads=3)
    with FeatureStore(tmp_path / "s.h5") as store:
        assert (
            normalized_mutual_info_score(label_store(store, head="1").heads[:, 1], label_store(store, head="1").label)
            > 0.999
        )
        assert label_store(store, head="best").source.startswith("head ")
        with refused(option="head", value="7"):
            label_store(store, head="7")
        with refused(path=tmp_path / "s.h5"):
            label_store(store, balanced=True)


def test_joining_clusters_moves_no_other_video_and_adds_up_confidence(tmp_path):
    make_store(tmp_path / "s.h5", heads=3, sharpness=1.0)
    joined = np.array([0, 4, 2, 4, 4], np.int32)  # 1 and 3 into a cluster that somebody has made
    with FeatureStore(tmp_path / "s.h5") as store:
        for head in ("consensus", "1"):
            before, after = label_store(store, head=head), label_store(store, head=head, merge_targets=joined)
            assert np.array_equal(after.label, joined[before.label])
            assert (after.confidence >= before.confidence - 1e-6).all()
            assert np.allclose(after.confidence[after.label != 4], before.confidence[after.label != 4], atol=1e-6)
            assert (after.runner_up != after.label).all()
            assert set(after.runner_up.tolist()) <= {0, 2, 4}
            assert (after.entropy <= before.entropy + 1e-5).all()
        assert after.labelling == "1"
        all_joined = label_store(store, merge_targets=np.zeros(K, np.int32))
        assert (all_joined.runner_up == -1).all()
        assert np.allclose(all_joined.confidence, 1)


def test_the_entropy_of_a_posterior_is_between_certainty_and_none(tmp_path):
    make_store(tmp_path / "s.h5", heads=1, sharpness=1.0)
    with FeatureStore(tmp_path / "s.h5") as store:
        shares = posterior(joint_log_prob(store, "0"))
        assert np.allclose(label_store(store).entropy, -(shares * np.log(shares)).sum(1), atol=1e-5)


def test_renumbered_heads_are_matched_exactly():
    rng = np.random.default_rng(1)
    truth = rng.integers(K, size=500)
    permutations = [rng.permutation(K) for _ in range(3)]
    together = find_consensus(np.stack([p[truth] for p in permutations], 1).astype(np.int32), K)
    assert np.allclose(together.agreement, 1)
    for head, permutation in enumerate(permutations):
        assert np.array_equal(together.alignment[head], permutation[np.argsort(permutations[together.reference])])


def test_an_alignment_that_the_store_brings_is_used(tmp_path):
    alignment = np.stack([np.arange(K), np.roll(np.arange(K), 1)]).astype(np.int32)
    provenance = {"reference": 1, "agreement": [0.4, 0.6]}
    make_store(tmp_path / "s.h5", heads=2, whole={"alignment": alignment}, provenance=provenance)
    with FeatureStore(tmp_path / "s.h5") as store:
        found = label_store(store, head="1")
    assert np.array_equal(found.label, (found.heads[:, 1] + 1) % K)


def test_frozen_potentials_move_labels_towards_the_prescribed_sizes(tmp_path):
    make_store(tmp_path / "plain.h5", heads=1, sharpness=0.3)
    with FeatureStore(tmp_path / "plain.h5") as store:
        sizes = np.array([0.7, 0.1, 0.1, 0.1])
        found, marginal = self_label(store, 0, sizes)
    make_store(tmp_path / "s.h5", heads=1, sharpness=0.3, whole={"potentials": found.potentials[None]})
    with FeatureStore(tmp_path / "s.h5") as store:
        balanced = label_store(store, balanced=True)
    counts = np.bincount(balanced.label, minlength=K) / 200
    assert np.abs(counts - marginal).sum() < 0.15
    assert np.array_equal(balanced.label, found.labels)


def test_a_video_is_labelled_by_what_it_has(tmp_path):
    has = np.arange(200) % 4
    present = {"video": has != 1, "audio": (has == 0) | (has == 1)}
    make_store(tmp_path / "s.h5", present=present)
    with FeatureStore(tmp_path / "s.h5") as store:
        found = label_store(store)
    assert [found.modalities[i] for i in range(3)] == ["video+audio", "audio", "video"]
    assert (found.label >= 0).all()
    neither = {"video": has != 1, "audio": has == 0}
    make_store(tmp_path / "t.h5", present=neither)
    with FeatureStore(tmp_path / "t.h5") as store:
        found = label_store(store)
    assert np.array_equal(found.label < 0, has == 1)
    assert found.modalities[1] == ""


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_log_probability_that_is_no_number_is_named(tmp_path, bad):
    make_store(tmp_path / "s.h5")
    values = np.zeros((200, K), np.float32)
    values[17, 2] = bad
    with WorkingStore(tmp_path / "s.h5") as store:
        store.replace("log_prob/audio/1", values)
        with refused(path=tmp_path / "s.h5", row=17, column=2):
            joint_log_prob(store, 1)


def test_a_modality_with_features_alone_does_not_count(tmp_path):
    datasets = {"features/video": 3, "features/audio": 3, "log_prob/video/0": K}
    values = {name: np.full((6, width), -np.log(K)) for name, width in datasets.items()}
    values["log_prob/video/0"][:, 1] += 1
    with StoreWriter(tmp_path / "s.h5", [f"{i}" for i in range(6)], datasets) as writer:
        writer.write(slice(None), values, present={"video": np.arange(6) > 0, "audio": True})
        writer.finish()
    with FeatureStore(tmp_path / "s.h5") as store:
        found = label_store(store)
    assert found.label.tolist() == [-1, 1, 1, 1, 1, 1]
    assert found.modalities == ["", *["video"] * 5]


@pytest.mark.parametrize("alignment", [np.zeros((5, K)), np.tile(np.arange(K), (4, 1)), np.tile(np.arange(3), (5, 1))])
def test_an_alignment_that_is_none_is_refused(tmp_path, alignment):
    make_store(tmp_path / "s.h5", whole={"alignment": alignment.astype(np.int32)})
    with FeatureStore(tmp_path / "s.h5") as store, pytest.raises(InputError) as error:
        label_store(store)
    assert (error.value.path, error.value.option) == (tmp_path / "s.h5", "alignment")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("reference", 2),
        ("reference", -1),
        ("reference", "first"),
        ("reference", None),
        ("reference", True),
        ("agreement", []),
        ("agreement", [0.5]),
        ("agreement", ["much", "little"]),
        ("agreement", [[0.5], [0.5, 0.5]]),
        ("strength", "strong"),
        ("settings", [1]),
    ],
)
def test_a_provenance_that_does_not_fit_is_refused(tmp_path, name, value):
    alignment = np.tile(np.arange(K, dtype=np.int32), (2, 1))
    make_store(tmp_path / "s.h5", heads=2, whole={"alignment": alignment}, provenance={name: value})
    with FeatureStore(tmp_path / "s.h5") as store, pytest.raises(InputError) as error:
        label_store(store)
    assert (error.value.path, error.value.option) == (tmp_path / "s.h5", name)


def test_each_head_counts_only_for_the_videos_that_it_can_see(tmp_path):
    datasets = {"log_prob/video/0": K, "log_prob/audio/1": K}
    seen = log_softmax(5 * np.eye(K))
    present = {"video": np.arange(K) != 1, "audio": np.arange(K) != 2}
    with StoreWriter(tmp_path / "s.h5", [f"{i}" for i in range(K)], datasets) as writer:
        writer.write(slice(None), dict.fromkeys(datasets, seen), present=present)
        writer.finish()
    with FeatureStore(tmp_path / "s.h5") as store:
        both, video = label_store(store), label_store(store, head="0")
    assert both.heads.tolist() == [[0, 0], [-1, 1], [2, -1], [3, 3]]
    assert both.label.tolist() == [0, 1, 2, 3]
    assert np.allclose(both.confidence, np.exp(seen[0, 0]))
    assert both.modalities == ["video+audio", "audio", "video", "video+audio"]
    assert video.label.tolist() == [0, -1, 2, 3]
    assert video.confidence[1] == 0
    assert video.modalities == ["video", "", "video", "video"]


def test_potentials_of_another_shape_are_refused(tmp_path):
    make_store(tmp_path / "s.h5", whole={"potentials": np.zeros((2, K))})
    with FeatureStore(tmp_path / "s.h5") as store, refused(path=tmp_path / "s.h5"):
        label_store(store, balanced=True)


@pytest.mark.parametrize("only", ["video", "audio"])
def test_one_modality_can_be_labelled_by_alone(tmp_path, only):
    rng = np.random.default_rng(0)
    logits = {m: rng.normal(0, 3, (40, 5)) for m in ("video", "audio")}
    has = {"video": np.arange(40) != 3, "audio": np.arange(40) != 5}
    with StoreWriter(tmp_path / "s.h5", [f"{i}.mp4" for i in range(40)], {f"log_prob/{m}/0": 5 for m in logits}) as w:
        w.write(np.arange(40), {f"log_prob/{m}/0": x for m, x in logits.items()}, present=has)
        w.finish()
    with FeatureStore(tmp_path / "s.h5") as store:
        found = label_store(store, only=only)
    assert found.label.tolist() == np.where(has[only], logits[only].argmax(1), -1).tolist()
    assert found.modalities == [only if there else "" for there in has[only]]


def test_heads_that_do_not_see_the_one_modality_do_not_count(tmp_path):
    rng = np.random.default_rng(0)
    logits = {"log_prob/video/0": rng.normal(0, 3, (30, 4)), "log_prob/audio/1": rng.normal(0, 3, (30, 4))}
    with StoreWriter(tmp_path / "s.h5", [f"{i}.mp4" for i in range(30)], dict.fromkeys(logits, 4)) as writer:
        writer.write(np.arange(30), logits)
        writer.finish()
    with FeatureStore(tmp_path / "s.h5") as store:
        found = label_store(store, only="audio")
        assert (found.heads[:, 0] == -1).all()
        assert (found.heads[:, 1] == logits["log_prob/audio/1"].argmax(1)).all()
        assert (found.label >= 0).all()
        with refused(path=tmp_path / "s.h5", value="touch"):
            label_store(store, only="touch")
