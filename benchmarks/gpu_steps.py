"""Sections of `gpu.py` on single training steps of the small networks."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from gpu_labelling import Labelling
from numpy.typing import NDArray
from tables import Report
from torch.autograd import DeviceType
from training import Step, plain_step, random_batch, seconds_of

from backbones.data.clips import StoredClips, cache_format
from backbones.data.loader import Batch
from backbones.learner.torch_backbone import TorchBackbone
from backbones.runs.presets import run_settings
from backbones.runs.run_settings import RunSettings
from selavi_ref.media.video_cache import DecodedVideo
from selavi_ref.runs.reporter import Reporter

PRECISIONS = ("float32", "bfloat16")
RATE = 0.01
VIDEOS = 1500
CHECKED = 24  # steps
WARM_UP = 6  # steps, in which others are recorded
PROFILED = 5  # steps
DISTINCT = 64  # videos that are drawn; a collection has each of them many times


class Warnings(Reporter):
    """Keeps warnings."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def warn(self, message: str) -> None:
        """Keep a warning."""
        self.found.append(message)


def checks(given: argparse.Namespace, report: Report) -> None:
    """Compare losses with and without recorded steps, and log-probabilities of the device and of the CPU."""
    n_steps = 3 if given.quick else CHECKED
    report.paragraph(
        f"Losses of {n_steps} steps on the same clips from the same start: largest relative difference from those of "
        "steps that are not recorded, within the first 12 and all. 'Again' is the same computation twice: so far the "
        "order of additions on the device leads by itself."
    )
    report.show("| numbers | steps | within 12 | within all |", "|---|---|---|---|")
    for precision in PRECISIONS:
        settings = small_settings(precision)
        expected, _ = losses(settings, given, n_steps, record=False)
        for name, record in (("not recorded, again", False), ("recorded", True))[: 1 + (given.device == "cuda")]:
            found, warnings = losses(settings, given, n_steps, record=record)
            far = np.abs(found / expected - 1)
            note = "".join(f" ({warning})" for warning in warnings)
            report.show(f"| {precision} | {name}{note} | {far[:12].max():.1e} | {far.max():.1e} |")
    report.show("")
    n, K = (100, 10) if given.quick else (VIDEOS, 50)
    with Labelling(given, n, K, heads=1) as problem, problem.on_cpu() as other:
        found = problem.held(0, on_gpu=True)
        ways = {"the working store": problem.stored(0), "the CPU": other.held(0, on_gpu=False)}
        for name, values in ways.items():
            far = np.abs(problem.as_array(found) - problem.as_array(values)).max()
            report.show(
                f"Joint log-probabilities (`joint_log_prob`; {n:,} videos, {K} clusters) and those of {name}: "
                f"largest difference {far:.1e}."
            )


def losses(
    settings: RunSettings, given: argparse.Namespace, n_steps: int, *, record: bool
) -> tuple[NDArray[np.float64], list[str]]:
    """Return the losses of the first steps of a training, at rates that change, and the warnings."""
    warnings = Warnings()
    learner = small_backbone(settings, given, record, warnings)
    found = [
        learner.train_step(batch, labels_of(batch, settings), RATE * (1 + step % 3))
        for step, batch in enumerate(learner.batches(*some_batches(given, n_steps)))
    ]
    return np.array(found), warnings.found


def steps(given: argparse.Namespace, report: Report) -> None:
    """Time steps in three ways, alone and with the loader, and count their kernels."""
    size, rounds, turn = batch_size(given), *((2, 2) if given.quick else (7, 20))
    report.paragraph(
        f"Settings of `run_settings({VIDEOS}, preset='small', clusters=10)`: both networks and all heads, batches of "
        f"{size}. Plain: the step as one would first write it (`training.py`); the others are "
        "`TorchBackbone.train_step`, without and with recorded steps. Milliseconds of a step from clips in page-locked "
        f"memory to the loss in main memory: medians of {rounds} rounds of {turn} steps, the ways in turn. Kernels of "
        "a step, and the sum of their milliseconds on the GPU, by torch.profiler. With the loader: with cutting the "
        "clips out of videos in memory, in the same process."
    )
    report.show("| numbers | step | ms | clips/s | kernels | their ms | ms with the loader |", "|---" * 7 + "|")
    ready: list[tuple[str, str, Callable[[], Any], str]] = []
    for precision in PRECISIONS:
        settings = small_settings(precision)
        batch = random_batch(settings.backbone, size)
        batch = batch.pin_memory() if given.device == "cuda" else batch
        labels = labels_of(batch, settings)
        for name, step, loaded in ways(settings, given):
            work: Callable[[], Any] = partial(step, batch, labels)
            for _ in range(WARM_UP):
                work()
            ready.append((precision, name, work, loaded))
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for number in range(rounds):
        for precision, name, work, _ in ready if number % 2 == 0 else reversed(ready):
            taken = seconds_of(partial(repeated, work, turn), given.device)
            times[precision, name].append(1e3 * taken / turn)
    for precision, name, work, loaded in ready:
        each = float(np.median(times[precision, name]))
        kernels = profiled(work) if given.device == "cuda" else "- | -"
        report.show(f"| {precision} | {name} | {each:.2f} | {1e3 * size / each:,.0f} | {kernels} | {loaded} |")


