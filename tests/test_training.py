"""The loop of learning and self-labelling, with a small backbone in NumPy: no framework is needed to run it."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from selavi_ref.errors import InputError, SelaviError
from selavi_ref.metrics import normalized_mutual_info_score
from selavi_ref.schedule import TrainingSettings
from selavi_ref.selflabel import ClusterSizes
from selavi_ref.store import WorkingStore
from selavi_ref.training import Training, working_datasets


class Batch:
    def __init__(self, rows):
        self.rows = rows
        self.failures = []


class LinearBackbone:
    """Linear heads on fixed features of two modalities, learnt by plain gradient descent."""

    def __init__(self, features, clusters, seed=0):
        self.features = features
        self.clusters = tuple(clusters)
        rng = np.random.default_rng(seed)
        self.weights = {
            (m, h): rng.normal(0, 0.5, (x.shape[1], K))
            for m, x in features.items()
            for h, K in enumerate(self.clusters)
        }
        self.seen = []

    @property
    def n_videos(self):
        return len(self.features["video"])

    def batches(self, batches, seed):
        return (Batch(rows) for rows in batches)

    def warm_up(self, batches):
        for _ in batches:
            pass

    def train_step(self, batch, labels, rate):
        assert (labels >= 0).all()
        self.seen.append(batch.rows)
        loss = 0.0
        for (m, h), weights in self.weights.items():
            x = self.features[m][batch.rows]
            share = np.exp(log_softmax(x @ weights))
            truth = np.eye(self.clusters[h])[labels[:, h]]
            loss -= np.mean(np.log((share * truth).sum(1))) / len(self.weights)
            weights -= rate * x.T @ (share - truth) / len(x)
        return loss

    def datasets(self):
        return {f"features/{m}": x.shape[1] for m, x in self.features.items()}

    def write_features(self, store, seed):
        for m, x in self.features.items():
            store.replace(f"features/{m}", x)

    def write_log_prob(self, store, head, name):
        for m in self.features:
            store.replace(f"log_prob/{m}/{name}", log_softmax(store.features(m) @ self.weights[m, head]))

    def permute(self, head, permutation):
        self.weights["audio", head] = self.weights["audio", head][:, permutation]

    def save(self, path, state):
        with open(path, "wb") as file:
            weights = {f"w_{m}_{h}": w for (m, h), w in self.weights.items()}
            np.savez(file, **weights, **{f"state_{k}": v for k, v in state.items()})

    def load(self, path):
        with np.load(path) as file:
            self.weights = {(m, h): file[f"w_{m}_{h}"] for m, h in self.weights}
            return {k.removeprefix("state_"): file[k] for k in file.files if k.startswith("state_")}


def log_softmax(x):
    x = x - x.max(1, keepdims=True)
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def two_views(n=300, kinds=4, seed=0):
    rng = np.random.default_rng(seed)
    classes = rng.permutation(n) % kinds
    views = {m: rng.normal(0, 1.5, (kinds, 12))[classes] + rng.normal(0, 0.7, (n, 12)) for m in ("video", "audio")}
    return {m: x.astype(np.float32) for m, x in views.items()}, classes


SETTINGS = TrainingSettings(
    epochs=12, batch_size=32, rate=0.3, labellings=20, sizes=ClusterSizes("uniform"), warmup_epochs=1
)


def start(tmp_path, settings=SETTINGS, clusters=(4, 4, 4), log=None, **kwargs):
    features, classes = two_views(**kwargs)
    backbone = LinearBackbone(features, clusters)
    store = WorkingStore.create(
        tmp_path / "working.h5",
        [f"{i}.mp4" for i in range(len(classes))],
        working_datasets(backbone, settings.side_heads),
    )
    records = [] if log is None else log
    return Training(backbone, settings, store, tmp_path / "checkpoint.npz", records.append), classes


def test_it_finds_the_kinds_that_both_modalities_show(tmp_path):
    training, classes = start(tmp_path)
    training.run()
    training.finish()
    scores = [normalized_mutual_info_score(classes, labels) for labels in training.labels.T]
    assert max(scores) > 0.9
    assert training.labels.dtype == np.int32


def test_every_video_is_in_every_epoch_once(tmp_path):
    training, classes = start(tmp_path)
    training.run()
    per_epoch = SETTINGS.steps_per_epoch(len(classes))
    for epoch in range(SETTINGS.epochs):
        rows = np.concatenate(training.backbone.seen[epoch * per_epoch : (epoch + 1) * per_epoch])
        assert sorted(rows) == list(range(len(classes)))


def test_clusters_get_the_sizes_that_were_asked_for(tmp_path):
    training, classes = start(tmp_path, replace(SETTINGS, sizes=ClusterSizes("zipf")), clusters=(4,))
    training.run()
    counts = np.sort(np.bincount(training.labels[:, 0], minlength=4))[::-1] / len(classes)
    assert np.abs(counts - np.sort(training.sizes[0])[::-1]).max() < 0.05


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole, _ = start(tmp_path / "a")
    whole.run()
    whole.finish()

    class StopError(Exception):
        pass

    def stop(progress):
        if progress.step == 43:
            raise StopError

    first, _ = start(tmp_path / "b")
    with pytest.raises(StopError):
        first.run(stop)
    first.store.close()
    second, _ = start(tmp_path / "b")
    second.restore()
    assert second.epoch == 4
    second.run()
    second.finish()
    assert np.array_equal(whole.labels, second.labels)
    for key, weights in whole.backbone.weights.items():
        assert np.array_equal(weights, second.backbone.weights[key])


def test_heads_may_have_different_numbers_of_clusters_and_groups_split_them(tmp_path):
    training, _ = start(tmp_path, replace(SETTINGS, groups=2, epochs=3), clusters=(4, 4, 16))
    training.run()
    assert training.labels.max(0).tolist()[2] > 4


def test_side_heads_label_the_others_from_half_of_the_run_on(tmp_path):
    settings = replace(SETTINGS, side_heads=2, epochs=20)
    training, classes = start(tmp_path, settings, clusters=(4, 4, 20, 20))
    seen = []
    label_now = training.label_now

    def watch(step):
        label_now(step)
        seen.append((step, np.array_equal(training.labels[:, 0], training.labels[:, 1])))

    training.label_now = watch
    training.run()
    assert all(same == (step >= training.total_steps / 2) for step, same in seen)
    assert normalized_mutual_info_score(classes, training.labels[:, 0]) > 0.95


def test_it_settles_when_the_modalities_agree_and_at_the_end_in_any_case(tmp_path):
    settings = replace(SETTINGS, side_heads=2, epochs=60, settle_epochs=6, labellings=60, warmup_epochs=0)
    training, classes = start(tmp_path, settings, clusters=(4, 20, 20))
    rates = []
    training.run(lambda now: rates.append(now.rate))
    assert 1 <= training.settle_from < 54
    assert training.epoch == training.settle_from + 6
    per_epoch = settings.steps_per_epoch(len(classes))
    assert set(rates[: training.settle_from * per_epoch]) == {settings.rate}
    assert np.all(np.diff(rates[training.settle_from * per_epoch :]) < 0)
    assert normalized_mutual_info_score(classes, training.labels[:, 0]) > 0.95

    (tmp_path / "never").mkdir()
    never, _ = start(tmp_path / "never", replace(settings, agreement=1.1, epochs=10), clusters=(4, 20, 20))
    never.run()
    assert (never.settle_from, never.epoch) == (4, 10)


def test_a_resumed_run_settles_where_an_uninterrupted_one_does(tmp_path):
    settings = replace(SETTINGS, side_heads=2, epochs=60, settle_epochs=6, labellings=60)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    whole, _ = start(tmp_path / "a", settings, clusters=(4, 20, 20))
    whole.run()

    class StopError(Exception):
        pass

    def stop(progress):
        if progress.step == whole.step - 15:
            raise StopError

    first, _ = start(tmp_path / "b", settings, clusters=(4, 20, 20))
    with pytest.raises(StopError):
        first.run(stop)
    first.store.close()
    second, _ = start(tmp_path / "b", settings, clusters=(4, 20, 20))
    second.restore()
    second.run()
    assert second.settle_from == whole.settle_from
    assert np.array_equal(whole.labels, second.labels)


@pytest.mark.parametrize(("n", "batch"), [(2, 64), (3, 2), (7, 2), (65, 64), (97, 64), (1500, 64)])
def test_no_video_is_alone_in_a_batch(n, batch):
    sizes = [len(part) for part in np.array_split(np.arange(n), replace(SETTINGS, batch_size=batch).steps_per_epoch(n))]
    assert min(sizes) >= 2
    assert max(sizes) <= 2 * batch


def test_side_heads_do_without_sizes_that_were_given_for_the_others(tmp_path):
    settings = replace(SETTINGS, side_heads=1, sizes=ClusterSizes("file", given=(4.0, 3.0, 2.0, 1.0)))
    training, _ = start(tmp_path, settings, clusters=(4, 20))
    assert training.sizes[0].tolist() == [0.4, 0.3, 0.2, 0.1]
    assert len(training.sizes[1]) == 20


def test_each_labelling_and_each_epoch_is_recorded_as_plain_values(tmp_path):
    records = []
    training, _ = start(tmp_path, replace(SETTINGS, epochs=3), log=records)
    training.run()
    assert json.loads(json.dumps(records)) == records
    assert [r["epoch"] for r in records if "epoch" in r] == [1, 2, 3]
    assert sum("labelling_seconds" in r for r in records) == len(training.settings.labelling_steps(300))


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_step(tmp_path):
    training, _ = start(tmp_path)
    training.backbone.train_step = lambda batch, labels, rate: math.nan
    with pytest.raises(SelaviError, match=r"step 0 .*checkpoint"):
        training.run()


def test_more_clusters_than_videos_are_refused(tmp_path):
    with pytest.raises(InputError, match="400 clusters need as many videos, but only 300"):
        start(tmp_path, clusters=(400,))


def test_the_rate_rises_then_falls_and_the_first_step_learns():
    settings = replace(SETTINGS, epochs=10, warmup_epochs=2)
    steps = 10 * settings.steps_per_epoch(300)
    rates = [settings.rate_at(step, 300) for step in range(steps)]
    peak = int(np.argmax(rates))
    assert rates[0] > 0
    assert np.all(np.diff(rates[: peak + 1]) > 0)
    assert np.all(np.diff(rates[peak:]) < 0)
    constant = replace(settings, decay="constant")
    assert constant.rate_at(steps - 1, 300) == settings.rate


def test_labellings_begin_before_the_first_step_and_grow_rare():
    steps = sorted(replace(SETTINGS, epochs=100, labellings=50).labelling_steps(300))
    assert steps[0] == 0
    assert len(steps) == 50
    assert steps[-1] < 100 * SETTINGS.steps_per_epoch(300)
    assert np.all(np.diff(np.diff(steps)) >= -1)
