"""The plan pass: the only way in which the solver sees the N x K data, and the registry of those who can carry it out.

An engine is a function ``(log_prob, strength, weight) -> PlanPass``. Those of this package are ``numpy`` (readable) and
``numba`` (fused and threaded); other packages add theirs through the entry point group ``selavi.engines``.
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

import numpy as np

from selavi_ref.errors import InputError
from selavi_ref.transport.arguments import Vector, in_memory, is_tensor
from selavi_ref.transport.plan_pass import Engine, PlanPass
from selavi_ref.transport.row_offsets import HUGE, ShiftedPass

_BUILT_IN = {
    "numpy": "selavi_ref.transport.numpy_engine:NumpyPass",
    "numba": "selavi_ref.transport.numba_engine:NumbaPass",
    "store": "selavi_ref.transport.store_engine:StorePass",
}
_GROUP = "selavi.engines"
_SMALL = 20_000  # entries up to which the start of compiled code costs more than it saves


def register(name: str, engine: Engine) -> None:
    """Register ``engine`` in this process under ``name``; it takes precedence over those of other packages."""
    _registered[name] = engine


_registered: dict[str, Engine] = {}
_loaded: dict[str, Engine] = {}  # engines of other packages


def names() -> list[str]:
    """Return the names that `create` knows, sorted."""
    return sorted({*_BUILT_IN, *_registered, *(point.name for point in entry_points(group=_GROUP))})


def create(engine: str | Engine, log_prob: Any, strength: float, weight: Vector | None = None) -> PlanPass:
    """Return a pass over ``log_prob`` (N, K) by ``engine``.

    Parameters
    ----------
    engine : str or function
        A registered name; or an engine itself; or ``"auto"``: ``store`` for what lies in a file, ``torch`` for tensors
        on an accelerator, else ``numba``, but ``numpy`` for problems too small for compiled code to pay.
    log_prob : (N, K) float32 or float64
        Finite numbers; they are scaled by ``strength`` inside the pass and not copied.
    strength : float
        Factor of ``log_prob``; negative if they are costs.
    weight : (N,) float64, optional
        Row weights of any positive sum, not negative; the pass divides them by it. Uniform by default.

    Raises
    ------
    InputError
        If the engine is unknown or cannot be loaded, or an entry is not finite (row and column named).
    """
    if not isinstance(engine, str):
        if not callable(engine):
            raise InputError(
                f"engine must be a name or a function of (log_prob, strength, weight), not {engine!r}",
                option="engine",
                value=engine,
            )
        make = engine
    else:
        name = _suitable(log_prob) if engine == "auto" else engine
        make = _load(name)
        if name in ("numpy", "numba") and not isinstance(log_prob, np.ndarray):
            log_prob = in_memory(log_prob)
    plan_pass = make(log_prob, strength, weight)
    if getattr(plan_pass, "largest", 0.0) * abs(strength) < HUGE:
        return plan_pass
    return ShiftedPass(lambda shifted: make(shifted, strength, weight), log_prob, strength)


def _suitable(log_prob: Any) -> str:
    if is_tensor(log_prob):
        return "torch" if log_prob.device.type != "cpu" else "numba"
    if not isinstance(log_prob, np.ndarray) or isinstance(log_prob, np.memmap):
        return "store"
    is_compiled = os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0")
    return "numba" if is_compiled and log_prob.size >= _SMALL else "numpy"


def _load(name: str) -> Engine:
    if name in _registered:
        return _registered[name]
    if name in _loaded:
        return _loaded[name]
    if name in _BUILT_IN:
        module, _, attribute = _BUILT_IN[name].partition(":")
        engine: Engine = getattr(import_module(module), attribute)
        return engine
    for point in entry_points(group=_GROUP):
        if point.name == name:
            try:
                loaded: Engine = point.load()
            except ImportError as error:
                message = f"engine {name!r} of {point.value} is not available: {error}"
                raise InputError(message, option="engine", value=name) from error
            _loaded[name] = loaded  # looking through all installed packages takes as long as many passes on a GPU
            return loaded
    if name == "sharded":
        message = "engine 'sharded' needs to know its processes: engine=Sharded(all_sum, rank, size)"
    else:
        message = f"unknown engine {name!r}; known are auto, {', '.join(names())}, and Sharded(...)"
    raise InputError(message, option="engine", value=name)
