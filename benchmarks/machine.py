"""The machine and the versions on which a benchmark ran, for the first line of its table."""

from __future__ import annotations

import os
import platform
from datetime import date
from importlib.metadata import version
from pathlib import Path


def processor() -> str:
    """Return the model of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def machine(*packages: str) -> str:
    """Return date, processor, cores, and the versions of Python and of packages, in one line."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", *packages))
    return f"{date.today()}, {processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}"
