"""Degradation study: labels by a run, by each modality alone and by K-means, as the video resolution falls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backbones.data.data_source import DataSource
from backbones.data.degradation import Degradation
from backbones.data.loader import ClipSampling
from backbones.runs.extract import extract
from backbones.runs.store_check import check_same_run
from backbones.studies.trials import score_labels
from selavi_ref.datasets import Manifest
from selavi_ref.ensemble.labels import label_store
from selavi_ref.errors import InputError, printable
from selavi_ref.report.figures import line_figure
from selavi_ref.report.table import Cell, Table
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run
from selavi_ref.selflabel.kmeans import FeatureScaler, kmeans_centres, nearest_centre
from selavi_ref.store import FeatureStore

FACTORS = (1, 2, 4, 8, 16, 32)
WAYS = {
    "ours": "ours, picture and sound",
    "picture": "ours, picture only",
    "sound": "ours, sound only",
    "kmeans": "K-means on both, refitted",
    "centres": "K-means on both, fixed centres",
}


def study_degrade(
    run: Run,
    manifest: Manifest,
    folder: Path,
    *,
    factors: Sequence[int] = FACTORS,
    clips: int = 1,
    device: str = "auto",
    data_source: DataSource = DataSource(),  # noqa: B008
    seed: int = 0,
    reporter: Reporter = SILENT,
) -> list[Table]:
    """
    Label videos whose frames are scaled down and back up, and write a table and a figure.

    K-means clusters the concatenated features of the run's two networks: refitted on the degraded videos, or by the
    nearest of the centres that were fitted on the original ones. Only videos with video, audio and a true class count.

    Parameters
    ----------
    run : Run
        A trained run.
    manifest : Manifest
        Videos with true classes.
    folder : Path
        Folder of the study; its stores of features are reused.
    factors : sequence of int
        Factors by which frames are scaled down; 1 is always included.
    clips : int
        Clips per video.
    device, data_source
        As in `backbones.runs.train.train`.
    seed : int
        Seed of K-means.
    """
    if len(set(manifest.classes) - {""}) < 2:
        raise InputError(
            f"{printable(manifest.source)}: a study needs at least two true classes for scores", path=manifest.source
        )
    rows: list[dict[str, Cell]] = []
    original: tuple[FeatureScaler, NDArray[np.float32]] | None = None
    for factor in sorted({1, *factors}):
        path = folder / f"shrink-{factor}-clips-{clips}.h5"
        if not path.exists():
            degradation = Degradation(shrink=factor)
            extract(
                run,
                manifest,
                path,
                sampling=ClipSampling(clips),
                reporter=reporter,
                degradation=degradation,
                device=device,
                data_source=data_source,
            )
        with FeatureStore(path) as store:
            check_same_run(store, run, manifest.paths, reporter)
            whole = np.logical_and.reduce([store.present(m) for m in store.modalities])
            labels = {way: label_store(store, only=m).label[whole] for way, m in _modalities(store).items()}
            features = {m: store.features(m)[whole] for m in store.modalities}
            classes = [name for name, has in zip(manifest.classes, whole, strict=True) if has]
            K = store.n_clusters
        scaler = FeatureScaler.fit(features, seed=seed)
        labels["kmeans"], centres = kmeans_centres(scaler(features), K, seed=seed)
        original = original or (scaler, centres)  # fitted at factor 1
        labels["centres"] = nearest_centre(original[0](features), original[1])
        for way, way_labels in labels.items():
            scores = score_labels(classes, way_labels)
            rows.append({"shrink": factor, "labels": WAYS[way], **{n: scores[n] for n in ("nmi", "accuracy", "ari")}})
    table = Table(
        "Labels of pictures scaled down and back up",
        {"shrink": "scaled down by", "labels": "labels", "nmi": "NMI", "accuracy": "accuracy", "ari": "ARI"},
        list(rows),
        [f"{len(classes)} videos with picture and sound, clips of each: {clips}; networks of {run.folder}."],
        {"run": str(run.folder), "videos": len(classes), "clips": clips},
    )
    table.write(folder / "degrade", figures=[folder / "degrade"])
    sides = sorted({1, *factors})
    line_figure(
        folder / "degrade",
        {name: (sides, [row["nmi"] for row in rows if row["labels"] == name]) for name in WAYS.values()},
        title="Labels while the picture gets worse, and the sound stays",
        x="picture scaled down by",
        y="NMI with the true classes",
        log_x=True,
        y_range=(-0.02, 1.02),
    )
    return [table]


def _modalities(store: FeatureStore) -> dict[str, str | None]:
    """Return the modality that each way of labelling by the run uses; None: both."""
    ways: dict[str, str | None] = {"ours": None}
    return ways | dict(zip(("picture", "sound"), store.modalities, strict=False))
