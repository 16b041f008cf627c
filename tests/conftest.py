"""How often properties are tried: 50 times, and 2,000 times with ``-m nightly``; and how processes share the cores."""

from __future__ import annotations

import gc
import os

import pytest
from hypothesis import settings

# Two processes test at once, with a core each: several threads would wait for each other. Read as libraries are loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

gc.disable()  # while tests are imported

settings.register_profile("default", max_examples=50, deadline=None)
settings.register_profile("nightly", max_examples=2000, deadline=None)


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("nightly" if config.option.markexpr == "nightly" else "default")


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over what tests make, not over the millions of objects that were imported."""
    gc.freeze()
    gc.enable()
