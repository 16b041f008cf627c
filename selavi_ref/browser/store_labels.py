"""The labellings of a feature store."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selavi_ref.browser.labelling import CONSENSUS, Labelling, keep_labelling, read_labelling, state_of
from selavi_ref.browser.posterior_index import PosteriorIndex, typicality
from selavi_ref.ensemble.labels import label_store
from selavi_ref.errors import StoreError, printable
from selavi_ref.report.embedding import sources
from selavi_ref.store import FeatureStore


class StoredLabels:
    """
    Labels by log-probabilities, worked out when they are asked for, and kept until the store changes.

    Parameters
    ----------
    path : Path
        The store, which stays open.
    folder : Path
        Where labels are kept.

    Raises
    ------
    StoreError
        If the store cannot be opened, or has nothing to label by.
    """

    def __init__(self, path: Path, folder: Path):
        self._path, self._folder = path, folder
        self._state = state_of(path) if path.exists() else []  # before it is opened: it may be replaced meanwhile
        self.store = FeatureStore(path)
        heads = self.store.heads
        if not heads:
            raise StoreError(f"{printable(path)} holds no log-probabilities, so there are no labels to show")
        if CONSENSUS in heads:
            raise StoreError(f"{printable(path)}: no head can be called {CONSENSUS}, which is all of them together")
        self.titles = {CONSENSUS: f"consensus of {len(heads)} heads" if len(heads) > 1 else "the only head"}
        self.titles |= {name: f"head {name}" for name in heads}
        self.clusters = self.store.n_clusters
        source, names = sources(self.store, ExitStack())  # of heads on features, the store that they have learnt from
        self._features = source if names[0].startswith("features/") else self.store
        self.opinions = PosteriorIndex(self.store, self._features)

    def make(self, name: str) -> Labelling:
        """Return a labelling as it was learnt."""
        kept = self._folder / f"labelling-{list(self.titles).index(name)}.npz"
        found = read_labelling(kept, self._state, name, self.titles[name])
        if found is None:
            with self.opinions.lock:
                made = label_store(self.store, head=name)
                order = typicality(self._features, made.label, made.confidence)
            found = Labelling(
                name=name,
                title=self.titles[name],
                clusters=self.clusters,
                label=made.label,
                runner_up=made.runner_up,
                confidence=made.confidence,
                entropy=made.entropy,
                order=order,
                heads=made.heads,
            )
            keep_labelling(found, kept, self._state)
        return found

    def joined(self, name: str, joined: NDArray[np.int32]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Return confidence and runner-up of each video when clusters are joined."""
        with self.opinions.lock:
            found = label_store(self.store, head=name, joined=joined)
        return found.confidence, found.runner_up

    @property
    def modalities(self) -> list[str]:
        """What the label of each video rests on."""
        present = {m: self.store.present(m) for m in self.store.modalities}
        return ["+".join(m for m in present if present[m][row]) for row in range(self.store.n_videos)]
