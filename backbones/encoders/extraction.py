"""Stores of features that encoders compute of the clips of videos."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones.encoders.encoder import ClipInput, Encoder, TextEncoder
from selavi_ref.datasets import Manifest
from selavi_ref.datasets.manifest import ManifestEntry
from selavi_ref.errors import FilePath, MediaError, printable
from selavi_ref.media import SquareCrops, probe, read_clip
from selavi_ref.media.container import VideoInfo
from selavi_ref.media.decoder import parallel_map, run_guarded
from selavi_ref.runs.reporter import SILENT, Reporter, counted
from selavi_ref.store import StoreWriter

_BATCH = 16  # videos
_AHEAD = 8  # videos per decoding thread that are decoded before their turn


def extract_features(
    manifest: Manifest,
    encoders: Mapping[str, Encoder],
    out: FilePath,
    *,
    clips: int = 3,
    workers: int = 1,
    reporter: Reporter = SILENT,
) -> Path:
    """
    Write a store of the features of encoders, and of the log-probabilities of the classes that they know.

    An interrupted store is continued. Every video of the manifest has a row: NaN where it lacks what an encoder takes,
    with the reason if it cannot be decoded.

    Parameters
    ----------
    manifest : Manifest
        The videos.
    encoders : mapping of str to Encoder
        By the name of their feature space; see `load_encoders`.
    out : path
        The store: ``features/{space}``, and ``class_log_prob/{space}`` of encoders that have class names, which its
        provenance lists.
    clips : int
        Clips of each video, evenly spread, whose features and log-probabilities are averaged; fewer where a video has
        no room for so many side by side.
    workers : int
        Threads that decode, each with a process of its own that a damaged file may crash.
    reporter : Reporter
        Receives progress and warnings.

    Raises
    ------
    StoreError
        The store cannot be written.
    """
    datasets = {f"features/{space}": encoder.n_features for space, encoder in encoders.items()}
    datasets |= {
        f"class_log_prob/{space}": len(encoder.class_names)
        for space, encoder in encoders.items()
        if encoder.class_names
    }
    writer = StoreWriter(
        out, manifest.paths, datasets, classes=manifest.classes, provenance=_provenance(encoders, clips)
    )
    inputs = {encoder.input for encoder in encoders.values()}
    done = int(writer.done.sum())
    failed: list[str] = []
    with writer, reporter.bar(len(manifest), "encoding", "video", done) as bar:
        todo = [(row, manifest.entries[row]) for row in writer.remaining.tolist()]
        decoded = parallel_map(lambda item: _decode(item[1], inputs, clips), todo, workers, _AHEAD)
        for batch in _batches((row, video) for (row, _), video in decoded):
            rows = np.array([row for row, _ in batch])
            videos = [video for _, video in batch]
            values, present, reasons = _encode(encoders, videos)
            writer.write(rows, values, present=present, reason=reasons)
            paths = [manifest.paths[row] for row in rows]
            failed += [f"{path}: {why}" for path, why in zip(paths, reasons, strict=True) if why]
            bar.update(len(rows))
        writer.finish()
    if failed:
        reporter.warn(f"{counted(len(failed), 'video')} could not be decoded or encoded: {printable(failed[0])}")
    return Path(out)


@dataclass(frozen=True)
class _Video:
    """Decoded clips of one video by what they are for, or the reason why there are none."""

    clips: dict[ClipInput, list[NDArray[Any]]]
    reason: str = ""


def _decode(entry: ManifestEntry, inputs: Iterable[ClipInput], n_clips: int) -> _Video:
    if entry.skipped and entry.info is None:
        return _Video({}, entry.skipped)
    try:
        info = entry.info or run_guarded(probe, entry.path)
        return _Video({clip: _read_clips(entry.path, info, clip, n_clips) for clip in inputs})
    except MediaError as error:
        return _Video({}, str(error))


def _read_clips(path: str, info: VideoInfo, clip: ClipInput, n_clips: int) -> list[NDArray[Any]]:
    """Decode clips evenly spread over a video; none where it has no frames, or no sound."""
    if not (info.has_audio if clip.is_audio else info.has_video):
        return []
    seconds = info.audio_seconds if clip.is_audio else info.video_seconds
    length = min(clip.length, seconds) if clip.is_audio else clip.length
    if clip.length:
        n_clips = min(n_clips, max(1, math.ceil(seconds / clip.length - 0.5)))
    free = max(0.0, seconds - length)
    options: dict[str, Any] = {"fps": clip.fps, "frames": max(1, clip.frames), "size": max(1, clip.size)}
    options |= {"sample_rate": max(1, clip.sample_rate), "crops": SquareCrops(max(1, clip.size))}
    options |= {"want_video": not clip.is_audio, "want_audio": clip.is_audio}
    read = []
    for index in range(n_clips):
        start = (index + 0.5) / n_clips * free
        decoded = run_guarded(read_clip, path, start, max(length, 1e-3), **options)
        if clip.is_audio and decoded.samples.size:
            read.append(decoded.samples)
        elif not clip.is_audio and decoded.frames.shape[1]:
            read.append(decoded.frames[0])
    return read


def _batches(items: Iterable[tuple[int, _Video]]) -> Iterator[list[tuple[int, _Video]]]:
    iterator = iter(items)
    while batch := list(islice(iterator, _BATCH)):
        yield batch


_Encoded = tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.bool_]], list[str]]


def _encode(encoders: Mapping[str, Encoder], videos: Sequence[_Video]) -> _Encoded:
    """Return the data sets of some videos, which of them have each feature space, and why some have none."""
    values: dict[str, NDArray[np.float32]] = {}
    present: dict[str, NDArray[np.bool_]] = {}
    reasons = [video.reason for video in videos]
    for space, encoder in encoders.items():
        per_video = [video.clips.get(encoder.input, []) for video in videos]
        counts = np.array([len(clips) for clips in per_video])
        features = np.full((len(videos), encoder.n_features), np.nan, np.float32)
        log_prob = np.full((len(videos), len(encoder.class_names)), np.nan, np.float32)
        flat = [clip for clips in per_video for clip in clips]
        if flat:
            encoded = encoder.encode(flat)
            owner = np.repeat(np.arange(len(videos)), counts)
            features = _mean_by(owner, encoded, counts)
            if encoder.class_names:
                log_prob = _log_softmax(_mean_by(owner, encoder.classify(encoded), counts))
        has = counts > 0
        for row in np.flatnonzero(has & ~np.isfinite(features).all(1)):
            has[row], features[row], log_prob[row] = False, np.nan, np.nan
            reasons[row] = f"{space}: its features are not finite numbers"
        present[space], values[f"features/{space}"] = has, features
        if encoder.class_names:
            values[f"class_log_prob/{space}"] = log_prob
    return values, present, reasons


def _mean_by(owner: NDArray[np.int64], x: NDArray[np.float32], counts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the mean of the rows of each owner, shape (len(counts), D); NaN for one without rows."""
    out = np.zeros((len(counts), x.shape[1]))
    np.add.at(out, owner, x)
    with np.errstate(invalid="ignore"):
        return (out / counts[:, None]).astype(np.float32)


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    with np.errstate(invalid="ignore"):  # of features that are not finite, which are left out
        shifted = logits - logits.max(1, keepdims=True)
        log_prob: NDArray[np.float32] = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return log_prob


def _provenance(encoders: Mapping[str, Encoder], clips: int) -> dict[str, Any]:
    parts = {
        space: {
            "encoder": encoder.name,
            "input": asdict(encoder.input),
            "class_names": list(encoder.class_names),
            "texts": isinstance(encoder, TextEncoder),
        }
        for space, encoder in encoders.items()
    }
    versions = {"selavi-ref": version("selavi-ref"), "python": platform.python_version()}
    return {"encoders": parts, "clips": clips, "versions": versions}
