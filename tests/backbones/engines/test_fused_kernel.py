"""The fused kernel of the PyTorch engine: on a GPU, interpreted or only compiled without one, and passes without it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from backbones.engines import torch_engine as plan_pass
from backbones.engines.torch_engine import TorchPass
from selavi_ref.transport import assign
from tests.support.refusal import refused
from tests.support.torch_passes import NO_GPU, check_passes, check_rows, data
from tests.support.transport_reference import plan

ROOT = Path(__file__).parents[3]
DTYPES = [np.float32, np.float64]


def test_without_triton_a_pass_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_pass, "FUSED", "there_is.no_triton")
    assert TorchPass(data(5, 3), 1.0)._fused is None
    with refused():
        TorchPass(data(5, 3), 1.0, fused=True)


class FailsToCompile:
    @staticmethod
    def kernels_for(x: torch.Tensor) -> None:
        raise RuntimeError("Failed to find C compiler")


def test_where_triton_fails_a_pass_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fails_to_compile", FailsToCompile)
    monkeypatch.setattr(plan_pass, "FUSED", "fails_to_compile")
    passing = TorchPass(torch.from_numpy(data(5, 3)), 1.0)
    monkeypatch.setattr(passing, "device", torch.device("cuda"))
    with pytest.warns(RuntimeWarning):
        assert passing._find_fused(None) is None
    assert passing._find_fused(False) is None
    with refused():
        passing._find_fused(True)


INTERPRETED = """
import numpy as np, pytest
from tests.support import torch_passes
from backbones.engines.torch_engine import TorchPass
from selavi_ref.transport.engines import create
from selavi_ref.errors import InputError
torch_passes.SHAPES = [(300, 10), (5, 600)]
torch_passes.ROUNDS = [(2, 0.5), (3, 4.0)]
torch_passes.check_passes("C", np.float32, False, fused=True)
torch_passes.check_passes("F", np.float64, True, fused=True)
torch_passes.check_rows("C", np.float32, fused=True)
torch_passes.check_rows("F", np.float64, fused=True)
assert TorchPass(np.zeros((70, 30)), 1.0, fused=True).rows(np.zeros(30)).labels.max() == 0
far = np.random.default_rng(0).choice([-1e4, 1e4, 0.0], size=(40, 30))
_, mass = TorchPass(far, 1e20, fused=True)(np.arange(30) * 1e9)
assert abs(mass.sum() - 1) < 1e-12
with pytest.raises(InputError, match="4097 columns"):
    TorchPass(np.zeros((1, 4097)), 1.0, fused=True)
"""


@pytest.mark.processes
def test_the_fused_kernel_in_triton_s_interpreter() -> None:
    pytest.importorskip("triton")
    env = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", INTERPRETED], env=env, capture_output=True, text=True)
    if "only 0-dimensional arrays can be converted" in done.stderr:
        pytest.skip("this Triton's interpreter counts loops in a way that this NumPy refuses")
    assert done.returncode == 0, done.stderr


def test_the_fused_kernel_is_not_for_the_cpu() -> None:
    pytest.importorskip("triton")
    with refused():
        TorchPass(torch.from_numpy(data(5, 3)), 1.0, fused=True)


COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from backbones.engines.triton_kernels import _kernel, _rows_kernel
signature = {"x": "*fp32", "N": "i32", "K": "i32", "row_stride": "i32", "n_tiles": "i32"}
for kind, bits in ("fp32", 32), ("fp64", 64):
    signature |= dict.fromkeys(["packed", "weight"], f"*{kind}") | {"sums": "*fp64", "logsumexp": "*fp64"}
    signature |= {"labels": "*i32", "confidence": "*fp32"}
    fixed = {"column_stride": 1, "SINGLE": bits == 32, "WEIGHTED": True, "ROWS": 2, "WIDTH": 128}
    for kernel in (_kernel,) if bits == 32 else (_kernel, _rows_kernel):
        kinds = {name: signature.get(name, "constexpr") for name in kernel.arg_names}
        values = {name: fixed[name] for name in kernel.arg_names if name in fixed}
        source = triton.compiler.ASTSource(kernel, kinds, values)
        assert f"fma.rn.f{bits}" in triton.compile(source, target=GPUTarget("cuda", 80, 32)).asm["ptx"]
"""


@pytest.mark.processes
def test_the_fused_kernel_compiles_for_a_gpu_that_is_not_there(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    env = os.environ | {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", COMPILED], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@NO_GPU
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_fused_kernel_on_a_gpu(order: str, dtype: type, weighted: bool) -> None:
    pytest.importorskip("triton")
    check_passes(order, dtype, weighted, "cuda", fused=True)
    check_rows(order, dtype, "cuda", fused=True)


@NO_GPU
def test_large_data_on_a_gpu_are_passed_alike_by_both() -> None:
    pytest.importorskip("triton")
    x = torch.randn(300_000, 309, device="cuda")
    f = np.random.default_rng(0).normal(size=309)
    fused, plain = TorchPass(x, 5.0, fused=True), TorchPass(x, 5.0, fused=False)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    (value, mass), walked = fused(f), fused.rows(f)
    assert torch.cuda.max_memory_allocated() - before < 0.1 * x.nbytes
    rows = plain.rows(f)
    assert np.abs(mass - rows.mass).sum() < 2e-7
    assert value == pytest.approx(rows.value, rel=1e-6)
    assert np.abs(plain(f)[1] - rows.mass).sum() < 2e-7
    assert np.array_equal(fused(f)[1], mass)
    assert np.array_equal(walked.labels, rows.labels)
    assert np.abs(walked.mass - rows.mass).sum() < 1e-12
    assert torch.cuda.max_memory_allocated() - before < 0.3 * x.nbytes
    assert assign(x, engine="torch").converged


@NO_GPU
def test_arrays_go_to_the_gpu_and_many_columns_do_without_the_kernel() -> None:
    passing = TorchPass(data(20, 5000).astype(np.float32), 1.0)
    assert passing.device.type == "cuda"
    assert passing._fused is None
    assert np.abs(passing(np.zeros(5000))[1] - plan(data(20, 5000), np.zeros(5000)).sum(0)).sum() < 2e-6
