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
from selavi_ref.transport.arguments import Vector, in_memory, is_tensor, real_array
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
        Costs. If a, b and M are float32, so is the result.
    reg : float
        Positive weight of the entropy.
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
    _check(reg, method, numItermax, stopThr, kwargs)
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
    runs = []
    for k, column in enumerate(np.atleast_2d(columns.T)):
        scaled = column * (rows.sum() / column.sum())
        run = _one(cost, rows, scaled, reg, numItermax, stopThr, _nth(start, k))
        unequal = float(np.abs(scaled - column).sum())
        runs.append(replace(run, error=run.error + unequal) if unequal > resolution * rows.sum() else run)
    error = max(run.error for run in runs)
    n_passes = max(run.n_passes for run in runs)
    if verbose:
        print(f"{'It.':5s}|{'Err':12s}\n{'-' * 19}\n{n_passes:5d}|{error:8e}|")
    if warn and error > stopThr:
        text = (
            f"Sinkhorn did not converge: marginal violated by {error:.2e} after {n_passes} passes, stopThr={stopThr:g}"
        )
        warnings.warn(text, ConvergenceWarning, stacklevel=2)
    result = np.array([run.loss(cost, reg) for run in runs]) if several else runs[0].plan(cost, reg)
    result = result.astype(dtype, copy=False)
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
    """Logarithms of the scalings for one right-hand side, and their error."""

    log_u: Vector
    log_v: Vector
    error: float
    n_passes: int

    def plan(self, cost: NDArray[Any], reg: float) -> Vector:
        exponents = cost.astype(np.float64)
        exponents /= -reg
        exponents += self.log_u[:, None]
        exponents += self.log_v
        return np.asarray(np.exp(exponents, out=exponents))

    def loss(self, cost: NDArray[Any], reg: float) -> float:
        return float((self.plan(cost, reg) * cost).sum())


def _one(cost: NDArray[Any], a: Vector, b: Vector, reg: float, passes: int, stop: float, start: Any) -> _Run:
    """Solve for one right-hand side, with potentials of the columns or of the rows, whichever are fewer."""
    if cost.shape[0] >= cost.shape[1]:
        return _columns(cost, a, b, reg, passes, stop, start)
    exchanged = None if start is None else (start[1], start[0])
    run = _columns(cost.T, b, a, reg, passes, stop, exchanged)
    return replace(run, log_u=run.log_v, log_v=run.log_u)


def _columns(cost: NDArray[Any], a: Vector, b: Vector, reg: float, passes: int, stop: float, start: Any) -> _Run:
    """Solve with potentials of the columns; a and b have equal sums."""
    total = float(a.sum())
    plan_pass = engines.create("auto", cost, -1.0 / reg, a / total)
    warm = None if start is None else start[1]
    solution = solve(plan_pass, b / b.sum(), tol=max(stop / total, 1e-15), max_passes=passes, potentials=warm)
    with np.errstate(divide="ignore"):
        log_u = np.log(a) - solution.rows.logsumexp
    error = float(np.linalg.norm(solution.rows.mass * total - b))
    return _Run(log_u, solution.potentials, error, solution.n_passes)


def _as_tensors(result: Any, like: Any) -> Any:
    """Return an array as a tensor on the device of ``like``, and a tuple or dictionary of arrays likewise."""
    if isinstance(result, tuple):
        return tuple(_as_tensors(part, like) for part in result)
    if isinstance(result, dict):
        return {name: _as_tensors(part, like) for name, part in result.items()}
    if isinstance(result, np.ndarray):
        return sys.modules["torch"].from_numpy(result).to(like.device)
    return result


def _check(reg: float, method: str, numItermax: int, stopThr: float, options: dict[str, Any]) -> None:
    unknown = options.keys() - _OPTIONS
    if unknown:
        raise TypeError(f"sinkhorn() got an unexpected keyword argument {min(unknown)!r}")
    if not isinstance(method, str) or method.lower() not in _NAMES:
        message = f"Unknown method {method!r}; known are {', '.join(_NAMES)}"
        raise InputError(message, option="method", value=method)
    if not (isinstance(reg, (int, float, np.number)) and np.isfinite(reg) and reg > 0):
        raise InputError(f"reg must be positive and finite, not {reg!r}", option="reg", value=reg)
    if not stopThr >= 0:
        raise InputError(f"stopThr must be at least 0, not {stopThr}", option="stopThr", value=stopThr)
    if numItermax < 1:
        raise InputError(f"numItermax must be at least 1, not {numItermax}", option="numItermax", value=numItermax)


def _arrays(a: ArrayLike, b: ArrayLike, M: ArrayLike) -> tuple[NDArray[Any], Vector, Vector, np.dtype[Any]]:
    """Return costs, weights of rows and columns (uniform where none are given) and the type of the result."""
    cost, a, b = real_array(M, "M"), real_array(a, "a"), real_array(b, "b")
    if cost.ndim != 2 or 0 in cost.shape:
        raise InputError(f"M has shape {cost.shape}; it must be (n, m) with n and m at least 1", option="M")
    rows, columns = np.asarray(a), np.asarray(b)
    dtype = np.result_type(*(array for array in (cost, rows, columns) if array.size), np.float32)
    if not np.isfinite(cost).all():
        value, row, column = _first_infinite(cost)
        message = f"M holds {value} in row {row}, column {column}; all costs must be finite"
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


def _first_infinite(cost: NDArray[Any]) -> tuple[float, int, int]:
    i, j = divmod(int(np.argmin(np.isfinite(cost))), cost.shape[1])
    return float(cost[i, j]), i, j


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
