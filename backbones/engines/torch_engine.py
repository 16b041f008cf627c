"""PyTorch engine of the transport solver, for data on a GPU.

Tensors stay on their device. The solver itself runs on the host and exchanges K numbers with the device per pass. On
CUDA a pass is one kernel of `backbones.engines.triton_kernels`, if Triton is installed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import wraps
from importlib import import_module
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from selavi_ref.errors import InputError
from selavi_ref.transport.arguments import Vector, check_size, in_memory, normalised, refuse_entry
from selavi_ref.transport.plan_pass import STATS_ROWS, PlanStats, Rows

FUSED = "backbones.engines.triton_kernels"  # module of the fused kernel, which is optional

_LOG2E = 1.4426950408889634
_LN2 = 0.6931471805599453
_RELEVANT, _NEGLIGIBLE = (
    1e-3,
    1e-6,
)  # plan entries relative to their row
_MAX_EXPONENT_RANGE = 20_000.0  # range of base-2 exponents beyond which float64 is used
_MIN_SCALE, _MAX_SCALE = 1e-30, 1e30  # range of scale factors within which float32 is used
_MIN_ROW_SUM, _MAX_ROW_SUM = (
    2.0**-32,
    2.0**32,
)  # a block with a row sum outside this range is recomputed with new shifts
_CPU_BLOCK = 1 << 17  # entries per thread and block, which stay in its cache
_GPU_BLOCK = 1 << 24  # entries per block on a GPU, at most a fraction of the data
_GPU_LEAST, _GPU_PART = 1 << 22, 16

P = ParamSpec("P")
T = TypeVar("T")


def _full_precision(method: Callable[Concatenate[TorchPass, P], T]) -> Callable[Concatenate[TorchPass, P], T]:
    """Decorate a method to run without gradients and outside any ``autocast``."""

    @wraps(method)
    def run(self: TorchPass, /, *args: P.args, **kwargs: P.kwargs) -> T:
        lower = torch.is_autocast_enabled(self.device.type)
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=False) if lower else nullcontext():
            return method(self, *args, **kwargs)

    return run


class TorchPass:
    """`PlanPass` on a PyTorch tensor, in the precision of the data.

    Parameters
    ----------
    log_prob : (N, K) tensor or array
        Float32 or float64 of any layout. A tensor stays on its device and is not copied; an array is moved to CUDA if
        available, and shared otherwise. Half precision is converted to float32.
    strength : float
        Factor of ``log_prob``.
    weight : (N,) float64, optional
        Non-negative row weights with a positive sum.
    fused : bool, optional
        Whether a pass is one fused Triton kernel; by default where possible.

    Raises
    ------
    InputError
        If an entry is not finite (the message names row and column) or too large, or the kernel is not available.
    """

    def __init__(
        self,
        log_prob: Tensor | NDArray[Any],
        strength: float,
        weight: Vector | None = None,
        *,
        fused: bool | None = None,
    ) -> None:
        self._x = _tensor(log_prob)
        self.device = self._x.device
        self.shape = (self._x.shape[0], self._x.shape[1])
        self.weight = normalised(weight)
        self._strength = float(strength)
        self.largest = self._largest_entry()
        check_size(self.largest, strength)
        self._weight = self._row_weights()
        self._weights: dict[torch.dtype, Tensor] = {}
        self._shifts: dict[torch.dtype, Tensor] = {}
        self._sharpness = 1.0
        self._fused = self._find_fused(fused)

    @_full_precision
    def __call__(self, potentials: Vector, sharpness: float = 1.0, *, precise: bool = False) -> tuple[float, Vector]:
        """See `PlanPass`."""
        dtype = torch.float64 if precise else self._precision(potentials, sharpness)
        f, mult, centre = _in_base_two(potentials, dtype)
        packed = torch.from_numpy(np.concatenate((f, mult, [self._scale(sharpness)]), dtype=f.dtype)).to(self.device)
        if self._fused is None:
            sums = self._plain_pass(packed, self._scale(sharpness), self._shift(dtype, sharpness))
        else:
            sums = self._fused.sums(self._x, packed, self._weight_as(dtype))
        host_sums = _numpy(sums)
        mass = host_sums[:-1] * mult
        # Float32 drops small terms of a row sum, which scales all columns up by nearly the same factor: normalise.
        return float(host_sums[-1]) / self.shape[0] * _LN2 + centre, mass / mass.sum()

    @_full_precision
    def rows(self, potentials: Vector) -> Rows:
        """See `PlanPass`."""
        f, mult, centre = _in_base_two(potentials, torch.float64)
        packed = torch.from_numpy(np.concatenate((f, mult, [self._scale()]))).to(self.device)
        if self._fused is None:
            result = self._plain_rows(packed[: len(f)])
        else:
            result = self._fused.rows(self._x, packed, self._weight_as(torch.float64))
        labels, confidence, exponent, sums = result
        *mass, value, score = _numpy(sums / self.shape[0])
        logsumexp = _numpy(exponent.mul_(_LN2).add_(centre))
        return Rows(
            _numpy(labels), _numpy(confidence), logsumexp, np.array(mass), float(value) * _LN2 + centre, float(score)
        )

    @_full_precision
    def peak(self, potentials: Vector) -> Vector:
        """See `PlanPass`."""
        f, _, _ = self._split(potentials, torch.float64)
        highest = torch.full_like(f, -torch.inf)
        for _, x, out in self._blocks(torch.float64):
            top = _to_powers(torch.add(f, x, alpha=self._scale(), out=out))
            logsumexp = top + out.sum(1).log2()
            logits = torch.add(f, x, alpha=self._scale(), out=out)
            highest = highest.maximum(logits.sub_(logsumexp[:, None]).amax(0))
        return _numpy(highest * _LN2)

    @_full_precision
    def stats(self, potentials: Vector, sharpness: float = 1.0) -> PlanStats:
        """See `PlanPass`."""
        f, _, _ = self._split(potentials, torch.float64)
        sums = f.new_zeros(4)
        for rows, x, out in self._blocks(torch.float64, max(1, self.shape[0] // STATS_ROWS)):
            plan = torch.add(f, x, alpha=self._scale(sharpness), out=out)
            _to_powers(plan)
            plan /= plan.sum(1, keepdim=True)
            many, small = (plan > _RELEVANT).sum(1), ((plan < _NEGLIGIBLE) & f.isfinite()).sum(1)
            soft = 1.0 - plan.square_().sum(1)
            sums += torch.stack((torch.ones_like(soft), soft, many.double(), small.double())) @ self._weight[rows]
        return PlanStats(*(sums / self.shape[0]).tolist())

    @_full_precision
    def coupling(self, potentials: Vector, step: int, sharpness: float = 1.0) -> Vector:
        """See `PlanPass.coupling`; products are in TF32 where PyTorch has been allowed to use it."""
        return _numpy(self._coupling(potentials, step, sharpness))

    @_full_precision
    def metric(
        self,
        potentials: Vector,
        step: int,
        sharpness: float,
        active: NDArray[np.bool_],
        mass: Vector,
        target: Vector,
        damping: float,
    ) -> _Inverse:
        """Return a `Laplacian` preconditioner on the device of the data."""
        coupling = self._coupling(potentials, step, sharpness)
        if not active.all():
            chosen = torch.from_numpy(np.flatnonzero(active)).to(self.device)
            coupling = coupling[chosen][:, chosen]
        m, scale = torch.from_numpy(np.stack((mass, np.maximum(target, mass)))).to(self.device)
        if step > 1:
            factor = (m / coupling.sum(1)).nan_to_num_(0.0, 0.0, 0.0).sqrt_()
            coupling *= factor[:, None] * factor
        own = coupling.diagonal().clone()
        degree = torch.maximum(coupling.sum(1) - own, m - own)
        root = scale.sqrt()
        matrix = coupling.div_(-root[:, None]).div_(root)
        matrix.diagonal().copy_(degree / scale + damping)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky_ex(matrix).L)  # the solver checks the result
        return _Inverse(inverse.div_(root[:, None]).div_(root))

    def _coupling(self, potentials: Vector, step: int, sharpness: float) -> Tensor:
        dtype = self._precision(potentials, sharpness)
        f, mult, _ = self._split(potentials, dtype)
        total = torch.zeros((len(f), len(f)), dtype=torch.float32, device=self.device)
        for rows, x, out in self._blocks(dtype, step):
            plan = torch.add(f, x, alpha=self._scale(sharpness), out=out)
            _to_powers(plan)
            plan *= mult
            plan *= (self._weight[rows].sqrt() / plan.sum(1)).to(dtype)[:, None]
            single = plan.float()
            total.addmm_(single.T, single)
        return total.double().div_(self._weight[::step].sum().clamp_(min=1e-300))

    def _plain_pass(self, packed: Tensor, scale: float, shift: Tensor) -> Tensor:
        """Compute what `backbones.engines.triton_kernels.fused_pass` does, in PyTorch operations.

        Instead of its maximum, a row is shifted by its logsumexp of the previous pass (``shift``, updated here). Large
        terms are added first: ``(x * scale - shift) + f``.
        """
        K = self.shape[1]
        f, mult = packed[:K], packed[K : 2 * K]
        value = torch.zeros(1, dtype=torch.float64, device=self.device)
        mass = torch.zeros(f.shape, dtype=torch.float64, device=self.device)
        exact = None if self.device.type == "cpu" else torch.float64  # on a CPU sums are taken pairwise
        for rows, x, out in self._blocks(f.dtype):
            weight, own = self._weight[rows], shift[rows]
            powers = torch.add(-own[:, None], x, alpha=scale, out=out).add_(f).exp2_()
            total = powers @ mult
            low, high = torch.stack(total.aminmax()).tolist()
            if not (low > _MIN_ROW_SUM and high < _MAX_ROW_SUM):
                own.copy_(_to_powers(torch.add(f, x, alpha=scale, out=out)))
                total = powers @ mult
            logsumexp = own + total.double().log2()
            own.copy_(logsumexp)
            value += weight @ logsumexp
            mass += powers.mul_((weight / total).to(f.dtype)[:, None]).sum(0, dtype=exact)
        return torch.cat((mass, value))

    def _plain_rows(self, f: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute what `backbones.engines.triton_kernels.fused_rows` does, in PyTorch operations."""
        N, K = self.shape
        labels = torch.empty(N, dtype=torch.int32, device=self.device)
        confidence = torch.empty(N, dtype=torch.float32, device=self.device)
        logsumexp = torch.empty(N, dtype=torch.float64, device=self.device)
        mass, ends = logsumexp.new_zeros(K), logsumexp.new_zeros(2)
        for rows, x, out in self._blocks(torch.float64):
            logits = torch.add(f, x, alpha=self._scale(), out=out)
            label = logits.argmax(1)
            top = _to_powers(logits)
            total, weight = logits.sum(1), self._weight[rows]
            labels[rows], confidence[rows] = label, total.reciprocal()
            logsumexp[rows] = top + total.log2()
            mass += logits.mul_((weight / total)[:, None]).sum(0)
            at_label = x.gather(1, label[:, None])[:, 0].double()
            ends += torch.stack((logsumexp[rows], at_label)) @ weight
        return labels, confidence, logsumexp, torch.cat((mass, ends))

    def _blocks(self, dtype: torch.dtype, step: int = 1) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Yield blocks of every ``step``-th row: their rows, data, and a reused buffer of the same shape."""
        N, K = self.shape
        entries = _CPU_BLOCK * max(2, torch.get_num_threads())
        if self.device.type != "cpu":
            entries = min(_GPU_BLOCK, max(_GPU_LEAST, N * K // _GPU_PART))
        n = min(max(1, entries // K), -(-N // step))
        by_columns = self._x.stride(0) < self._x.stride(1)
        buffer = torch.empty((K, n) if by_columns else (n, K), dtype=dtype, device=self.device)
        buffer = buffer.T if by_columns else buffer
        for start in range(0, N, n * step):
            rows = slice(start, min(start + n * step, N), step)
            x = self._x[rows]
            yield rows, x, buffer[: len(x)]

    def _scale(self, sharpness: float = 1.0) -> float:
        return sharpness * self._strength * _LOG2E

    def _precision(self, potentials: Vector, sharpness: float) -> torch.dtype:
        """Return the dtype of the arithmetic: that of the data, or float64 if exponents are large."""
        scale, used = abs(self._scale(sharpness)), potentials[np.isfinite(potentials)]
        fits = (
            self.largest * scale < _MAX_EXPONENT_RANGE
            and np.ptp(used) * _LOG2E < _MAX_EXPONENT_RANGE
            and _MIN_SCALE < scale < _MAX_SCALE
        )
        return self._x.dtype if fits else torch.float64

    def _split(self, potentials: Vector, dtype: torch.dtype) -> tuple[Tensor, Tensor, float]:
        """Return the result of `_in_base_two` as tensors on the device of the data."""
        f, mult, centre = _in_base_two(potentials, dtype)
        return torch.from_numpy(f).to(self.device), torch.from_numpy(mult).to(self.device), centre

    def _shift(self, dtype: torch.dtype, sharpness: float) -> Tensor:
        """Return the row shifts, rescaled to this sharpness."""
        if sharpness != self._sharpness:
            for shift in self._shifts.values():
                shift *= sharpness / self._sharpness
            self._sharpness = sharpness
        if dtype not in self._shifts:
            self._shifts[dtype] = torch.zeros(self.shape[0], dtype=dtype, device=self.device)
        return self._shifts[dtype]

    def _weight_as(self, dtype: torch.dtype) -> Tensor | None:
        """Return row weights of mean 1 in a dtype, or None where all are equal."""
        if self.weight is None:
            return None
        if dtype not in self._weights:
            self._weights[dtype] = self._weight.to(dtype)
        return self._weights[dtype]

    def _row_weights(self) -> Tensor:
        """Return row weights of mean 1."""
        if self.weight is None:
            return torch.ones(1, dtype=torch.float64, device=self.device).expand(self.shape[0])
        return torch.from_numpy(self.weight * self.shape[0]).to(self.device)

    @_full_precision
    def _largest_entry(self) -> float:
        """Return the largest absolute entry; raise if one is not finite."""
        parts = [x for _, x, _ in self._blocks(self._x.dtype)] if self.device.type == "cpu" else [self._x]
        ends = torch.stack([torch.stack(x.aminmax()) for x in parts])
        if not ends.isfinite().all():
            for rows, x, _ in self._blocks(self._x.dtype):
                finite = x.isfinite()
                if not finite.all():
                    row, column = divmod(int(finite.reshape(-1).to(torch.uint8).argmin()), self.shape[1])
                    refuse_entry(rows.start + row, column, float(x[row, column]))
        return float(ends.abs().max())

    def _find_fused(self, fused: bool | None) -> Any:
        """Return the fused kernels after a trial on one row, or None if a pass does without them."""
        if fused is False or (fused is None and self.device.type != "cuda"):
            return None
        try:
            kernels = import_module(FUSED).kernels_for(self._x)
            packed = torch.ones(2 * self.shape[1] + 1, dtype=self._x.dtype, device=self.device)
            kernels.sums(self._x[:1], packed, None)
            kernels.rows(self._x[:1], packed.double(), None)
        except Exception as error:  # a compiler may raise anything
            if fused:
                raise InputError(f"there is no fused pass over this data: {error}") from error
            if not isinstance(error, (ImportError, InputError)):
                warnings.warn(f"a pass does not use Triton, which fails here: {error}", RuntimeWarning, stacklevel=3)
            return None
        return kernels


class _Inverse:
    """Preconditioner of the solver, packed by its inverse matrix."""

    def __init__(self, matrix: Tensor) -> None:
        self._matrix = matrix

    @torch.inference_mode()
    def solve(self, gradient: Vector) -> Vector:
        """See `selavi_ref.transport.preconditioner.Preconditioner.solve`."""
        return _numpy(self._matrix @ torch.from_numpy(gradient).to(self._matrix.device))


def _tensor(log_prob: Tensor | NDArray[Any]) -> Tensor:
    """Return the data as a float32 or float64 tensor on the device of the computation."""
    if isinstance(log_prob, Tensor):
        x = log_prob.detach()
        if x.dtype not in (torch.float32, torch.float64):
            x = x.to(torch.float32 if x.is_floating_point() else torch.float64)
        return x.cpu() if x.device.type == "mps" else x  # that device has no float64
    log_prob = in_memory(log_prob)
    if log_prob.dtype not in (np.float32, np.float64):
        log_prob = log_prob.astype(np.float32 if log_prob.dtype == np.float16 else np.float64)
    if any(stride < 0 or stride % log_prob.itemsize for stride in log_prob.strides):
        log_prob = np.ascontiguousarray(log_prob)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # it is only read
        x = torch.from_numpy(log_prob)
    return x.cuda() if torch.cuda.is_available() else x


def _in_base_two(potentials: Vector, dtype: torch.dtype) -> tuple[NDArray[Any], Vector, float]:
    """Return potentials in base 2 as (f, multiplier), and the subtracted centre in natural units.

    f is rounded to ``dtype`` and ``2 ** remainder`` becomes the multiplier, in float64, so that float32 does not limit
    the resolution of the potentials. The multiplier of a potential ``-inf`` is 0.
    """
    used = np.isfinite(potentials)
    middle = used.sum() // 2
    centre = float(np.partition(potentials[used], middle)[middle])
    exact = (potentials - centre) * _LOG2E
    f: NDArray[Any] = exact.astype(np.float32 if dtype == torch.float32 else np.float64)
    mult = np.zeros(len(f))
    mult[used] = np.exp2(exact[used] - f[used])
    return f, mult, centre


def _to_powers(exponents: Tensor) -> Tensor:
    """Raise 2 to ``exponents`` in place, each row shifted to a largest exponent of 0; return the shifts."""
    top = exponents.amax(1)
    exponents.sub_(top[:, None]).exp2_()
    return top


def _numpy(x: Tensor) -> NDArray[Any]:
    return np.asarray(x.cpu().numpy())
