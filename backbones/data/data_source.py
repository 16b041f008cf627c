"""Choice of a clip source: videos decoded on demand, held decoded in memory, or read from a cache on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from backbones.data.clips import (
    BOTH,
    ClipSource,
    Modalities,
    StoredClips,
    StreamedClips,
    cache_format,
    clip_seconds,
    time_limit,
)
from backbones.data.degradation import Degradation
from backbones.data.segment_clips import SequentialClips
from backbones.data.settings import ClipSettings
from backbones.distributed.processes import local_size
from selavi_ref.datasets import Manifest
from selavi_ref.media.segments import segment_of
from selavi_ref.media.video_cache import CacheFormat, ClipCache, DecodedVideo
from selavi_ref.runs.cores import usable_cores
from selavi_ref.runs.processes import Exchange, SingleProcess, local_rows, raise_together
from selavi_ref.runs.reporter import SILENT, Reporter


@dataclass(frozen=True)
class DataSource:
    """
    How clips are read; it changes the speed of a run, and hardly its result.

    Memory and a raw cache hold the same frames. JPEG rounds them, and clips decoded on demand may begin between the
    frames that memory or a cache would hold. Videos that were decoded into memory are held as long as this object
    lives, so that the steps of a run decode them once.

    Parameters
    ----------
    workers : int, optional
        Decoding processes (or threads) for each process of the run; by default its share of the processors.
    memory_gb : float
        Videos are held decoded in memory if they fit in so many gigabytes, which the processes of a machine share, and
        decoded on demand otherwise.
    cache : str, optional
        Folder in which decoded videos are stored for this and later runs, whatever their size.
    jpeg : bool
        Whether frames in the cache are compressed as JPEG.
    """

    workers: int | None = None
    memory_gb: float = 0.0
    cache: str | None = None
    jpeg: bool = True
    _held: dict[tuple[tuple[str, ...], CacheFormat], Sequence[DecodedVideo]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def n_workers(self) -> int:
        """Number of decoding workers."""
        return max(1, usable_cores() // local_size()) if self.workers is None else self.workers

    def hold(self, paths: Sequence[str], layout: CacheFormat, clips: StoredClips) -> None:
        """Hold videos in memory in place of those before, unless one could not be decoded: it is tried again."""
        decoded = [video for video in clips.videos if isinstance(video, DecodedVideo)]
        self._held.clear()
        if len(decoded) == len(paths):
            self._held[tuple(paths), layout] = decoded

    def held(self, paths: Sequence[str], layout: CacheFormat) -> Sequence[DecodedVideo] | None:
        """Return these videos if they are held in memory in this format, in this order."""
        return self._held.get((tuple(paths), layout))


def open_clips(
    manifest: Manifest,
    settings: ClipSettings,
    data_source: DataSource,
    degradation: Degradation = Degradation(),  # noqa: B008
    exchange: Exchange = SingleProcess(),  # noqa: B008
    reporter: Reporter = SILENT,
    modalities: Modalities | None = None,
    *,
    in_order: bool = False,
) -> ClipSource:
    """
    Return the clips of a collection: from a cache, from memory if they fit, or decoded on demand.

    Clips that are read `in_order`, and of which some are of segments, are decoded file by file, ahead of their turn.
    `modalities` are those that clips of each video have, by default all that it has.

    With several processes, each fills its part of the cache, and then reads the clips of all videos.
    """
    infos = [entry.info for entry in manifest]
    wanted = modalities if modalities is not None else [BOTH] * len(manifest)
    seconds = [clip_seconds(info, w) if info else None for info, w in zip(infos, wanted, strict=True)]
    if degradation:
        return StreamedClips(manifest.paths, settings, seconds, degradation, modalities)
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
            stored = StoredClips.cached(cache, manifest.paths, settings, data_source.n_workers, bar.update, lengths)
        return replace(stored, row_modalities=modalities)
    held = data_source.held(manifest.paths, layout)
    if held is not None:
        return StoredClips(held, settings, modalities)
    needed = sum(layout.n_bytes(i.seconds, i.width / i.height if i.height else 1.0) if i else 0 for i in infos)
    if needed * local_size() <= data_source.memory_gb * 1e9:
        with reporter.bar(len(manifest), "decoding", "video") as bar:
            stored = StoredClips.in_memory(manifest.paths, settings, data_source.n_workers, bar.update, lengths)
        data_source.hold(manifest.paths, layout, stored)
        return replace(stored, row_modalities=modalities)
    if in_order and not all(segment_of(path).whole for path in manifest.paths):
        return SequentialClips(manifest.paths, settings, seconds, data_source.n_workers)
    return StreamedClips(manifest.paths, settings, seconds, modalities=modalities)


def n_loader_processes(source: ClipSource, data_source: DataSource) -> int:
    """Return the number of loader processes: 0 where cutting a clip is as fast as sending it between processes."""
    held = isinstance(source, SequentialClips) or (isinstance(source, StoredClips) and source.in_memory_only)
    return 0 if held else data_source.n_workers
