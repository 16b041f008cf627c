"""The state of the training loop in a checkpoint, checked before anything relies on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from selavi_ref.errors import FilePath, InputError, printable


def checked_state(
    state: Any, path: FilePath, *, clusters: Sequence[int] | None = None, n_heads: int | None = None
) -> dict[str, Any]:
    """
    Return the state of a training loop as it was read from a checkpoint.

    Parameters
    ----------
    state : mapping
        Arrays, numbers and text by name, as of `selavi_ref.selflabel.training.Training`.
    path : path
        The checkpoint, for the error.
    clusters : sequence of int, optional
        Number of clusters of each head.
    n_heads : int, optional
        Number of heads that there must be at least.

    Raises
    ------
    InputError
        If an entry is missing, of another type, or of another shape than `clusters` and `n_heads` say.
    """
    if not isinstance(state, Mapping):
        raise InputError(f"{printable(path)} is no checkpoint of a training: its state is no table", path=path)
    values = _ADDED | {str(name): value for name, value in state.items()}
    for name, (fits, kind) in _ENTRIES.items():
        if name not in values:
            raise _misfit(path, name, "is missing")
        if not fits(values[name]):
            raise _misfit(path, name, f"is not {kind}")
    heads = np.shape(values["labels"])[1]
    if heads < (n_heads or 0) or (clusters is not None and heads != len(clusters)):
        raise _misfit(path, "labels", f"are of {heads} heads, not of {n_heads or len(clusters or ())}")
    for head in range(heads):
        _check_head(values, path, head, None if clusters is None else clusters[head])
    return values


def _check_head(values: Mapping[str, Any], path: FilePath, head: int, clusters: int | None) -> None:
    """Raise an error unless sizes and potentials of a head are numbers, one for each cluster."""
    sizes, potentials = f"sizes_{head}", f"potentials_{head}"
    if sizes not in values or not _is_numbers(values[sizes]) or not np.sum(np.asarray(values[sizes])) > 0:
        raise _misfit(path, sizes, "is missing or no list of sizes")
    if potentials in values and not _is_vector(values[potentials]):  # some may be infinite
        raise _misfit(path, potentials, "is no list of numbers")
    for name in (sizes, potentials):
        if clusters is not None and name in values and len(values[name]) != clusters:
            raise _misfit(path, name, f"has {len(values[name])} entries for {clusters} clusters")


def _misfit(path: FilePath, name: str, why: str) -> InputError:
    message = f"{printable(path)} is no checkpoint of this training: {name} {why}"
    return InputError(message, path=path, option=name)


def _is_whole(least: int) -> Callable[[Any], bool]:
    def fits(value: Any) -> bool:
        number = np.asarray(value)
        return number.shape == () and number.dtype.kind in "iu" and least <= int(number) < 2**62

    return fits


def _is_flag(value: Any) -> bool:
    return np.shape(value) == () and np.asarray(value).dtype.kind == "b"


def _is_numbers(value: Any) -> bool:
    return _is_vector(value) and bool(np.isfinite(np.asarray(value)).all())


def _is_vector(value: Any) -> bool:
    numbers = np.asarray(value)
    return numbers.ndim == 1 and numbers.dtype.kind == "f" and not np.isnan(numbers).any()


def _is_labels(value: Any) -> bool:
    labels = np.asarray(value)
    return labels.ndim == 2 and labels.dtype.kind == "i" and labels.shape[1] > 0 and bool((labels >= -1).all())


def _is_failures(value: Any) -> bool:
    if np.shape(value) != () or np.asarray(value).dtype.kind != "U":
        return False
    try:
        pairs = json.loads(str(value))
    except (ValueError, RecursionError):
        return False
    return isinstance(pairs, list) and all(
        isinstance(pair, list) and len(pair) == 2 and type(pair[0]) is int for pair in pairs
    )


_ENTRIES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "step": (_is_whole(0), "a whole number"),
    "epoch": (_is_whole(0), "a whole number"),
    "per_epoch": (_is_whole(1), "a whole number from 1"),
    "settle_from": (_is_whole(-1), "a whole number"),
    "finish_from": (_is_whole(-1), "a whole number"),
    "n_stable": (_is_whole(0), "a whole number"),
    "finished": (_is_flag, "true or false"),
    "losses": (_is_numbers, "a list of finite numbers"),
    "failures": (_is_failures, "a list of rows and reasons"),
    "labels": (_is_labels, "a table of cluster numbers"),
}
# Entries that version 0.1.0 did not write; plain numbers, as only these and tensors can be saved and read again.
_ADDED = {"finish_from": -1, "n_stable": 0}
