"""What has changed in a collection: files that are new, changed, moved, copied or gone, by their content."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from selavi_ref.datasets.contents import (
    Content,
    quick_digest,
    same_content,
    stamp_of,
    with_digests,
    with_whole_digest,
)


@dataclass(frozen=True)
class Changes:
    """
    How the files of a collection differ from those that were known before.

    Parameters
    ----------
    unchanged
        Known files whose content is the same.
    new
        Files of unknown content at unknown paths, or in the place of files that were moved.
    changed
        Known paths that now have a content that was not known.
    moved
        Path of a file -> the known path at which its content was before, and is no longer.
    copied
        Path of a further file -> the path at which a file of the same content is.
    gone
        Known paths that have no file any more, and whose content was not found elsewhere.
    overwritten
        Known paths that now have the content of another known path, which was moved there.
    contents
        Of all files of the collection as they are now, and of those that are gone as they were, by path.
    """

    unchanged: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    moved: dict[str, str] = field(default_factory=dict)
    copied: dict[str, str] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    overwritten: list[str] = field(default_factory=list)
    contents: dict[str, Content] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """Number of files of each kind."""
        gone = len(self.gone) + len(self.overwritten)
        kinds = {name: len(getattr(self, name)) for name in ("new", "changed", "moved", "copied")}
        return kinds | {"gone": gone, "unchanged": len(self.unchanged)}

    @property
    def any(self) -> bool:
        """Whether anything has changed, but for files that are gone, which stay in the tables."""
        return bool(self.new or self.changed or self.moved or self.copied or self.overwritten)


def find_changes(
    known: Mapping[str, Content],
    paths: Sequence[str],
    *,
    workers: int = 1,
    progress: Callable[[int], object] | None = None,
) -> Changes:
    """
    Compare the files of a collection with those that are known.

    A file whose size and time of change are as before is not read. Others are compared by digests of their content (see
    `selavi_ref.datasets.contents`), so that neither a new name nor a new time makes a video new.

    Parameters
    ----------
    known
        Known files by absolute path, with the digest that they had, if it was computed.
    paths
        Absolute paths of the files that there are now. Known files that lie elsewhere are looked for, too.
    workers
        Files that are read at the same time.
    progress
        Called with 1 after each of ``len(known)`` and each further file.
    """
    intact: list[Content] = []
    displaced: list[Content] = []  # known contents that are no longer at their path
    arrivals = [Content(path, stamp_of(path)) for path in dict.fromkeys(paths) if path not in known]
    for path, content in known.items():
        stamp = stamp_of(path)
        if stamp and stamp == content.stamp:
            intact.append(content)
        elif stamp and content.digest and same_content(content, now := _looked_at(path, stamp, content)):
            intact.append(Content(path, stamp, content.digest if content.whole else now.digest))
        else:
            displaced.append(content)
            if stamp:
                arrivals.append(Content(path, stamp))
    arrivals = [content for content in arrivals if content.stamp]
    contents = {c.path: c for c in with_digests([*intact, *arrivals], workers, progress)}
    arrivals = [contents[content.path] for content in arrivals]
    moved = _matched(arrivals, displaced, contents)
    rest = [content for content in arrivals if content.path not in moved]
    originals = [contents[content.path] for content in intact] + [contents[path] for path in moved]
    came_from = set(moved.values())
    unknown = [content for content in rest if content.path not in known or content.path in came_from]
    copied = _copies(unknown, originals, contents)
    lost = [content for content in displaced if content.path not in came_from]
    gone = [content for content in lost if not stamp_of(content.path)]
    return Changes(
        unchanged=[content.path for content in intact],
        new=[content.path for content in unknown if content.path not in copied],
        changed=[content.path for content in rest if content.path in known and content.path not in came_from],
        moved=moved,
        copied=copied,
        gone=[content.path for content in gone],
        overwritten=[content.path for content in lost if content.path in moved],
        contents=contents | {content.path: content for content in gone},
    )


def _looked_at(path: str, stamp: str, before: Content) -> Content:
    """Return digests of a file as it is now; of all its bytes, if those were digested before."""
    now = Content(path, stamp, quick_digest(path))
    return with_whole_digest(now) if before.whole else now


def _matched(arrivals: Iterable[Content], displaced: Sequence[Content], contents: dict[str, Content]) -> dict[str, str]:
    """Match contents that have arrived with those that have left their path, each once: those of one name first."""
    by_key: dict[str, list[Content]] = defaultdict(list)
    for content in displaced:
        by_key[content.quick or content.stamp].append(content)
    pairs = []
    for arrival in arrivals:
        for content in [*by_key.get(arrival.quick, ()), *by_key.get(arrival.stamp, ())]:
            if content.path != arrival.path and _is_same(arrival, content, contents):
                other_name = os.path.basename(content.path) != os.path.basename(arrival.path)
                pairs.append((other_name, arrival.path, content.path))
    moved: dict[str, str] = {}
    taken: set[str] = set()
    for _, path, before in sorted(pairs):
        if path not in moved and before not in taken:
            moved[path] = before
            taken.add(before)
    return moved


def _copies(arrivals: Sequence[Content], originals: Sequence[Content], contents: dict[str, Content]) -> dict[str, str]:
    """Return for each arrival that repeats an original, or an earlier arrival, the path of that one."""
    by_quick: dict[str, list[Content]] = defaultdict(list)
    for content in originals:
        if content.quick:
            by_quick[content.quick].append(content)
    copied: dict[str, str] = {}
    for arrival in arrivals:
        if not arrival.quick:
            continue
        same = (content.path for content in by_quick[arrival.quick] if _is_same(arrival, content, contents))
        original = next(same, None)
        if original is None:
            by_quick[arrival.quick].append(arrival)
        else:
            copied[arrival.path] = original
    return copied


def _is_same(arrival: Content, other: Content, contents: dict[str, Content]) -> bool:
    """Compare two contents; whole files are read where the other one was, or still can be."""
    if not same_content(arrival, other):
        return False
    if not arrival.digest or not other.digest:
        return True
    here = contents.get(other.path)
    if here is not None and here.stamp == other.stamp:  # it can still be read
        other = contents[other.path] = with_whole_digest(here)
    if other.whole:
        arrival = contents[arrival.path] = with_whole_digest(contents[arrival.path])
    return same_content(arrival, other)
