"""The loop of learning and self-labelling, with a small backbone in NumPy: no framework is needed to run it."""

import json
import math
import threading
from dataclasses import replace

import numpy as np
import pytest

from selavi_ref.errors import CheckpointError, DivergedError, ElsewhereError, InputError, StopRequest
from selavi_ref.metrics import adjusted_mutual_info_score, mean_entropy, mean_purity, normalized_mutual_info_score
from selavi_ref.runs.checkpoints import Checkpoints
from selavi_ref.runs.processes import SingleProcess, gather_lines, local_rows, raise_together
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.selflabel import pseudo_labels
from selavi_ref.selflabel.backbone import working_datasets
from selavi_ref.selflabel.cluster_sizes import ClusterSizes
from selavi_ref.selflabel.settings import TrainingSettings
from selavi_ref.selflabel.training import Training
from selavi_ref.store import WorkingStore
from selavi_ref.transport import assign
from tests.support.refusal import refused

ALONE = SingleProcess()


class Batch:
    def __init__(self, rows):
        self.rows = rows
        self.failures = []


class LinearBackbone:
    """Linear heads on fixed features of two modalities, learnt by plain gradient descent."""

    def __init__(self, features, clusters, seed=0, exchange=ALONE):
        self.features = features
        self.exchange = exchange
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

    def train_step(self, batch, labels, learning_rate, share):
        assert (labels >= 0).all()
        self.seen.append(batch.rows)
        loss = 0.0
        for (m, h), weights in self.weights.items():
            x = self.features[m][batch.rows]
            predicted = np.exp(log_softmax(x @ weights))
            truth = np.eye(self.clusters[h])[labels[:, h]]
            loss -= np.mean(np.log((predicted * truth).sum(1))) / len(self.weights)
            slope = share * x.T @ (predicted - truth) / len(x)
            weights -= learning_rate * self.exchange.all_sum(slope.reshape(-1)).reshape(slope.shape)
        return loss

    def datasets(self):
        return {f"features/{m}": x.shape[1] for m, x in self.features.items()}

    def write_features(self, store, rows, seed):
        for m, x in self.features.items():
            store.replace(f"features/{m}", x[rows.start : rows.stop])

    def write_log_prob(self, store, head, name):
        for m in self.features:
            store.replace(f"log_prob/{m}/{name}", log_softmax(store.features(m) @ self.weights[m, head]))

    def permute(self, head, permutation):
        self.weights["audio", head] = self.weights["audio", head][:, permutation]

    def save(self, path, state):
        if not all(np.isfinite(w).all() for w in self.weights.values()):
            raise DivergedError("weights are no longer finite")
        if self.exchange.rank:
            return
        with open(path, "wb") as file:
            weights = {f"w_{m}_{h}": w for (m, h), w in self.weights.items()}
            np.savez(file, **weights, **{f"state_{k}": v for k, v in state.items()})

    def load(self, path):
        try:
            with np.load(path) as file:
                weights = {(m, h): file[f"w_{m}_{h}"] for m, h in self.weights}
                state = {k.removeprefix("state_"): file[k] for k in file.files if k.startswith("state_")}
        except Exception as error:
            raise CheckpointError(f"{path} is damaged") from error
        self.weights = weights
        return state


def log_softmax(x):
    x = x - x.max(1, keepdims=True)
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def two_views(n=300, kinds=4, seed=0):
    rng = np.random.default_rng(seed)
    classes = rng.permutation(n) % kinds
    views = {m: rng.normal(0, 1.5, (kinds, 12))[classes] + rng.normal(0, 0.7, (n, 12)) for m in ("video", "audio")}
    return {m: x.astype(np.float32) for m, x in views.items()}, classes


SETTINGS = TrainingSettings(
    epochs=12, batch_size=32, learning_rate=0.3, labellings=20, sizes=ClusterSizes("uniform"), warmup_epochs=1
)


