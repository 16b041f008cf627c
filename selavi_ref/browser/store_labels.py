"""The labellings of a feature store."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selavi_ref.browser.labelling import CONSENSUS, Labelling, read_labelling, save_labelling, store_state
from selavi_ref.browser.posterior_index import PosteriorIndex, typicality
from selavi_ref.ensemble.labels import has_final_labels, label_store
from selavi_ref.errors import StoreError, printable
from selavi_ref.report.embedding import sources
from selavi_ref.store import FeatureStore


class StoredLabels:
    """
    Labels by log-probabilities, computed on demand and cached until the store changes.

    Parameters
    ----------
    path : Path
        The store; it stays open.
    folder : Path
        Folder of cached labels.

    Raises
    ------
    StoreError
        If the store cannot be opened, or holds no log-probabilities.
    """

    def __init__(self, path: Path, folder: Path):
        self._path, self._folder = path, folder
        self._state = store_state(path) if path.exists() else []  # before opening, as it may be replaced meanwhile
        self.store = FeatureStore(path)
        heads = self.store.heads
        if not heads:
            raise StoreError(f"{printable(path)} holds no log-probabilities, so there are no labels to show")
        if CONSENSUS in heads:
            raise StoreError(f"{printable(path)}: no head may have the name {CONSENSUS}")
        of_heads = f"consensus of {len(heads)} heads" if len(heads) > 1 else "the only head"
        self.titles = {CONSENSUS: "final labels" if has_final_labels(self.store) else of_heads}
        self.titles |= {name: f"head {name}" for name in heads}
        self.clusters = self.store.n_clusters
        source, names = sources(self.store, ExitStack())  # for heads on features, the store that they were trained on
        self._features = source if names[0].startswith("features/") else self.store
        self.posterior_index = PosteriorIndex(self.store, self._features)

    def make(self, name: str) -> Labelling:
        """Return a labelling, without edits."""
        cache_file = self._folder / f"labelling-{list(self.titles).index(name)}.npz"
        labelling = read_labelling(cache_file, self._state, name, self.titles[name])
        if labelling is None:
            with self.posterior_index.lock:
                labels = label_store(self.store, head=name)
                order = typicality(self._features, labels.label, labels.confidence)
            labelling = Labelling(
                name=name,
                title=self.titles[name],
                clusters=self.clusters,
                label=labels.label,
                runner_up=labels.runner_up,
                confidence=labels.confidence,
                entropy=labels.entropy,
                order=order,
                heads=labels.heads,
            )
            save_labelling(labelling, cache_file, self._state)
        return labelling

    def merge(self, name: str, targets: NDArray[np.int32]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Return confidence and runner-up of each video when cluster k is merged into ``targets[k]``."""
        with self.posterior_index.lock:
            labels = label_store(self.store, head=name, merge_targets=targets)
        return labels.confidence, labels.runner_up

    @property
    def modalities(self) -> list[str]:
        """Modalities of each video, such as ``"video+audio"``."""
        present = {m: self.store.present(m) for m in self.store.modalities}
        return ["+".join(m for m in present if present[m][row]) for row in range(self.store.n_videos)]
