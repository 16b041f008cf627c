"""What the commands do with a run folder: train it, take it up again, and extract a store of any videos with it."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backbones.clips import ClipSource, StoredClips, StreamedClips, mel_statistics, stored_format
from backbones.degrade import Degradation
from backbones.learner import TorchBackbone, read_checkpoint
from backbones.loading import Watch
from backbones.settings import BackboneSettings
from selavi_ref.errors import InputError
from selavi_ref.labels import HeadAgreement, agree
from selavi_ref.media import Manifest, read_manifest, write_manifest
from selavi_ref.media.cache import ClipCache
from selavi_ref.report.progress import bar, counter
from selavi_ref.run import Run, write_text
from selavi_ref.schedule import TrainingSettings
from selavi_ref.selflabel import ClusterSizes
from selavi_ref.store import StoreWriter, WorkingStore
from selavi_ref.training import Progress, Training, working_datasets

_MEL_SAMPLE = 256  # videos whose sound sets the mean and spread of the log energies


@dataclass(frozen=True)
class Loading:
    """
    Where clips come from: it changes how fast a run is, but hardly what it learns.

    In memory and in a raw cache are the same pictures; JPEG rounds them, and clips read from their files begin between
    the frames that would be kept.

    Parameters
    ----------
    workers : int, optional
        Processes (or threads) that decode; by default as many as there are processors.
    memory_gb : float
        Videos are kept decoded in memory when they fit in so many gigabytes, and streamed from their files otherwise.
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
        return (os.cpu_count() or 1) if self.workers is None else self.workers


@dataclass(frozen=True)
class RunSettings:
    """
    Everything that makes a training run.

    Parameters
    ----------
    clusters, heads : int
        Clusters K of each labelling head, and number H of these heads.
    side_clusters : int
        Clusters of each side head (their number is in `training`), which learns finer labels along with the others.
    training : TrainingSettings
        Of the loop.
    backbone : BackboneSettings
        Of the networks.
    """

    clusters: int
    heads: int
    side_clusters: int
    training: TrainingSettings
    backbone: BackboneSettings

    @property
    def head_sizes(self) -> tuple[int, ...]:
        """Number of clusters of every head, the labelling ones first."""
        return (self.clusters,) * self.heads + (self.side_clusters,) * self.training.side_heads

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as they stand in ``config.toml``."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunSettings:
        """
        Make settings of what `to_dict` gave.

        Raises
        ------
        InputError
            If something is missing or unknown.
        """
        try:
            training = dict(values["training"])
            training["sizes"] = ClusterSizes(**{**training["sizes"], "given": tuple(training["sizes"]["given"])})
            return cls(
                clusters=int(values["clusters"]),
                heads=int(values["heads"]),
                side_clusters=int(values["side_clusters"]),
                training=TrainingSettings(**training),
                backbone=BackboneSettings.from_dict(values["backbone"]),
            )
        except (KeyError, TypeError) as error:
            raise InputError(f"the settings of the run do not fit: {error}") from error


