"""Where a command's clips come from: decoded when needed, kept in memory, or taken from a cache."""

from __future__ import annotations

import os
from dataclasses import dataclass

from backbones.data.clips import ClipSource, StoredClips, StreamedClips, cache_format, time_limit
from backbones.data.degradation import Degradation
from backbones.data.settings import ClipSettings
from backbones.distributed.processes import local_size
from selavi_ref.datasets import Manifest
from selavi_ref.media.video_cache import ClipCache
from selavi_ref.runs.processes import Exchange, SingleProcess, local_rows, raise_together
from selavi_ref.runs.reporter import SILENT, Reporter


@dataclass(frozen=True)
class DataSource:
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


def open_clips(
    manifest: Manifest,
    settings: ClipSettings,
    data_source: DataSource,
    degradation: Degradation = Degradation(),  # noqa: B008
    exchange: Exchange = SingleProcess(),  # noqa: B008
    reporter: Reporter = SILENT,
) -> ClipSource:
    """
    Return the clips of a collection: kept in memory if they fit, from a cache, or decoded when needed.

    With several processes, each fills its part of the cache, and then has the clips of all videos.
    """
    infos = [entry.info for entry in manifest]
    seconds = [
        (min(i.video_seconds, i.audio_seconds) if i.has_video and i.has_audio else i.seconds) if i else None
        for i in infos
    ]
    if degradation:
        return StreamedClips(manifest.paths, settings, seconds, degradation)
    layout = cache_format(settings)
    lengths = [i.seconds if i else None for i in infos]
    reporter = reporter if exchange.rank == 0 else SILENT
    if data_source.cache is not None:
        if exchange.size > 1:
            own = local_rows(len(manifest), exchange)
            part = slice(own.start, own.stop)
            with raise_together(exchange), reporter.bar(len(own), "caching", "video") as bar:
                cache = ClipCache(data_source.cache, layout, jpeg=data_source.jpeg)
                limits = [time_limit(length) for length in lengths[part]]
                cache.fill(manifest.paths[part], limits, data_source.n_workers, bar.update)
        cache = ClipCache(data_source.cache, layout, jpeg=data_source.jpeg)
        with reporter.bar(len(manifest), "caching", "video") as bar:
            return StoredClips.cached(cache, manifest.paths, settings, data_source.n_workers, bar.update, lengths)
    needed = sum(layout.n_bytes(i.seconds, i.width / i.height if i.height else 1.0) if i else 0 for i in infos)
    if needed * local_size() <= data_source.memory_gb * 1e9:
        with reporter.bar(len(manifest), "decoding", "video") as bar:
            return StoredClips.in_memory(manifest.paths, settings, data_source.n_workers, bar.update, lengths)
    return StreamedClips(manifest.paths, settings, seconds)


def n_loader_processes(source: ClipSource, data_source: DataSource) -> int:
    """Return the number of processes that make clips: none where that takes no longer than handing them over."""
    return 0 if isinstance(source, StoredClips) and source.in_memory_only else data_source.n_workers
