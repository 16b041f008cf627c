"""Measure in one call what is open on a GPU: small networks' steps, self-labelling, whole runs, and decoding.

Run ``python -m pip install -e ".[all]" && python benchmarks/gpu.py --videos TRAIN --unseen TEST --record`` on a machine
with one CUDA device that does nothing else. It ends within ``--minutes``: a section for which too little time is left
is left out and named, and runs that take longer are stopped. What was measured is written to
``benchmarks/results/gpu.md`` line by line, so that an interrupted call leaves what it has. ``--quick`` tries everything
on tiny sizes, also with ``--device cpu``.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path

import peers
import torch
from gpu_decoding import decoding
from gpu_labelling import labelling
from gpu_runs import runs
from gpu_steps import checks, steps
from tables import Report, parsed, processor

SECTIONS: dict[str, tuple[str, int, Callable[[argparse.Namespace, Report], None]]] = {  # title, seconds, function
    "checks": ("Checks", 40, checks),
    "steps": ("Steps of the small networks", 60, steps),
    "labelling": ("Self-labelling", 60, labelling),
    "decoding": ("Decoding", 40, decoding),
    "runs": ("Runs", 100, runs),
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: to try the program")
    options.add_argument("--videos", type=Path, help="of the runs, a folder for each class; by default made ones")
    options.add_argument("--unseen", type=Path, help="another such folder, whose videos the runs label")
    options.add_argument("--clusters", type=int, help="of the runs; by default one for each class")
    options.add_argument("--seeds", type=int, default=5, help="runs that are trained at the same time")
    options.add_argument("--epochs", type=int, help="of a run; by default those of selavi train")
    options.add_argument("--record", action="store_true", help="the runs with recorded steps, too")
    options.add_argument("--cpu", action="store_true", help="the runs on the CPU, too")
    options.add_argument("--minutes", type=float, default=8.0, help="that all may take")
    options.add_argument("--only", choices=list(SECTIONS), action="append", help="do this section alone; repeatable")
    options.add_argument("--note", default="", help="a remark to keep with the figures, such as what else was running")
    given = parsed(options, "gpu.md")
    if given.device == "cuda" and not torch.cuda.is_available():
        sys.exit("PyTorch finds no CUDA device here; --device cpu --quick --out FILE tries the program.")
    if given.unseen is not None and given.videos is None:
        sys.exit("--unseen goes with --videos, whose classes it has.")
    for folder in (given.videos, given.unseen):
        if folder is not None and not folder.is_dir():
            sys.exit(f"{folder} is no folder of videos.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that runs are stopped, too
    report = Report(given.out, given.minutes)
    names = ("selavi-ref", "numpy", "numba", "torch", "torchvision", "triton", "av")
    report.show(
        "# On a GPU\n",
        f"{date.today()}, {processor()}, {os.cpu_count()} cores, Python {platform.python_version()},",
        f"{', '.join(f'{name} {version(name)}' for name in names if peers.installed(name))}.",
        f"Load of the machine at the start: {os.getloadavg()[0]:.1f}. {given.note}".rstrip(),
    )
    failed = []
    with tempfile.TemporaryDirectory(prefix="selavi-gpu-") as folder:
        given.folder = Path(folder)
        for name in given.only or SECTIONS:
            title, seconds, measure = SECTIONS[name]
            report.show("", f"## {title}", "")
            needed = 1 if given.quick else seconds
            if report.left < needed:
                report.show(f"Left out (`--only {name}`): it takes {needed} s or more; {report.left:.0f} s are left.")
                continue
            began = time.monotonic()
            try:
                measure(given, report)
            except Exception as error:  # the other sections are worth their time all the same
                traceback.print_exc()
                failed.append(name)
                reason = (str(error).splitlines() or [""])[0][:300]
                report.show("", f"This section fails: {type(error).__name__}: {reason}")
            report.show("", f"({time.monotonic() - began:.0f} s for this section.)")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
