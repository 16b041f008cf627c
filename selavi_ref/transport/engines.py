"""The plan pass: the only way in which the solver sees the N x K data, and the registry of those who can carry it out.

An engine is a function ``(log_prob, strength, weight) -> PlanPass``. Those of this package are ``numpy`` (readable) and
``numba`` (fused and threaded); other packages add theirs through the entry point group ``selavi.engines``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import InputError
from selavi_ref.transport.arguments import Vector, in_memory, is_tensor

_BUILT_IN = {
    "numpy": "selavi_ref.transport.numpy_engine:NumpyPass",
    "numba": "selavi_ref.transport.numba_engine:NumbaPass",
    "store": "selavi_ref.transport.store_engine:StorePass",
}
_GROUP = "selavi.engines"
STATS_ROWS = 1024  # rows, about, that the statistics of a plan are taken from
_SMALL = 20_000  # entries up to which the start of compiled code costs more than it saves


@dataclass(frozen=True)
class Rows:
    """Labels, confidences and column sums of a plan, always computed in float64.

    Attributes
    ----------
    labels : (N,) int32
        Column with the largest entry in each row of the plan; the first one where entries are equal.
    confidence : (N,) float32
        That entry, divided by the sum of the row.
    logsumexp : (N,) float64
        ``logsumexp_k(strength * log_prob_ik + f_k)``.
    mass : (K,) float64
        Column sums of the plan.
    value, score : float
        Weighted means over the rows of ``logsumexp`` and of ``log_prob`` at the label.
    """

    labels: NDArray[np.int32]
    confidence: NDArray[np.float32]
    logsumexp: Vector
    mass: Vector
    value: float
    score: float


@dataclass(frozen=True)
class PlanStats:
    """Statistics of a plan that tell how peaked it is: weighted means over about a thousand of its rows.

    With ``q_i`` the softmax of row i.

    Attributes
    ----------
    weight : float
        Sum of the weights of these rows. The other three are weighted sums that `mean` divides by it, so that the
        statistics of parts of the rows can be added up.
    softness : float
        ``1 - sum_k q_ik ** 2``: 0 where each row has a single entry.
    many : float
        Number of entries of ``q_i`` above 0.001.
    small : float
        Number of entries of ``q_i`` below 1e-6, in columns of finite potential.
    """

    weight: float
    softness: float
    many: float
    small: float

    def mean(self) -> PlanStats:
        """Return the means; those of the softest possible plan if all these rows have weight zero."""
        if not self.weight > 0:
            return PlanStats(1.0, 1.0, np.inf, 0.0)
        weight = self.weight
        return PlanStats(1.0, self.softness / weight, self.many / weight, self.small / weight)


class PlanPass(Protocol):
    """The operation on N x K data that the optimiser needs: K potentials in, K column sums out.

    With ``L = sharpness * strength * log_prob`` and row weights w of sum 1, the plan at potentials f is
    ``Q_ik = w_i softmax_k(L_ik + f_k)``. Potentials may be ``-inf`` for columns that are to receive nothing, and are
    finite for at least one. No finite data may lead to NaN. A pass may also have a ``metric``, which
    `selavi_ref.transport.preconditioner.curvature` then calls in place of ``coupling``.
    """

    shape: tuple[int, int]
    weight: Vector | None

    def __call__(self, potentials: Vector, sharpness: float = 1.0, *, precise: bool = False) -> tuple[float, Vector]:
        """Return ``sum_i w_i logsumexp_k(L_ik + f_k)`` and the column sums (K,); ``precise`` asks for float64."""
        ...

    def rows(self, potentials: Vector) -> Rows:
        """Return labels, confidences, certified column sums and cost, from one more pass over the rows."""
        ...

    def peak(self, potentials: Vector) -> Vector:
        """Return the logarithm of the largest posterior ``q_ik`` of each column over all rows (K,), however small."""
        ...

    def stats(self, potentials: Vector, sharpness: float = 1.0) -> PlanStats:
        """Return statistics of about `STATS_ROWS` rows, evenly spread."""
        ...

    def coupling(self, potentials: Vector, step: int, sharpness: float = 1.0) -> Vector:
        """Return the weighted mean (K, K) of ``q_i q_i^T`` over every ``step``-th row; q_i is the softmax of row i.

        It may be taken over another selection of about as many rows, entries below 0.001 may be left out, and single
        precision is enough: it only serves as a metric.
        """
        ...


Engine = Callable[[Any, float, "Vector | None"], PlanPass]


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
        return engine(log_prob, strength, weight)
    if engine == "auto":
        engine = _suitable(log_prob)
    if engine in ("numpy", "numba") and not isinstance(log_prob, np.ndarray):
        log_prob = in_memory(log_prob)
    return _load(engine)(log_prob, strength, weight)


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
