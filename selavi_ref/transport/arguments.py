"""Checks and conversions of the arguments that the engines, `assign` and `sinkhorn` share."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from selavi_ref.errors import InputError

Vector = NDArray[np.float64]

ROUNDINGS = ("argmax", "exact")
_LARGEST = 1e30  # |strength * log_prob| beyond which sums of two such numbers carry no information


def is_tensor(x: Any) -> bool:
    """Return whether ``x`` is a tensor of PyTorch, without importing it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def in_memory(log_prob: Any) -> NDArray[Any]:
    """Return a tensor of PyTorch, `Blocks` or any array-like as a NumPy array."""
    if is_tensor(log_prob):
        log_prob = log_prob.detach().cpu()
        return np.asarray((log_prob if log_prob.element_size() >= 4 else log_prob.float()).numpy())
    whole: NDArray[Any] = log_prob.array() if hasattr(log_prob, "walk") else np.asarray(log_prob)
    return whole


def softmax(log_prob: NDArray[Any], strength: float, potentials: Vector) -> Vector:
    """Return ``softmax_k(strength * log_prob_ik + f_k)`` (N, K) in float64."""
    used = np.isfinite(potentials)
    columns = log_prob if used.all() or not used.any() else log_prob[:, used]
    extreme = columns.max if strength > 0 else columns.min
    # A large offset that a row has in common would round its differences off, so it goes first.
    logits = strength * np.subtract(log_prob, extreme(1, keepdims=True), dtype=np.float64)
    logits += potentials
    logits -= logits.max(1, keepdims=True)
    posterior = np.exp(logits, out=logits)
    posterior /= posterior.sum(1, keepdims=True)
    return np.asarray(posterior)


def real_array(values: Any, name: str) -> NDArray[Any]:
    """Return real numbers as an array, or raise an error that names the argument."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise InputError(f"{name} has type {array.dtype}; it must hold real numbers", option=name)
    return array


def score_matrix(log_prob: Any, allow_no_rows: bool = False) -> Any:
    """Return ``log_prob`` as a float32 or float64 matrix with rows and columns, without a copy where it is one."""
    if is_tensor(log_prob) or hasattr(log_prob, "walk") or hasattr(log_prob, "read_direct"):
        data: Any = log_prob
        is_real = data.is_floating_point() if is_tensor(data) else data.dtype.kind == "f"
    else:
        data = log_prob if isinstance(log_prob, np.memmap) else np.asarray(log_prob)
        is_real = data.dtype.kind in "fiub"
        if is_real and data.dtype not in (np.float32, np.float64):
            data = data.astype(np.float32 if data.dtype.kind == "f" and data.dtype.itemsize <= 4 else np.float64)
    if not is_real:
        raise InputError(f"log_prob has type {data.dtype}; it must be float32 or float64", option="log_prob")
    if len(data.shape) != 2 or 0 in data.shape[int(allow_no_rows) :]:
        shape = tuple(data.shape)
        raise InputError(f"log_prob has shape {shape}; it must be (N, K) with N and K at least 1", option="log_prob")
    return data


def check_options(strength: Any, tol: Any, max_passes: Any, rounding: str, penalty: Any) -> None:
    """Raise an error that names the first option out of range."""
    for name, value in (("strength", strength), ("tol", tol), ("marginal_penalty", penalty)):
        if value is not None and not isinstance(value, (int, float, np.number)):
            raise InputError(f"{name} must be a number, not {value!r}", option=name, value=value)
    if not (np.isfinite(strength) and strength > 0):
        raise InputError(f"strength must be positive and finite, not {strength}", option="strength", value=strength)
    if tol is not None and not tol > 0:
        raise InputError(f"tol must be positive, not {tol}", option="tol", value=tol)
    if max_passes is not None and not (isinstance(max_passes, (int, np.integer)) and max_passes >= 1):
        message = f"max_passes must be a whole number of at least 1, not {max_passes}"
        raise InputError(message, option="max_passes", value=max_passes)
    if rounding not in ROUNDINGS:
        known = ", ".join(ROUNDINGS)
        raise InputError(f"unknown rounding {rounding!r}; known are {known}", option="rounding", value=rounding)
    if penalty is not None and not (np.isfinite(penalty) and penalty > 0):
        message = f"marginal_penalty must be positive and finite, or None for sizes that are met, not {penalty}"
        raise InputError(message, option="marginal_penalty", value=penalty)


def check_exact_rounding(published: bool, has_weights: bool, is_sharded: bool) -> None:
    """Raise an error if exact rounding was requested beside an option that excludes it."""
    if has_weights:
        raise InputError("rounding='exact' counts rows, so it excludes sample_weight", option="sample_weight")
    if is_sharded:
        raise InputError("rounding='exact' needs all rows in one process; it excludes Sharded", option="engine")
    if published:
        raise InputError("published=True rounds by argmax; leave rounding='exact' out", option="rounding")


def check_published(weight: Any, penalty: Any, potentials: Any, method: str, engine: Any, tol: Any) -> None:
    """Raise an error that names the first option given that the published algorithm does not have."""
    is_given = {
        "sample_weight": weight is not None,
        "marginal_penalty": penalty is not None,
        "potentials": potentials is not None,
        "method": method != "auto",
        "engine": engine not in ("auto", "numpy"),
        "tol": tol is not None,
    }
    for name, given in is_given.items():
        if given:
            raise InputError(f"published=True repeats an algorithm that has no {name}; leave it out", option=name)


def sample_weights(sample_weight: ArrayLike, N: int) -> Vector:
    """Return weights (N,), or raise an error that names the first row whose weight is wrong."""
    weight = real_array(sample_weight, "sample_weight").astype(np.float64)
    if weight.shape != (N,):
        message = f"sample_weight has shape {weight.shape}, but log_prob has {N} rows: give shape ({N},)"
        raise InputError(message, option="sample_weight")
    wrong = ~(np.isfinite(weight) & (weight >= 0))
    if wrong.any():
        i = int(np.argmax(wrong))
        message = f"sample_weight of row {i} is {weight[i]}; weights must be finite and not negative"
        raise InputError(message, option="sample_weight", value=float(weight[i]), row=i)
    return weight


def start_potentials(potentials: ArrayLike, K: int) -> Vector:
    """Return the potentials to start from, (K,)."""
    start = real_array(potentials, "potentials").astype(np.float64)
    if start.shape != (K,):
        message = f"potentials have shape {start.shape}, but log_prob has {K} columns: give shape ({K},)"
        raise InputError(message, option="potentials")
    return start


def normalised(weight: Vector | None) -> Vector | None:
    """Return row weights of sum 1."""
    if weight is None:
        return None
    if not weight.any():
        raise InputError("all sample weights are zero; at least one must be positive", option="sample_weight")
    weight = weight / weight.max()
    return np.asarray(weight / weight.sum())


def refuse_entry(row: int, column: int, value: float) -> NoReturn:
    """Raise the error for an entry of the scores that is not finite."""
    raise InputError(
        f"log_prob has {value} in row {row}, column {column}; all entries must be finite",
        option="log_prob",
        value=value,
        row=row,
        column=column,
    )


def check_size(largest: float, strength: float) -> None:
    """Raise an error if the largest absolute entry is too large for exponents to mean anything."""
    if largest * abs(strength) > _LARGEST:
        message = f"log_prob reaches {largest:.3g}: times strength {strength:g} it must stay below {_LARGEST:g}"
        raise InputError(message, option="log_prob", value=largest)
