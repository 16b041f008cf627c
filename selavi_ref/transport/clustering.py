"""The clustering view of the solver: labels of N rows for K clusters whose sizes are prescribed."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from selavi_ref.errors import ConvergenceWarning, InputError
from selavi_ref.transport import engines, marginals
from selavi_ref.transport.solve import solve


@dataclass(frozen=True)
class Assignment:
    """Result of `assign`.

    Attributes
    ----------
    labels : (N,) int32
        Cluster with the largest share in each row of the plan; the first one where shares are equal.
    confidence : (N,) float32
        That share, as a part of the row.
    potentials : (K,) float64
        f in ``Q_ik = w_i softmax_k(strength * log_prob_ik + f_k)``; ``-inf`` for clusters of size zero. A warm start
        for the next solution.
    marginal_error : float
        L1 distance of the column sums of the plan from the marginal, computed in float64.
    n_passes : int
        Passes over the data.
    converged : bool
        Whether ``marginal_error <= tol``.
    value : float
        The dual ``r.f - sum_i w_i logsumexp_k(strength * log_prob_ik + f_k)``.
    cost : float
        ``-mean_i log_prob_{i, label_i} / 2``: equation 5 of Asano et al. (2020) when ``log_prob`` sums two modalities.
    """

    labels: NDArray[np.int32]
    confidence: NDArray[np.float32]
    potentials: NDArray[np.float64]
    marginal_error: float
    n_passes: int
    converged: bool
    value: float
    cost: float
    _log_prob: NDArray[Any] = field(repr=False)
    _strength: float = field(repr=False)
    _weight: NDArray[np.float64] | None = field(repr=False)

    @property
    def plan(self) -> NDArray[np.float64]:
        """The plan Q (N, K), made anew at each request."""
        logits = self._strength * self._log_prob.astype(np.float64) + self.potentials
        logits -= logits.max(1, keepdims=True)
        plan = np.exp(logits, out=logits)
        weight = 1.0 / len(plan) if self._weight is None else self._weight[:, None]
        plan *= weight / plan.sum(1, keepdims=True)
        return np.asarray(plan)


def assign(
    log_prob: ArrayLike,
    cluster_marginal: ArrayLike | None = None,
    *,
    strength: float = 10.0,
    sample_weight: ArrayLike | None = None,
    tol: float = 1e-6,
    max_passes: int = 2000,
    method: str = "auto",
    engine: str = "auto",
    potentials: ArrayLike | None = None,
) -> Assignment:
    """Label rows so that clusters are filled to prescribed sizes and stay close to what is predicted.

    Solves ``max_Q strength * <Q, log_prob> + H(Q)`` over plans with row sums ``sample_weight`` and column sums
    ``cluster_marginal`` (Asano et al., 2020, *Labelling unlabelled videos from scratch*, section 3).

    Parameters
    ----------
    log_prob : (N, K) float32 or float64
        Log-probabilities, or any finite scores; not copied. Several modalities are added beforehand.
    cluster_marginal : (K,), optional
        Sizes of the clusters, in any unit; uniform by default. A cluster of size zero receives nothing.
    strength : float
        Factor of ``log_prob``, lambda / 2 of the paper: the larger, the closer is the plan to one cluster per row.
    sample_weight : (N,), optional
        Weights of the rows, in any unit; uniform by default.
    tol : float
        L1 error of the column sums at which to stop.
    max_passes : int
        Passes over the data after which to stop in any case.
    method : {"auto", "fixed-point", "over-relaxed"}
        How potentials are found; the others are for reference.
    engine : str
        Who passes over the data: ``auto``, ``numpy``, ``numba`` or one that another package has registered.
    potentials : (K,), optional
        Where to start, such as the potentials of the last solution.

    Returns
    -------
    Assignment

    Raises
    ------
    InputError
        If shapes do not fit, an entry is not finite (row and column named), or an option is out of range.

    Warns
    -----
    ConvergenceWarning
        If ``tol`` was not reached.

    Examples
    --------
    >>> import numpy as np
    >>> assign(np.log([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])).labels
    array([0, 0, 1, 1], dtype=int32)
    """
    data = scores(log_prob)
    N, K = data.shape
    if not (np.isfinite(strength) and strength > 0):
        raise InputError(f"strength must be positive and finite, not {strength}")
    if not tol > 0:
        raise InputError(f"tol must be positive, not {tol}")
    if max_passes < 1:
        raise InputError(f"max_passes must be at least 1, not {max_passes}")
    target = marginals.uniform(K) if cluster_marginal is None else marginals.given(cluster_marginal, K)
    weight = None if sample_weight is None else sample_weights(sample_weight, N)
    start = None if potentials is None else start_potentials(potentials, K)
    plan_pass = engines.create(engine, data, float(strength), weight)
    solution = solve(plan_pass, target, tol=tol, max_passes=max_passes, method=method, potentials=start)
    rows = solution.rows
    if not solution.converged:
        warnings.warn(
            f"the solver stopped at a marginal error of {solution.error:.2e}, above tol={tol:g},"
            f" after {solution.n_passes} passes",
            ConvergenceWarning,
            stacklevel=2,
        )
    return Assignment(
        labels=rows.labels,
        confidence=rows.confidence,
        potentials=solution.potentials,
        marginal_error=solution.error,
        n_passes=solution.n_passes,
        converged=solution.converged,
        value=solution.value,
        cost=-rows.score / 2,
        _log_prob=data,
        _strength=float(strength),
        _weight=weight,
    )


def scores(log_prob: ArrayLike) -> NDArray[Any]:
    """Return ``log_prob`` as a float32 or float64 matrix with rows and columns, without a copy where it is one."""
    data = np.asarray(log_prob)
    if data.dtype == np.float16 or data.dtype.kind in "iub":
        data = data.astype(np.float32 if data.dtype == np.float16 else np.float64)
    if data.dtype not in (np.float32, np.float64):
        raise InputError(f"log_prob has type {data.dtype}; it must be float32 or float64")
    if data.ndim != 2 or 0 in data.shape:
        raise InputError(f"log_prob has shape {data.shape}; it must be (N, K) with N and K at least 1")
    return data


def sample_weights(sample_weight: ArrayLike, N: int) -> NDArray[np.float64]:
    """Return weights (N,) of sum 1, or raise an error that names the row that is wrong."""
    weight = np.asarray(sample_weight, dtype=np.float64)
    if weight.shape != (N,):
        raise InputError(f"sample_weight has shape {weight.shape}, but log_prob has {N} rows: give shape ({N},)")
    wrong = ~(np.isfinite(weight) & (weight >= 0))
    if wrong.any():
        i = int(np.argmax(wrong))
        raise InputError(f"sample_weight of row {i} is {weight[i]}; weights must be finite and not negative")
    if not weight.any():
        raise InputError("all sample weights are zero; at least one must be positive")
    weight = weight / weight.max()
    return np.asarray(weight / weight.sum())


def start_potentials(potentials: ArrayLike, K: int) -> NDArray[np.float64]:
    """Return potentials to start from, (K,)."""
    start = np.asarray(potentials, dtype=np.float64)
    if start.shape != (K,):
        raise InputError(f"potentials have shape {start.shape}, but log_prob has {K} columns: give shape ({K},)")
    return start