def start(
    tmp_path, settings=SETTINGS, clusters=(4, 4, 4), log=None, exchange=ALONE, minutes=60.0, reporter=SILENT, **kwargs
):
    features, classes = two_views(**kwargs)
    backbone = LinearBackbone(features, clusters, exchange=exchange)
    own = local_rows(len(classes), exchange)
    store = WorkingStore.create(
        tmp_path / f"working{exchange.rank}.h5",
        [f"{i}.mp4" for i in own],
        working_datasets(backbone, settings.overclustering_heads),
    )
    records = [] if log is None else log
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep_every=5, minutes=minutes, suffix=".npz")
    return Training(
        backbone,
        settings,
        store,
        checkpoints,
        records.append,
        exchange=exchange,
        classes=[str(c) for c in classes],
        reporter=reporter,
    ), classes


class KilledError(Exception):
    pass


class Warnings(Reporter):
    def __init__(self):
        self.warnings = []

    def warn(self, message):
        self.warnings.append(message)


def killed_at(step):
    def show_progress(progress):
        if progress.step == step:
            raise KilledError

    return show_progress


def assert_same_end(whole, other):
    assert np.array_equal(whole.labels, other.labels)
    for key, weights in whole.backbone.weights.items():
        assert np.array_equal(weights, other.backbone.weights[key])


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
    assert np.abs(counts - np.sort(training.pseudo_labels.sizes[0])[::-1]).max() < 0.05


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path):
    logs = {"a": [], "b": []}
    for name in logs:
        (tmp_path / name).mkdir()
    whole, _ = start(tmp_path / "a", log=logs["a"])
    whole.run()
    whole.finish()
    first, _ = start(tmp_path / "b")
    with pytest.raises(KilledError):
        first.run(killed_at(43))
    first.pseudo_labels.store.close()
    second, _ = start(tmp_path / "b")
    assert second.restore()
    assert second.epoch == 4
    assert second.step == 4 * second.per_epoch
    second.run()
    second.finish()
    assert_same_end(whole, second)


@pytest.mark.parametrize("step", [1, 13, 14, 57])
def test_a_run_that_is_asked_to_stop_saves_at_once_and_loses_nothing(tmp_path, step):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    logs = {"a": [], "b": []}
    whole, _ = start(tmp_path / "a", log=logs["a"])
    whole.run()
    first, _ = start(tmp_path / "b", log=logs["b"])
    with pytest.raises(StopRequest):
        first.run(lambda now: first.request_stop() if now.step == step else None)
    first.pseudo_labels.store.close()
    second, _ = start(tmp_path / "b", log=logs["b"])
    assert second.restore()
    assert second.step in (step, step + 1)
    second.run()
    assert_same_end(whole, second)
    timeless = [[{k: v for k, v in r.items() if k != "labelling_seconds"} for r in log] for log in logs.values()]
    assert timeless[0] == timeless[1]


def test_the_log_of_a_resumed_run_is_cut_where_it_resumes(tmp_path):
    training, _ = start(tmp_path)
    training.step = 6
    records = ({"step": 0, "changed": 1.0}, {"step": 6, "epoch": 1}, {"step": 6, "changed": 0.5}, {"step": 8})
    assert [training.covers(record) for record in records] == [True, True, False, False]


def test_a_request_to_stop_during_a_labelling_is_met_at_once(tmp_path):
    training, _ = start(tmp_path, minutes=0.0)
    write = training.backbone.write_features

    def write_and_ask(*args):
        if training.step:
            training.request_stop()
        write(*args)

    training.backbone.write_features = write_and_ask
    with pytest.raises(StopRequest):
        training.run()
    training.pseudo_labels.store.close()
    again, _ = start(tmp_path)
    assert again.restore()
    assert again.step == training.step > 0


def test_within_an_epoch_the_state_is_saved_every_few_minutes(tmp_path):
    training, _ = start(tmp_path, minutes=0.0)
    with pytest.raises(KilledError):
        training.run(killed_at(5))
    assert [path.name for path in training.checkpoints.newest_first()] == [f"{n:06d}-step-{n}.npz" for n in (4, 3, 2)]


