"""A map of all videos of a store: places in two dimensions, where videos with like features lie together.

``python -m selavi_ref.report.embedding STORE OUT.npz`` makes one in a process of its own, and prints how far it is,
from 0 to 1, a number a line.
"""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import SelaviError, StoreError, printable
from selavi_ref.install_hints import missing_package
from selavi_ref.runs.atomic import replacing
from selavi_ref.runs.cores import usable_cores
from selavi_ref.runs.provenance import Provenance
from selavi_ref.store import FeatureStore
from selavi_ref.store.layout import modality_of

METHOD = 1  # to be raised when places change, so that those kept are made anew
_PERPLEXITY = 30
_FEW = 10  # videos from which on neighbours say more than the two largest components
_FEW_FOR_THREADS = 4000
_COMPONENTS = 50
_PASSES = 4  # over the store, for the components
_QUERIES = 4096  # whose neighbours are looked for at a time
_STEPS_BETWEEN = 25
_READ, _FOUND = 0.1, 0.4  # shares of the time after reading, and after finding neighbours
_LEAST = -20.0  # log-probability; how small smaller ones are says nothing
_FLAT = 1e-6  # of the features' magnitude: a smaller distance from the mean is rounding

Progress = Callable[[float], None]


@dataclass(frozen=True)
class SavedEmbedding:
    """
    The place of each video on a map, and how the map was made.

    Parameters
    ----------
    xy : array
        Place of each video, float32, shape (N, 2); NaN where it has none.
    words : str
        How it was made.
    """

    xy: NDArray[np.float32]
    words: str


