"""The heads of one modality in NumPy: forward and backward pass of all heads at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from selavi_ref.heads.random_draws import dropout_mask

Array = NDArray[np.float32]

_EPS = 1e-5  # added to variances by the batch norm
_MOMENTUM = 0.1  # of the running mean and variance of the batch norm


@dataclass(frozen=True)
class HeadShapes:
    """
    Shapes of the parameters of all heads of one modality.

    Parameters
    ----------
    width : int
        Number of features D.
    clusters : tuple of int
        Number of clusters K of each head.
    hidden : int
        Width of the hidden layer; 0: heads are single linear layers.
    """

    width: int
    clusters: tuple[int, ...]
    hidden: int

    @property
    def groups(self) -> list[tuple[slice, int]]:
        """Runs of heads with the same number of clusters K, which are computed together, each with its K."""
        groups: list[tuple[slice, int]] = []
        start = 0
        for K, members in groupby(self.clusters):
            stop = start + len(list(members))
            groups.append((slice(start, stop), K))
            start = stop
        return groups

    @property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each parameter."""
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
    All heads of one modality; each is linear (no bias), batch norm, ReLU, linear, as published, or only linear.

    Dropout precedes each linear layer: the caller applies that of the features, which all heads share; that of the
    hidden layer differs between heads.

    Parameters
    ----------
    shapes : HeadShapes
        Shapes of the parameters.
    parameters, gradients : dict of str to array
        float32, of the shapes `HeadShapes.parameters`; `backward` writes the gradients.
    """

    def __init__(self, shapes: HeadShapes, parameters: dict[str, Array], gradients: dict[str, Array]):
        self.shapes = shapes
        self.parameters = parameters
        self.gradients = gradients
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

    def forward(self, x: Array, key: int, clips: NDArray[np.int64], dropout: float) -> list[Array]:
        """
        Return the logits in training mode, and save what `backward` needs.

        Parameters
        ----------
        x : array
            Features, float32, shape (B, D).
        key, clips
            Seed of the dropout, and clip numbers (B,); see `selavi_ref.heads.random_draws`.
        dropout : float
            Dropout probability of the hidden layer.

        Returns
        -------
        list of array
            Logits of each group of heads, shape (heads, B, K).
        """
        self._x = x
        inner = x[None]
        if self.shapes.hidden:
            y = self._batch_norm(x @ self.parameters["first"])
            # The scaling of dropout is applied before ReLU, which does not change the result.
            self._scale = np.float32(1 / (1 - dropout))
            z = y * (self.parameters["gain"] * self._scale)
            z += self.parameters["shift"] * self._scale
            np.maximum(z, 0, out=z)
            if dropout:
                z *= dropout_mask(key, clips, z.shape[1], dropout)
            self._y, self._z = y, z
            inner = self._by_head(z)
        return [
            inner[heads if self.shapes.hidden else slice(None)] @ self.parameters[f"last_{index}"]
            + self.parameters[f"bias_{index}"][:, None]
            for index, (heads, _) in enumerate(self.shapes.groups)
        ]

    def backward(self, logit_gradients: Sequence[Array]) -> None:
        """Write the gradients of the parameters, given those of the logits that `forward` returned."""
        hidden = self.shapes.hidden
        inner = self._by_head(self._z) if hidden else self._x[None]
        inner_gradient = np.empty_like(self._z) if hidden else None
        for index, (heads, _) in enumerate(self.shapes.groups):
            gradient, last = logit_gradients[index], self.parameters[f"last_{index}"]
            inputs = inner[heads] if hidden else inner
            np.matmul(inputs.transpose(0, 2, 1), gradient, out=self.gradients[f"last_{index}"])
            gradient.sum(1, out=self.gradients[f"bias_{index}"])
            if inner_gradient is not None:
                np.matmul(gradient, last.transpose(0, 2, 1), out=self._by_head(inner_gradient)[heads])
        if inner_gradient is not None:
            self._first_layer_backward(inner_gradient)

    def warm_up(self, x: Array) -> None:
        """Update the running statistics of the batch norm by a batch of features (B, D)."""
        if self.shapes.hidden:
            self._batch_norm(x @ self.parameters["first"])

    def log_prob(self, x: Array, head: int) -> Array:
        """Return the log-probabilities (B, K) of one head for features (B, D), in evaluation mode."""
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
        """Reorder the outputs of a head: output k becomes what output ``permutation[k]`` was."""
        weights, bias = self._last(head)
        weights[:], bias[:] = weights[:, permutation], bias[permutation]

    def _last(self, head: int) -> tuple[Array, Array]:
        """Return views of the weights and the bias of the last layer of a head."""
        for index, (heads, _) in enumerate(self.shapes.groups):
            if head < heads.stop:
                return tuple(self.parameters[f"{name}_{index}"][head - heads.start] for name in ("last", "bias"))
        raise IndexError(head)

    def _by_head(self, z: Array) -> Array:
        """Return hidden units (B, H * hidden) as a view (H, B, hidden)."""
        return z.reshape(len(z), len(self.shapes.clusters), self.shapes.hidden).transpose(1, 0, 2)

    def _batch_norm(self, a: Array) -> Array:
        """Bring the columns to mean 0 and variance 1 in place, and update the running mean and variance."""
        n = len(a)
        mean = (a.sum(0).astype(np.float64) / n).astype(np.float32)
        a -= mean
        variance = (np.einsum("bc,bc->c", a, a).astype(np.float64) / n).astype(np.float32)
        self._inverse_std = 1 / np.sqrt(variance + np.float32(_EPS))
        a *= self._inverse_std
        self.mean += np.float32(_MOMENTUM) * (mean - self.mean)
        self.variance += np.float32(_MOMENTUM) * (variance * np.float32(n / max(n - 1, 1)) - self.variance)
        return a

    def _first_layer_backward(self, gradient: Array) -> None:
        """Backpropagate from the hidden units (B, H * hidden) through ReLU, dropout, batch norm and first layer."""
        gradient *= self._z > 0
        gradient *= self._scale
        gain, shift = np.einsum("bc,bc->c", gradient, self._y), gradient.sum(0)
        self.gradients["gain"][:], self.gradients["shift"][:] = gain, shift
        n = len(gradient)
        gradient -= (shift.astype(np.float64) / n).astype(np.float32)
        self._y *= (gain.astype(np.float64) / n).astype(np.float32)
        gradient -= self._y
        gradient *= self.parameters["gain"] * self._inverse_std
        np.matmul(self._x.T, gradient, out=self.gradients["first"])


def log_softmax(logits: Array) -> Array:
    """Return the log-softmax over the last axis; it overwrites the logits."""
    logits -= logits.max(-1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
    return logits


def cross_entropy(logits: Array, labels: NDArray[np.int32], weight: float) -> tuple[float, Array]:
    """
    Return the summed cross-entropy, and the gradient of `weight` times it with respect to the logits.

    Parameters
    ----------
    logits : array
        float32, shape (heads, B, K); overwritten.
    labels : array
        int32, shape (B, heads).
    weight : float
        Weight of each clip and head in the loss.
    """
    log_prob = log_softmax(logits)
    targets = labels.T[:, :, None]
    loss = -float(np.take_along_axis(log_prob, targets, 2).sum(dtype=np.float64))
    gradient = np.exp(log_prob, out=log_prob)
    np.put_along_axis(gradient, targets, np.take_along_axis(gradient, targets, 2) - 1, 2)
    gradient *= np.float32(weight)
    return loss, gradient


def flat_views(vector: Array, shapes: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, Array]]:
    """Split a vector into consecutive views of the given names and shapes."""
    start = 0
    for name, shape in shapes.items():
        stop = start + int(np.prod(shape))
        yield name, vector[start:stop].reshape(shape)
        start = stop
