"""Section of `gpu.py` on self-labelling by the working store and the CPU, and from features on the GPU."""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from problems import gaussian_sizes
from tables import Report
from training import seconds_of

from backbones.data.clips import StoredClips
from backbones.learner import held_features
from backbones.learner.held_features import HeldFeatures
from backbones.learner.settings import BackboneSettings
from backbones.learner.torch_backbone import TorchBackbone
from backbones.networks.model import LinearHead
from selavi_ref.selflabel.backbone import working_datasets, working_names
from selavi_ref.selflabel.self_labelling import self_label
from selavi_ref.store import WorkingStore
from selavi_ref.transport.store_scores import joint_scores

PROBLEMS = ((230_976, 400), (1500, 10), (1500, 50))  # the first is of the size of Kinetics-400
QUICK_PROBLEMS = ((2000, 20), (100, 5))
HEADS = 10  # of a run
LARGE = 10**7  # numbers from which two heads are timed in place of all
MARGIN = 0.8  # of a video's own cluster, as in the "moderate" problem of `problems.py`
BLOCK = 20_000


class Labelling:
    """
    Networks with linear heads, and the features of videos that lie around centres which the heads know.

    Parameters
    ----------
    given : Namespace
        Options of the benchmark.
    n_videos, n_clusters, heads : int
        Size of the problem.
    """

    def __init__(self, given: argparse.Namespace, n_videos: int, n_clusters: int, heads: int):
        self.device = torch.device(given.device)
        self._stack, self._folder = ExitStack(), given.folder
        settings = BackboneSettings(mlp=False)
        self.learner = TorchBackbone(
            settings, (n_clusters,) * heads, StoredClips([], settings.clip), device=given.device
        )
        self.names = working_names(self.learner.clusters, 0)
        self.sizes = gaussian_sizes(np.random.default_rng(0), n_clusters)
        self._n_videos, self._n_clusters = n_videos, n_clusters
        self._features = HeldFeatures(self.device)

    def __enter__(self) -> Labelling:
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(dir=self._folder))
        names = [f"{row:07d}.mp4" for row in range(self._n_videos)]
        created = WorkingStore.create(Path(folder) / "working.h5", names, working_datasets(self.learner))
        self.store = self._stack.enter_context(created)
        self._features.prepare(self._n_videos, self.learner.n_features)
        self._fill()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _fill(self) -> None:
        rng = np.random.default_rng(0)
        centres = {
            space: rng.normal(size=(self._n_clusters, width)).astype(np.float32)
            for space, width in self.learner.n_features.items()
        }
        with torch.no_grad():
            for space, values in centres.items():
                for head in range(len(self.learner.clusters)):
                    noise = rng.normal(size=values.shape).astype(np.float32)
                    module = cast(LinearHead, self.learner.model.head(space, head))
                    module.weight.copy_(torch.from_numpy(MARGIN / values.shape[1] * (values + 0.5 * noise)))
                    module.bias.zero_()
        member = rng.integers(self._n_clusters, size=self._n_videos)
        with self.store.rewrite(*self.learner.datasets()) as write:
            for start in range(0, self._n_videos, BLOCK):
                rows = slice(start, min(start + BLOCK, self._n_videos))
                features = {
                    space: centre[member[rows]] + rng.standard_normal((rows.stop - start, centre.shape[1]), np.float32)
                    for space, centre in centres.items()
                }
                write(rows, {f"features/{space}": values for space, values in features.items()})
                self._features.put(rows, features)

    @contextmanager
    def on_cpu(self) -> Iterator[Labelling]:
        """Copy features and heads to the CPU for the duration of the context."""
        other = copy.copy(self)
        other.device = torch.device("cpu")
        other.learner = copy.copy(self.learner)
        other.learner.model = copy.deepcopy(self.learner.model).cpu()
        other._features = HeldFeatures(other.device)
        other._features.prepare(self._n_videos, self.learner.n_features)
        for rows in self.store.blocks():
            other._features.put(rows, {space: self.store.features(space, rows) for space in self.store.modalities})
        yield other

    def held(self, head: int, *, on_gpu: bool) -> Any:
        """Return the joint log-probabilities of a head from held features, for the GPU or the CPU."""
        present = {space: self.store.present(space) for space in self.learner.spaces}
        with mock.patch.object(held_features, "_ON_GPU", 0 if on_gpu else 10**15):
            found = self._features.joint_log_prob(self.learner.model, head, present, list(self.store.blocks()))
        if found is None:
            raise MemoryError("too many numbers to hold")
        return found

    def stored(self, head: int) -> Any:
        """Return the joint log-probabilities of a head by way of the working store."""
        self.learner.write_log_prob(self.store, head, self.names[head])
        return joint_scores(self.store, self.names[head])

    def as_array(self, values: Any) -> NDArray[np.float32]:
        """Return log-probabilities as an array in main memory."""
        return values.cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def labelling(given: argparse.Namespace, report: Report) -> None:
    """Time self-labellings of all main heads on the CPU and on the GPU."""
    report.paragraph(
        f"{HEADS} main heads on features of both modalities (192 each), from features to labels in main memory, cold "
        f"starts, to 1e-6; of the largest problem two heads are timed, times {HEADS // 2}. Store: `write_log_prob`, "
        "`joint_scores` and the transport by the CPU. Held: `joint_log_prob` of features on the device, and the "
        "transport by the CPU or by the device. Labels: share of those that are the same as by the store."
    )
    report.show("| N | K | by | log-probabilities, s | transport, s | all, s | labels |", "|---" * 7 + "|")
    for n, K in QUICK_PROBLEMS if given.quick else PROBLEMS:
        timed = 2 if n * K >= LARGE else HEADS
        with Labelling(given, n, K, heads=timed + 1) as problem:
            ways: dict[str, Callable[[int], Any]] = {
                "store, CPU": problem.stored,
                "held, CPU": partial(problem.held, on_gpu=False),
            }
            if given.device == "cuda":
                ways["held, GPU"] = partial(problem.held, on_gpu=True)
            expected: list[NDArray[np.int32]] = []
            for name, way in ways.items():
                try:
                    scoring, solving, labels = timed_heads(problem, way, timed, given.device)
                except MemoryError as error:
                    report.show(f"| {n:,} | {K} | {name} | {error} |{' |' * 3}")
                    continue
                expected = expected or labels
                same = np.mean([(a == b).mean() for a, b in zip(labels, expected, strict=True)])
                figures = " | ".join(f"{HEADS / timed * part:.3f}" for part in (scoring, solving, scoring + solving))
                report.show(f"| {n:,} | {K} | {name} | {figures} | {same:.2%} |")


def timed_heads(
    problem: Labelling, way: Callable[[int], Any], timed: int, device: str
) -> tuple[float, float, list[NDArray[np.int32]]]:
    """Return the seconds of log-probabilities and of the transport, and the labels; a first head does not count."""
    scoring, solving, labels = 0.0, 0.0, []
    for head in (timed, *range(timed)):
        scored, log_prob = result_of(partial(way, head), device)
        solve = partial(self_label, problem.store, problem.names[head], problem.sizes, log_prob=log_prob)
        solved, (solution, _) = result_of(solve, device)
        if head < timed:
            scoring, solving = scoring + scored, solving + solved
            labels.append(solution.labels)
    return scoring, solving, labels


def result_of(work: Callable[[], Any], device: str) -> tuple[float, Any]:
    """Return the seconds and the result of some work."""
    results: list[Any] = []
    return seconds_of(lambda: results.append(work()), device), results[0]
