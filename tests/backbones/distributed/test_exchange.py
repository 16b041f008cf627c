"""The solver over real processes, with `torch.distributed`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from selavi_ref.transport import assign

torch = pytest.importorskip("torch")

PROCESS = """
import sys
import numpy as np, torch
import torch.distributed as dist
from selavi_ref.transport import Sharded, assign

rank, size = int(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method="file://" + sys.argv[3] + "/meeting", rank=rank, world_size=size)

def all_sum(numbers):
    tensor = torch.from_numpy(numbers.copy())
    dist.all_reduce(tensor)
    return tensor.numpy()

scores, sizes = np.load(sys.argv[3] + "/scores.npy"), np.load(sys.argv[3] + "/sizes.npy")
found = assign(scores[rank::size], sizes, engine=Sharded(all_sum, rank, size, "numba"), tol=1e-8)
np.savez(f"{sys.argv[3]}/{rank}.npz", labels=found.labels, potentials=found.potentials, error=found.marginal_error)
dist.destroy_process_group()
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")
@pytest.mark.processes
@pytest.mark.parametrize("size", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_real_processes_give_the_labels_of_one(tmp_path: Path, size: int) -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(2003, 60)).astype(np.float32)
    sizes = rng.dirichlet(np.full(60, 3.0))
    np.save(tmp_path / "scores.npy", scores)
    np.save(tmp_path / "sizes.npy", sizes)
    command = [sys.executable, "-c", PROCESS]
    running = [subprocess.Popen([*command, str(rank), str(size), str(tmp_path)]) for rank in range(size)]
    assert [process.wait(timeout=120) for process in running] == [0] * size
    whole = assign(scores, sizes, engine="numba", tol=1e-8)
    parts = [np.load(tmp_path / f"{rank}.npz") for rank in range(size)]
    labels = np.empty(len(scores), np.int32)
    for rank, part in enumerate(parts):
        labels[rank::size] = part["labels"]
        assert part["error"] <= 1e-8
        assert np.array_equal(part["potentials"], parts[0]["potentials"])
    assert np.array_equal(labels, whole.labels)