def test_the_last_three_checkpoints_are_kept_and_every_fifth_epoch_for_good(tmp_path):
    training, _ = start(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "000001-step-1.npz.partial").write_bytes(b"of a killed process")
    training.run()
    training.finish()
    written = {13: 12, 12: 12, 11: 11, 10: 10, 5: 5}  # the last is that of the final labels
    names = [f"{n:06d}-step-{e * training.per_epoch}{'' if e % 5 else '-kept'}.npz" for n, e in written.items()]
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == sorted(names)


def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    whole, _ = start(tmp_path / "a")
    whole.run()
    first, _ = start(tmp_path / "b")
    first.run()
    first.pseudo_labels.store.close()
    newest, before, *_ = first.checkpoints.newest_first()
    newest.write_bytes(newest.read_bytes()[:2000])
    reporter = Warnings()
    second, _ = start(tmp_path / "b", reporter=reporter)
    assert second.restore()
    assert second.epoch == 11
    assert len(reporter.warnings) == 1
    assert newest.name in reporter.warnings[0]
    assert before.name in reporter.warnings[0]
    second.run()
    assert_same_end(whole, second)
    for path in second.checkpoints.newest_first():
        path.write_bytes(b"")
    second.pseudo_labels.store.close()
    with refused(CheckpointError):
        start(tmp_path / "b")[0].restore()


class Threads:
    """Processes of one run, as threads that add up what they are given."""

    def __init__(self, size):
        self.size = size
        self.barrier = threading.Barrier(size, timeout=60)
        self.given = [None] * size

    def run(self, task):
        results = [None] * self.size

        def one(rank):
            try:
                results[rank] = task(Threads.Exchange(self, rank))
            except BaseException as error:
                results[rank] = error
                self.barrier.abort()

        threads = [threading.Thread(target=one, args=(rank,)) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, threading.BrokenBarrierError):
                raise result
        return results

    class Exchange:
        def __init__(self, threads, rank):
            self.threads, self.rank, self.size = threads, rank, threads.size

        def _everyones(self, value):
            self.threads.given[self.rank] = value
            self.threads.barrier.wait()
            values = list(self.threads.given)
            self.threads.barrier.wait()
            return values

        def all_sum(self, numbers):
            return np.sum(self._everyones(np.array(numbers, np.float64)), 0)

        def gather(self, rows):
            return np.concatenate(self._everyones(rows))


@pytest.mark.parametrize(
    ("size", "n", "settings", "clusters"),
    [
        (2, 300, SETTINGS, (4, 4, 4)),
        (3, 301, replace(SETTINGS, groups=2, sizes=ClusterSizes("zipf")), (4, 4, 4)),
        (
            4,
            303,
            replace(SETTINGS, overclustering_heads=2, epochs=60, settle_epochs=6, labellings=60),
            (4, 20, 20),
        ),
    ],
)
def test_several_processes_end_where_one_does(tmp_path, size, n, settings, clusters):
    (tmp_path / "one").mkdir()
    settings = replace(settings, batch_size=32 * size)
    losses = {1: [], size: []}
    whole, _ = start(tmp_path / "one", settings, clusters, n=n)
    whole.run(lambda now: losses[1].append(now.loss))
    whole.finish()

    def task(exchange):
        training, _ = start(tmp_path, replace(settings, batch_size=32), clusters, exchange=exchange, n=n)
        training.run(lambda now: losses[size].append(now.loss) if exchange.rank == 0 else None)
        training.finish()
        return training

    found = Threads(size).run(task)
    assert np.allclose(losses[1], losses[size], rtol=1e-6)
    for training in found:
        assert np.array_equal(training.labels, whole.labels)
        assert training.settle_from == whole.settle_from
        seen = training.backbone.seen[: whole.per_epoch]
        training.first_epoch = np.concatenate(seen)
    assert sorted(np.concatenate([t.first_epoch for t in found])) == list(range(n))


