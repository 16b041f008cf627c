"""Where a command's clips come from: decoded when needed, kept in memory, or taken from a cache."""

from __future__ import annotations

import os
from dataclasses import dataclass

from backbones.clips import ClipSource, StoredClips, StreamedClips, stored_format, time_limit
from backbones.degrade import Degradation
from backbones.processes import local_size
from backbones.settings import BackboneSettings
from selavi_ref.exchange import Alone, Exchange, agreed, share
from selavi_ref.media import Manifest
from selavi_ref.media.cache import ClipCache
from selavi_ref.report.progress import counter


@dataclass(frozen=True)
class Loading:
    """
    Where clips come from: it changes how fast a run is, but hardly what it learns.

    In memory and in a raw cache are the same pictures; JPEG rounds them, and clips read from their files begin between
    the frames that would be kept.

    Parameters
    ----------
    workers : int, optional
        Processes (or threads) that decode, beside each process of the run; by default as many as there are processors
        for each.
    memory_gb : float
        Videos are kept decoded in memory when they fit in so many gigabytes, and streamed from their files otherwise.
        Processes of a run on one machine share this.
    cache : str, optional
        Folder in which decoded videos are kept for this and later runs; they are read from there, whatever their size.
    jpeg : bool
        Whether pictures in the cache are packed.
    """

    workers: int | None = None
    memory_gb: float = 0.0
    cache: str | None = None
    jpeg: bool = True

    @property
    def n_workers(self) -> int:
        """Number of workers."""
        return max(1, (os.cpu_count() or 1) // local_size()) if self.workers is None else self.workers


def open_source(
    manifest: Manifest,
    settings: BackboneSettings,
    loading: Loading,
    degradation: Degradation = Degradation(),  # noqa: B008
    exchange: Exchange = Alone(),  # noqa: B008
) -> ClipSource:
    """
    Return the clips of a collection: kept in memory if they fit, from a cache, or decoded when needed.

    With several processes, each fills its part of the cache, and then has the clips of all videos.
    """
    infos = [entry.info for entry in manifest]
    seconds = [
        (min(i.picture_seconds, i.sound_seconds) if i.has_video and i.has_audio else i.seconds) if i else None
        for i in infos
    ]
    if degradation:
        return StreamedClips(manifest.paths, settings.clip, seconds, degradation)
    layout = stored_format(settings.clip)
    lengths = [i.seconds if i else None for i in infos]
    shown = exchange.rank == 0
    if loading.cache is not None:
        if exchange.size > 1:
            own = share(len(manifest), exchange)
            part = slice(own.start, own.stop)
            with agreed(exchange), counter(len(own), "caching", "video", shown=shown) as count:
                cache = ClipCache(loading.cache, layout, jpeg=loading.jpeg)
                limits = [time_limit(length) for length in lengths[part]]
                cache.fill(manifest.paths[part], limits, loading.n_workers, count)
        cache = ClipCache(loading.cache, layout, jpeg=loading.jpeg)
        with counter(len(manifest), "caching", "video", shown=shown) as count:
            return StoredClips.cached(cache, manifest.paths, settings.clip, loading.n_workers, count, lengths)
    needed = sum(layout.n_bytes(i.seconds, i.width / i.height if i.height else 1.0) if i else 0 for i in infos)
    if needed * local_size() <= loading.memory_gb * 1e9:
        with counter(len(manifest), "decoding", "video", shown=shown) as count:
            return StoredClips.in_memory(manifest.paths, settings.clip, loading.n_workers, count, lengths)
    return StreamedClips(manifest.paths, settings.clip, seconds)


def n_processes(source: ClipSource, loading: Loading) -> int:
    """Return the number of processes that make clips: none where that takes no longer than handing them over."""
    return 0 if isinstance(source, StoredClips) and source.in_memory_only else loading.n_workers