def embed(
    store: FeatureStore,
    *,
    by: Sequence[str] | None = None,
    rng: np.random.Generator,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """
    Give every video a place in two dimensions, so that neighbours by features are neighbours there.

    Each modality's features are centred and brought to length 1 in every video, so that none outweighs another; their
    50 largest principal components are laid out by t-SNE with 30 effective neighbours, which are found exactly. The
    features take one block of memory at a time, the rest some 10 kB a video; finding neighbours takes time by the
    square of N. Fewer than 10 videos lie where their two largest components are.

    Parameters
    ----------
    store : FeatureStore
        With N videos.
    by : sequence of str, optional
        Data sets to go by, such as ``["features/video"]``; by default as `sources` says.
    rng : numpy.random.Generator
        For what is random; the same state gives the same places on the same machine.
    progress : callable, optional
        Called with the share that is done, from 0 to 1.

    Returns
    -------
    array
        float32, shape (N, 2); NaN for a video that has no features.

    Raises
    ------
    StoreError
        If the store has neither features nor log-probabilities, or not those asked for.

    References
    ----------
    van der Maaten and Hinton, JMLR 9 (2008); Linderman et al., Nature Methods 16 (2019), for many videos; Kobak and
    Berens, Nature Communications 10 (2019), for where it begins.
    """
    return _embedded(store, by, rng, progress or (lambda share: None)).xy


def sources(store: FeatureStore, stack: ExitStack) -> tuple[FeatureStore, list[str]]:
    """
    Return the store and its data sets that a map is made of.

    They are all features; of a store without features, those of the store that its log-probabilities were computed
    from, if that is still there; or else the log-probabilities of all heads.

    Parameters
    ----------
    store : FeatureStore
        That is to be shown.
    stack : ExitStack
        Closes what had to be opened.

    Raises
    ------
    StoreError
        If there are neither.
    """
    if names := _named(store, "features/"):
        return store, names
    if (source := Provenance.of(store).store) is not None:
        with suppress(StoreError, OSError):
            opened = stack.enter_context(FeatureStore(source))
            if opened.paths == store.paths and (names := _named(opened, "features/")):
                return opened, names
    if names := _named(store, "log_prob/"):
        return store, names
    message = f"{printable(store.path)} has neither features nor log-probabilities, so there is nothing to map"
    raise StoreError(message, path=store.path)


def saved_embedding(store: str | os.PathLike[str], folder: str | os.PathLike[str]) -> SavedEmbedding | None:
    """Return the saved map of a store in a folder; None if there is none, or if the store has changed."""
    try:
        with np.load(embedding_file(folder), allow_pickle=False) as file:
            if file["key"].tolist() == _key(store):
                return SavedEmbedding(file["xy"], str(file["words"]))
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        pass
    return None


def cached_embedding(
    store: str | os.PathLike[str], folder: str | os.PathLike[str], progress: Progress | None = None
) -> SavedEmbedding:
    """
    Return the map of a store that is kept in a folder, or make it and keep it there, if the folder can be written.

    Raises
    ------
    StoreError
        As `embed`, or if the store cannot be read.
    """
    kept = saved_embedding(store, folder)
    if kept is None:
        kept, key = _made(store, progress)
        with suppress(SelaviError, OSError):
            Path(folder).mkdir(parents=True, exist_ok=True)
            _save(kept, key, embedding_file(folder))
    return kept


def embedding_file(folder: str | os.PathLike[str]) -> Path:
    """Return where the map of a store is kept in a folder."""
    return Path(folder) / "embedding.npz"


def main(arguments: Sequence[str]) -> int:
    """Make a map of the store named first, write it to the file named second, and return the exit status."""
    if len(arguments) != 2:
        print("usage: python -m selavi_ref.report.embedding STORE OUT.npz", file=sys.stderr)
        return 2
    with suppress(AttributeError, OSError):
        os.nice(10)  # whoever waits for it has something else to do
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read by the layout's library: waiting takes no processor
    try:
        saved, key = _made(arguments[0], lambda share: print(f"{share:.3f}", flush=True))
        _save(saved, key, Path(arguments[1]))
    except SelaviError as error:
        print(str(error).replace("\n", " "), file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(missing_package(error.name), file=sys.stderr)
        return 2
    return 0


def _made(store: str | os.PathLike[str], progress: Progress | None) -> tuple[SavedEmbedding, list[int]]:
    """Return a map, and the key of the store before it was read."""
    key = _key(store) if os.path.exists(store) else []
    with FeatureStore(store) as opened:
        return _embedded(opened, None, np.random.default_rng(0), progress or (lambda share: None)), key


def _save(saved: SavedEmbedding, key: Sequence[int], path: Path) -> None:
    with replacing(path) as file:
        np.savez_compressed(file, xy=saved.xy, words=np.array(saved.words), key=np.array(key, np.int64))


def _key(store: str | os.PathLike[str]) -> list[int]:
    state = os.stat(store)
    return [METHOD, state.st_size, state.st_mtime_ns]


def _embedded(
    store: FeatureStore, by: Sequence[str] | None, rng: np.random.Generator, on_progress: Progress
) -> SavedEmbedding:
    """Compute the map of `embed`, and a description of how it was made."""
    with ExitStack() as stack:
        source, names = sources(store, stack)
        names = names if by is None else list(by)
        vectors, known = _components(_Parts(source, names), rng, lambda share: on_progress(_READ * share))
        modalities = [m for m in source.modalities if any(modality_of(name) == m for name in names)]
    what = "features" if any(name.startswith("features/") for name in names) else "log-probabilities"
    places = np.full((store.n_videos, 2), np.nan, np.float32)
    if len(vectors) < _FEW:
        how = "two principal components"
        places[known] = vectors[:, :2]
    else:
        how = f"t-SNE, perplexity {_perplexity(len(vectors)):.3g}"
        places[known] = _lay_out(vectors, rng, lambda share: on_progress(_READ + (1 - _READ) * share))
    on_progress(1.0)
    return SavedEmbedding(places, f"{what} of {' and '.join(map(printable, modalities))}; {how}")


def _named(store: FeatureStore, start: str) -> list[str]:
    return [name for name in store.names if name.startswith(start)]


class _Parts:
    """
    Some data sets of a store as one vector for each video, read in blocks.

    Parameters
    ----------
    store : FeatureStore
        The store.
    names : list of str
        The data sets.
    """

    def __init__(self, store: FeatureStore, names: Sequence[str]):
        self._store, self._names = store, list(names)
        self.n_videos = store.n_videos
        self.width = sum(store.width(name) for name in self._names)
        self._known = {name: np.zeros(self.n_videos, bool) for name in self._names}
        self._mean: dict[str, NDArray[np.float64]] = {}
        self._flat: dict[str, float] = {}
        for name in self._names:
            self._measure(name)

    @property
    def known(self) -> NDArray[np.bool_]:
        """Videos that have any of the data sets, shape (N,)."""
        return np.logical_or.reduce(list(self._known.values()))

    def blocks(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """
        Yield blocks of rows, and their vectors: each part centred and at length 1, the whole at length 1.

        Where a video lacks a part, the others are lengthened, so that distances stay comparable.
        """
        for rows in self._store.blocks():
            parts, count = [], np.zeros(rows.stop - rows.start)
            for name in self._names:
                values = self._read(name, rows) - self._mean[name]
                known = self._known[name][rows]
                values[~known] = 0
                length = np.sqrt(np.einsum("ij,ij->i", values, values))[:, None]
                parts.append(np.where(length > self._flat[name], values / np.maximum(length, 1e-300), 0))
                count += known
            whole = np.concatenate(parts, axis=1) / np.sqrt(np.maximum(count, 1))[:, None]
            yield rows, whole.astype(np.float32)

    def _measure(self, name: str) -> None:
        """Find out which videos have a part, its mean, and its magnitude."""
        total, squares = np.zeros(self._store.width(name)), 0.0
        for rows in self._store.blocks():
            values = self._read(name, rows)
            known = np.isfinite(values).all(1)
            self._known[name][rows] = known
            total += values[known].sum(0)
            squares += float(np.square(values[known]).sum())
        count = max(1, int(self._known[name].sum()))
        self._mean[name] = total / count
        self._flat[name] = _FLAT * float(np.sqrt(squares / count))

    def _read(self, name: str, rows: slice) -> NDArray[np.float64]:
        values = self._store.get(name, rows).astype(np.float64)
        if name.startswith("log_prob/"):
            np.maximum(values, _LEAST, out=values)  # NaN stays
        return values


def _components(
    parts: _Parts, rng: np.random.Generator, on_progress: Progress
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """
    Return the largest principal components of the videos that have features, and which videos these are.

    They are found by powers of the covariance applied to a random subspace (Halko, Martinsson and Tropp, SIAM Review
    53, 2011), which needs no matrix of width by width. The first component varies most.
    """
    known = parts.known
    n_components = min(_COMPONENTS, parts.width)
    basis = np.linalg.qr(rng.standard_normal((parts.width, min(parts.width, n_components + 10))))[0]
    for turn in range(_PASSES):
        turned = np.zeros_like(basis)
        for _, block in parts.blocks():
            turned += block.T @ (block @ basis.astype(np.float32))
        # Nothing but zeros gives a basis as well, as it must.
        basis = np.linalg.qr(turned + 1e-30 * basis)[0]
        on_progress((turn + 1) / (_PASSES + 1))
    vectors = np.zeros((parts.n_videos, basis.shape[1]), np.float32)
    for rows, block in parts.blocks():
        vectors[rows] = block @ basis.astype(np.float32)
    vectors = vectors[known]
    if not len(vectors):
        return np.zeros((0, 2), np.float32), known
    vectors -= vectors.mean(0)
    _, directions = np.linalg.eigh(vectors.T.astype(np.float64) @ vectors)
    vectors = vectors @ directions[:, ::-1][:, :n_components].astype(np.float32)
    return np.pad(vectors, ((0, 0), (0, max(0, 2 - vectors.shape[1])))), known


def _lay_out(vectors: NDArray[np.float32], rng: np.random.Generator, on_progress: Progress) -> NDArray[np.float64]:
    """Lay vectors out by t-SNE, beginning with the first two components."""
    import openTSNE
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    perplexity = _perplexity(len(vectors))
    share_of_search = _FOUND - _READ
    indices, distances = _neighbours(vectors, int(3 * perplexity), lambda share: on_progress(share_of_search * share))
    threads = _threads(len(vectors))
    affinities = PerplexityBasedNN(
        perplexity=perplexity, knn_index=PrecomputedNeighbors(indices, distances), n_jobs=threads
    )
    del indices, distances
    spread = float(vectors[:, 0].std()) or 1.0
    # Without the noise, equal vectors could never part, and those in one line never leave it.
    begin = vectors[:, :2].astype(np.float64) / spread * 1e-4 + rng.normal(scale=1e-6, size=(len(vectors), 2))
    steps = _Steps(lambda share: on_progress(share_of_search + (1 - share_of_search) * share))
    layout = openTSNE.TSNE(
        n_jobs=threads,
        callbacks=[steps],
        callbacks_every_iters=_STEPS_BETWEEN,
        random_state=int(rng.integers(2**31)),
    )
    return np.asarray(layout.fit(affinities=affinities, initialization=begin), np.float64)


def _threads(n: int) -> int:
    """Return how many threads lay out n videos; those of few would wait for each other longer than they work."""
    if n < _FEW_FOR_THREADS:
        return 1
    return usable_cores()


def _perplexity(n: int) -> float:
    return min(_PERPLEXITY, (n - 1) / 3)


class _Steps:
    """Callback of the t-SNE layout, which reports the finished fraction of its 250 and 500 steps."""

    def __init__(self, on_progress: Progress):
        self._on_progress, self._calls = on_progress, 0

    def __call__(self, step: int, error: float, places: Any) -> None:
        self._calls += 1
        self._on_progress(min(1.0, self._calls * _STEPS_BETWEEN / 750))


def _neighbours(
    vectors: NDArray[np.float32], k: int, on_progress: Progress
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return the k nearest others of each vector, int32 (N, k), and their distances, nearest first."""
    from selavi_ref.metrics import nearest

    N = len(vectors)
    indices, distances = np.empty((N, k), np.int32), np.empty((N, k))
    for start in range(0, N, _QUERIES):
        rows = np.arange(start, min(start + _QUERIES, N))
        nearest_rows, apart = nearest(vectors[rows], vectors, k + 1)
        others = nearest_rows != rows[:, None]
        others[others.all(1), -1] = False  # among many equal ones a vector may not have found itself
        indices[rows] = nearest_rows[others].reshape(len(rows), k)
        distances[rows] = apart[others].reshape(len(rows), k)
        on_progress(rows[-1] / N)
    return indices, distances


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