def test_a_run_goes_on_with_another_number_of_processes(tmp_path):
    first, classes = start(tmp_path)
    with pytest.raises(StopRequest):
        first.run(lambda now: first.request_stop() if now.step == 43 else None)
    first.pseudo_labels.store.close()

    def task(exchange):
        training, _ = start(tmp_path, exchange=exchange)
        assert training.restore()
        assert training.step == first.step * training.per_epoch // first.per_epoch
        training.run()
        training.finish()
        training.pseudo_labels.store.close()
        # Its steps are fewer than those of the checkpoints before, but its own are the newest.
        again, _ = start(tmp_path, exchange=exchange)
        assert again.restore()
        assert again.finished
        return training.labels

    labels, again = Threads(2).run(task)
    assert np.array_equal(labels, again)
    assert normalized_mutual_info_score(classes, labels[:, 0]) > 0.5


def test_what_one_process_cannot_do_no_process_goes_on_with():
    def task(exchange):
        def one_fails():
            with raise_together(exchange):
                if exchange.rank == 1:
                    raise InputError("seven")

        with refused(InputError if exchange.rank == 1 else ElsewhereError):
            one_fails()
        return gather_lines([f"line {n} of {exchange.rank} \udcff" for n in range(exchange.rank)], exchange)

    lines = Threads(3).run(task)
    assert lines[0] == lines[1] == lines[2] == ["line 0 of 1 \udcff", "line 0 of 2 \udcff", "line 1 of 2 \udcff"]


def test_too_few_videos_for_so_many_processes_are_refused(tmp_path):
    with refused(option="processes", value=3):
        Threads(3).run(lambda exchange: start(tmp_path, exchange=exchange, clusters=(2,), n=5))


def test_heads_may_have_different_numbers_of_clusters_and_groups_split_them(tmp_path):
    training, _ = start(tmp_path, replace(SETTINGS, groups=2, epochs=3), clusters=(4, 4, 16))
    training.run()
    assert training.labels.max(0).tolist()[2] > 4


def test_the_published_solver_and_sizes_can_be_trained_with(tmp_path):
    training, classes = start(tmp_path, replace(SETTINGS, labeller="published", sizes=ClusterSizes("gaussian", 0.1)))
    records = []
    training.log = records.append
    training.run()
    training.finish()
    assert normalized_mutual_info_score(classes, training.labels[:, 0]) > 0.6  # inverted sizes, in an order of chance
    assert all(np.isfinite(potentials).all() for potentials in training.pseudo_labels.potentials)
    last = [record for record in records if "changed" in record][-1]
    assert last["passes"] > 0


def test_it_is_the_published_algorithm_on_sizes_in_an_order_of_chance(tmp_path, monkeypatch):
    training, _ = start(tmp_path, replace(SETTINGS, labeller="published", sizes=ClusterSizes("zipf")))
    given = []

    def watch(scores, sizes, **options):
        given.append((tuple(np.round(sizes, 6)), options["published"]))
        return assign(scores, sizes, **options)

    monkeypatch.setattr(pseudo_labels, "assign", watch)
    for step in range(6):
        training.pseudo_labels.relabel(step, use_overclusters=False)
    orders = {sizes for sizes, _ in given}
    assert all(published for _, published in given)
    assert len(orders) > 3
    assert len({tuple(sorted(sizes)) for sizes in orders}) == 1


def test_the_log_has_the_published_scores_with_true_classes(tmp_path):
    training, classes = start(tmp_path, SETTINGS)
    training.pseudo_labels._truth = np.unique(classes, return_inverse=True)[1]
    record = training.pseudo_labels.relabel(0, use_overclusters=False)
    labels = training.labels.T
    for name, score in (
        ("nmi", normalized_mutual_info_score),
        ("anmi", adjusted_mutual_info_score),
        ("purity", mean_purity),
        ("entropy", mean_entropy),
    ):
        assert record[f"{name}_with_classes"] == pytest.approx(np.mean([score(classes, head) for head in labels]))


