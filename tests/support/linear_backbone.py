"""A small backbone in NumPy, linear heads on two views of the same kinds, and trainings with it."""

import numpy as np

from selavi_ref.errors import CheckpointError, DivergedError
from selavi_ref.runs.checkpoints import Checkpoints
from selavi_ref.runs.processes import SingleProcess, local_rows
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.selflabel.backbone import working_datasets
from selavi_ref.selflabel.cluster_sizes import ClusterSizes
from selavi_ref.selflabel.settings import TrainingSettings
from selavi_ref.selflabel.training import Training
from selavi_ref.store import WorkingStore

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

    def joint_log_prob(self, store, head, only=None):
        return None

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
