"""The clustering view of the solver: labels of N rows for K clusters whose sizes are prescribed."""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from selavi_ref.errors import ConvergenceWarning
from selavi_ref.transport import engines, marginals
from selavi_ref.transport.arguments import (
    check_exact_rounding,
    check_options,
    check_published,
    in_memory,
    sample_weights,
    score_matrix,
    softmax,
    start_potentials,
)
from selavi_ref.transport.published import MOST_ITERATIONS, repeat_published
from selavi_ref.transport.rounding import integer_sizes, labels_of_sizes
from selavi_ref.transport.solve import solve

_TOL, _MOST_PASSES = 1e-6, 2000
_BLOCK = 65_536  # rows held in float64 at a time


@dataclass(frozen=True)
class Assignment:
    """Result of `assign`.

    Attributes
    ----------
    labels : (N,) int32
        Cluster with the largest entry in each row of the plan; the first one where entries are equal.
    confidence : (N,) float32
        That entry, divided by the sum of the row.
    potentials : (K,) float64
        f in ``Q_ik = w_i softmax_k(strength * log_prob_ik + f_k)``; ``-inf`` for clusters of size zero. A warm start
        for the next solution.
    mass : (K,) float64
        Column sums of the plan.
    marginal_error : float
        L1 distance of ``mass`` from the marginal, computed in float64. With a ``marginal_penalty`` the distance from
        the sizes that are optimal under it, ``softmax(log r - f / rho)``.
    n_passes : int
        Passes over the data.
    converged : bool
        Whether ``marginal_error <= tol``.
    value : float
        The dual ``r.f - sum_i w_i logsumexp_k(strength * log_prob_ik + f_k)``; with a ``marginal_penalty`` rho its
        first term is ``-rho logsumexp_k(log r_k - f_k / rho)``.
    cost : float
        ``-mean_i log_prob_{i, label_i} / 2``: equation 5 of Asano et al. (2020) when ``log_prob`` sums two modalities.
    """

    labels: NDArray[np.int32]
    confidence: NDArray[np.float32]
    potentials: NDArray[np.float64]
    mass: NDArray[np.float64]
    marginal_error: float
    n_passes: int
    converged: bool
    value: float
    cost: float
    _log_prob: Any = field(repr=False)
    _strength: float = field(repr=False)
    _weight: NDArray[np.float64] | None = field(repr=False)

    @property
    def plan(self) -> NDArray[np.float64]:
        """The plan Q (N, K), made anew at each request."""
        plan = softmax(in_memory(self._log_prob), self._strength, self.potentials)
        plan *= 1.0 / len(plan) if self._weight is None else self._weight[:, None]
        return plan


