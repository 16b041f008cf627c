"""The solver with the signature of ``ot.sinkhorn`` of POT (Flamary et al., 2021, *POT: Python Optimal Transport*)."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from selavi_ref.errors import ConvergenceWarning, InputError
from selavi_ref.transport import engines
from selavi_ref.transport.arguments import Vector, in_memory, is_tensor, real_array, softmax
from selavi_ref.transport.solve import solve

_NAMES = ("sinkhorn", "sinkhorn_log", "greenkhorn", "sinkhorn_stabilized", "sinkhorn_epsilon_scaling")
_OPTIONS = {"tau", "print_period", "numInnerItermax", "epsilon0", "eval_freq", "check_marginals", "isLazy", "batchSize"}


def sinkhorn(
    a: ArrayLike,
    b: ArrayLike,
    M: ArrayLike,
    reg: float,
    method: str = "sinkhorn",
    numItermax: int = 1000,
    stopThr: float = 1e-9,
    verbose: bool = False,
    log: bool = False,
    warn: bool = True,
    warmstart: tuple[ArrayLike, ArrayLike] | None = None,
    **kwargs: Any,
) -> Any:
    """Entropic optimal transport: ``min_P <P, M> + reg * sum P (log P - 1)`` with row sums a and column sums b.

    A drop-in for ``ot.sinkhorn``: the same arguments in the same order and the same result, computed by the solver of
    this package whatever the method. The side with fewer points has the potentials; the sums of the other are exact.

    Parameters
    ----------
    a : (n,)
        Weights of the rows; uniform if empty.
    b : (m,) or (m, L)
        Weights of the columns; uniform if empty. With L right-hand sides the losses are returned, not the plans.
    M : (n, m)
        Costs; infinite for pairs that are forbidden. If a, b and M are float32, so is the result.
    reg : float
        Positive weight of the entropy; an array or tensor of one element will do.
    method : str
        A method name of POT; all lead to the same solver.
    numItermax : int
        Passes over the data at most.
    stopThr : float
        Euclidean norm of the marginal violation at which to stop.
    verbose : bool
        Print the number of passes and the error.
    log : bool
        Also return a dictionary: ``err`` (list), ``niter``, potentials ``log_u`` and ``log_v``, scalings ``u`` and
        ``v`` with ``P = u K v``, and ``warmstart``.
    warn : bool
        Issue a warning when ``stopThr`` was not reached.
    warmstart : (log_u, log_v), optional
        Logarithms of scalings to start from.
    **kwargs
        Options of POT's methods without a counterpart here (``tau``, ``epsilon0``, ``numInnerItermax``,
        ``print_period`` and the like); they are ignored.

    Returns
    -------
    (n, m) array, or (L,) losses ``<P, M>``; with ``log`` also the dictionary
        Tensors if a, b or M is a tensor of PyTorch, on its device, without gradients; otherwise arrays.

    Raises
    ------
    InputError
        If shapes do not fit, or a weight or a cost is not what it must be.
    TypeError
        If an option is not one of POT's.

    Examples
    --------
    >>> sinkhorn([0.5, 0.5], [0.5, 0.5], [[0.0, 1.0], [1.0, 0.0]], 0.1).round(3)
    array([[0.5, 0. ],
           [0. , 0.5]])
    """
    reg = _check(reg, method, numItermax, stopThr, kwargs)
    like = next((array for array in (a, b, M, *(warmstart or ())) if is_tensor(array)), None)
    if like is not None:
        a, b, M = (in_memory(values) for values in (a, b, M))
        warmstart = None if warmstart is None else (in_memory(warmstart[0]), in_memory(warmstart[1]))
        options = (reg, method, numItermax, stopThr, verbose, log, warn, warmstart)
        return _as_tensors(sinkhorn(a, b, M, *options), like)
    cost, rows, columns, dtype = _arrays(a, b, M)
    several = columns.ndim == 2
    start = _warm(warmstart, cost.shape, columns.shape[1:])
    single = any(np.asarray(weights).dtype == np.float32 for weights in (a, b))
    resolution = 4 * float(np.finfo(np.float32 if single else np.float64).eps)
    forbidden = np.isinf(cost)
    if forbidden.any():
        cost = _without_infinities(cost, forbidden, rows, columns, reg)
    runs, results = [], []
    for k, column in enumerate(np.atleast_2d(columns.T)):
        scaled = column * (rows.sum() / column.sum())
        run = _solve_one(cost, rows, scaled, reg, numItermax, stopThr, _nth(start, k))
        unequal = float(np.abs(scaled - column).sum())
        if unequal > resolution * rows.sum():
            run = replace(run, error=run.error + unequal)
        plan = run.plan(cost, reg)
        if forbidden.any():
            plan[forbidden] = 0.0
            run = replace(run, error=max(run.error, _violation(plan, rows, scaled)))
        runs.append(run)
        results.append(float((plan * cost).sum()) if several else plan)
    error = max(run.error for run in runs)
    n_passes = max(run.n_passes for run in runs)
    if verbose:
        print(f"{'It.':5s}|{'Err':12s}\n{'-' * 19}\n{n_passes:5d}|{error:8e}|")
    if warn and error > stopThr:
        text = (
            f"Sinkhorn did not converge: marginal violated by {error:.2e} after {n_passes} passes, stopThr={stopThr:g}"
        )
        warnings.warn(text, ConvergenceWarning, stacklevel=2)
    result = np.asarray(results if several else results[0]).astype(dtype, copy=False)
    if not log:
        return result
    log_u = np.stack([run.log_u for run in runs], axis=1)
    log_v = np.stack([run.log_v for run in runs], axis=1)
    if not several:
        log_u, log_v = log_u[:, 0], log_v[:, 0]
    with np.errstate(over="ignore"):
        scalings = {"u": np.exp(log_u), "v": np.exp(log_v)}
    details = {"err": [error], "niter": n_passes, "n_iter": n_passes, "log_u": log_u, "log_v": log_v, **scalings}
    return result, {**details, "warmstart": (log_u, log_v)}


@dataclass(frozen=True)
class _Run:
    """Logarithms of the scalings for one right-hand side, and their error.

    ``weights`` are those of the side without potentials, whose sums are exact: the rows if ``by_rows``.
    """

    log_u: Vector
    log_v: Vector
    weights: Vector
    error: float
    n_passes: int
    by_rows: bool = True

    def plan(self, cost: NDArray[Any], reg: float) -> Vector:
        if self.by_rows:
            return softmax(cost, -1.0 / reg, self.log_v) * self.weights[:, None]
        return (softmax(cost.T, -1.0 / reg, self.log_u) * self.weights[:, None]).T


def _solve_one(cost: NDArray[Any], a: Vector, b: Vector, reg: float, passes: int, stop: float, start: Any) -> _Run:
    """Solve for one right-hand side, with potentials of the columns or of the rows, whichever are fewer."""
    if cost.shape[0] >= cost.shape[1]:
        return _solve_columns(cost, a, b, reg, passes, stop, start)
    exchanged = None if start is None else (start[1], start[0])
    run = _solve_columns(cost.T, b, a, reg, passes, stop, exchanged)
    return replace(run, log_u=run.log_v, log_v=run.log_u, by_rows=False)


def _solve_columns(cost: NDArray[Any], a: Vector, b: Vector, reg: float, passes: int, stop: float, start: Any) -> _Run:
    """Solve with potentials of the columns; a and b have equal sums."""
    total = float(a.sum())
    plan_pass = engines.create("auto", cost, -1.0 / reg, a / total)
    warm = None if start is None else start[1]
    solution = solve(plan_pass, b / b.sum(), tol=max(stop / total, 1e-15), max_passes=passes, potentials=warm)
    with np.errstate(divide="ignore"):
        log_u = np.log(a) - solution.rows.logsumexp
    error = float(np.linalg.norm(solution.rows.mass * total - b)) + solution.rounding * total
    return _Run(log_u, solution.potentials, a, error, solution.n_passes)


def _without_infinities(cost: NDArray[Any], forbidden: NDArray[Any], a: Vector, b: Vector, reg: float) -> Vector:
    """Replace infinite costs by finite ones, so large that their entries of the plan are zero.

    Potentials differ by at most the costs along a path of permitted pairs, each point visited once, and by some hundred
    for each point of next to no weight.
    """
    allowed = np.where(forbidden, np.nan, cost)
    for name, weights, axis in (("a", a, 1), ("b", b.reshape(len(b), -1).max(1), 0)):
        stranded = forbidden.all(axis) & (weights > 0)
        if stranded.any():
            i = int(stranded.argmax())
            raise InputError(f"M allows no pair for point {i} of {name}, whose weight is positive", option="M", row=i)
    low, high = (float(end(allowed)) for end in (np.nanmin, np.nanmax))
    penalty = 2 * min(cost.shape) * (high - low + 100 * reg) + 1e4 * reg
    return np.where(forbidden, high + penalty, cost).astype(np.float64)


def _violation(plan: Vector, a: Vector, b: Vector) -> float:
    """Return the Euclidean norm of the violation of both marginals."""
    return float(np.hypot(np.linalg.norm(plan.sum(1) - a), np.linalg.norm(plan.sum(0) - b)))


def _as_tensors(result: Any, like: Any) -> Any:
    """Return an array as a tensor on the device of ``like``, and a tuple or dictionary of arrays likewise."""
    if isinstance(result, tuple):
        return tuple(_as_tensors(part, like) for part in result)
    if isinstance(result, dict):
        return {name: _as_tensors(part, like) for name, part in result.items()}
    if isinstance(result, np.ndarray):
        return sys.modules["torch"].from_numpy(result).to(like.device)
    return result


def _check(reg: float, method: str, numItermax: int, stopThr: float, options: dict[str, Any]) -> float:
    """Check the options, and return ``reg`` as a plain number."""
    unknown = options.keys() - _OPTIONS
    if unknown:
        raise TypeError(f"sinkhorn() got an unexpected keyword argument {min(unknown)!r}")
    if not isinstance(method, str) or method.lower() not in _NAMES:
        message = f"Unknown method {method!r}; known are {', '.join(_NAMES)}"
        raise InputError(message, option="method", value=method)
    number = in_memory(reg)
    number = number.reshape(()) if number.size == 1 and number.dtype.kind in "fiu" else np.array(np.nan)
    if not (np.isfinite(number) and number > 0):
        raise InputError(f"reg must be a positive, finite number, not {reg!r}", option="reg", value=reg)
    if not stopThr >= 0:
        raise InputError(f"stopThr must be at least 0, not {stopThr}", option="stopThr", value=stopThr)
    if numItermax < 1:
        raise InputError(f"numItermax must be at least 1, not {numItermax}", option="numItermax", value=numItermax)
    return float(number)


def _arrays(a: ArrayLike, b: ArrayLike, M: ArrayLike) -> tuple[NDArray[Any], Vector, Vector, np.dtype[Any]]:
    """Return costs, weights of rows and columns (uniform where none are given) and the type of the result."""
    cost, a, b = real_array(M, "M"), real_array(a, "a"), real_array(b, "b")
    if cost.ndim != 2 or 0 in cost.shape:
        raise InputError(f"M has shape {cost.shape}; it must be (n, m) with n and m at least 1", option="M")
    rows, columns = np.asarray(a), np.asarray(b)
    dtype = np.result_type(*(array for array in (cost, rows, columns) if array.size), np.float32)
    is_cost = cost > -np.inf  # plus infinity forbids a pair; NaN is no cost
    if not is_cost.all():
        row, column = divmod(int(np.argmin(is_cost)), cost.shape[1])
        value = float(cost[row, column])
        message = f"M holds {value} in row {row}, column {column}; costs must be numbers, or plus infinity"
        raise InputError(message, option="M", value=value, row=row, column=column)
    if cost.dtype not in (np.float32, np.float64):
        cost = cost.astype(np.float64)
    rows = np.full(cost.shape[0], 1.0 / cost.shape[0]) if rows.size == 0 else rows.astype(np.float64)
    columns = np.full(cost.shape[1], 1.0 / cost.shape[1]) if columns.size == 0 else columns.astype(np.float64)
    if rows.shape != cost.shape[:1] or columns.shape[:1] != cost.shape[1:] or columns.ndim > 2:
        message = f"a has shape {rows.shape}, b {columns.shape}, M {cost.shape}; they must be (n,), (m,) and (n, m)"
        raise InputError(message, option="a, b")
    for name, weights in (("a", rows), ("b", columns)):
        if not (np.isfinite(weights).all() and (weights >= 0).all() and (weights.sum(0) > 0).all()):
            message = f"{name} must hold finite weights that are not negative and not all zero"
            raise InputError(message, option=name)
    return cost, rows, columns, dtype


def _warm(
    warmstart: tuple[ArrayLike, ArrayLike] | None, shape: tuple[int, ...], several: tuple[int, ...]
) -> tuple[Vector, Vector] | None:
    """Return starting potentials, one column for each right-hand side where ``several`` is not empty."""
    if warmstart is None:
        return None
    log_u, log_v = (np.asarray(part, dtype=np.float64) for part in warmstart)
    expected = (shape[0], *several), (shape[1], *several)
    if (log_u.shape, log_v.shape) != expected:
        message = f"warmstart has shapes {log_u.shape} and {log_v.shape}, not {expected[0]} and {expected[1]}"
        raise InputError(message, option="warmstart")
    return log_u, log_v


def _nth(start: tuple[Vector, Vector] | None, k: int) -> tuple[Vector, Vector] | None:
    """Return the potentials to start right-hand side k from."""
    if start is None or start[0].ndim == 1:
        return start
    return start[0][:, k], start[1][:, k]