def test_heads_are_split_into_groups_anew_at_each_labelling_the_same_by_the_seed(tmp_path):
    def groups(folder, seed):
        folder.mkdir()
        training, _ = start(folder, replace(SETTINGS, groups=2, seed=seed), clusters=(4,) * 6)
        passes = []
        training.backbone.write_features = lambda store, rows, look: passes.append(set())
        training.pseudo_labels._label_head = lambda head: passes[-1].add(head)
        training.pseudo_labels._record = lambda *rest: {}
        for step in range(8):
            training.pseudo_labels.relabel(step, use_overclusters=False)
        return [frozenset(map(frozenset, passes[n : n + 2])) for n in range(0, 16, 2)]

    first = groups(tmp_path / "a", 0)
    assert all(sorted(map(len, pair)) == [3, 3] for pair in first)
    assert all(frozenset().union(*pair) == set(range(6)) for pair in first)
    assert len(set(first)) > 2
    assert groups(tmp_path / "b", 0) == first
    assert groups(tmp_path / "c", 1) != first


def test_side_heads_label_the_others_from_half_of_the_run_on(tmp_path):
    settings = replace(SETTINGS, overclustering_heads=2, epochs=20)
    training, classes = start(tmp_path, settings, clusters=(4, 4, 20, 20))
    seen = []
    label_now = training.pseudo_labels.relabel

    def watch(step, use_overclusters, soft_sizes):
        record = label_now(step, use_overclusters, soft_sizes)
        seen.append((step, np.array_equal(training.labels[:, 0], training.labels[:, 1])))
        return record

    training.pseudo_labels.relabel = watch
    training.run()
    assert all(same == (step >= training.total_steps / 2) for step, same in seen)
    assert normalized_mutual_info_score(classes, training.labels[:, 0]) > 0.95


def test_it_settles_when_the_modalities_agree_and_at_the_end_in_any_case(tmp_path):
    settings = replace(SETTINGS, overclustering_heads=2, epochs=60, settle_epochs=6, labellings=60, warmup_epochs=0)
    training, classes = start(tmp_path, settings, clusters=(4, 20, 20))
    rates = []
    training.run(lambda now: rates.append(now.learning_rate))
    assert 1 <= training.settle_from < 54
    assert training.epoch == training.settle_from + 6
    per_epoch = settings.steps_per_epoch(len(classes))
    assert set(rates[: training.settle_from * per_epoch]) == {settings.learning_rate}
    assert np.all(np.diff(rates[training.settle_from * per_epoch :]) < 0)
    assert normalized_mutual_info_score(classes, training.labels[:, 0]) > 0.95

    (tmp_path / "never").mkdir()
    never, _ = start(tmp_path / "never", replace(settings, agreement=1.1, epochs=10), clusters=(4, 20, 20))
    never.run()
    assert (never.settle_from, never.epoch) == (4, 10)


def test_it_finishes_sooner_once_labels_are_stable(tmp_path):
    settings = replace(SETTINGS, overclustering_heads=2, epochs=60, settle_epochs=16, labellings=120, warmup_epochs=0)
    training, classes = start(tmp_path, replace(settings, stable_change=0.1), clusters=(4, 20, 20))
    rates = []
    training.run(lambda now: rates.append(now.learning_rate))
    assert training.settle_from <= training.finish_from
    assert training.epoch == training.finish_from + 2 < training.settle_from + 16
    per_epoch = settings.steps_per_epoch(len(classes))
    assert np.all(np.diff(rates[training.settle_from * per_epoch :]) < 0)
    assert rates[-1] < 0.3 * rates[training.finish_from * per_epoch]
    assert normalized_mutual_info_score(classes, training.labels[:, 0]) > 0.95