def assign(
    log_prob: Any,
    cluster_marginal: ArrayLike | None = None,
    *,
    strength: float = 10.0,
    sample_weight: ArrayLike | None = None,
    marginal_penalty: float | None = None,
    rounding: str = "argmax",
    tol: float | None = None,
    max_passes: int | None = None,
    method: str = "auto",
    engine: str | engines.Engine = "auto",
    potentials: ArrayLike | None = None,
    published: bool = False,
) -> Assignment:
    """Assign rows to clusters of prescribed sizes by entropic optimal transport.

    Solves ``max_Q strength * <Q, log_prob> + H(Q)`` over plans with row sums ``sample_weight`` and column sums
    ``cluster_marginal`` (Asano et al., 2020, *Labelling unlabelled videos from scratch*, section 3).

    Parameters
    ----------
    log_prob : (N, K) float32 or float64
        Log-probabilities, or any finite scores; not copied. Several modalities are added beforehand. An array, a tensor
        of PyTorch on any device, or scores in a file: `Blocks`, or an HDF5 data set.
    cluster_marginal : (K,), optional
        Sizes of the clusters, in any unit; uniform by default. A cluster of size zero receives nothing.
    strength : float
        Factor of ``log_prob``: 1 / ``reg`` of POT if the costs are ``-log_prob``, lambda / 2 of the paper. The larger,
        the closer is the plan to one cluster per row.
    sample_weight : (N,), optional
        Weights of the rows, in any unit; uniform by default.
    marginal_penalty : float, optional
        For sizes that are only a guess: a price rho for missing them; ``rho KL(column sums | cluster_marginal)``
        is taken off the objective (Chizat et al., 2018). Small: the data decide. None: sizes are met.
    rounding : {"argmax", "exact"}
        How the plan becomes labels: the largest entry of each row, as published; or labels of the largest total score
        among all that meet the sizes exactly, N times the column sums rounded by largest remainders.
    tol : float
        L1 error of the column sums at which to stop; 1e-6 by default.
    max_passes : int
        Passes over the data after which to stop in any case; 2,000 by default, at least 2.
    method : {"auto", "fixed-point", "over-relaxed"}
        Optimiser of the potentials; the others are for reference.
    engine : str or engine
        What passes over the data: ``auto``, ``numpy``, ``numba`` (threads), ``store`` (out of core), ``torch`` (CPU or
        GPU; needs PyTorch), one that another package has registered, or `Sharded` (rows spread over processes).
    potentials : (K,), optional
        Starting point, such as the potentials of the last solution.
    published : bool
        Run the published algorithm instead, with its stopping rule and its treatment of sizes, up to the rounding of
        float64; see `selavi_ref.transport.published`. An iteration is two passes, and there are 2,000 at most.

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
    raise_together = getattr(engine, "raise_together", contextlib.nullcontext)
    with raise_together():
        data = score_matrix(log_prob, getattr(engine, "allows_no_rows", False))
        N, K = data.shape
        check_options(strength, tol, max_passes, rounding, marginal_penalty)
        target = marginals.uniform(K) if cluster_marginal is None else marginals.given(cluster_marginal, K)
        weight = None if sample_weight is None else sample_weights(sample_weight, N)
        start = None if potentials is None else start_potentials(potentials, K)
        if rounding == "exact":
            check_exact_rounding(published, weight is not None, hasattr(engine, "raise_together"))
        if published:
            check_published(weight, marginal_penalty, start, method, engine, tol)
    if published:
        most = MOST_ITERATIONS if max_passes is None else min(MOST_ITERATIONS, max(1, max_passes // 2))
        solution = repeat_published(in_memory(data), target, float(strength), most)
        fault = "the published algorithm stopped before its rule was met"
    else:
        tol = _TOL if tol is None else float(tol)
        plan_pass = engines.create(engine, data, float(strength), weight)
        solution = solve(
            plan_pass,
            target,
            tol=tol,
            max_passes=_MOST_PASSES if max_passes is None else int(max_passes),
            method=method,
            potentials=start,
            penalty=np.inf if marginal_penalty is None else float(marginal_penalty),
        )
        weight = plan_pass.weight
        fault = f"the solver stopped at a marginal error of {solution.error:.2e}, above {tol=:g}"
    rows = solution.rows
    if not solution.converged:
        warnings.warn(f"{fault}, after {solution.n_passes} passes", ConvergenceWarning, stacklevel=2)
    result = Assignment(
        labels=rows.labels,
        confidence=rows.confidence,
        potentials=solution.potentials,
        mass=rows.mass,
        marginal_error=solution.error,
        n_passes=solution.n_passes,
        converged=solution.converged,
        value=solution.value,
        cost=-rows.score / 2,
        _log_prob=data,
        _strength=float(strength),
        _weight=weight,
    )
    return result if rounding == "argmax" else _rounded(result, target if marginal_penalty is None else result.mass)


def _rounded(result: Assignment, marginal: NDArray[np.float64]) -> Assignment:
    """Replace the labels by those of the largest total score among all that have the sizes of the marginal."""
    data = in_memory(result._log_prob)
    sizes = integer_sizes(marginal / marginal.sum(), len(data))
    labels = labels_of_sizes(data, sizes, result.potentials / result._strength)
    at_label = np.take_along_axis(data, labels[:, None].astype(np.int64), 1)[:, 0].astype(np.float64)
    return replace(
        result, labels=labels, confidence=_confidence(result, data, labels), cost=-float(at_label.mean()) / 2
    )


def _confidence(result: Assignment, data: NDArray[Any], labels: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the entry of the plan at the label of each row, divided by the sum of the row."""
    confidence = np.empty(len(data), np.float32)
    for start in range(0, len(data), _BLOCK):
        rows = slice(start, start + _BLOCK)
        posterior = softmax(data[rows], result._strength, result.potentials)
        confidence[rows] = np.take_along_axis(posterior, labels[rows, None].astype(np.int64), 1)[:, 0]
    return confidence
