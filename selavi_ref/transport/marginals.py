"""Cluster marginals: the target sizes of the K clusters as fractions, of sum 1."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from selavi_ref.errors import InputError

Marginal = NDArray[np.float64]


def uniform(K: int) -> Marginal:
    """Return K equal sizes."""
    return np.full(_positive(K), 1.0 / K)


def gaussian(K: int, N: int, sd: float = 0.1, rng: np.random.Generator | None = None) -> Marginal:
    """Return normally distributed sizes ``(1 + sd * normal) * N / K`` as fractions of N, each at least one video.

    The marginal of Asano et al. (2020), *Labelling unlabelled videos from scratch*, but with sizes above zero.

    Parameters
    ----------
    K, N : int
        Clusters and videos.
    sd : float
        Standard deviation of the sizes relative to their mean.
    rng : numpy.random.Generator, optional
        Random generator; a new one by default.
    """
    if not (np.isfinite(sd) and sd >= 0):
        raise InputError(f"the standard deviation of cluster sizes must be at least 0, not {sd}", option="sd", value=sd)
    rng = np.random.default_rng() if rng is None else rng
    return _at_least_one(1.0 + sd * rng.standard_normal(_positive(K)), N)


def zipf(K: int, N: int, exponent: float = 1.0) -> Marginal:
    """Return sizes proportional to ``1 / rank ** exponent``, each at least one video of N."""
    if not np.isfinite(exponent):
        message = f"the exponent of Zipf's law must be finite, not {exponent}"
        raise InputError(message, option="exponent", value=exponent)
    return _at_least_one(np.arange(1, _positive(K) + 1, dtype=np.float64) ** -exponent, N)


def given(sizes: ArrayLike, K: int) -> Marginal:
    """Return ``sizes`` (K,) divided by their sum; a cluster of size zero stays empty.

    Raises
    ------
    InputError
        If there are not K of them, one is negative or not finite (its position is named), or all are zero.
    """
    try:
        marginal = np.array(sizes, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"cluster sizes must be numbers: {error}", option="sizes") from None
    if marginal.shape != (K,):
        message = f"cluster sizes have shape {marginal.shape}, but there are {K} clusters: give shape ({K},)"
        raise InputError(message, option="sizes")
    wrong = ~(np.isfinite(marginal) & (marginal >= 0))
    if wrong.any():
        k = int(np.argmax(wrong))
        message = f"the size of cluster {k} is {marginal[k]}; sizes must be finite and not negative"
        raise InputError(message, option="sizes", value=float(marginal[k]), column=k)
    if not marginal.any():
        raise InputError("all cluster sizes are zero; at least one must be positive", option="sizes")
    marginal /= marginal.max()
    return np.asarray(marginal / marginal.sum())


def read(path: str | Path, K: int) -> Marginal:
    """Read K sizes from a ``.npy`` file, or from a text file with numbers between spaces, commas or line ends.

    Raises
    ------
    InputError
        In one line that names the file, if it is missing or does not hold K sizes.
    """
    path = Path(path)
    try:
        if path.suffix == ".npy":
            sizes: Any = np.load(path, allow_pickle=False).reshape(-1)
        else:
            lines = (line.partition("#")[0] for line in path.read_text(encoding="utf-8").splitlines())
            sizes = [float(word) for word in " ".join(lines).replace(",", " ").replace(";", " ").split()]
        return given(sizes, K)
    except OSError as error:
        raise InputError(f"cluster sizes cannot be read from {path}: {error.strerror or error}", path=path) from None
    except (ValueError, EOFError) as error:
        raise InputError(f"{path} does not hold {K} cluster sizes: {error}", path=path) from None


def make(spec: str, K: int, N: int, rng: np.random.Generator | None = None) -> Marginal:
    """Return the marginal called ``uniform``, ``gaussian`` or ``zipf``, or read it from the file ``spec``."""
    named: dict[str, Callable[[], Marginal]] = {
        "uniform": lambda: uniform(K),
        "gaussian": lambda: gaussian(K, N, rng=rng),
        "zipf": lambda: zipf(K, N),
    }
    if spec in named:
        return named[spec]()
    if not Path(spec).exists():
        message = f"distribution {spec!r} is neither {', '.join(named)} nor a file that exists"
        raise InputError(message, option="spec", value=spec)
    return read(spec, K)


def match(marginal: Marginal, mass: ArrayLike) -> Marginal:
    """Permute ``marginal`` so that the cluster with the largest ``mass`` (K,) gets the largest size, and so on.

    Among clusters of equal mass the first gets the larger size.
    """
    mass = np.asarray(mass, dtype=np.float64)
    if mass.shape != marginal.shape:
        message = f"mass has shape {mass.shape}, the marginal {marginal.shape}; they must be equal"
        raise InputError(message, option="mass")
    matched = np.empty_like(marginal)
    matched[np.argsort(-mass, kind="stable")] = -np.sort(-marginal)
    return matched


def _positive(K: int) -> int:
    if K < 1:
        raise InputError(f"the number of clusters must be at least 1, not {K}", option="K", value=K)
    return K


def _at_least_one(sizes: Marginal, N: int) -> Marginal:
    """Scale sizes to sum 1 with none below 1 / N: those below are set to it, the others are scaled to the rest."""
    K = len(sizes)
    if N < K:
        message = f"{K} clusters of at least one video need {K} videos, but there are {N}"
        raise InputError(message, option="N", value=N)
    marginal = np.maximum(sizes, 0.0)
    if not marginal.any():
        return uniform(K)
    small = np.zeros(K, dtype=bool)
    while True:
        rest = marginal[~small].sum()
        scaled = np.where(small, 1.0 / N, marginal * ((1.0 - small.sum() / N) / rest))
        below = scaled < 1.0 / N
        if not (below & ~small).any():
            return np.asarray(scaled / scaled.sum())
        small |= below
        if small.all():
            return uniform(K)