def ways(settings: RunSettings, given: argparse.Namespace) -> list[tuple[str, Step, str]]:
    """Return the names of the steps, the steps, and the milliseconds of those with the loader."""
    found: list[tuple[str, Step, str]] = []
    if settings.backbone.precision == "float32":
        found.append(("plain", plain_step(settings.backbone, settings.head_sizes, given.device), "-"))
    for name, record in (("not recorded", False), ("recorded", True))[: 1 + (given.device == "cuda")]:
        warnings = Warnings()
        learner = small_backbone(settings, given, record, warnings)
        n = 4 if given.quick else 60
        repeated(partial(with_loader, learner, settings, given, WARM_UP), 1)
        taken = seconds_of(partial(with_loader, learner, settings, given, n), given.device)
        note = "".join(f" ({warning})" for warning in warnings.found)
        found.append((f"{name}{note}", partial(step_of, learner), f"{1e3 * taken / n:.2f}"))
    return found


def step_of(learner: TorchBackbone, batch: Batch, labels: NDArray[np.int32]) -> float:
    return learner.train_step(batch, labels, RATE)


def with_loader(learner: TorchBackbone, settings: RunSettings, given: argparse.Namespace, n: int) -> None:
    """Learn some batches of the loader."""
    for batch in learner.batches(*some_batches(given, n)):
        learner.train_step(batch, labels_of(batch, settings), RATE)


def repeated(work: Callable[[], Any], n: int) -> None:
    for _ in range(n):
        work()


def profiled(work: Callable[[], Any]) -> str:
    """Return the number of kernels of some work, and the sum of their milliseconds on the GPU, as cells of a table."""
    try:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            repeated(work, PROFILED)
            torch.cuda.synchronize()
        events = profile.events() or ()
    except (AssertionError, RuntimeError) as error:  # the system may forbid it
        return f"{(str(error).splitlines() or [''])[0][:100]} | -"
    kernels = [
        event
        for event in events
        if event.device_type == DeviceType.CUDA and not event.name.startswith(("Memcpy", "Memset"))
    ]
    milliseconds = sum(event.time_range.elapsed_us() for event in kernels) / 1e3
    return f"{len(kernels) / PROFILED:.0f} | {milliseconds / PROFILED:.2f}"


def small_settings(precision: str) -> RunSettings:
    """Return the settings of a run on 1,500 videos with 10 clusters."""
    settings = run_settings(VIDEOS, preset="small", clusters=10)
    return replace(settings, backbone=replace(settings.backbone, precision=precision))


def small_backbone(settings: RunSettings, given: argparse.Namespace, record: bool, warnings: Warnings) -> TorchBackbone:
    """Return the networks of a run on videos of noise in memory."""
    clip, rng, videos = settings.backbone.clip, np.random.default_rng(0), []
    frames = round((clip.length + 0.5) * cache_format(clip).fps)
    for number in range(DISTINCT):
        pictures = rng.integers(0, 100, (frames, clip.decode_size, clip.decode_size, 3), np.uint8)
        pictures[..., number % 3] += 100
        sound = rng.normal(size=(clip.n_filters, round(100 * (clip.length + 0.5)))).astype(np.float32)
        videos.append(DecodedVideo(pictures, sound))
    source = StoredClips([videos[row % DISTINCT] for row in range(VIDEOS)], clip)
    return TorchBackbone(
        settings.backbone, settings.head_sizes, source, device=given.device, reporter=warnings, record_steps=record
    )


def some_batches(given: argparse.Namespace, n: int) -> tuple[list[NDArray[np.int64]], list[int]]:
    """Return the videos of some batches, and a seed."""
    rng = np.random.default_rng(0)
    return [rng.permutation(VIDEOS)[: batch_size(given)] for _ in range(n)], [0]


def batch_size(given: argparse.Namespace) -> int:
    return 8 if given.quick else 64


def labels_of(batch: Batch, settings: RunSettings) -> NDArray[np.int32]:
    """Return synthetic labels (B, H) of the videos of a batch, which networks can learn."""
    return ((batch.rows % 3)[:, None] % np.array(settings.head_sizes)).astype(np.int32)
