"""Time a step of learning beside a plain one, and find out what a whole run spends its time on.

Run ``python -m pip install -e ".[all,bench]" && python benchmarks/training.py`` on a machine that does nothing else,
with or without a GPU. ``--only steps --networks tiny`` for a quick look. Writes the tables that it prints to
``benchmarks/results/training.md``.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import textwrap
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from tables import parsed, processor, show

from backbones.data import augment
from backbones.data.augment import DRAWS
from backbones.data.clips import StoredClips, n_mel_steps
from backbones.data.data_source import DataSource
from backbones.data.loader import Batch
from backbones.learner.settings import BackboneSettings
from backbones.learner.torch_backbone import TorchBackbone
from backbones.networks import registry
from backbones.networks.model import MODALITIES, SelaviModel
from backbones.runs.presets import run_settings
from backbones.runs.run_settings import choose_device, choose_precision
from backbones.runs.train import CheckpointPolicy, start, train
from selavi_ref.datasets import make_collection, scan
from selavi_ref.selflabel.pseudo_labels import PseudoLabels

PLAIN = "plain, float32"
RATE = 0.01


@dataclass(frozen=True)
class Case:
    """Two networks, and the clips and heads that they are timed with on a CPU and on a GPU."""

    video_net: str
    audio_net: str
    heads: tuple[int, ...]
    cpu_batch: int
    gpu_batch: int
    cpu_frames: int | None = None

    def settings(self, device: str) -> BackboneSettings:
        """Return the settings of the networks, with fewer frames on a CPU."""
        settings = BackboneSettings.for_networks(self.video_net, self.audio_net)
        if device == "cpu" and self.cpu_frames is not None:
            settings = replace(settings, clip=replace(settings.clip, frames=self.cpu_frames))
        return settings


CASES = {
    "nano": Case("nano", "nano", (8,) * 5, cpu_batch=32, gpu_batch=256),
    "tiny": Case("tiny", "tiny", (8,) * 5, cpu_batch=32, gpu_batch=256),
    "r2plus1d_18": Case("r2plus1d_18", "resnet9", (400,) * 10, cpu_batch=2, gpu_batch=32, cpu_frames=4),
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    options.add_argument("--networks", choices=list(CASES), action="append", help="time these alone; repeatable")
    options.add_argument("--batch", type=int, help="clips of a step, in place of the usual number")
    options.add_argument("--threads", type=int, default=0, help="of PyTorch on a CPU; 0: as many as it takes")
    options.add_argument("--rounds", type=int, default=7, help="in each of which every variant takes its turn")
    options.add_argument("--steps", type=int, help="of a turn; by default 1 on a CPU and 10 on a GPU")
    options.add_argument("--slowest", type=float, default=20.0, help="seconds of a step above which it is left out")
    options.add_argument(
        "--skip",
        action="append",
        default=[],
        help="leave out steps with this in their name, such as compiled; repeatable",
    )
    options.add_argument("--videos", type=int, default=64, help="of the collection that is learnt")
    options.add_argument("--epochs", type=int, default=40, help="of the whole runs")
    options.add_argument("--only", choices=list(SECTIONS), action="append", help="do this section alone; repeatable")
    options.add_argument("--note", default="", help="a remark to keep with the figures, such as what else was running")
    given = parsed(options, "training.md")
    if given.quick:
        given.networks, given.batch, given.rounds, given.steps = ["nano"], 4, 1, 1
        given.skip, given.videos, given.epochs = ["compiled"], 16, 2
    given.device = choose_device(given.device)
    if given.threads:
        torch.set_num_threads(given.threads)
    given.steps = given.steps or (1 if given.device == "cpu" else 10)
    names = ("selavi-ref", "numpy", "torch", "torchvision", "av")
    lines = show(
        "# Learning\n",
        f"{date.today()}, {processor()}, {os.cpu_count()} cores, Python {sys.version.split()[0]},",
        f"{', '.join(f'{name} {version(name)}' for name in names)}. Device: {given.device}.",
        f"Threads of PyTorch: {torch.get_num_threads()}.",
        f"Load of the machine at the start: {os.getloadavg()[0]:.1f}. {given.note}".rstrip(),
    )
    for name in given.only or SECTIONS:
        lines += ["", *SECTIONS[name](given)]
        given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def steps(given: argparse.Namespace) -> list[str]:
    """Time steps of learning in all variants."""
    lines = show("## A step\n") + paragraph(
        "Clips per second of one step: varying the clips, both networks and all heads forwards and backwards, and the "
        "optimiser; the clips are in memory and random. Plain is the same step in float32, in the usual layout of "
        "memory; the others are `TorchBackbone.train_step`, whose clips and networks are channels-last. "
        f"{given.rounds} rounds, in each of which every variant takes {given.steps} steps in turn: medians of the "
        "rounds, and of the ratios within them (smallest to largest). The first step may compile, and is not in these."
    )
    more = " of the GPU's memory, GB |" if given.device == "cuda" else ""
    lines += show(
        f"| networks | clips of a step | step | clips/s | times plain | first step, s |{more}",
        f"|---|---|---|---|---|---|{more and '---|'}",
    )
    for name in given.networks or CASES:
        lines += of_networks(given, CASES[name])
    return lines


def of_networks(given: argparse.Namespace, case: Case) -> list[str]:
    """Time the steps of two networks."""
    settings = case.settings(given.device)
    size = given.batch or (case.cpu_batch if given.device == "cpu" else case.gpu_batch)
    tried = [tried_out(given, *made, settings, size, case.heads) for made in variants(settings, case, given.device)]
    ready = [(variant.name, variant.run) for variant in tried if variant.run is not None]
    times: dict[str, list[float]] = defaultdict(list)
    for turn in range(given.rounds):
        for name, run in ready if turn % 2 == 0 else reversed(ready):
            taken = seconds_of(lambda: [run() for _ in range(given.steps)], given.device)  # noqa: B023
            times[name].append(taken / given.steps)
    clip = settings.clip
    lines: list[str] = []
    shown = f"{size} of {clip.frames} x {clip.size} x {clip.size}, {clip.length:g} s"
    for variant in tried:
        figures = variant.note + " | |"
        if variant.run is not None:
            ratios = np.array(times.get(PLAIN, [np.nan])) / np.array(times[variant.name])
            ratio = f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})"
            figures = f"{size / np.median(times[variant.name]):,.1f} | {'1' if variant.name == PLAIN else ratio} |"
        first = "" if variant.first is None else f"{variant.first:.1f}"
        more = f" {variant.gigabytes:.1f} |" if given.device == "cuda" else ""
        lines += show(f"| {case.video_net}, {case.audio_net} | {shown} | {variant.name} | {figures} {first} |{more}")
    return lines


@dataclass
class Variant:
    """A step that is ready to run on its batch, or a note why not; what its first run took, and its memory on a GPU."""

    name: str
    run: Callable[[], float] | None = None
    first: float | None = None
    note: str = ""
    gigabytes: float = 0.0


def tried_out(
    given: argparse.Namespace,
    name: str,
    make: Callable[[], Step],
    settings: BackboneSettings,
    size: int,
    heads: tuple[int, ...],
) -> Variant:
    """Make a step and run it once or twice."""
    found = Variant(name, note="not run here")
    if any(part in f"{settings.video_net}, {name}" for part in given.skip):
        return found
    batch = random_batch(settings, size)
    labels = (np.arange(size)[:, None] % np.array(heads)).astype(np.int32)
    before = torch.cuda.memory_allocated() if given.device == "cuda" else 0
    if given.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    try:
        step = make()
        found.first = slow = seconds_of(lambda: step(batch, labels), given.device)
        if slow < 3 * given.slowest or "compiled" in name:
            slow = seconds_of(lambda: step(batch, labels), given.device)
    except Exception as error:  # a compiler may be missing, or fail in many ways
        found.note = f"does not run: {str(error).splitlines()[0][:80]}"
        return found
    if given.device == "cuda":
        found.gigabytes = (torch.cuda.max_memory_allocated() - before) / 1e9
    if slow > given.slowest:
        found.note = f"left out: a step takes {slow:.0f} s"
    else:
        found.run = lambda: step(batch, labels)
    return found


Step = Callable[[Batch, NDArray[np.int32]], float]


def variants(settings: BackboneSettings, case: Case, device: str) -> Iterator[tuple[str, Callable[[], Step]]]:
    """Yield the name of each variant of a step, and a function that makes it; the optimiser is SGD unless named."""
    yield PLAIN, lambda: plain_step(settings, case.heads, device)
    for compiled in (False, True):
        for precision in ("float32", "bfloat16"):
            own = replace(settings, precision=precision, compile=compiled)
            name = f"{precision}, channels-last{', compiled' if compiled else ''}"
            yield name, partial(our_step, own, case.heads, device)
            if precision == "float32" and not compiled and registry.find("video", settings.video_net).small:
                yield f"{name}, Muon", partial(our_step, replace(own, optimizer="muon"), case.heads, device)
            if device == "cuda" and not compiled and registry.find("video", settings.video_net).small:
                yield f"{name}, recorded", partial(our_step, own, case.heads, device, record=True)


def our_step(settings: BackboneSettings, heads: tuple[int, ...], device: str, *, record: bool = False) -> Step:
    """Return the step of the package; on a GPU, those of small networks are recorded after a few."""
    backbone = TorchBackbone(settings, heads, StoredClips([], settings.clip), device=device, record_steps=record)
    return lambda batch, labels: backbone.train_step(batch, labels, RATE)


def plain_step(settings: BackboneSettings, heads: tuple[int, ...], device: str) -> Step:
    """Return a step as one would first write it: float32, the usual layout of memory."""
    torch.manual_seed(0)
    video, audio = registry.find("video", settings.video_net), registry.find("audio", settings.audio_net)
    model = SelaviModel(video, audio, heads, settings.dropout, mlp=settings.mlp).to(device).train()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=RATE, momentum=settings.momentum, weight_decay=settings.weight_decay
    )

    def step(batch: Batch, labels: NDArray[np.int32]) -> float:
        draw = augment.Draw(batch.draws.to(device))
        clips = {
            "video": augment.video_input(batch.frames.to(device), settings.clip, settings.augment, draw),
            "audio": augment.audio_input(batch.mel.to(device), settings.clip, settings.augment, draw),
        }
        targets = torch.from_numpy(labels.astype(np.int64)).to(device)
        loss = torch.zeros((), device=device)
        for modality in MODALITIES:
            features = model.network(modality)(clips[modality].contiguous())
            for head, logits in enumerate(model.logits(modality, features)):
                loss = loss + F.cross_entropy(logits, targets[:, head])
        loss = loss / (2 * len(heads))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def random_batch(settings: BackboneSettings, size: int) -> Batch:
    """Return clips of noise."""
    rng = np.random.default_rng(0)
    clip = settings.clip
    side = clip.decode_size if settings.augment.warps else clip.size
    frames = rng.integers(0, 256, (size, clip.frames, side, side, 3), np.uint8)
    mel = rng.normal(clip.mel_mean, clip.mel_std, (size, clip.n_filters, n_mel_steps(clip))).astype(np.float32)
    draws = rng.random((size, len(DRAWS)), np.float32)
    rows = np.arange(size)
    return Batch(
        rows,
        torch.from_numpy(frames),
        torch.from_numpy(mel),
        torch.from_numpy(draws),
        failures=[],
        second=np.zeros(0, np.int64),
        views={"video": rows, "audio": rows},
    )


def runs(given: argparse.Namespace) -> list[str]:
    """Learn a collection, from memory and from its files, and say what took how long."""
    precision = choose_precision("auto", given.device)
    lines = show("## A run\n") + paragraph(
        f"`train` on {given.videos} videos made by the package (2 s, 64 x 64), small networks, {precision}, "
        f"{given.epochs} epochs: seconds, and shares of the whole. Batch norms: the batches that "
        "these see first. Waiting: for the next batch of clips, most of which "
        "are made ahead by other processes where clips come from files; where they are in memory, they are cut in this "
        "one. Labelling: from looking at all videos to new labels, the last one included. Rest: the sound's level, "
        "decoding into memory, starting processes, checkpoints and the log."
    )
    lines += show(
        "| clips from | steps | labellings | whole, s "
        "| batch norms | waiting | learning | labelling | rest | ms per step |",
        "|---" * 10 + "|",
    )
    with tempfile.TemporaryDirectory() as folder:
        manifest = scan(make_collection(Path(folder) / "videos", given.videos))
        for way, data_source in (("memory", DataSource(memory_gb=4.0)), ("files", DataSource())):
            settings = run_settings(
                given.videos,
                preset="small",
                clusters=8,
                epochs=given.epochs,
                labellings=max(2, given.epochs // 5),
                device=given.device,
            )
            run = start(Path(folder) / way, manifest, settings)
            with Spent() as spent:
                begin = time.perf_counter()
                train(run, device=given.device, data_source=data_source, checkpoint_policy=CheckpointPolicy())
                whole = time.perf_counter() - begin
            seconds = [spent.seconds[name] for name in ("batch norms", "waiting", "learning", "labelling")]
            shares = [f"{part:.1f} ({part / whole:.0%})" for part in (*seconds, whole - sum(seconds))]
            counts = f"{spent.counts['learning']} | {spent.counts['labelling']}"
            each = 1e3 * spent.seconds["learning"] / spent.counts["learning"]
            lines += show(f"| {way} | {counts} | {whole:.1f} | {' | '.join(shares)} | {each:.1f} |")
    return lines


class Spent(ExitStack):
    """Adds up what the parts of a run take while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[str, float] = defaultdict(float)
        self.counts: dict[str, int] = defaultdict(int)
        batches = TorchBackbone.batches
        for owner, name, part in (
            (TorchBackbone, "train_step", "learning"),
            (PseudoLabels, "relabel", "labelling"),
            (PseudoLabels, "label_finally", "labelling"),
        ):
            self.enter_context(mock.patch.object(owner, name, self._timed(getattr(owner, name), part)))
        self.enter_context(mock.patch.object(TorchBackbone, "batches", self._waited(batches)))
        self.enter_context(mock.patch.object(TorchBackbone, "warm_up", self._warmed(TorchBackbone.warm_up)))

    def _timed(self, work: Callable[..., Any], part: str) -> Callable[..., Any]:
        def timed(*args: Any) -> Any:
            begin = time.perf_counter()
            result = work(*args)
            self.seconds[part] += time.perf_counter() - begin
            self.counts[part] += 1
            return result

        return timed

    def _waited(self, batches: Callable[..., Iterator[Batch]]) -> Callable[..., Iterator[Batch]]:
        def waited(*args: Any) -> Iterator[Batch]:
            following = batches(*args)
            while True:
                begin = time.perf_counter()
                batch = next(following, None)
                self.seconds["waiting"] += time.perf_counter() - begin
                if batch is None:
                    return
                yield batch

        return waited

    def _warmed(self, warm_up: Callable[..., None]) -> Callable[..., None]:
        def warmed(*args: Any) -> None:
            before, begin = self.seconds["waiting"], time.perf_counter()
            warm_up(*args)
            self.seconds["batch norms"] += time.perf_counter() - begin
            self.seconds["waiting"] = before

        return warmed


def seconds_of(work: Callable[[], Any], device: str) -> float:
    """Return how long something takes, to the end of what it has started on a GPU."""
    if device == "cuda":
        torch.cuda.synchronize()
    begin = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def paragraph(text: str) -> list[str]:
    return show(*textwrap.wrap(text, 118), "")


SECTIONS: dict[str, Callable[[argparse.Namespace], list[str]]] = {"steps": steps, "runs": runs}

if __name__ == "__main__":
    main()
