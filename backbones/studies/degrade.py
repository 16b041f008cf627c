"""How far labels survive a picture that gets worse: ours, each modality alone, and K-means on both."""

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
    "kmeans": "K-means on both, anew",
    "centres": "K-means on both, centres kept",
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
    Label videos whose pictures are scaled down and back up, and write a table and a figure.

    K-means clusters the concatenated features of the run's two networks: anew for the worse pictures, or by the nearest
    of the centres that it found on pictures as they are. Only videos with picture, sound and a true class count.

    Parameters
    ----------
    run : Run
        A trained run.
    manifest : Manifest
        Videos with true classes.
    folder : Path
        Of the study; stores of features are kept there, and used again.
    factors : sequence of int
        By which pictures are scaled down; 1 is always among them.
    clips : int
        Of each video.
    device, loading, seed
        As elsewhere; the seed is K-means'.
    """
    if len(set(manifest.classes) - {""}) < 2:
        raise InputError(f"{printable(manifest.source)}: a study needs at least two true classes for scores")
    rows: list[dict[str, Cell]] = []
    first: tuple[FeatureScaler, NDArray[np.float32]] | None = None
    for factor in sorted({1, *factors}):
        place = folder / f"shrink-{factor}-clips-{clips}.h5"
        if not place.exists():
            degradation = Degradation(shrink=factor)
            extract(
                run,
                manifest,
                place,
                sampling=ClipSampling(clips),
                reporter=reporter,
                degradation=degradation,
                device=device,
                data_source=data_source,
            )
        with FeatureStore(place) as store:
            check_same_run(store, run, manifest.paths)
            whole = np.logical_and.reduce([store.present(m) for m in store.modalities])
            found = {way: label_store(store, only=m).label[whole] for way, m in _modalities(store).items()}
            features = {m: store.features(m)[whole] for m in store.modalities}
            classes = [name for name, has in zip(manifest.classes, whole, strict=True) if has]
            K = store.n_clusters
        anew = FeatureScaler.fit(features, seed=seed)
        found["kmeans"], found_centres = kmeans_centres(anew(features), K, seed=seed)
        first = first or (anew, found_centres)  # on pictures as they are
        found["centres"] = nearest_centre(first[0](features), first[1])
        for way, labels in found.items():
            scores = score_labels(classes, labels)
            rows.append({"shrink": factor, "labels": WAYS[way], **{n: scores[n] for n in ("nmi", "accuracy", "ari")}})
    table = Table(
        "Labels of pictures scaled down and back up",
        {"shrink": "scaled down by", "labels": "labels", "nmi": "NMI", "accuracy": "accuracy", "ari": "ARI"},
        list(rows),
        [f"{len(classes)} videos with picture and sound, clips of each: {clips}; networks of {run.folder}."],
        {"run": str(run.folder), "videos": len(classes), "clips": clips},
    )
    table.write(folder / "degrade")
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
    """Return which modality each of our ways to label goes by."""
    ways: dict[str, str | None] = {"ours": None}
    return ways | dict(zip(("picture", "sound"), store.modalities, strict=False))