@pytest.mark.parametrize("stable_change", [0.0, 0.2])
def test_a_resumed_run_settles_where_an_uninterrupted_one_does(tmp_path, stable_change):
    settings = replace(SETTINGS, overclustering_heads=2, epochs=60, settle_epochs=6, labellings=60)
    settings = replace(settings, stable_change=stable_change)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    whole, _ = start(tmp_path / "a", settings, clusters=(4, 20, 20))
    whole.run()

    first, _ = start(tmp_path / "b", settings, clusters=(4, 20, 20))
    with pytest.raises(KilledError):
        first.run(killed_at(whole.step - 15))
    first.pseudo_labels.store.close()
    second, _ = start(tmp_path / "b", settings, clusters=(4, 20, 20))
    second.restore()
    second.run()
    assert second.settle_from == whole.settle_from
    assert second.finish_from == whole.finish_from
    assert (whole.finish_from is None) == (stable_change == 0)
    assert np.array_equal(whole.labels, second.labels)


@pytest.mark.parametrize(("n", "batch"), [(2, 64), (3, 2), (7, 2), (65, 64), (97, 64), (1500, 64)])
def test_no_video_is_alone_in_a_batch(n, batch):
    sizes = [len(part) for part in np.array_split(np.arange(n), replace(SETTINGS, batch_size=batch).steps_per_epoch(n))]
    assert min(sizes) >= 2
    assert max(sizes) <= 2 * batch


def test_side_heads_do_without_sizes_that_were_given_for_the_others(tmp_path):
    settings = replace(SETTINGS, overclustering_heads=1, sizes=ClusterSizes("file", given=(4.0, 3.0, 2.0, 1.0)))
    training, _ = start(tmp_path, settings, clusters=(4, 20))
    assert training.pseudo_labels.sizes[0].tolist() == [0.4, 0.3, 0.2, 0.1]
    assert len(training.pseudo_labels.sizes[1]) == 20


def test_each_labelling_and_each_epoch_is_recorded_as_plain_values(tmp_path):
    records = []
    training, _ = start(tmp_path, replace(SETTINGS, epochs=3), log=records)
    training.run()
    assert json.loads(json.dumps(records)) == records
    assert [r["epoch"] for r in records if "epoch" in r] == [1, 2, 3]
    assert sum("labelling_seconds" in r for r in records) == len(training.settings.labelling_steps(300))


def test_what_is_logged_says_how_labels_agree(tmp_path):
    records = []
    training, _ = start(tmp_path, replace(SETTINGS, epochs=12), log=records)
    training.run()
    labellings = [r for r in records if "labelling_seconds" in r]
    assert "nmi_with_last" not in labellings[0]
    assert labellings[-1]["nmi_with_last"] > 0.9
    assert labellings[-1]["nmi_between_heads"] > labellings[0]["nmi_between_heads"]
    assert labellings[-1]["nmi_with_classes"] > 0.9 > labellings[0]["nmi_with_classes"]
    assert labellings[-1]["cost"] < labellings[0]["cost"]
    assert all(r["passes"] > 0 for r in labellings)
    steps = [r["step"] for r in records if "loss" in r and "epoch" not in r]
    assert steps == []  # epochs of nine steps


def test_the_loss_of_long_epochs_is_logged_within_them(tmp_path):
    records = []
    training, _ = start(tmp_path, replace(SETTINGS, epochs=1, batch_size=3), log=records)
    training.run()
    assert [r["step"] for r in records if "loss" in r and "epoch" not in r] == [50, 100]


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_step(tmp_path):
    training, _ = start(tmp_path)
    step = training.backbone.train_step
    training.backbone.train_step = lambda *args: math.nan if training.step == 20 else step(*args)
    with refused(
        DivergedError,
        path=tmp_path / "checkpoints/000002-step-18.npz",
        option="learning-rate",
        value=0.2753231717119405,
    ):
        training.run()


