"""The heads of one modality in NumPy: from features to the logits of every head, and backwards, all heads at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from selavi_ref.heads.random_draws import kept
from selavi_ref.runs.processes import Exchange

Array = NDArray[np.float32]

_EPS = 1e-5  # of the batch norm
_MOMENTUM = 0.1  # of its running statistics


@dataclass(frozen=True)
class HeadShapes:
    """
    Shapes of the heads of one modality.

    Parameters
    ----------
    width : int
        Features D.
    clusters : tuple of int
        Clusters K of each head.
    hidden : int
        Width of the hidden layer; 0: heads are single linear layers.
    """

    width: int
    clusters: tuple[int, ...]
    hidden: int

    @property
    def groups(self) -> list[tuple[slice, int]]:
        """Neighbouring heads with the same number of clusters, which are computed together, and that number."""
        found: list[tuple[slice, int]] = []
        start = 0
        for K, members in groupby(self.clusters):
            stop = start + len(list(members))
            found.append((slice(start, stop), K))
            start = stop
        return found

    @property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of what is learnt."""
        H, inner = len(self.clusters), self.hidden or self.width
        shapes: dict[str, tuple[int, ...]] = {}
        if self.hidden:
            shapes |= {"first": (self.width, H * self.hidden), "gain": (H * self.hidden,), "shift": (H * self.hidden,)}
        for index, (heads, K) in enumerate(self.groups):
            n = heads.stop - heads.start
            shapes |= {f"last_{index}": (n, inner, K), f"bias_{index}": (n, K)}
        return shapes


