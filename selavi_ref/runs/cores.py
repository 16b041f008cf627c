"""The number of processor cores that this process may use, which can be fewer than the machine has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from math import ceil
from pathlib import Path


def usable_cores(root: str | os.PathLike[str] = "/") -> int:
    """
    Return the number of cores that the affinity of this process and the CPU quotas of its cgroups leave, at least 1.

    Parameters
    ----------
    root : path
        Where ``proc`` and ``sys`` lie.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([affinity, *(ceil(quota) for quota in _quotas(Path(root)))]))


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quotas, in cores, of the cgroups (version 1 or 2) of this process and of all groups above them."""
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in groups:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup"
        for base in (mount / controllers, mount / "cpu") if controllers else (mount,):
            group = base / path.strip("/")
            while group.is_relative_to(base):  # in a container, the group may be the mount itself
                with suppress(OSError, ValueError, ZeroDivisionError):
                    yield _quota_of(group, bool(controllers))
                group = group.parent


def _quota_of(group: Path, first_version: bool) -> float:
    """Return the quota of one cgroup; a ValueError if it has none."""
    if first_version:
        quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
    else:
        quota, period = (group / "cpu.max").read_text().split()
    if float(quota) <= 0:
        raise ValueError("no quota")
    return float(quota) / float(period)
