"""What the benchmarks write above and between their tables, and how they take the time."""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from typing import Any

import machine
import numpy as np
import peers


def timed(run: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """Return the median of the seconds of several runs, and the last result."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = run()
        times.append(time.perf_counter() - start)
    return float(np.median(times)), result


def header(given: argparse.Namespace, title: str = "# The transport solver beside its peers") -> list[str]:
    names = ("selavi-ref", "numpy", "numba", "torch", "triton", "pot", "ott-jax", "jax", "geomloss")
    versions = ", ".join(f"{name} {version(name)}" for name in names if peers.installed(name))
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return show(
        title,
        "",
        f"{date.today()}, {processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}.",
        f"Load of the machine at the start: {load:.1f}. {given.note}".rstrip(),
    )


def processor() -> str:
    """Return the models of the processor and of the GPU, if there is one."""
    names = [machine.processor()]
    if peers.installed("torch"):
        import torch

        names += [torch.cuda.get_device_name()] if torch.cuda.is_available() else []
    return ", ".join(names)


def show(*lines: str) -> list[str]:
    """Print lines, and return them as a list."""
    for line in lines:
        print(line, flush=True)
    return list(lines)
