"""What the benchmarks write above and between their tables, and how they take the time."""

from __future__ import annotations

import argparse
import os
import platform
import textwrap
import time
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import machine
import numpy as np
import peers

RESULTS = Path(__file__).parent / "results"


def parsed(options: argparse.ArgumentParser, name: str) -> argparse.Namespace:
    """
    Return the options of a benchmark that writes the file `name`, with ``--out`` and ``--quick`` added.

    Tiny sizes must not replace what was measured: ``--quick`` goes with ``--out``.
    """
    options.add_argument("--quick", action="store_true", help="tiny sizes, to see that the program runs")
    options.add_argument("--out", type=Path, default=RESULTS / name)
    given = options.parse_args()
    if given.quick and given.out == RESULTS / name:
        options.error("--quick goes with --out, so that measured figures are kept")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    return given


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


class Report:
    """
    Lines that are printed, and written to a file at once, so that an interrupted benchmark leaves what it has.

    Parameters
    ----------
    path : Path
        The file, which is replaced.
    minutes : float
        Time that the benchmark may take, from now on.
    """

    def __init__(self, path: Path, minutes: float):
        self._path = path
        self._end = time.monotonic() + 60 * minutes
        self._lines: list[str] = []
        path.parent.mkdir(parents=True, exist_ok=True)

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return max(0.0, self._end - time.monotonic())

    def show(self, *lines: str) -> None:
        """Print and write lines."""
        self._lines += show(*lines)
        self._path.write_text("\n".join(self._lines) + "\n", encoding="utf-8")

    def paragraph(self, text: str) -> None:
        """Print and write a paragraph, and an empty line after it."""
        self.show(*textwrap.wrap(text, 118), "")
