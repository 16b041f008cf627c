"""Heads learnt from features that any models have computed: in NumPy, on any store."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

import cli
from selavi_ref.errors import CheckpointError
from selavi_ref.heads import backbone as heads_backbone
from selavi_ref.heads.backbone import FeatureBatch, HeadOptions, HeadsBackbone
from selavi_ref.heads.features import PairedFeatures
from selavi_ref.heads.training_run import start_heads
from selavi_ref.metrics import normalized_mutual_info_score
from selavi_ref.runs.checkpoints import Checkpoints
from selavi_ref.selflabel.backbone import working_datasets
from selavi_ref.store import FeatureStore, StoreWriter, WorkingStore
from selavi_ref.store.joint_log_prob import joint_log_prob
from tests.support.old_heads import train_old_heads
from tests.support.refusal import refused
from tests.support.training_states import training_state

ROOT = Path(__file__).parents[2]
N, K = 400, 5
OLD = {"epochs": 40, "labellings": 20, "heads": 5}


def views(n=N, seed=0):
    """Two views that are independent, given the kind."""
    rng = np.random.default_rng(seed)
    kinds = rng.permutation(n) % K
    centres = np.random.default_rng(99)
    found = {}
    for name, width in (("video", 24), ("audio", 16)):
        middle = centres.normal(0, 1, (K, width))
        found[name] = (50 + 7 * (middle[kinds] + rng.normal(0, 0.7, (n, width)))).astype(np.float32)
    return found, kinds


def write(path, features, classes=None, **more):
    n = len(next(iter(features.values())))
    widths = {f"features/{m}": x.shape[1] for m, x in features.items()}
    with StoreWriter(path, [f"{i}.mp4" for i in range(n)], widths, classes=classes) as writer:
        writer.write(slice(None), {f"features/{m}": x for m, x in features.items()}, **more)
        writer.finish()
    return path


def selavi(place, *arguments):
    with contextlib.chdir(place):
        return CliRunner().invoke(cli.main, [str(a) for a in arguments], prog_name="selavi")


def labels_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("precomputed")
    features, kinds = views()
    write(place / "f.h5", features, [str(kind) for kind in kinds])
    done = selavi(place, "train-heads", "f.h5", "--clusters", K, "--out", "run")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("cross-fitted heads: ")
    train_old_heads(place, "f.h5", "old", K, **OLD)
    return place, kinds


@pytest.mark.parametrize("run", ["run", "old"])
def test_the_kinds_are_found(place, run):
    folder, kinds = place
    rows = labels_of(folder / run / "labels.csv")
    assert [row["path"] for row in rows] == [f"{i}.mp4" for i in range(N)]
    assert normalized_mutual_info_score(kinds, [int(row["label"]) for row in rows]) > 0.9
    done = selavi(folder, "label", f"{run}/features.h5", "--balanced", "--out", "balanced.csv")
    assert done.exit_code == 0, done.stderr


@pytest.mark.parametrize("run", ["run", "old"])
def test_another_store_of_the_same_models_is_labelled_and_missing_spaces_are_reported(place, run):
    folder, _ = place
    features, kinds = views(seed=1)
    features["audio"][:3] = np.nan
    features["video"][2:5] = np.nan
    has = {"audio": np.arange(N) > 2, "video": (np.arange(N) < 2) | (np.arange(N) > 4)}
    write(folder / "other.h5", features, present=has)
    done = selavi(folder, "label", run, "other.h5", "--out", "other.csv")
    assert done.exit_code == 0, done.stderr
    rows = labels_of(folder / "other.csv")
    assert [row["modalities"] for row in rows[:6]] == ["video", "video", "", "audio", "audio", "video+audio"]
    assert rows[2]["label"] == ""
    assert rows[2]["reason"] == "it has no features"
    known = [i for i in range(N) if i != 2]
    assert normalized_mutual_info_score(kinds[known], [int(rows[i]["label"]) for i in known]) > 0.85


@pytest.mark.parametrize("run", ["run", "old"])
def test_a_run_labels_without_the_store_that_it_learnt_from(place, run):
    folder, _ = place
    (folder / "f.h5").rename(folder / "away.h5")
    try:
        done = selavi(folder, "label", run, "away.h5", "--out", "away.csv")
    finally:
        (folder / "away.h5").rename(folder / "f.h5")
    assert done.exit_code == 0, done.stderr
    assert (folder / "away.csv").read_bytes() == (folder / run / "labels.csv").read_bytes()


def test_a_file_of_another_program_with_other_modalities_will_do(place):
    folder, _ = place
    features, kinds = views()
    with h5py.File(folder / "foreign.h5", "w") as file:
        file.attrs.update(format="selavi-feature-store", version=1, complete=True)
        file["videos/path"] = [f"{i}" for i in range(N)]
        file["features/text"], file["features/image"] = features["video"], features["audio"]
    done = selavi(folder, "train-heads", "foreign.h5", "-k", K, "--out", "foreign")
    assert done.exit_code == 0, done.stderr
    found = [int(row["label"]) for row in labels_of(folder / "foreign" / "labels.csv")]
    assert normalized_mutual_info_score(kinds, found) > 0.7


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.processes
def test_a_run_of_version_0_1_that_is_killed_or_stopped_ends_with_the_same_labels(place, number):
    folder, _ = place
    out = f"ended-{number}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    start_heads(folder / "f.h5", folder / out, K, **OLD)
    command = [sys.executable, "-m", "cli", "train-heads", "--resume", "--out", out]
    running = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    saved = Checkpoints(folder / out / "checkpoints", suffix=".npz")
    while len(saved.newest_first()) < 3 and running.poll() is None:
        time.sleep(0.005)
    running.send_signal(number)
    _, err = running.communicate(timeout=60)
    assert running.returncode == (75 if number == signal.SIGTERM else -9)
    if number == signal.SIGTERM:
        assert f"selavi train-heads --resume --out {out}" in err
    done = selavi(folder, "train-heads", "--resume", "--out", out)
    assert done.exit_code == 0, done.stderr
    assert (folder / out / "labels.csv").read_bytes() == (folder / "old" / "labels.csv").read_bytes()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.processes
def test_a_search_that_is_killed_or_stopped_starts_anew_with_the_same_labels(place, number):
    folder, _ = place
    out = f"searched-{number}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "cli", "train-heads", "f.h5", "-k", str(K), "--out", out]
    running = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    log = folder / out / "metrics.jsonl"
    while not (log.exists() and log.stat().st_size) and running.poll() is None:
        time.sleep(0.005)
    running.send_signal(number)
    _, err = running.communicate(timeout=60)
    assert running.returncode == (75 if number == signal.SIGTERM else -9)
    if number == signal.SIGTERM:
        assert f"selavi train-heads --resume --out {out}" in err
    for _ in range(2):  # the second time it is finished
        done = selavi(folder, "train-heads", "--resume", "--out", out)
        assert done.exit_code == 0, done.stderr
        assert (folder / out / "labels.csv").read_bytes() == (folder / "run" / "labels.csv").read_bytes()
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    assert steps == [*range(1, 47), 46]


@pytest.mark.parametrize("use", [["video"], ["audio", "video"], ["text", "video", "audio"]])
def test_one_two_or_three_feature_spaces_are_used(place, tmp_path, use):
    features, kinds = views()
    features["text"] = features["audio"][:, ::-1] + features["video"][:, :16]
    write(tmp_path / "f.h5", features)
    options = [word for name in use for word in ("--use", name)]
    done = selavi(tmp_path, "train-heads", "f.h5", "-k", K, *options, "--out", "run")
    assert done.exit_code == 0, done.stderr
    with FeatureStore(tmp_path / "run" / "features.h5") as store:
        assert set(store.modalities) == set(use)
        assert store.provenance["search"]["candidate"] in done.stdout
    found = [int(row["label"]) for row in labels_of(tmp_path / "run" / "labels.csv")]
    assert normalized_mutual_info_score(kinds, found) > 0.7
    only = {name: features[name] for name in use[:1]}
    write(tmp_path / "one.h5", only)
    assert selavi(tmp_path, "label", "run", "one.h5", "--out", "one.csv").exit_code == 0


def test_sizes_are_met_if_they_are_given(place):
    folder, _ = place
    (folder / "sizes.txt").write_text("4 3 1 1 1")
    done = selavi(
        folder, "train-heads", "f.h5", "-k", K, "--distribution", "sizes.txt", "--seed", "3", "--out", "sized"
    )
    assert done.exit_code == 0, done.stderr
    labels = [int(row["label"]) for row in labels_of(folder / "sized" / "labels.csv")]
    np.testing.assert_allclose(np.sort(np.bincount(labels)), [40, 40, 40, 120, 160], atol=12)


def a_backbone(path, clusters=(3, 3, 7), **options):
    features = PairedFeatures(FeatureStore(path))
    return HeadsBackbone(features.standardizer, clusters, HeadOptions(**options), features=features, seed=1)


@pytest.mark.parametrize("seed", [None, [3, 4]])
def test_joint_log_probabilities_in_memory_are_those_of_the_store(place, tmp_path, seed, monkeypatch):
    backbone = a_backbone(place[0] / "f.h5", feature_dropout=0.2)
    names = [str(row) for row in range(backbone.n_videos)]
    with WorkingStore.create(tmp_path / "working.h5", names, working_datasets(backbone)) as store:
        backbone.write_features(store, range(backbone.n_videos), seed)
        backbone.write_log_prob(store, 2, "current7")
        first = next(iter(backbone.networks))
        for only in (None, first):
            found = backbone.joint_log_prob(store, 2, only)
            assert np.array_equal(found, joint_log_prob(store, "current7", only=only))
        monkeypatch.setattr(heads_backbone, "_MAX_BYTES", 100)
        assert backbone.joint_log_prob(store, 2) is None


@pytest.mark.parametrize("hidden", [0, 6])
def test_gradients_are_those_of_the_loss(place, hidden):
    backbone = a_backbone(place[0] / "f.h5", hidden=hidden, feature_dropout=0.2, weight_decay=0.0, momentum=0.0)
    rows = np.arange(12)
    batch = FeatureBatch(rows, rows, (1, 2))
    labels = np.stack([rows % 3, rows % 3, rows % 7], 1).astype(np.int32)
    # As many of the parameters as there is time for, each moved a little either way.
    chosen = np.random.default_rng(0).choice(len(backbone._parameters), 60, replace=False)
    backbone.train_step(batch, labels, 0.0)
    slopes = backbone._gradients.copy()
    found = []
    for index in chosen:
        losses = []
        for change in (2e-3, -4e-3):
            backbone._parameters[index] += change
            losses.append(backbone.train_step(batch, labels, 0.0))
        backbone._parameters[index] += 2e-3
        found.append((losses[0] - losses[1]) / 4e-3)
    assert np.linalg.norm(found - slopes[chosen]) < 0.05 * np.linalg.norm(slopes[chosen])


def test_learning_with_a_hidden_layer_equals_pytorch(place):
    torch = pytest.importorskip("torch")
    options = {"hidden": 8, "dropout": 0.0, "feature_dropout": 0.0}
    backbone = a_backbone(place[0] / "f.h5", clusters=(4,), weight_decay=0.01, **options)
    rows = np.arange(40)
    labels = (rows % 4).astype(np.int32)[:, None]
    models, inputs = [], []
    for m, network in backbone.networks.items():
        p = network.parameters
        first, norm = torch.nn.Linear(len(p["first"]), 8, bias=False), torch.nn.BatchNorm1d(8)
        last = torch.nn.Linear(8, 4)
        with torch.no_grad():
            first.weight.copy_(torch.from_numpy(p["first"].T))
            last.weight.copy_(torch.from_numpy(p["last_0"][0].T))
            last.bias.copy_(torch.from_numpy(p["bias_0"][0]))
        models.append(torch.nn.Sequential(first, norm, torch.nn.ReLU(), last))
        inputs.append(torch.from_numpy(backbone.features.rows(m, rows)))
    parameters = [p for model in models for p in model.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.01)
    truth = torch.from_numpy(labels[:, 0].astype(np.int64))
    for _ in range(5):
        loss = sum(torch.nn.functional.cross_entropy(f(x), truth) for f, x in zip(models, inputs, strict=True)) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert backbone.train_step(FeatureBatch(rows, rows, (0,)), labels, 0.1) == pytest.approx(loss.item(), rel=1e-4)
    for model, (m, network) in zip(models, backbone.networks.items(), strict=True):
        theirs = model.eval()(torch.from_numpy(backbone.features.rows(m, rows))).log_softmax(1).detach().numpy()
        assert np.allclose(network.log_prob(backbone.features.rows(m, rows), 0), theirs, atol=1e-4)


def test_features_are_standardised_in_memory_and_from_a_file(place):
    with FeatureStore(place[0] / "f.h5") as store:
        kept, read = PairedFeatures(store), PairedFeatures(store, max_bytes=0)
        rows = np.array([5, 3, 300])
        for m in ("video", "audio"):
            assert np.array_equal(kept.rows(m, rows), read.rows(m, rows))
            everything = kept.rows(m, np.arange(N))
            assert np.allclose(everything.mean(0), 0, atol=1e-4)
            assert np.allclose(everything.std(0), 1, atol=1e-4)


def test_a_changed_byte_of_a_checkpoint_is_noticed(place, tmp_path):
    backbone = a_backbone(place[0] / "f.h5")
    backbone.save(tmp_path / "c.npz", training_state(400, backbone.clusters, step=3))
    assert int(backbone.load(tmp_path / "c.npz")["step"]) == 3
    data = bytearray((tmp_path / "c.npz").read_bytes())
    data[len(data) // 3] ^= 1
    (tmp_path / "c.npz").write_bytes(data)
    with refused(CheckpointError, path=tmp_path / "c.npz"):
        backbone.load(tmp_path / "c.npz")
    other = a_backbone(place[0] / "f.h5", clusters=(4,))
    other.save(tmp_path / "d.npz", training_state(400, (4,)))
    with refused(path=tmp_path / "d.npz"):
        backbone.load(tmp_path / "d.npz")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["train-heads", "f.h5", "--out", "new"], "--clusters is missing"),
        (["train-heads", "-k", "3", "--out", "new"], "name the store"),
        (["train-heads", "one.h5", "-k", "auto", "--out", "new"], "two feature spaces or more, not from video alone"),
        (["train-heads", "f.h5", "-k", "201", "--out", "new"], "at most half of the 400 videos"),
        (["train-heads", "f.h5", "-k", "1", "--out", "new"], "at least 2"),
        (
            ["train-heads", "f.h5", "-k", "3", "--use", "text", "--out", "new"],
            "no features of text; it has video, audio",
        ),
        (["train-heads", "f.h5", "-k", "auto", "--use", "video", "--out", "new"], "not from video alone"),
        (
            ["train-heads", "f.h5", "-k", "3", "--hidden", "8", "--out", "new"],
            "--hidden was an option of version 0.1.0",
        ),
        (["train-heads", "f.h5", "-k", "3", "--distribution", "x", "--out", "new"], "x"),
        (["train-heads", "none.h5", "-k", "3", "--out", "new"], "none.h5"),
        (["train-heads", "f.h5", "-k", "3", "--out", "run"], "holds a run already"),
        (["train-heads", "--resume", "--seed", "1", "--out", "run"], "--seed cannot be changed"),
        (["label", "run", "narrow.h5", "--out", "x.csv"], "no features/video of 24 numbers"),
        (["label", "run", "f.h5", "--clips", "2", "--out", "x.csv"], "--clips goes with a run on videos"),
        (["extract", "run", "f.h5", "--out", "x.h5"], "has learnt from features, and has no networks"),
        (["train", "--resume", "--out", "run"], "selavi train-heads --resume --out run"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(place, arguments, why):
    folder, _ = place
    features, _ = views()
    if not (folder / "one.h5").exists():
        write(folder / "one.h5", {"video": features["video"]})
        write(folder / "narrow.h5", {m: x[:, :4] for m, x in features.items()})
    done = selavi(folder, *arguments)
    assert done.exit_code == 2, done.output
    assert isinstance(done.exception, SystemExit)
    assert why in done.stderr.strip().splitlines()[-1]
    assert not (folder / "new").exists()
