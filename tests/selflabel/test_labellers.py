"""Options of the labelling: soft sizes, one modality alone, K-means in place of the transport."""

from dataclasses import replace

import numpy as np
import pytest

from selavi_ref.ensemble.matching import match_numbers
from selavi_ref.metrics import normalized_mutual_info_score
from selavi_ref.selflabel.cluster_sizes import ClusterSizes
from selavi_ref.selflabel.kmeans import FeatureScaler, kmeans, kmeans_of_each
from selavi_ref.selflabel.self_labelling import self_label
from selavi_ref.store import FeatureStore, StoreWriter
from selavi_ref.store.joint_log_prob import joint_log_prob
from tests.support.linear_backbone import SETTINGS, start
from tests.support.refusal import refused


def store_of_two_kinds(path, share=0.8, n=200):
    """Both modalities are sure of the kind, and the first kind has this share of the videos."""
    rng = np.random.default_rng(0)
    kinds = (np.arange(n) >= share * n).astype(int)
    logits = {m: rng.normal(0, 0.1, (n, 2)) + 2.0 * np.eye(2)[kinds] for m in ("video", "audio")}
    logits["audio"] = logits["audio"][:, ::-1] if path.name.startswith("contrary") else logits["audio"]
    with StoreWriter(path, [f"{i}.mp4" for i in range(n)], {f"log_prob/{m}/0": 2 for m in logits}) as writer:
        writer.write(
            slice(0, n),
            {f"log_prob/{m}/0": x - np.log(np.exp(x).sum(1, keepdims=True)) for m, x in logits.items()},
        )
        writer.finish()
    return kinds


@pytest.mark.parametrize(
    ("marginal_penalty", "lowest", "highest"), [(0.0, 0.45, 0.55), (1000.0, 0.45, 0.6), (1.0, 0.75, 0.85)]
)
def test_soft_sizes_bend_as_their_price_falls(tmp_path, marginal_penalty, lowest, highest):
    store_of_two_kinds(tmp_path / "s.h5")
    with FeatureStore(tmp_path / "s.h5") as store:
        found, _ = self_label(store, 0, [0.5, 0.5], strength=1.0, marginal_penalty=marginal_penalty)
    assert lowest <= found.mass[0] <= highest


def test_labels_follow_the_one_modality_that_is_named(tmp_path):
    kinds = store_of_two_kinds(tmp_path / "contrary.h5", share=0.5)
    with FeatureStore(tmp_path / "contrary.h5") as store:
        for only, wanted in (("video", kinds), ("audio", 1 - kinds)):
            assert (joint_log_prob(store, 0, only=only).argmax(1) == wanted).all()
            assert (self_label(store, 0, [0.5, 0.5], only=only)[0].labels == wanted).all()
        with refused(path=tmp_path / "contrary.h5", value="touch"):
            self_label(store, 0, [0.5, 0.5], only="touch")


@pytest.mark.parametrize("changed", [{"label_by": "video"}, {"label_by": "audio"}, {"labeller": "kmeans"}])
def test_a_run_finds_the_kinds_with_them_too(tmp_path, changed):
    training, classes = start(tmp_path, replace(SETTINGS, **changed))
    training.run()
    training.finish()
    assert max(normalized_mutual_info_score(classes, labels) for labels in training.labels.T) > 0.8


@pytest.mark.parametrize("labeller", ["transport", "kmeans"])
def test_with_side_heads_as_well(tmp_path, labeller):
    settings = replace(
        SETTINGS, overclustering_heads=2, labeller=labeller, sizes=ClusterSizes("uniform", marginal_penalty=10.0)
    )
    training, classes = start(tmp_path, settings, clusters=(4, 4, 20, 20))
    training.run()
    assert normalized_mutual_info_score(classes, training.labels[:, 0]) > 0.9


def test_wrong_labellers_are_refused():
    with refused(option="training.label_by", value="smell"):
        replace(SETTINGS, label_by="smell")
    with refused(option="training.sizes.marginal_penalty"):
        ClusterSizes(marginal_penalty=float("nan"))
    with refused(option="K", value=4):
        kmeans(np.zeros((3, 2), np.float32), 4)


def test_kmeans_by_each_modality_and_by_both():
    rng = np.random.default_rng(0)
    kinds = rng.permutation(200) % 4
    values = {m: (rng.normal(0, 3, (4, 6))[kinds] + rng.normal(0, 0.3, (200, 6))).astype(np.float32) for m in "va"}
    found = kmeans_of_each(values, 4, seed=1)
    assert list(found) == ["v", "a", "both"]
    assert all(normalized_mutual_info_score(kinds, labels) > 0.8 for labels in found.values())
    scaling = FeatureScaler.fit({"v": values["v"], "a": 100 * values["a"]})
    assert np.allclose(scaling({"v": values["v"], "a": 100 * values["a"]}).var(0).sum(), 2, rtol=1e-4)
    wide = rng.normal(size=(50, 2500)).astype(np.float32)
    assert FeatureScaler.fit({"w": wide})({"w": wide[:7]}).shape == (7, 50)


def test_renamed_labels_have_the_numbers_of_the_reference():
    reference = np.array([0, 0, 1, 1, 2, 2, 2], np.int32)
    assert match_numbers(np.array([2, 2, 0, 0, 1, 1, 0], np.int32), reference, 3).tolist() == [0, 0, 1, 1, 2, 2, 1]


@pytest.mark.parametrize("overclustering_heads", [0, 2])
def test_sizes_bend_only_once_something_is_learnt(tmp_path, overclustering_heads):
    sizes = ClusterSizes("zipf", marginal_penalty=0.3)
    settings = replace(SETTINGS, overclustering_heads=overclustering_heads, epochs=20, sizes=sizes)
    training, classes = start(tmp_path, settings, clusters=(4,) + (20,) * overclustering_heads)
    missed = {}
    label_now = training.pseudo_labels.relabel

    def sampling(step, regrouping, bending):
        record = label_now(step, regrouping, bending)
        got = np.sort(np.bincount(training.labels[:, 0], minlength=4))[::-1] / len(classes)
        missed[step] = bending, np.abs(got - np.sort(training.pseudo_labels.sizes[0])[::-1]).sum()
        return record

    training.pseudo_labels.relabel = sampling
    training.run()
    assert all(bending == (step >= training.total_steps / 2) for step, (bending, _) in missed.items())
    assert max(far for bending, far in missed.values() if not bending) < 0.1
    assert missed[max(missed)][1] > 0.2  # kinds are of equal sizes, and not of Zipf's
