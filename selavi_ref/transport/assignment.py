"""The clustering view of the solver: labels of N rows for K clusters whose sizes are prescribed."""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from selavi_ref.errors import ConvergenceWarning, InputError
from selavi_ref.transport import engines, marginals
from selavi_ref.transport.published import MOST_ITERATIONS, repeat_published
from selavi_ref.transport.solve import solve

ROUNDINGS = ("argmax", "exact")
_TOL, _MOST_PASSES = 1e-6, 2000
_BLOCK = 65_536  # rows looked at at a time


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
        logits = self._strength * engines.in_memory(self._log_prob).astype(np.float64) + self.potentials
        logits -= logits.max(1, keepdims=True)
        plan = np.exp(logits, out=logits)
        weight = 1.0 / len(plan) if self._weight is None else self._weight[:, None]
        plan *= weight / plan.sum(1, keepdims=True)
        return np.asarray(plan)


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
    """Label rows so that clusters are filled to prescribed sizes and stay close to what is predicted.

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
        Factor of ``log_prob``, lambda / 2 of the paper: the larger, the closer is the plan to one cluster per row.
    sample_weight : (N,), optional
        Weights of the rows, in any unit; uniform by default.
    marginal_penalty : float, optional
        For sizes that are only a guess: a price rho for missing them; ``rho KL(column sums | cluster_marginal)``
        is taken off the objective (Chizat et al., 2018). Small: the data decide. None: sizes are met.
    rounding : {"argmax", "exact"}
        How labels are made of the plan: the largest share of each row, as published; or integer sizes, the largest
        remainder rounding of N times the column sums, met exactly with the largest possible sum of scores.
    tol : float
        L1 error of the column sums at which to stop; 1e-6 by default.
    max_passes : int
        Passes over the data after which to stop in any case; 2,000 by default, at least 2.
    method : {"auto", "fixed-point", "over-relaxed"}
        How potentials are found; the others are for reference.
    engine : str or engine
        Who passes over the data: ``auto``, ``numpy``, ``numba`` (threads), ``store`` (out of core), ``torch`` (CPU or
        GPU; needs PyTorch), one that another package has registered, or `Sharded` (rows spread over processes).
    potentials : (K,), optional
        Where to start, such as the potentials of the last solution.
    published : bool
        Repeat the published algorithm to the letter instead, its stopping rule and its treatment of sizes included; see
        `selavi_ref.transport.published`. An iteration is two passes, and there are 2,000 at most.

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
    agreed = getattr(engine, "agreed", contextlib.nullcontext)
    with agreed():
        data = scores(log_prob, getattr(engine, "takes_no_rows", False))
        N, K = data.shape
        check_options(strength, tol, max_passes, rounding, marginal_penalty)
        target = marginals.uniform(K) if cluster_marginal is None else marginals.given(cluster_marginal, K)
        weight = None if sample_weight is None else sample_weights(sample_weight, N)
        start = None if potentials is None else start_potentials(potentials, K)
        _check_together(rounding, published, weight, engine)
        if published:
            _refuse_beside_published(weight, marginal_penalty, start, method, engine, tol)
    if published:
        most = MOST_ITERATIONS if max_passes is None else min(MOST_ITERATIONS, max(1, max_passes // 2))
        found = repeat_published(engines.in_memory(data), target, float(strength), most)
        fault = "the published algorithm stopped before its rule was met"
    else:
        plan_pass = engines.create(engine, data, float(strength), weight)
        found = solve(
            plan_pass,
            target,
            tol=_TOL if tol is None else float(tol),
            max_passes=_MOST_PASSES if max_passes is None else int(max_passes),
            method=method,
            potentials=start,
            penalty=np.inf if marginal_penalty is None else float(marginal_penalty),
        )
        weight = plan_pass.weight
        fault = (
            f"the solver stopped at a marginal error of {found.error:.2e}, above tol={_TOL if tol is None else tol:g}"
        )
    rows = found.rows
    if not found.converged:
        warnings.warn(f"{fault}, after {found.n_passes} passes", ConvergenceWarning, stacklevel=2)
    result = Assignment(
        labels=rows.labels,
        confidence=rows.confidence,
        potentials=found.potentials,
        mass=rows.mass,
        marginal_error=found.error,
        n_passes=found.n_passes,
        converged=found.converged,
        value=found.value,
        cost=-rows.score / 2,
        _log_prob=data,
        _strength=float(strength),
        _weight=weight,
    )
    return result if rounding == "argmax" else _rounded(result, target if marginal_penalty is None else result.mass)


def _rounded(result: Assignment, marginal: NDArray[np.float64]) -> Assignment:
    """Replace the labels by those of the largest total score among all of the wanted sizes."""
    from selavi_ref.transport.exact import exact_labels, integer_sizes

    data = engines.in_memory(result._log_prob)
    sizes = integer_sizes(marginal / marginal.sum(), len(data))
    labels = exact_labels(data, sizes, result.potentials / result._strength)
    at_label = np.take_along_axis(data, labels[:, None].astype(np.int64), 1)[:, 0].astype(np.float64)
    return replace(result, labels=labels, confidence=_shares(result, data, labels), cost=-float(at_label.mean()) / 2)


def _shares(result: Assignment, data: NDArray[Any], labels: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the part of each row of the plan that lies at its label."""
    shares = np.empty(len(data), np.float32)
    for start in range(0, len(data), _BLOCK):
        rows = slice(start, start + _BLOCK)
        logits = result._strength * data[rows].astype(np.float64) + result.potentials
        logits -= logits.max(1, keepdims=True)
        at_label = np.take_along_axis(logits, labels[rows, None].astype(np.int64), 1)[:, 0]
        shares[rows] = np.exp(at_label) / np.exp(logits).sum(1)
    return shares


