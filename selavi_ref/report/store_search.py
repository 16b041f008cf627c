"""Nearest videos of a store to other videos: an exact pass over its memory-mapped blocks, shared by threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.compiler import n_threads
from selavi_ref.errors import FilePath
from selavi_ref.store import FeatureStore
from selavi_ref.store.joint_log_prob import labelling_modalities
from selavi_ref.store.mapped_blocks import Views

_SCORE_BYTES = 16 << 20  # of the scores that a thread holds before it keeps the best of them

Nearest = tuple[NDArray[np.int64], NDArray[np.float32]]
Vectors = NDArray[Any]


class SearchedStore(FeatureStore):
    """A store that is searched many times: its blocks stay mapped, and their checksums are checked once."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._views: dict[str, Views] = {}
        super().__init__(*arguments, **options)

    def views(self, name: str) -> Views:
        """Return the blocks of a data set, those of the call before; see `FeatureStore.views`."""
        if name not in self._views:
            self._views[name] = super().views(name)
        return self._views[name]


class SearchedStores:
    """
    Stores that are searched again and again: each stays open until its file is replaced.

    For one thread at a time.
    """

    def __init__(self) -> None:
        self._open: dict[Path, tuple[tuple[int, ...], SearchedStore]] = {}

    def __getitem__(self, path: FilePath) -> SearchedStore:
        key, written = Path(path), _version(path)
        before, store = self._open.pop(key, (None, None))
        if store is not None and before != written:
            store.close()
            store = None
        store = store or SearchedStore(path)
        self._open[key] = written, store
        return store

    def close(self) -> None:
        """Close all of them."""
        while self._open:
            self._open.popitem()[1][1].close()


def _version(path: FilePath) -> tuple[int, ...]:
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns


def nearest_by_features(store: FeatureStore, name: str, queries: Vectors, n: int, metric: str = "euclidean") -> Nearest:
    """
    Return the n videos of a store that are nearest to each query by the features of one space.

    Parameters
    ----------
    store : FeatureStore
        Videos to search; about a MiB of them is copied at a time.
    name : str
        The feature space.
    queries : float array of shape (Q, D)
        Finite features of the queries.
    n : int
        Number of videos.
    metric : {"euclidean", "cosine"}
        Distance; of cosine, 1 minus the cosine, which is 0 for a vector of zeros with any other.

    Returns
    -------
    rows : int64 array of shape (Q, n)
        Row numbers, the nearest first, equal ones by number; -1 where there are fewer.
    distances : float32 array of shape (Q, n)
        Exact distances; infinite where there are fewer.
    """
    views, present = store.views(f"features/{name}"), store.present(name)
    queries = np.asarray(queries, np.float32)
    origin = np.zeros_like(queries[0]) if metric == "cosine" else queries.mean(0)
    asked = _directions(queries) if metric == "cosine" else queries - origin

    def score(block: int) -> tuple[slice, Vectors]:
        rows, values = views[block]
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            vectors = values if metric == "cosine" else values - origin
            squares = np.einsum("nd,nd->n", vectors, vectors)
            scores = asked @ vectors.T
            if metric == "cosine":
                scores /= np.sqrt(np.where(squares > 0, squares, 1))
            else:
                scores -= squares / 2
        scores[:, ~(present[rows] & np.isfinite(squares))] = -np.inf
        return rows, scores

    # Exact distances of a few more candidates correct the rounding errors of the scores.
    rows, _ = _largest(score, len(views), len(queries), min(4 * n + 8, store.n_videos))
    candidates = np.unique(rows[rows >= 0])
    vectors = _rows_of(views, candidates, queries.shape[1])
    distances = np.full(rows.shape, np.inf)
    for query, (numbers, far) in enumerate(zip(rows, distances, strict=True)):
        known = numbers >= 0
        found = vectors[np.searchsorted(candidates, numbers[known])]
        own = queries[query].astype(np.float64)
        if metric == "cosine":
            far[known] = np.maximum(0, 1 - _directions(found) @ _directions(own[None])[0])
        else:
            far[known] = np.linalg.norm(found - own, axis=1)
    order = np.lexsort((rows, distances))[:, :n]
    return np.take_along_axis(rows, order, 1), np.take_along_axis(distances, order, 1).astype(np.float32)


