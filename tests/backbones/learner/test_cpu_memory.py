"""Memory that is freed on a CPU is used again, unless the environment says otherwise."""

import os
import platform
import subprocess
import sys

import pytest

from backbones.learner.cpu_memory import keep_freed_memory

# Prints the page faults of a step that takes and frees 80 MB, which are 19,500 pages. Memory of the standard library
# alone: with tensors of PyTorch, a small block that happens to lie at the end of the heap keeps it from shrinking.
PROGRAM = """
import resource
import sys

from backbones.learner.cpu_memory import keep_freed_memory

def step():
    blocks = [b"x" * 4_000_000 for _ in range(20)]
    blocks.clear()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(5):
    step()
before = faults()
for _ in range(10):
    step()
print((faults() - before) / 10)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_not_fetched_again_page_by_page():
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}

    def faults_of(what):
        command = [sys.executable, "-c", PROGRAM, what]
        return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)

    assert faults_of("leave") > 10_000
    assert faults_of("keep") < 100


@pytest.mark.parametrize("variable", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"])
def test_a_user_s_own_limits_hold(monkeypatch, variable):
    monkeypatch.setenv(variable, "1000000")
    assert not keep_freed_memory()
