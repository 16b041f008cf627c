"""The backbone whose networks are heads alone: it learns from features that any models have computed before."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import CheckpointError, DivergedError, InputError, printable
from selavi_ref.heads import random_draws as draws
from selavi_ref.heads.features import PairedFeatures, Standardizer
from selavi_ref.heads.network import Array, HeadNetwork, HeadShapes, cross_entropy, flat_views
from selavi_ref.runs.atomic import replacing
from selavi_ref.runs.processes import Exchange, SingleProcess
from selavi_ref.store import WorkingStore

_CACHED = 1 << 16  # parameters that are updated at a time, so that they stay near the processor
_INPUT, _HIDDEN = 0, 1  # what a clip's random draws are for


@dataclass(frozen=True)
class HeadOptions:
    """
    What the heads are and how they learn, apart from the loop.

    Parameters
    ----------
    hidden : int
        Width of the hidden layer; 0: heads are single linear layers.
    dropout : float
        Of the hidden layer.
    feature_dropout : float
        Of the features, drawn once for all heads.
    momentum, weight_decay : float
        Of the optimiser.
    """

    hidden: int = 0
    dropout: float = 0.3
    feature_dropout: float = 0.5
    momentum: float = 0.9
    weight_decay: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("dropout", "feature_dropout", "momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"options.{name} is {getattr(self, name)}; it must be from 0 to below 1")


@dataclass
class FeatureBatch:
    """Features of some clips: a clip is a video, differently varied."""

    rows: NDArray[np.int64]
    clips: NDArray[np.int64]
    seed: tuple[int, ...]
    failures: list[tuple[int, str]] = field(default_factory=list)


class HeadsBackbone:
    """
    Heads on fixed features of two modalities; it carries out the `selavi_ref.selflabel.backbone.Backbone` contract.

    All randomness comes from the seeds that the loop gives, so that a run needs no random state to go on exactly.

    Parameters
    ----------
    level : Level
        Of the features; a checkpoint that is loaded brings its own.
    clusters : sequence of int
        Number of clusters of each head.
    options : HeadOptions
        What the heads are.
    collection : Collection, optional
        The features to learn from; without them, heads can only be loaded and applied.
    seed : int
        Of the initial weights.
    exchange : Exchange
        With the processes that learn together.
    """

    def __init__(
        self,
        level: Standardizer,
        clusters: Sequence[int],
        options: HeadOptions,
        *,
        collection: PairedFeatures | None = None,
        seed: int = 0,
        exchange: Exchange = SingleProcess(),  # noqa: B008
    ):
        self._collection = collection
        self.clusters = tuple(clusters)
        self.options = options
        self.exchange = exchange
        self.level = level
        shapes = {m: HeadShapes(width, self.clusters, options.hidden) for m, width in level.widths.items()}
        whole = {f"{m}/{name}": shape for m, s in shapes.items() for name, shape in s.parameters.items()}
        size = sum(int(np.prod(shape)) for shape in whole.values())
        self._parameters, self._gradients, self._velocity = (np.zeros(size, np.float32) for _ in range(3))
        rng = np.random.default_rng(seed)
        self.networks: dict[str, HeadNetwork] = {}
        for m in shapes:
            parameters, gradients = (
                {n.removeprefix(f"{m}/"): v for n, v in flat_views(vector, whole) if n.startswith(f"{m}/")}
                for vector in (self._parameters, self._gradients)
            )
            self.networks[m] = HeadNetwork(shapes[m], parameters, gradients, exchange)
            self.networks[m].initialise(rng)
        self._look: tuple[range, tuple[int, ...] | None] = (range(0), None)

    @property
    def collection(self) -> PairedFeatures:
        """The features to learn from."""
        if self._collection is None:
            raise InputError("these heads have no features to learn from")
        return self._collection

    @property
    def n_videos(self) -> int:
        """Number of videos that can be learnt from."""
        return self.collection.n_videos

    def batches(self, batches: Sequence[NDArray[np.int64]], seed: Sequence[int]) -> Iterator[FeatureBatch]:
        """Yield the clips asked for; see `selavi_ref.selflabel.backbone.Backbone`."""
        for clips in batches:
            yield FeatureBatch(clips % self.n_videos, clips, tuple(int(part) for part in seed))

    def warm_up(self, batches: Iterator[FeatureBatch]) -> None:
        """Let the batch norms see some batches."""
        for batch in batches:
            n = float(self.exchange.all_sum(np.array([float(len(batch.rows))]))[0])
            for m, network in self.networks.items():
                network.warm_up(self._varied(m, batch.rows, batch.clips, batch.seed), n)

    def train_step(
        self, batch: FeatureBatch, labels: NDArray[np.int32], learning_rate: float, share: float = 1.0
    ) -> float:
        """Learn a batch; see `selavi_ref.selflabel.backbone.Backbone`."""
        n = len(batch.rows) / share
        weight = 1 / (len(self.networks) * len(self.clusters))
        loss = 0.0
        for index, (m, network) in enumerate(self.networks.items()):
            x = self._varied(m, batch.rows, batch.clips, batch.seed)
            key = draws.key_of(batch.seed, _HIDDEN, index)
            logits = network.forward(x, n, key, batch.clips, self.options.dropout)
            slopes = []
            for (heads, _), values in zip(network.shapes.groups, logits, strict=True):
                of_group, slope = cross_entropy(values, labels[:, heads], weight / n)
                loss += of_group
                slopes.append(slope)
            network.backward(slopes)
        if self.exchange.size > 1:
            self._gradients[:] = self.exchange.all_sum(self._gradients.astype(np.float64))
        self._descend(learning_rate)
        return loss * weight / len(batch.rows)

    def datasets(self) -> dict[str, int]:
        """Return names and widths of the features, which stay where they are."""
        return {f"features/{m}": width for m, width in self.level.widths.items()}

    def write_features(self, store: WorkingStore, rows: range, seed: Sequence[int] | None) -> None:
        """Remember which features are to be looked at, and how: they need not be copied."""
        self._look = rows, None if seed is None else tuple(int(part) for part in seed)

    def write_log_prob(self, store: WorkingStore, head: int, name: str) -> None:
        """Write one head's log-probabilities; see `selavi_ref.selflabel.backbone.Backbone`."""
        rows, seed = self._look
        for m, network in self.networks.items():
            dataset = f"log_prob/{m}/{name}"
            with store.rewrite(dataset) as write:
                for block in store.blocks(8192):
                    numbers = np.arange(rows.start + block.start, rows.start + block.stop)
                    x = self.collection.rows(m, numbers) if seed is None else self._varied(m, numbers, numbers, seed)
                    write(block, {dataset: network.log_prob(x, head)})

    def permute(self, head: int, permutation: NDArray[np.int64]) -> None:
        """Reorder the outputs of a head of the second modality."""
        list(self.networks.values())[1].permute(head, permutation)

    def save(self, path: Path, state: Mapping[str, Any]) -> None:
        """Write weights, optimiser, statistics and the caller's state as one ``.npz``, whole or not at all."""
        if not np.isfinite(self._parameters).all():
            raise DivergedError("the weights became infinite or NaN")
        if self.exchange.rank > 0:
            return
        content: dict[str, Any] = {"parameters": self._parameters, "velocity": self._velocity}
        for m, network in self.networks.items():
            content |= {f"{m}/mean": network.mean, f"{m}/variance": network.variance}
            content |= {f"{m}/level": np.stack(self.level.values[m])}
        content |= {f"state/{key}": np.asarray(value) for key, value in state.items()}
        with replacing(path) as file:
            np.savez(file, **content)

    def load(self, path: Path) -> dict[str, Any]:
        """Take over what `save` wrote, and return the caller's state; see `selavi_ref.selflabel.backbone.Backbone`."""
        content = read_checkpoint(path)
        try:
            if content["parameters"].shape != self._parameters.shape:
                raise InputError(f"{printable(path)} does not fit the heads of this run")
            self._parameters[:], self._velocity[:] = content["parameters"], content["velocity"]
            for m, network in self.networks.items():
                network.mean, network.variance = content[f"{m}/mean"], content[f"{m}/variance"]
            self.level = standardizer_of(content)
        except (KeyError, ValueError) as error:
            raise InputError(f"{printable(path)} does not fit the heads of this run: {error}") from error
        return {key.removeprefix("state/"): value for key, value in content.items() if key.startswith("state/")}

    def _varied(
        self, modality: str, rows: NDArray[np.int64], clips: NDArray[np.int64], seed: Sequence[int]
    ) -> NDArray[np.float32]:
        """Return features with some of them left out, as the seed and the numbers of the clips say."""
        x = self.collection.rows(modality, rows)
        left_out = self.options.feature_dropout
        if not left_out:
            return x
        key = draws.key_of(seed, _INPUT, list(self.networks).index(modality))
        varied: Array = x * draws.kept(key, clips, x.shape[1], left_out)
        varied *= np.float32(1 / (1 - left_out))
        return varied

    def _descend(self, learning_rate: float) -> None:
        """Take a step of gradient descent with momentum."""
        o = self.options
        for start in range(0, len(self._parameters), _CACHED):
            part = slice(start, start + _CACHED)
            weights, slopes, velocity = self._parameters[part], self._gradients[part], self._velocity[part]
            slopes += np.float32(o.weight_decay) * weights
            velocity *= np.float32(o.momentum)
            velocity += slopes
            weights -= np.float32(learning_rate) * velocity


def read_checkpoint(path: Path) -> dict[str, NDArray[Any]]:
    """
    Read a checkpoint, every byte of which is checked.

    Raises
    ------
    CheckpointError
        If it is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{printable(path)} is damaged or missing") from error


def standardizer_of(checkpoint: Mapping[str, NDArray[Any]]) -> Standardizer:
    """Return the level of the features that a checkpoint's heads learnt from, in the order of the modalities."""
    names = [name.removesuffix("/level") for name in checkpoint if name.endswith("/level")]
    return Standardizer({name: (checkpoint[f"{name}/level"][0], checkpoint[f"{name}/level"][1]) for name in names})
