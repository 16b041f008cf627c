"""A backbone without networks: heads on features that any models have computed before."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import WRONG_CONTENT, CheckpointError, DivergedError, InputError, printable, reason
from selavi_ref.heads.features import PairedFeatures, Standardizer
from selavi_ref.heads.network import Array, HeadNetwork, HeadShapes, cross_entropy, flat_views
from selavi_ref.heads.random_draws import dropout_mask, hash_seeds
from selavi_ref.runs.atomic import replacing
from selavi_ref.runs.setting_fields import check_settings, setting
from selavi_ref.selflabel.training_state import checked_state
from selavi_ref.store import WorkingStore

_MAX_BYTES = 1 << 28  # of the log-probabilities of a head that are held in memory
_UPDATE_BLOCK = 1 << 16  # parameters updated at a time, so that they stay in the processor's cache
_INPUT, _HIDDEN = 0, 1  # last but one entries of the seeds of the two dropouts


@dataclass(frozen=True)
class HeadOptions:
    """Architecture and optimiser of heads on features; the help of each field describes it."""

    hidden: int = setting(0, help="Width of a hidden layer; 0: heads are linear", minimum=0, option="hidden")
    dropout: float = setting(0.3, help="Dropout of the hidden layer", minimum=0, below=1)
    feature_dropout: float = setting(0.5, help="Dropout of the features, drawn once for all heads", minimum=0, below=1)
    momentum: float = setting(0.9, help="Momentum of gradient descent", minimum=0, below=1)
    weight_decay: float = setting(1e-5, help="Weight decay of gradient descent", minimum=0)

    def __post_init__(self) -> None:
        check_settings(self, "options.")


@dataclass
class FeatureBatch:
    """
    The clips of one training step; a clip is a video with its own dropout.

    Parameters
    ----------
    rows, clips : array
        Videos and clip numbers, int64, shape (B,).
    seed : tuple of int
        Seed of the dropout.
    failures : list of (int, str)
        Always empty: features need no decoding.
    """

    rows: NDArray[np.int64]
    clips: NDArray[np.int64]
    seed: tuple[int, ...]
    failures: list[tuple[int, str]] = field(default_factory=list)


class HeadsBackbone:
    """
    Heads on fixed features of two modalities, as a `selavi_ref.selflabel.backbone.Backbone` of one process.

    All randomness comes from the seeds that the training loop passes, so that checkpoints hold no random state.

    Parameters
    ----------
    standardizer : Standardizer
        Mean and standard deviation of the features; a loaded checkpoint replaces it.
    clusters : sequence of int
        Number of clusters of each head.
    options : HeadOptions
        Architecture and optimiser.
    features : PairedFeatures, optional
        Training data; without it, heads can only be loaded and applied.
    seed : int
        Seed of the initial weights.
    """

    def __init__(
        self,
        standardizer: Standardizer,
        clusters: Sequence[int],
        options: HeadOptions,
        *,
        features: PairedFeatures | None = None,
        seed: int = 0,
    ):
        self._features = features
        self.clusters = tuple(clusters)
        self.options = options
        self.standardizer = standardizer
        shapes = {m: HeadShapes(width, self.clusters, options.hidden) for m, width in standardizer.widths.items()}
        all_shapes = {f"{m}/{name}": shape for m, s in shapes.items() for name, shape in s.parameters.items()}
        size = sum(int(np.prod(shape)) for shape in all_shapes.values())
        self._parameters, self._gradients, self._velocity = (np.zeros(size, np.float32) for _ in range(3))
        rng = np.random.default_rng(seed)
        self.networks: dict[str, HeadNetwork] = {}
        for m in shapes:
            parameters, gradients = (
                {n.removeprefix(f"{m}/"): v for n, v in flat_views(vector, all_shapes) if n.startswith(f"{m}/")}
                for vector in (self._parameters, self._gradients)
            )
            self.networks[m] = HeadNetwork(shapes[m], parameters, gradients)
            self.networks[m].initialise(rng)
        self._view: tuple[range, tuple[int, ...] | None] = (range(0), None)

    @property
    def features(self) -> PairedFeatures:
        """
        The training data.

        Raises
        ------
        InputError
            If there is none.
        """
        if self._features is None:
            raise InputError("these heads have no features to learn from")
        return self._features

    @property
    def n_videos(self) -> int:
        """Number of videos N with both modalities."""
        return self.features.n_videos

    def batches(self, batches: Sequence[NDArray[np.int64]], seed: Sequence[int]) -> Iterator[FeatureBatch]:
        """Yield a batch for each array of clip numbers; see `selavi_ref.selflabel.backbone.Backbone`."""
        for clips in batches:
            yield FeatureBatch(clips % self.n_videos, clips, tuple(int(part) for part in seed))

    def warm_up(self, batches: Iterator[FeatureBatch]) -> None:
        """Update the running statistics of the batch norms by some batches, without learning."""
        for batch in batches:
            for m, network in self.networks.items():
                network.warm_up(self._dropped_out(m, batch.rows, batch.clips, batch.seed))

    def train_step(
        self, batch: FeatureBatch, labels: NDArray[np.int32], learning_rate: float, share: float = 1.0
    ) -> float:
        """Take one training step; see `selavi_ref.selflabel.backbone.Backbone`."""
        n = len(batch.rows)
        weight = 1 / (len(self.networks) * len(self.clusters))
        loss = 0.0
        for index, (m, network) in enumerate(self.networks.items()):
            x = self._dropped_out(m, batch.rows, batch.clips, batch.seed)
            key = hash_seeds(batch.seed, _HIDDEN, index)
            logits = network.forward(x, key, batch.clips, self.options.dropout)
            gradients = []
            for (heads, _), values in zip(network.shapes.groups, logits, strict=True):
                group_loss, gradient = cross_entropy(values, labels[:, heads], weight / n)
                loss += group_loss
                gradients.append(gradient)
            network.backward(gradients)
        self._update(learning_rate)
        return loss * weight / n

    def datasets(self) -> dict[str, int]:
        """Return names and widths of the features' data sets."""
        return {f"features/{m}": width for m, width in self.standardizer.widths.items()}

    def write_features(self, store: WorkingStore, rows: range, seed: Sequence[int] | None) -> None:
        """Note the rows and the seed for `write_log_prob`; the features themselves need not be copied."""
        self._view = rows, None if seed is None else tuple(int(part) for part in seed)

    def write_log_prob(self, store: WorkingStore, head: int, name: str) -> None:
        """Write one head's log-probabilities; see `selavi_ref.selflabel.backbone.Backbone`."""
        for m in self.networks:
            dataset = f"log_prob/{m}/{name}"
            with store.rewrite(dataset) as write:
                for block, log_prob in self._log_prob(store, m, head):
                    write(block, {dataset: log_prob})

    def joint_log_prob(self, store: WorkingStore, head: int, only: str | None = None) -> Array | None:
        """Return one head's joint log-probabilities; see `selavi_ref.selflabel.backbone.Backbone`."""
        shape = store.n_videos, self.clusters[head]
        if 4 * shape[0] * shape[1] > _MAX_BYTES:
            return None
        joint = np.zeros(shape, np.float32)
        for m in [only] if only else self.networks:
            for block, log_prob in self._log_prob(store, m, head):
                joint[block] += log_prob
        return joint

    def _log_prob(self, store: WorkingStore, modality: str, head: int) -> Iterator[tuple[slice, Array]]:
        """Yield blocks of rows with the log-probabilities of one head of one modality."""
        rows, seed = self._view
        for block in store.blocks(8192):
            own = np.arange(rows.start + block.start, rows.start + block.stop)
            x = self.features.rows(modality, own) if seed is None else self._dropped_out(modality, own, own, seed)
            yield block, self.networks[modality].log_prob(x, head)

    def permute(self, head: int, permutation: NDArray[np.int64]) -> None:
        """Reorder the outputs of a head of the second modality."""
        list(self.networks.values())[1].permute(head, permutation)

    def save(self, path: Path, state: Mapping[str, Any]) -> None:
        """Write weights, optimiser, batch norms, standardizer and the caller's state as one ``.npz``, atomically."""
        if not np.isfinite(self._parameters).all():
            raise DivergedError("the weights became infinite or NaN")
        content: dict[str, Any] = {"parameters": self._parameters, "velocity": self._velocity}
        for m, network in self.networks.items():
            content |= {f"{m}/mean": network.mean, f"{m}/variance": network.variance}
            content |= {f"{m}/level": np.stack(self.standardizer.values[m])}
        content |= {f"state/{key}": np.asarray(value) for key, value in state.items()}
        with replacing(path) as file:
            np.savez(file, **content)

    def load(self, path: Path) -> dict[str, Any]:
        """Load what `save` wrote, and return the caller's state; see `selavi_ref.selflabel.backbone.Backbone`."""
        content = read_checkpoint(path)
        try:
            expected = {"parameters": self._parameters, "velocity": self._velocity}
            for m, network in self.networks.items():
                expected |= {f"{m}/mean": network.mean, f"{m}/variance": network.variance}
                expected |= {f"{m}/level": np.stack(self.standardizer.values[m])}
            for name, values in expected.items():
                if content[name].shape != values.shape or content[name].dtype.kind != "f":
                    raise ValueError(f"{name} is of another shape or type")
            self._parameters[:], self._velocity[:] = content["parameters"], content["velocity"]
            for m, network in self.networks.items():
                network.mean, network.variance = content[f"{m}/mean"], content[f"{m}/variance"]
            self.standardizer = standardizer_of(content)
        except WRONG_CONTENT as error:
            raise InputError(f"{printable(path)} does not fit the heads of this run: {error}", path=path) from error
        state = {key.removeprefix("state/"): value for key, value in content.items() if key.startswith("state/")}
        return checked_state(state, path, clusters=self.clusters)

    def _dropped_out(
        self, modality: str, rows: NDArray[np.int64], clips: NDArray[np.int64], seed: Sequence[int]
    ) -> NDArray[np.float32]:
        """Return features after dropout, which depends on the seed and the clip numbers alone."""
        x = self.features.rows(modality, rows)
        dropout = self.options.feature_dropout
        if not dropout:
            return x
        key = hash_seeds(seed, _INPUT, list(self.networks).index(modality))
        result: Array = x * dropout_mask(key, clips, x.shape[1], dropout)
        result *= np.float32(1 / (1 - dropout))
        return result

    def _update(self, learning_rate: float) -> None:
        """Update the parameters by stochastic gradient descent with momentum and weight decay."""
        o = self.options
        for start in range(0, len(self._parameters), _UPDATE_BLOCK):
            part = slice(start, start + _UPDATE_BLOCK)
            weights, gradients, velocity = self._parameters[part], self._gradients[part], self._velocity[part]
            gradients += np.float32(o.weight_decay) * weights
            velocity *= np.float32(o.momentum)
            velocity += gradients
            weights -= np.float32(learning_rate) * velocity


def read_checkpoint(path: Path) -> dict[str, NDArray[Any]]:
    """
    Read a checkpoint; checksums of all its bytes are verified.

    Raises
    ------
    CheckpointError
        If it is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except OSError as error:
        raise CheckpointError(f"{printable(path)} cannot be read: {reason(error)}", path=path) from error
    except (EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error, *WRONG_CONTENT) as error:
        raise CheckpointError(f"{printable(path)} is damaged or missing", path=path) from error


def standardizer_of(checkpoint: Mapping[str, NDArray[Any]]) -> Standardizer:
    """Return the standardizer of a checkpoint, its modalities in their order."""
    names = [name.removesuffix("/level") for name in checkpoint if name.endswith("/level")]
    return Standardizer({name: (checkpoint[f"{name}/level"][0], checkpoint[f"{name}/level"][1]) for name in names})