def check_options(strength: Any, tol: Any, max_passes: Any, rounding: str, penalty: Any) -> None:
    """Raise an error that names the option that is out of range."""
    for name, value in (("strength", strength), ("tol", tol), ("marginal_penalty", penalty)):
        if value is not None and not isinstance(value, (int, float, np.number)):
            raise InputError(f"{name} must be a number, not {value!r}")
    if not (np.isfinite(strength) and strength > 0):
        raise InputError(f"strength must be positive and finite, not {strength}")
    if tol is not None and not tol > 0:
        raise InputError(f"tol must be positive, not {tol}")
    if max_passes is not None and not (isinstance(max_passes, (int, np.integer)) and max_passes >= 1):
        raise InputError(f"max_passes must be a whole number of at least 1, not {max_passes}")
    if rounding not in ROUNDINGS:
        raise InputError(f"unknown rounding {rounding!r}; known are {', '.join(ROUNDINGS)}")
    if penalty is not None and not (np.isfinite(penalty) and penalty > 0):
        raise InputError(f"marginal_penalty must be positive and finite, or None for sizes that are met, not {penalty}")


def _check_together(rounding: str, published: bool, weight: Any, engine: Any) -> None:
    if rounding != "exact":
        return
    if weight is not None:
        raise InputError("rounding='exact' counts rows, so it cannot be had with sample_weight")
    if hasattr(engine, "agreed"):
        raise InputError("rounding='exact' needs all rows in one process; it cannot be had with Sharded")
    if published:
        raise InputError("published=True rounds by argmax; leave rounding='exact' out")


def _refuse_beside_published(weight: Any, penalty: Any, potentials: Any, method: str, engine: Any, tol: Any) -> None:
    given = {
        "sample_weight": weight is not None,
        "marginal_penalty": penalty is not None,
        "potentials": potentials is not None,
        "method": method != "auto",
        "engine": engine not in ("auto", "numpy"),
        "tol": tol is not None,
    }
    for name, is_given in given.items():
        if is_given:
            raise InputError(f"published=True repeats an algorithm that has no {name}; leave it out")


def scores(log_prob: Any, none_is_enough: bool = False) -> Any:
    """Return ``log_prob`` as a float32 or float64 matrix with rows and columns, without a copy where it is one."""
    if engines.is_tensor(log_prob) or hasattr(log_prob, "walk") or hasattr(log_prob, "read_direct"):
        data: Any = log_prob
        fits = data.is_floating_point() if engines.is_tensor(data) else data.dtype.kind == "f"
    else:
        data = log_prob if isinstance(log_prob, np.memmap) else np.asarray(log_prob)
        fits = data.dtype.kind in "fiub"
        if fits and data.dtype not in (np.float32, np.float64):
            data = data.astype(np.float32 if data.dtype.kind == "f" and data.dtype.itemsize <= 4 else np.float64)
    if not fits:
        raise InputError(f"log_prob has type {data.dtype}; it must be float32 or float64")
    if len(data.shape) != 2 or 0 in data.shape[int(none_is_enough) :]:
        raise InputError(f"log_prob has shape {tuple(data.shape)}; it must be (N, K) with N and K at least 1")
    return data


def sample_weights(sample_weight: ArrayLike, N: int) -> NDArray[np.float64]:
    """Return weights (N,), or raise an error that names the row that is wrong."""
    weight = engines.numbers(sample_weight, "sample_weight").astype(np.float64)
    if weight.shape != (N,):
        raise InputError(f"sample_weight has shape {weight.shape}, but log_prob has {N} rows: give shape ({N},)")
    wrong = ~(np.isfinite(weight) & (weight >= 0))
    if wrong.any():
        i = int(np.argmax(wrong))
        raise InputError(f"sample_weight of row {i} is {weight[i]}; weights must be finite and not negative")
    return weight


def start_potentials(potentials: ArrayLike, K: int) -> NDArray[np.float64]:
    """Return potentials to start from, (K,)."""
    start = engines.numbers(potentials, "potentials").astype(np.float64)
    if start.shape != (K,):
        raise InputError(f"potentials have shape {start.shape}, but log_prob has {K} columns: give shape ({K},)")
    return start
