"""Videos that are in a collection more than once: as the same file, or as a copy in another size, codec or quality."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import ArrayLike, NDArray

from selavi_ref.diagnostics.file_measures import Measures
from selavi_ref.diagnostics.fingerprints import AUDIO_SIZE, VIDEO_SIZE

# Correlations of prints above which two videos are the same. Copies of the demo collection at half the size and other
# codecs have 0.96 and more for the picture, and for the sound; of its different videos, one pair in a thousand has 0.82
# for the picture, one in a thousand 0.99 for the sound, and none both.
BOTH = 0.95  # picture and sound, each
ALONE = 0.98  # the one that there is, where both videos lack the other
_DRIFT = 0.05  # share of their length, and
_DRIFT_SECONDS = 0.5  # seconds, by which copies may differ in length
_BLOCK = 2048  # videos compared with each other at once: 16 MiB of correlations
_MOST_EDGES = 1 << 20  # pairs that are kept before they are brought down to what joins the groups
_READ = 1 << 20  # bytes read at once


@dataclass(frozen=True)
class Group:
    """
    Videos that are the same.

    Parameters
    ----------
    rows : tuple of int
        Rows of the videos, ascending, at least two.
    identical : bool
        Whether the files are the same, byte for byte.
    n_labels : int
        How many different labels they have; 1 where all agree, 0 where none has one.
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

    Two files are the same if their bytes are (files of equal size are read for that). Two videos are nearly the same if
    their lengths are, and the prints of their pictures and of their sounds are both alike; where both lack a sound, or
    a picture that is more than a plain colour, the other alone must be alike more closely. Videos without any print are
    like no other. Groups are what such pairs join, so that their first and last may be less alike.

    Parameters
    ----------
    measures : sequence of Measures
        Of N videos.
    labels : array of int, shape (N,), optional
        Of the videos; -1 for none.

    Returns
    -------
    list of Group
        The largest first.
    """
    N = len(measures)
    codes = np.full(N, -1, np.int64) if labels is None else np.asarray(labels, np.int64)
    same = _identical(measures)
    joined = _components(N, [*_star_edges(same), *_alike_edges(measures)])
    content = {row: number for number, rows in enumerate(same) for row in rows}
    groups = []
    for rows in _members(joined):
        contents = {content.get(row, -1 - row) for row in rows}
        groups.append(Group(tuple(rows), len(contents) == 1, len(set(codes[rows].tolist()) - {-1})))
    return sorted(groups, key=lambda group: (-len(group.rows), group.rows))


def _identical(measures: Sequence[Measures]) -> list[list[int]]:
    """Return groups of rows whose files hold the same bytes; a path that is listed twice is the same file."""
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


def _alike_edges(measures: Sequence[Measures]) -> Iterator[NDArray[np.int64]]:
    """Yield pairs of rows whose videos look and sound alike, or enough of these to join their groups."""
    for picture, sound in ((True, True), (True, False), (False, True)):
        rows = [
            row
            for row, video in enumerate(measures)
            if (video.picture_print is not None, video.sound_print is not None) == (picture, sound)
        ]
        if len(rows) > 1:
            least = BOTH if picture and sound else ALONE
            yield from _alike(measures, np.array(rows), least, picture, sound)


def _alike(
    measures: Sequence[Measures], rows: NDArray[np.int64], least: float, picture: bool, sound: bool
) -> Iterator[NDArray[np.int64]]:
    """Compare videos with those that are hardly longer, block by block."""
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
            a, b = _alike_in_block(prints, slice(start, stop), slice(other, last), least)
            near = (a < b) & (b < reach[a])
            edges.append(np.stack([rows[a[near]], rows[b[near]]]))
        if sum(pairs.shape[1] for pairs in edges) > _MOST_EDGES:
            edges = list(_star_edges(_members(_components(len(measures), edges))))
    yield from edges


def _alike_in_block(
    prints: Sequence[NDArray[np.float32]], first: slice, second: slice, least: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs of two blocks of rows in all of whose prints they correlate by `least`."""
    alike = np.ones((first.stop - first.start, second.stop - second.start), bool)
    for matrix in prints:
        if alike.any():
            alike &= matrix[first] @ matrix[second].T >= least
    a, b = np.nonzero(alike)
    return a + first.start, b + second.start


def _stacked(prints: Sequence[NDArray[np.float32] | None], size: int) -> NDArray[np.float32]:
    return np.stack([np.zeros(size, np.float32) if one is None else one for one in prints])


def _components(N: int, edges: Sequence[NDArray[np.int64]]) -> NDArray[np.int32]:
    """Return for each of N rows the number of the group that the pairs join it to."""
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