def nearest_by_posteriors(store: FeatureStore, heads: Sequence[str], queries: Vectors, n: int) -> Nearest:
    """
    Return the n videos of a store whose posteriors overlap most with those of each query.

    Parameters
    ----------
    store : FeatureStore
        Videos to search, with log-probabilities.
    heads : sequence of str
        Heads to compare; a video counts if each has a posterior.
    queries : float32 array of shape (Q, H * K)
        Square roots of the posteriors of the H heads, one after the other.
    n : int
        Number of videos.

    Returns
    -------
    rows, distances : array
        As of `nearest_by_features`; the distance is 1 minus the mean of Bhattacharyya's coefficients of the heads.
    """
    K = store.n_clusters
    present = {m: store.present(m) for m in store.modalities}
    of_heads = [[(m, store.views(f"log_prob/{m}/{head}")) for m in labelling_modalities(store, head)] for head in heads]
    first = of_heads[0][0][1]

    def score(block: int) -> tuple[slice, Vectors]:
        rows = first.slices[block]
        scores, usable = np.zeros((len(queries), rows.stop - rows.start), np.float32), True
        for number, (head, by_modality) in enumerate(zip(heads, of_heads, strict=True)):
            heard = np.zeros(rows.stop - rows.start, bool)
            total: Vectors = np.zeros((len(heard), K), np.float32)
            for m, views in by_modality:
                same = views.slices[block : block + 1] == [rows]
                values = views[block][1] if same else store.log_prob(m, head, rows)
                here = present[m][rows]
                total = total + (values if here.all() else np.where(here[:, None], values, np.float32(0)))
                heard |= here
            roots = np.exp((total - total.max(1, keepdims=True)) / 2)
            lengths = np.sqrt(np.einsum("nk,nk->n", roots, roots))
            scores += (queries[:, number * K : (number + 1) * K] @ roots.T) / lengths
            usable &= heard & np.isfinite(lengths)
        scores[:, ~usable] = -np.inf
        return rows, scores / np.float32(len(heads))

    rows, scores = _largest(score, len(first), len(queries), min(n, store.n_videos))
    order = np.lexsort((rows, -scores))
    rows, scores = np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1)
    return rows, np.where(rows >= 0, np.maximum(0, 1 - scores), np.inf).astype(np.float32)


def _largest(
    score: Callable[[int], tuple[slice, Vectors]], n_blocks: int, n_queries: int, n: int
) -> tuple[NDArray[np.int64], Vectors]:
    """Return rows and scores of the n largest scores of each query, unordered; -1 and minus infinity if fewer."""
    threads = max(1, min(n_threads(), n_blocks))
    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(partial(_largest_of_part, score, n_queries, n), _parts(n_blocks, threads)))
    return _best(np.concatenate([rows for rows, _ in parts], 1), np.concatenate([one for _, one in parts], 1), n)


def _parts(n: int, parts: int) -> list[range]:
    return [range(n * part // parts, n * (part + 1) // parts) for part in range(parts)]


def _largest_of_part(
    score: Callable[[int], tuple[slice, Vectors]], n_queries: int, n: int, blocks: range
) -> tuple[NDArray[np.int64], Vectors]:
    rows: list[NDArray[np.int64]] = [np.full((n_queries, n), -1, np.int64)]
    scores: list[Vectors] = [np.full((n_queries, n), -np.inf, np.float32)]
    held = 0
    for block in blocks:
        where, values = score(block)
        rows.append(np.broadcast_to(np.arange(where.start, where.stop), values.shape))
        scores.append(values)
        held += values.nbytes
        if held > _SCORE_BYTES:
            best = _best(np.concatenate(rows, 1), np.concatenate(scores, 1), n)
            rows, scores, held = [best[0]], [best[1]], 0
    return _best(np.concatenate(rows, 1), np.concatenate(scores, 1), n)


def _best(rows: NDArray[np.int64], scores: Vectors, n: int) -> tuple[NDArray[np.int64], Vectors]:
    """Return the n largest scores of each query and their rows; -1 for those of minus infinity."""
    chosen = np.argpartition(-scores, n - 1, axis=1)[:, :n] if n < scores.shape[1] else np.argsort(-scores, axis=1)
    best = np.take_along_axis(scores, chosen, 1)
    return np.where(np.isneginf(best), -1, np.take_along_axis(rows, chosen, 1)), best


def _rows_of(views: Views, numbers: NDArray[np.int64], width: int) -> NDArray[np.float64]:
    """Return rows of a data set, given in ascending order."""
    found = np.empty((len(numbers), width))
    for block, rows in enumerate(views.slices):
        lo, hi = np.searchsorted(numbers, (rows.start, rows.stop))
        if lo < hi:
            found[lo:hi] = views[block][1][numbers[lo:hi] - rows.start]
    return found


def _directions(vectors: Vectors) -> Vectors:
    """Return the vectors scaled to length 1; zero vectors stay as they are."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)
