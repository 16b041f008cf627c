"""The plan pass: the only way in which the solver sees the N x K data, and the registry of those who can carry it out.

An engine is a function ``(log_prob, strength, weight) -> PlanPass``. Those of this package are ``numpy`` (readable) and
``numba`` (fused and threaded); other packages add theirs through the entry point group ``selavi.engines``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from selavi_ref.errors import InputError

Vector = NDArray[np.float64]

_BUILT_IN = {
    "numpy": "selavi_ref.transport.numpy_engine:NumpyPass",
    "numba": "selavi_ref.transport.numba_engine:NumbaPass",
    "store": "selavi_ref.transport.store_engine:StorePass",
}
_GROUP = "selavi.engines"
STATS_ROWS = 1024  # about how many rows a survey looks at
_SMALL = 20_000  # entries up to which the start of compiled code costs more than it saves
_LARGEST = 1e30  # |strength * log_prob| beyond which sums of two such numbers carry no information


@dataclass(frozen=True)
class Rows:
    """What a walk over the rows leaves behind, always computed in float64.

    Attributes
    ----------
    labels : (N,) int32
        Column with the largest share of each row; the first one where shares are equal.
    confidence : (N,) float32
        That share.
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
    """How a plan looks on the whole: means over about a thousand of its rows, weighted.

    Attributes
    ----------
    weight : float
        What the rows that were looked at weigh; the other three are sums that it has yet to divide, so that surveys of
        parts of the rows can be added up.
    softness : float
        Of ``1 - sum_k q_ik ** 2``: 0 where every row has one share.
    many : float
        Of the number of shares above 0.001.
    small : float
        Of the number of shares below 1e-6, in columns with a potential.
    """

    weight: float
    softness: float
    many: float
    small: float

    def mean(self) -> PlanStats:
        """Return the means; if the rows that were looked at weigh nothing, those of a plan as soft as can be."""
        if not self.weight > 0:
            return PlanStats(1.0, 1.0, np.inf, 0.0)
        weight = self.weight
        return PlanStats(1.0, self.softness / weight, self.many / weight, self.small / weight)


class PlanPass(Protocol):
    """One operation on N x K data, as the optimiser needs it: K numbers in, K numbers out.

    With ``L = sharpness * strength * log_prob`` and row weights w of sum 1, the plan at potentials f is
    ``Q_ik = w_i softmax_k(L_ik + f_k)``. Potentials may be ``-inf`` for columns that are to receive nothing, and are
    finite for at least one. No finite data may lead to NaN. A pass may also have a ``metric``, which
    `selavi_ref.transport.preconditioner.curvature` then asks in place of ``coupling``.
    """

    shape: tuple[int, int]
    weight: Vector | None

    def __call__(self, potentials: Vector, sharpness: float = 1.0, *, precise: bool = False) -> tuple[float, Vector]:
        """Return ``sum_i w_i logsumexp_k(L_ik + f_k)`` and the column sums (K,); ``precise`` asks for float64."""
        ...

    def rows(self, potentials: Vector) -> Rows:
        """Walk over the rows once more, for labels, confidences, certified column sums and cost."""
        ...

    def peak(self, potentials: Vector) -> Vector:
        """Return the logarithm of the largest share that each column has in any row (K,), however small it is."""
        ...

    def survey(self, potentials: Vector, sharpness: float = 1.0) -> PlanStats:
        """Look at about `STATS_ROWS` rows, evenly spread."""
        ...

    def coupling(self, potentials: Vector, step: int, sharpness: float = 1.0) -> Vector:
        """Return the mean (K, K) of ``q_i q_i^T`` over every ``step``-th row, weighted by w; q_i the shares of row i.

        Where that is easier, over a like selection of rows.
        It serves as a metric: shares below 0.001 may be left out, and single precision will do.
        """
        ...


Engine = Callable[[Any, float, "Vector | None"], PlanPass]


def register(name: str, engine: Engine) -> None:
    """Make ``engine`` known in this process under ``name``, before those of other packages."""
    _registered[name] = engine


_registered: dict[str, Engine] = {}
_loaded: dict[str, Engine] = {}  # those of other packages


def names() -> list[str]:
    """Return the names that `create` knows, sorted."""
    return sorted({*_BUILT_IN, *_registered, *(point.name for point in entry_points(group=_GROUP))})


def create(engine: str | Engine, log_prob: Any, strength: float, weight: Vector | None = None) -> PlanPass:
    """Return a pass over ``log_prob`` (N, K) by ``engine``.

    Parameters
    ----------
    engine : str or function
        A registered name; or an engine itself; or ``"auto"``: ``store`` for what lies in a file, ``torch`` for tensors
        on an accelerator, else ``numba``, but ``numpy`` for problems too small to be worth compiled code.
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
            raise InputError(f"engine must be a name or a function of (log_prob, strength, weight), not {engine!r}")
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
    return "numpy" if log_prob.size < _SMALL else "numba"


def is_tensor(x: Any) -> bool:
    """Return whether ``x`` is a tensor of PyTorch, without importing it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def in_memory(log_prob: Any) -> NDArray[Any]:
    """Return scores as an array: tensors of PyTorch, `Blocks`, and what else is not one."""
    if is_tensor(log_prob):
        log_prob = log_prob.detach().cpu()
        return np.asarray((log_prob if log_prob.element_size() >= 4 else log_prob.float()).numpy())
    whole: NDArray[Any] = log_prob.array() if hasattr(log_prob, "walk") else np.asarray(log_prob)
    return whole


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
                raise InputError(f"engine {name!r} of {point.value} is not available: {error}") from error
            _loaded[name] = loaded  # looking through all installed packages takes as long as many passes on a GPU
            return loaded
    if name == "sharded":
        raise InputError("engine 'sharded' needs to know its processes: engine=Sharded(all_sum, rank, size)")
    raise InputError(f"unknown engine {name!r}; known are auto, {', '.join(names())}, and Sharded(...)")


def numbers(values: Any, name: str) -> NDArray[Any]:
    """Return real numbers as an array, or raise an error that names the argument."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise InputError(f"{name} has type {array.dtype}; it must hold real numbers")
    return array


def normalised(weight: Vector | None) -> Vector | None:
    """Return row weights of sum 1."""
    if weight is None:
        return None
    if not weight.any():
        raise InputError("all sample weights are zero; at least one must be positive")
    weight = weight / weight.max()
    return np.asarray(weight / weight.sum())


def refuse_entry(row: int, column: int, value: float) -> NoReturn:
    """Raise the error of an engine that has met an entry that is not finite."""
    raise InputError(f"log_prob has {value} in row {row}, column {column}; all entries must be finite")


def check_size(largest: float, strength: float) -> None:
    """Raise if the largest absolute entry is too large for exponents to mean anything."""
    if largest * abs(strength) > _LARGEST:
        raise InputError(f"log_prob reaches {largest:.3g}: times strength {strength:g} it must stay below {_LARGEST:g}")