class HeadNetwork:
    """
    The heads of one modality: D features - linear without bias - batch norm - ReLU - linear - K logits, as published.

    Dropout comes before each linear layer: that of the features is drawn once for all heads, by the caller; that of the
    hidden layer for each head by itself.

    Parameters
    ----------
    shapes : HeadShapes
        What it consists of.
    parameters, gradients : mapping of str to array
        float32, as `HeadShapes.parameters` says: read, and written by `backward`.
    exchange : Exchange
        With the processes that learn the same batches.
    """

    def __init__(
        self, shapes: HeadShapes, parameters: dict[str, Array], gradients: dict[str, Array], exchange: Exchange
    ):
        self.shapes = shapes
        self.parameters = parameters
        self.gradients = gradients
        self.exchange = exchange
        columns = len(shapes.clusters) * shapes.hidden
        self.mean = np.zeros(columns, np.float32)
        self.variance = np.ones(columns, np.float32)

    def initialise(self, rng: np.random.Generator) -> None:
        """Draw weights and biases uniformly within 1 / sqrt(inputs)."""
        inner = self.shapes.hidden or self.shapes.width
        for name, values in self.parameters.items():
            if name in ("gain", "shift"):
                values[:] = name == "gain"
            else:
                limit = (self.shapes.width if name == "first" else inner) ** -0.5
                values[:] = rng.uniform(-limit, limit, values.shape)

    def forward(self, x: Array, n: float, key: int, clips: NDArray[np.int64], dropout: float) -> list[Array]:
        """
        Compute logits for learning, and keep what `backward` needs.

        Parameters
        ----------
        x : array
            Features, shape (B, D).
        n : float
            Clips of the batch in all processes.
        key, clips
            Of the dropout; see `selavi_ref.heads.random_draws`.
        dropout : float
            Of the hidden layer.

        Returns
        -------
        list of array
            Logits of each group of heads, shape (heads, B, K).
        """
        self._x, self._n = x, n
        inner = x[None]
        if self.shapes.hidden:
            y = self._normalised(x @ self.parameters["first"])
            # What dropout leaves is scaled up; ReLU and scaling may change places.
            self._scale = np.float32(1 / (1 - dropout))
            z = y * (self.parameters["gain"] * self._scale)
            z += self.parameters["shift"] * self._scale
            np.maximum(z, 0, out=z)
            if dropout:
                z *= kept(key, clips, z.shape[1], dropout)
            self._y, self._z = y, z
            inner = self._by_head(z)
        return [
            inner[heads if self.shapes.hidden else slice(None)] @ self.parameters[f"last_{index}"]
            + self.parameters[f"bias_{index}"][:, None]
            for index, (heads, _) in enumerate(self.shapes.groups)
        ]

    def backward(self, slopes: Sequence[Array]) -> None:
        """Write the gradients of this process's clips, given the slopes of the loss in the logits of `forward`."""
        hidden = self.shapes.hidden
        inner = self._by_head(self._z) if hidden else self._x[None]
        back = np.empty_like(self._z) if hidden else None
        for index, (heads, _) in enumerate(self.shapes.groups):
            slope, last = slopes[index], self.parameters[f"last_{index}"]
            of_heads = inner[heads] if hidden else inner
            np.matmul(of_heads.transpose(0, 2, 1), slope, out=self.gradients[f"last_{index}"])
            slope.sum(1, out=self.gradients[f"bias_{index}"])
            if back is not None:
                np.matmul(slope, last.transpose(0, 2, 1), out=self._by_head(back)[heads])
        if back is not None:
            self._first_layer_backward(back)

    def warm_up(self, x: Array, n: float) -> None:
        """Let the running statistics see a batch."""
        if self.shapes.hidden:
            self._n = n
            self._normalised(x @ self.parameters["first"])

    def log_prob(self, x: Array, head: int) -> Array:
        """Return the log-probabilities (B, K) of one head for features (B, D), as they are when not learning."""
        hidden, parameters = self.shapes.hidden, self.parameters
        if hidden:
            columns = slice(head * hidden, (head + 1) * hidden)
            scale = parameters["gain"][columns] / np.sqrt(self.variance[columns] + np.float32(_EPS))
            x = x @ parameters["first"][:, columns]
            x -= self.mean[columns]
            x *= scale
            x += parameters["shift"][columns]
            np.maximum(x, 0, out=x)
        weights, bias = self._last(head)
        logits = x @ weights
        logits += bias
        return log_softmax(logits)

    def permute(self, head: int, permutation: NDArray[np.int64]) -> None:
        """Give output k of a head what output ``permutation[k]`` computed before."""
        weights, bias = self._last(head)
        weights[:], bias[:] = weights[:, permutation], bias[permutation]

    def _last(self, head: int) -> tuple[Array, Array]:
        """Return weights and bias of the last layer of a head, to be changed in place."""
        for index, (heads, _) in enumerate(self.shapes.groups):
            if head < heads.stop:
                return tuple(self.parameters[f"{name}_{index}"][head - heads.start] for name in ("last", "bias"))
        raise IndexError(head)

    def _by_head(self, z: Array) -> Array:
        """Return a view (H, B, hidden) of hidden units (B, H * hidden)."""
        return z.reshape(len(z), len(self.shapes.clusters), self.shapes.hidden).transpose(1, 0, 2)

    def _normalised(self, a: Array) -> Array:
        """Return the columns with mean 0 and variance 1 over the whole batch, and remember both, and for later use."""
        n = self._n
        mean = (self._total(a.sum(0)) / n).astype(np.float32)
        a -= mean
        variance = (self._total(np.einsum("bc,bc->c", a, a)) / n).astype(np.float32)
        self._inverse = 1 / np.sqrt(variance + np.float32(_EPS))
        a *= self._inverse
        self.mean += np.float32(_MOMENTUM) * (mean - self.mean)
        self.variance += np.float32(_MOMENTUM) * (variance * np.float32(n / max(n - 1, 1)) - self.variance)
        return a

    def _first_layer_backward(self, slope: Array) -> None:
        """Go back from the slopes in the hidden units (B, H * hidden): ReLU and dropout, batch norm, first layer."""
        slope *= self._z > 0
        slope *= self._scale
        gain, shift = slope_sums = np.einsum("bc,bc->c", slope, self._y), slope.sum(0)
        self.gradients["gain"][:], self.gradients["shift"][:] = slope_sums
        gain, shift = np.split((self._total(np.concatenate(slope_sums)) / self._n).astype(np.float32), 2)
        slope -= shift
        self._y *= gain
        slope -= self._y
        slope *= self.parameters["gain"] * self._inverse
        np.matmul(self._x.T, slope, out=self.gradients["first"])

    def _total(self, sums: Array) -> NDArray[np.float64]:
        return self.exchange.all_sum(sums.astype(np.float64))


def log_softmax(logits: Array) -> Array:
    """Return logarithms of the softmax over the last axis; the logits are written over."""
    logits -= logits.max(-1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
    return logits


def cross_entropy(logits: Array, labels: NDArray[np.int32], weight: float) -> tuple[float, Array]:
    """
    Return the sum of the cross-entropies, and the slopes of `weight` times that sum in the logits.

    Parameters
    ----------
    logits : array
        Shape (heads, B, K); written over.
    labels : array
        int32, shape (B, heads).
    weight : float
        Of each clip and head in the loss.
    """
    log_prob = log_softmax(logits)
    truth = labels.T[:, :, None]
    loss = -float(np.take_along_axis(log_prob, truth, 2).sum(dtype=np.float64))
    slopes = np.exp(log_prob, out=log_prob)
    np.put_along_axis(slopes, truth, np.take_along_axis(slopes, truth, 2) - 1, 2)
    slopes *= np.float32(weight)
    return loss, slopes


def flat_views(vector: Array, shapes: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, Array]]:
    """Yield the parts of a vector, one after the other, in the shapes that they are to have."""
    start = 0
    for name, shape in shapes.items():
        stop = start + int(np.prod(shape))
        yield name, vector[start:stop].reshape(shape)
        start = stop
