"""Labels of features by our cross-fitted heads and by its peers, on any feature stores: NMI, accuracy, seconds.

python -m pip install -e ".[all,bench]" && python benchmarks/labelling.py NAME TRAIN.h5 UNSEEN.h5 --clusters 10

The peers: K-means and spherical K-means (the best of ten starts, on standardised features), a Gaussian mixture
(diagonal, on the leading 128 components of each feature space, the best of three), HDBSCAN on ten dimensions of UMAP
(which finds its own number of clusters, and leaves videos out: they count as one more cluster), and TURTLE (Gadetsky,
Jiang and Brbic, Let go of your labels with unsupervised transfer, ICML 2024, arXiv:2406.07236), written from its
paper's equations with its published settings. Each method gets the same features; true classes are used for the scores
alone, and to draw subsets: a third of the videos, or a long tail of 1 to exp(-2) of the videos of each class. Seconds
are those of the processor, so that other programs on the machine do not matter much.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from machine import machine
from numpy.typing import NDArray
from tables import parsed

from selavi_ref.crossfit import crossfit
from selavi_ref.crossfit.components import fit_components
from selavi_ref.metrics import hungarian_accuracy, normalized_mutual_info_score
from selavi_ref.report.table import Table
from selavi_ref.store import FeatureStore

if TYPE_CHECKING:
    from torch import Tensor

Features = dict[str, NDArray[np.float32]]
Labels = tuple[NDArray[np.int32], NDArray[np.int32]]
Method = Callable[[Features, Features, int, int], Labels]


def ours(train: Features, unseen: Features, K: int, seed: int) -> Labels:
    """Label by cross-fitted heads."""
    result = crossfit(train, K, seed=seed)
    return result.labels, result.model.log_posterior(unseen).argmax(1).astype(np.int32)


def kmeans(train: Features, unseen: Features, K: int, seed: int) -> Labels:
    """Label by K-means on standardised features."""
    from sklearn.cluster import KMeans

    x, y = (np.concatenate(spaces, 1) for spaces in standardised(train, unseen))
    model = KMeans(K, n_init=10, random_state=seed).fit(x)
    return model.labels_, model.predict(y)


def spherical_kmeans(train: Features, unseen: Features, K: int, seed: int) -> Labels:
    """Label by K-means on standardised features of length 1."""
    from sklearn.cluster import KMeans

    x, y = (np.concatenate(spaces, 1) for spaces in standardised(train, unseen))
    x, y = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (x, y))
    model = KMeans(K, n_init=10, random_state=seed).fit(x)
    return model.labels_, model.predict(y)


def gaussian_mixture(train: Features, unseen: Features, K: int, seed: int) -> Labels:
    """Label by a diagonal Gaussian mixture on principal components."""
    from sklearn.mixture import GaussianMixture

    fitted = {name: fit_components(x, 128)[0] for name, x in train.items()}
    x, y = (np.concatenate([10 * fitted[name](z) for name, z in spaces.items()], 1) for spaces in (train, unseen))
    model = GaussianMixture(K, covariance_type="diag", n_init=3, random_state=seed, reg_covar=1e-5).fit(x)
    return model.predict(x), model.predict(y)


def umap_hdbscan(train: Features, unseen: Features, K: int, seed: int) -> Labels:
    """Label by HDBSCAN on ten dimensions of UMAP; an unseen video gets the label of the nearest training video."""
    from sklearn.cluster import HDBSCAN
    from sklearn.neighbors import KNeighborsClassifier
    from umap import UMAP

    x, y = (np.concatenate(spaces, 1) for spaces in standardised(train, unseen))
    reducer = UMAP(n_components=10, n_neighbors=30, min_dist=0.0, random_state=seed).fit(x)
    labels = HDBSCAN(min_cluster_size=max(5, len(x) // 100), copy=True).fit(reducer.embedding_).labels_
    nearest = KNeighborsClassifier(1).fit(reducer.embedding_, labels)
    return labels.astype(np.int32), nearest.predict(reducer.transform(y)).astype(np.int32)


def turtle(train: Features, unseen: Features, K: int, seed: int, steps: int = 6000) -> Labels:
    """
    Label by TURTLE.

    The label of a video is the mean over spaces of weight-normalised linear softmaxes tau_m. Inner problem: classifiers
    w_m by ten steps of Adam on CE(w_m x_m, tau) from a random start. Outer: one step of Adam on
    ``sum_m CE(w_m x_m, tau) - 10 sum_m H(mean tau_m)`` with w_m held fixed.
    """
    import torch
    from torch.nn import functional as F
    from torch.nn.utils.parametrizations import weight_norm

    torch.manual_seed(seed)
    spaces, others = ([torch.as_tensor(x) for x in each] for each in standardised(train, unseen))
    encoders = [weight_norm(torch.nn.Linear(x.shape[1], K)) for x in spaces]
    outer = torch.optim.Adam([p for encoder in encoders for p in encoder.parameters()], lr=1e-3)
    N = len(spaces[0])
    for _ in range(steps):
        rows = torch.randperm(N)[:10_000] if N > 10_000 else slice(None)
        batch = [x[rows] for x in spaces]
        tasks = [encoder(x).softmax(1) for encoder, x in zip(encoders, batch, strict=True)]
        label = torch.stack(tasks).mean(0)
        loss = -10 * sum(torch.special.entr(task.mean(0)).sum() for task in tasks)
        for x in batch:
            loss = loss + F.cross_entropy(F.linear(x, *_inner_classifier(x, label.detach(), K)), label)
        outer.zero_grad()
        loss.backward()
        outer.step()
    with torch.no_grad():
        labels = [
            sum(encoder(x).softmax(1) for encoder, x in zip(encoders, each, strict=True)).argmax(1)
            for each in (spaces, others)
        ]
    return labels[0].numpy().astype(np.int32), labels[1].numpy().astype(np.int32)


def _inner_classifier(x: Tensor, label: Tensor, K: int) -> list[Tensor]:
    """Return weight and bias of a new linear classifier after ten steps of Adam, with gradients in closed form."""
    import torch
    from torch.nn import functional as F

    head = [p.detach() for p in torch.nn.Linear(x.shape[1], K).parameters()]
    first, second = [torch.zeros_like(p) for p in head], [torch.zeros_like(p) for p in head]
    for t in range(1, 11):
        residual = (F.linear(x, *head).softmax(1) - label) / len(x)
        for p, g, m, v in zip(head, (residual.T @ x, residual.sum(0)), first, second, strict=True):
            m.mul_(0.9).add_(g, alpha=0.1)
            v.mul_(0.999).addcmul_(g, g, value=0.001)
            p.sub_(1e-3 * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8))
    return head


METHODS: dict[str, Method] = {
    "ours": ours,
    "K-means": kmeans,
    "spherical K-means": spherical_kmeans,
    "Gaussian mixture": gaussian_mixture,
    "UMAP, HDBSCAN": umap_hdbscan,
    "TURTLE": turtle,
}


def standardised(*sets: Features) -> list[list[NDArray[np.float32]]]:
    """Return features with the mean 0 and standard deviation 1 of the first set."""
    scales = {name: (x.mean(0), np.maximum(x.std(0), 1e-6)) for name, x in sets[0].items()}
    return [[((x - scales[name][0]) / scales[name][1]).astype(np.float32) for name, x in each.items()] for each in sets]


def read(path: Path) -> tuple[Features, list[str]]:
    """Return the features of all spaces of a store, and its true classes."""
    with FeatureStore(path) as store:
        return {m: store.features(m) for m in store.modalities if store.has(f"features/{m}")}, list(store.classes)


def subset_rows(classes: list[str], subset: str) -> NDArray[np.int64]:
    """Return the rows of a third of the videos, of a long tail, or of all."""
    rng, names = np.random.default_rng(0), sorted(set(classes))
    if subset == "third":
        return np.sort(rng.permutation(len(classes))[: len(classes) // 3])
    rows = [np.flatnonzero([name == each for each in classes]) for name in names]
    if subset == "long-tail":
        kept = [round(len(own) * np.exp(-2 * c / (len(names) - 1))) for c, own in enumerate(rows)]
        rows = [rng.permutation(own)[:n] for own, n in zip(rows, kept, strict=True)]
    return np.sort(np.concatenate(rows))


def scores(classes: list[str], labels: NDArray[np.int32]) -> tuple[float, float]:
    """Return NMI and accuracy."""
    return float(normalized_mutual_info_score(classes, labels)), float(hungarian_accuracy(classes, labels))


def draw(rows: list[dict[str, float | str]], path: Path) -> None:
    """Draw mean NMI of all methods as bars, training and unseen videos."""
    from selavi_ref.report.figures import check_drawing

    check_drawing()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    names = [str(row["method"]) for row in rows]
    for shift, key, label in ((-0.2, "nmi", "training videos"), (0.2, "unseen_nmi", "unseen videos")):
        axes.bar(np.arange(len(rows)) + shift, [float(row[key]) for row in rows], 0.38, label=label)
    axes.set_xticks(np.arange(len(rows)), names, fontsize=8)
    axes.set_ylabel("NMI with true classes")
    axes.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure all methods, and write table and plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("train", type=Path)
    parser.add_argument("unseen", type=Path)
    parser.add_argument("--clusters", type=int, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--subset", choices=["all", "third", "long-tail"], default="all")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    options = parsed(parser, "")
    options.out.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    (train, classes), (unseen, unseen_classes) = read(options.train), read(options.unseen)
    chosen = subset_rows(classes, options.subset)
    train, classes = {name: x[chosen] for name, x in train.items()}, [classes[row] for row in chosen]
    if options.subset != "all":
        options.name += f"-{options.subset}"
    rows: list[dict[str, float | str]] = []
    for method in options.methods:
        label = partial(turtle, steps=10) if method == "TURTLE" and options.quick else METHODS[method]
        figures = []
        for seed in range(options.seeds):
            start = time.process_time()
            labels, unseen_labels = label(train, unseen, options.clusters, seed)
            seconds = time.process_time() - start
            figures.append([*scores(classes, labels), *scores(unseen_classes, unseen_labels), seconds])
            print(
                json.dumps({"method": method, "seed": seed, "figures": np.round(figures[-1], 3).tolist()}), flush=True
            )
        means = dict(
            zip(("nmi", "accuracy", "unseen_nmi", "unseen_accuracy", "seconds"), np.mean(figures, 0), strict=True)
        )
        worst = float(np.min(figures, 0)[0])
        rows.append({"method": method, **{key: float(value) for key, value in means.items()}, "worst_nmi": worst})
    columns = {key: key.replace("_", " ") for key in rows[0]}
    notes = [
        f"{options.seeds} seeds; {len(classes):,} training and {len(unseen_classes):,} unseen videos",
        machine("scikit-learn", "torch"),
    ]
    table = Table(f"Labels of features: {options.name}", columns, rows, notes)
    table.write(options.out / f"labelling-{options.name}")
    draw(rows, options.out / f"labelling-{options.name}.png")
    print(table.text())


if __name__ == "__main__":
    main()
