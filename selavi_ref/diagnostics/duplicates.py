"""Find videos that are in a collection more than once: as equal files, or copies in another size or codec."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import ArrayLike, NDArray

from selavi_ref.diagnostics.file_measures import Measures
from selavi_ref.diagnostics.fingerprints import AUDIO_SIZE, VIDEO_SIZE

# Correlations of fingerprints above which two videos are the same. Copies of the demo collection at half the size and
# in other codecs have 0.96 and more for the picture, and for the sound; of its different videos, one pair in a
# thousand has 0.82 for the picture, one in a thousand 0.99 for the sound, and none both.
BOTH = 0.95  # picture and sound, each
ALONE = 0.98  # of the only one, where both videos lack the other
_DRIFT = 0.05  # fraction of their length by which copies may differ in length, and
_DRIFT_SECONDS = 0.5  # seconds added to it
_BLOCK = 2048  # videos compared with each other at once: 16 MiB of correlations
_MOST_EDGES = 1 << 20  # pairs in memory before they are reduced to those that join the groups
_READ = 1 << 20  # bytes read at once


@dataclass(frozen=True)
class Group:
    """
    Videos that are the same.

    Parameters
    ----------
    rows : tuple of int
        Rows of at least two videos, ascending.
    identical : bool
        Whether the files are equal, byte for byte.
    n_labels : int
        Number of different labels; 0 if no video has one.
    """

    rows: tuple[int, ...]
    identical: bool
    n_labels: int

    @property
    def split(self) -> bool:
        """Whether the videos have more than one label."""
        return self.n_labels > 1


def duplicates(measures: Sequence[Measures], labels: ArrayLike | None = None) -> list[Group]:
    """
    Find groups of videos that are the same or nearly so.

    Files of equal size are compared byte by byte. Two videos are nearly the same if
    their lengths and the fingerprints of both picture and sound are similar. Where both lack a sound, or
    a picture that is more than a plain colour, the other fingerprint must be more similar. Videos without fingerprints
    are in no group. Groups are connected components, so that some pairs of a group may be less similar.

    Parameters
    ----------
    measures : sequence of Measures
        Measures of N videos.
    labels : array of int, shape (N,), optional
        Labels of the videos; -1 for none.

    Returns
    -------
    list of Group
        The largest first.
    """
    N = len(measures)
    codes = np.full(N, -1, np.int64) if labels is None else np.asarray(labels, np.int64)
    same = _identical(measures)
    joined = _components(N, [*_star_edges(same), *_similar_edges(measures)])
    content = {row: number for number, rows in enumerate(same) for row in rows}
    groups = []
    for rows in _members(joined):
        contents = {content.get(row, -1 - row) for row in rows}
        groups.append(Group(tuple(rows), len(contents) == 1, len(set(codes[rows].tolist()) - {-1})))
    return sorted(groups, key=lambda group: (-len(group.rows), group.rows))


def _identical(measures: Sequence[Measures]) -> list[list[int]]:
    """Return groups of rows with equal files; a path may be listed twice."""
    by_size = defaultdict(list)
    for row, video in enumerate(measures):
        if video.bytes:
            by_size[video.bytes].append(row)
    groups = []
    for rows in by_size.values():
        by_content = defaultdict(list)
        for row in rows if len(rows) > 1 else []:
            digest = _digest(measures[row].path)
            if digest is not None:
                by_content[digest].append(row)
        groups += [same for same in by_content.values() if len(same) > 1]
    return groups


def _digest(path: str) -> bytes | None:
    """Return a digest of a file's bytes; None if it can no longer be read."""
    state = blake2b(digest_size=16)
    try:
        with open(path, "rb") as file:
            while part := file.read(_READ):
                state.update(part)
    except OSError:
        return None
    return state.digest()


def _star_edges(groups: Sequence[Sequence[int]]) -> Iterator[NDArray[np.int64]]:
    """Yield pairs that join each group, shape (2, pairs)."""
    for rows in groups:
        yield np.array([[rows[0]] * (len(rows) - 1), rows[1:]], np.int64)


def _similar_edges(measures: Sequence[Measures]) -> Iterator[NDArray[np.int64]]:
    """Yield pairs of rows with similar fingerprints, or enough of these to join their groups."""
    for picture, sound in ((True, True), (True, False), (False, True)):
        rows = [
            row
            for row, video in enumerate(measures)
            if (video.picture_print is not None, video.sound_print is not None) == (picture, sound)
        ]
        if len(rows) > 1:
            least = BOTH if picture and sound else ALONE
            yield from _similar(measures, np.array(rows), least, picture, sound)


def _similar(
    measures: Sequence[Measures], rows: NDArray[np.int64], least: float, picture: bool, sound: bool
) -> Iterator[NDArray[np.int64]]:
    """Compare videos with those of about the same length, block by block."""
    seconds = np.array([measures[row].seconds for row in rows])
    order = np.argsort(seconds, kind="stable")
    rows, seconds = rows[order], seconds[order]
    reach = np.searchsorted(seconds, seconds * (1 + _DRIFT) + _DRIFT_SECONDS, side="right")
    prints = []
    if picture:
        prints.append(_stacked([measures[row].picture_print for row in rows], VIDEO_SIZE))
    if sound:
        prints.append(_stacked([measures[row].sound_print for row in rows], AUDIO_SIZE))
    edges: list[NDArray[np.int64]] = []
    for start in range(0, len(rows), _BLOCK):
        stop = min(start + _BLOCK, len(rows))
        for other in range(start, int(reach[stop - 1]), _BLOCK):
            last = min(other + _BLOCK, len(rows))
            a, b = _similar_in_block(prints, slice(start, stop), slice(other, last), least)
            near = (a < b) & (b < reach[a])
            edges.append(np.stack([rows[a[near]], rows[b[near]]]))
        if sum(pairs.shape[1] for pairs in edges) > _MOST_EDGES:
            edges = list(_star_edges(_members(_components(len(measures), edges))))
    yield from edges


def _similar_in_block(
    prints: Sequence[NDArray[np.float32]], first: slice, second: slice, least: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs of two blocks of rows whose fingerprints all correlate by at least `least`."""
    similar = np.ones((first.stop - first.start, second.stop - second.start), bool)
    for matrix in prints:
        if similar.any():
            similar &= matrix[first] @ matrix[second].T >= least
    a, b = np.nonzero(similar)
    return a + first.start, b + second.start


def _stacked(prints: Sequence[NDArray[np.float32] | None], size: int) -> NDArray[np.float32]:
    return np.stack([np.zeros(size, np.float32) if each is None else each for each in prints])


def _components(N: int, edges: Sequence[NDArray[np.int64]]) -> NDArray[np.int32]:
    """Return the connected component of each of N rows."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    a, b = np.concatenate([np.empty((2, 0), np.int64), *edges], axis=1)
    graph = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(N, N))
    return np.asarray(connected_components(graph, directed=False)[1], np.int32)


def _members(groups: NDArray[np.int32]) -> list[list[int]]:
    """Return the rows of each group of at least two."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    return [rows.tolist() for rows in np.split(order, starts[1:]) if len(rows) > 1]