def test_weights_that_are_no_numbers_are_not_saved(tmp_path):
    training, _ = start(tmp_path)
    key = ("video", 0)

    def spoil(now):
        if now.step == 18:
            training.backbone.weights[key] = training.backbone.weights[key] * np.inf

    with refused(
        DivergedError, path=tmp_path / "checkpoints/000001-step-9.npz", option="learning-rate", value=0.2820302086770166
    ):
        training.run(spoil)


def test_sizes_are_kept_for_the_run_or_drawn_anew(tmp_path):
    for name, sizes in {
        "kept": ClusterSizes("gaussian", 0.3),
        "alike": ClusterSizes("gaussian", 0.3, per_head=False),
        "anew": ClusterSizes("gaussian", 0.3, redrawn=True),
    }.items():
        (tmp_path / name).mkdir()
        training, _ = start(tmp_path / name, replace(SETTINGS, epochs=2, sizes=sizes))
        before = [head.copy() for head in training.pseudo_labels.sizes]
        training.run()
        after = training.pseudo_labels.sizes
        assert np.array_equal(before, after) == (name != "anew")
        assert np.array_equal(after[0], after[1]) == (name == "alike")


def test_sizes_as_drawn_stay_with_their_clusters(tmp_path):
    sizes = ClusterSizes("file", given=(5.0, 1.0, 2.0, 2.0), matched=False)
    training, _ = start(tmp_path, replace(SETTINGS, sizes=sizes), clusters=(4,))
    training.run()
    counts = np.bincount(training.labels[:, 0], minlength=4) / 300
    assert np.abs(counts - [0.5, 0.1, 0.2, 0.2]).max() < 0.05


def test_more_clusters_than_videos_are_refused(tmp_path):
    with refused(option="clusters", value=400):
        start(tmp_path, clusters=(400,))


def test_the_rate_rises_then_falls_and_the_first_step_learns():
    settings = replace(SETTINGS, epochs=10, warmup_epochs=2)
    steps = 10 * settings.steps_per_epoch(300)
    rates = [settings.learning_rate_at(step, 300) for step in range(steps)]
    peak = int(np.argmax(rates))
    assert rates[0] > 0
    assert np.all(np.diff(rates[: peak + 1]) > 0)
    assert np.all(np.diff(rates[peak:]) < 0)
    constant = replace(settings, decay="constant")
    assert constant.learning_rate_at(steps - 1, 300) == settings.learning_rate


def test_the_published_rate_rises_by_epochs_from_its_base_to_as_many_times_as_there_are_processes():
    s = replace(
        SETTINGS,
        decay="constant",
        learning_rate=0.01,
        scale_learning_rate=True,
        warmup_epochs=10,
        warmup_from=1,
        warmup_by="epoch",
    )
    per_epoch = s.steps_per_epoch(64_000, 64)
    assert per_epoch == round(64_000 / (64 * s.batch_size))
    rates = [
        s.learning_rate_at(epoch * per_epoch + step, 64_000, None, 64)
        for epoch in range(12)
        for step in (0, per_epoch - 1)
    ]
    assert np.allclose(rates, np.repeat(0.01 * (1 + 63 * np.minimum(np.arange(12), 10) / 10), 2))
    assert s.learning_rate_at(0, 300) == s.learning_rate_at(10_000, 300) == 0.01


@pytest.mark.parametrize(
    ("field", "value"), [("decay", "linear"), ("epochs", 0), ("learning_rate", math.nan), ("learning_rate", 0.0)]
)
def test_settings_that_do_not_fit_are_named(field, value):
    with refused(option=f"training.{field}"):
        replace(SETTINGS, **{field: value})


def test_labellings_begin_before_the_first_step_and_grow_rare():
    steps = sorted(replace(SETTINGS, epochs=100, labellings=50).labelling_steps(300))
    assert steps[0] == 0
    assert len(steps) == 50
    assert steps[-1] < 100 * SETTINGS.steps_per_epoch(300)
    assert np.all(np.diff(np.diff(steps)) >= -1)