def choose_device(device: str) -> str:
    """
    Return the device of PyTorch's that ``auto``, ``cpu`` or ``cuda`` stands for.

    Raises
    ------
    InputError
        If there is no such device here.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: PyTorch finds no CUDA device here; choose cpu or auto")
    return device


def choose_precision(precision: str, device: str) -> str:
    """
    Return ``float32`` or ``bfloat16``, where ``auto`` takes bfloat16 on hardware that multiplies it itself.

    It is chosen once, when a run starts, and stands in the run's settings.
    """
    if precision != "auto":
        return precision
    if choose_device(device) == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    able: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bfloat16" if able.get("amx_bf16") or able.get("avx512_bf16") else "float32"


def start(folder: str | os.PathLike[str], manifest: Manifest, settings: RunSettings) -> Run:
    """
    Make a run folder for a scanned collection: settings, the videos used, and those skipped with their reasons.

    Raises
    ------
    InputError
        If no video can be used, there are fewer videos than clusters, or the folder holds a run already.
    """
    usable, skipped = manifest.usable, manifest.skipped
    if not len(usable):
        first = skipped.entries[0]
        raise InputError(
            f"{manifest.source}: none of {len(manifest)} videos can be used; {first.path}: {first.skipped}"
        )
    if len(usable) < 2:
        raise InputError(f"{manifest.source} has only one usable video; learning needs at least two")
    if len(usable) < settings.clusters:
        raise InputError(
            f"--clusters {settings.clusters}: {manifest.source} has only {len(usable)} usable videos, "
            "and every cluster needs at least one"
        )
    settings.training.sizes.draw(settings.clusters, len(usable), np.random.default_rng(0))  # fails before all else
    run = Run.prepare(folder)
    absolute = [replace(entry, path=os.path.abspath(entry.path)) for entry in manifest]
    write_manifest(replace(manifest, entries=[e for e in absolute if not e.skipped]), run.videos_file)
    write_manifest(replace(manifest, entries=[e for e in absolute if e.skipped]), run.skipped_file)
    run.rewrite_config(settings.to_dict())  # last: from here on the folder is a run
    return run


def train(run: Run, *, device: str = "auto", loading: Loading = Loading()) -> Training:
    """
    Carry out a run from its checkpoint, or from the beginning, to its end.

    Parameters
    ----------
    run : Run
        As made by `start`.
    device : str
        See `choose_device`.
    loading : Loading
        Where the clips come from.

    Returns
    -------
    Training
        With the labels of the last self-labelling, made from the final networks.
    """
    settings = RunSettings.from_dict(run.config)
    manifest = read_manifest(run.videos_file)
    source = open_source(manifest, settings.backbone, loading)
    settings = _with_sound_level(run, settings, source)
    backbone = TorchBackbone(
        settings.backbone,
        settings.head_sizes,
        source,
        device=choose_device(device),
        workers=_processes(source, loading),
        seed=settings.training.seed,
    )
    with WorkingStore.create(
        run.working_file, manifest.paths, working_datasets(backbone, settings.training.side_heads)
    ) as store:
        training = Training(backbone, settings.training, store, run.checkpoint_file, run.log)
        if run.checkpoint_file.exists():
            training.restore()
        run.forget_log_after(training.step)
        with bar(training.total_steps, "learning", "step", initial=training.step) as progress:

            def told(now: Progress) -> None:
                progress.total = now.total
                progress.set_postfix_str(
                    f"epoch {now.epoch}, loss {now.loss:.3f}, rate {now.rate:.3g}, "
                    f"labelling {now.labelling_seconds:.1f} s ({now.changed:.0%} changed)",
                    refresh=False,
                )
                progress.update(1)

            training.run(told)
        if not training.finished:
            training.finish()
    run.working_file.unlink(missing_ok=True)
    if training.failures:
        reasons = "".join(f"{reason}\n" for _, reason in sorted(training.failures.items()))
        write_text(run.failures_file, reasons)
    return training


def is_finished(run: Run) -> bool:
    """Tell whether a run has come to its end, so that only its labels are left to be written."""
    return run.checkpoint_file.exists() and bool(read_checkpoint(run.checkpoint_file)["state"].get("finished"))


def extract(
    run: Run,
    manifest: Manifest,
    out: str | os.PathLike[str],
    *,
    watch: Watch = Watch(),  # noqa: B008
    degradation: Degradation = Degradation(),  # noqa: B008
    device: str = "auto",
    loading: Loading = Loading(),
) -> Path:
    """
    Write the store of any videos: features, and the log-probabilities of every labelling head.

    A store that was cut off is continued. Every video of the manifest has a row; one that cannot be decoded has its
    reason. The store carries the potentials of the run's last self-labelling, how its heads go together, and the
    self-labels, if the videos are those that were learnt from.

    Parameters
    ----------
    run : Run
        A trained run.
    manifest : Manifest
        The videos.
    out : path
        The store.
    watch : Watch
        Clips of each video, and squares of each clip, whose features and log-probabilities are averaged.
    degradation : Degradation
        What is made worse before the networks see it; with one, every clip is decoded from its file.
    device, loading
        As in `train`; by default every clip is decoded from its file.

    Returns
    -------
    Path
        The store.
    """
    settings = RunSettings.from_dict(run.config)
    source = open_source(manifest, settings.backbone, loading, degradation)
    processes = _processes(source, loading) if len(manifest) > 8 * loading.n_workers else 0
    backbone = TorchBackbone(
        settings.backbone, settings.head_sizes, source, device=choose_device(device), workers=processes
    )
    state = backbone.load(run.checkpoint_file)
    agreement = agreement_of(state, settings)
    heads = range(settings.heads)
    datasets = {**backbone.datasets(), "disagreement": settings.heads}
    datasets |= {f"log_prob/{m}/{head}": settings.clusters for m in ("video", "audio") for head in heads}
    self_labels = None
    if manifest.paths == read_manifest(run.videos_file).paths:  # those that were learnt from
        self_labels = state["labels"][:, : settings.heads].astype(np.int32)
        datasets["labels"] = settings.heads
    whole = {
        "potentials": np.stack([state[f"potentials_{head}"] for head in heads]),
        "alignment": agreement.alignment,
    }
    writer = StoreWriter(
        out,
        manifest.paths,
        datasets,
        classes=manifest.classes,
        provenance=_provenance(run, settings, state, agreement, watch, degradation),
        whole=whole,
    )
    with writer, bar(len(manifest), "extracting", "video", initial=int(writer.done.sum())) as progress:
        backbone.extract(writer, heads, watch, progress.update, self_labels)
        return writer.finish()


def agreement_of(state: Mapping[str, Any], settings: RunSettings) -> HeadAgreement:
    """Return how the labelling heads of a checkpoint go together."""
    if int(state["epoch"]) == 0:
        raise InputError("the run has not learnt anything yet")
    return agree(state["labels"][:, : settings.heads].astype(np.int32), settings.clusters)


def open_source(
    manifest: Manifest,
    settings: BackboneSettings,
    loading: Loading,
    degradation: Degradation = Degradation(),  # noqa: B008
) -> ClipSource:
    """Return the clips of a collection: kept in memory if they fit, from a cache, or decoded when needed."""
    infos = [entry.info for entry in manifest]
    seconds = [
        (min(i.picture_seconds, i.sound_seconds) if i.has_video and i.has_audio else i.seconds) if i else None
        for i in infos
    ]
    if degradation:
        return StreamedClips(manifest.paths, settings.clip, seconds, degradation)
    layout = stored_format(settings.clip)
    lengths = [i.seconds if i else None for i in infos]
    if loading.cache is not None:
        cache = ClipCache(loading.cache, layout, jpeg=loading.jpeg)
        with counter(len(manifest), "caching", "video") as count:
            return StoredClips.cached(cache, manifest.paths, settings.clip, loading.n_workers, count, lengths)
    needed = sum(layout.n_bytes(i.seconds, i.width / i.height if i.height else 1.0) if i else 0 for i in infos)
    if needed <= loading.memory_gb * 1e9:
        with counter(len(manifest), "decoding", "video") as count:
            return StoredClips.in_memory(manifest.paths, settings.clip, loading.n_workers, count, lengths)
    return StreamedClips(manifest.paths, settings.clip, seconds)


def _processes(source: ClipSource, loading: Loading) -> int:
    """Return the number of processes that make clips: none where that takes no longer than handing them over."""
    return 0 if isinstance(source, StoredClips) and source.in_memory_only else loading.n_workers


def _with_sound_level(run: Run, settings: RunSettings, source: ClipSource) -> RunSettings:
    """Measure the collection's log mel energies once, and keep the result in the run's settings."""
    clip = settings.backbone.clip
    if settings.backbone.mel_normalise != "collection" or run.checkpoint_file.exists():
        return settings
    rng = np.random.default_rng(settings.training.seed)
    mean, std = mel_statistics(source, rng.permutation(len(source))[:_MEL_SAMPLE].tolist())
    clip = replace(clip, mel_mean=mean, mel_std=std, mel_floor=mean - 4 * std)
    settings = replace(settings, backbone=replace(settings.backbone, clip=clip))
    run.rewrite_config(settings.to_dict())
    source.settings = clip
    return settings


def _provenance(
    run: Run,
    settings: RunSettings,
    state: Mapping[str, Any],
    agreement: HeadAgreement,
    watch: Watch,
    degradation: Degradation,
) -> dict[str, Any]:
    return {
        "run": os.path.abspath(run.folder),
        "epoch": int(state["epoch"]),
        "video_net": settings.backbone.video_net,
        "audio_net": settings.backbone.audio_net,
        "settings": settings.to_dict(),
        "strength": settings.training.strength,
        "clips": watch.n_clips,
        "crops": watch.n_crops,
        **({"degradation": _finite(asdict(degradation))} if degradation else {}),
        "reference": agreement.reference,
        "agreement": agreement.agreement.tolist(),
        "versions": {**_versions(("selavi-ref", "torch", "numpy", "h5py")), "python": platform.python_version()},
    }


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    """Leave out what is infinite, which JSON has no number for."""
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _versions(packages: Sequence[str]) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
