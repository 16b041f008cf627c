"""The program as a user calls it: within this process or as one of its own, and what it must say when it refuses."""

from __future__ import annotations

import contextlib
import csv
import os
import subprocess
import sys
from pathlib import Path

import torch
from click.testing import CliRunner

import cli

ROOT = Path(__file__).parent.parent.parent


def selavi(*args, cwd="."):
    """Call the program within this process, which spares loading PyTorch each time."""
    with contextlib.chdir(cwd):
        done = CliRunner().invoke(cli.main, [str(arg) for arg in args], prog_name="selavi")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def start_process(*args, cwd, code=None, **options):
    """Start the program, or code that calls it, as a process of its own, with as many threads as this one."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, *(["-m", "selavi_ref"] if code is None else ["-c", code]), *map(str, args)]
    return subprocess.Popen(command, cwd=cwd, env=environment, stderr=subprocess.PIPE, text=True, **options)


def succeeded(done):
    """No error; its standard output."""
    assert done.exit_code == 0, done.stderr
    return done.stdout


def refused(done, *words):
    """One line that names the command, exit status 2, no traceback; that line, in which all words occur."""
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.stderr
    assert "Usage:" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("selavi")
    for word in words:
        assert word in last
    return last


def rows_of(path):
    """The rows of a CSV file."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
