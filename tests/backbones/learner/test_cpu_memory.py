"""Memory that PyTorch frees on a CPU is used again, unless the environment says otherwise."""

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import torch
from backbones.learner.cpu_memory import keep_freed_memory

print(keep_freed_memory())

def step():
    blocks = [torch.ones(5_000_000) for _ in range(4)]  # 20 MB each
    del blocks

for _ in range(5):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 10)
"""


def run(**variables):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_not_fetched_again_page_by_page():
    answer, faults = run()
    assert answer == "True"
    assert float(faults) < 100  # 80 MB are 20,000 pages


@pytest.mark.parametrize("variable", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"])
def test_a_user_s_own_limits_hold(variable):
    assert run(**{variable: "1000000"})[0] == "False"
