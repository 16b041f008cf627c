"""A store of random features and log-probabilities, and ways to damage it."""

import contextlib
import subprocess
import sys
import textwrap

import numpy as np

from selavi_ref.store import StoreWriter

N, D, K = 50, 6, 4


DATASETS = {"features/video": D, "log_prob/video/0": K, "log_prob/audio/0": K}


OLD = b"\x89HDF\r\n\x1a\nof a store that was cut off"


PATHS = [f"class/{i}.mp4" for i in range(N)]


RNG = np.random.default_rng(0)


VALUES = {name: RNG.normal(size=(N, width)).astype(np.float32) for name, width in DATASETS.items()}


def rows_of(values, rows):
    return {name: value[rows] for name, value in values.items()}


def make(path, **options):
    with StoreWriter(path, PATHS, DATASETS, **options) as writer:
        writer.write(slice(None), VALUES)
        writer.finish()
    return path


@contextlib.contextmanager
def interrupted():
    try:
        yield
    except KeyboardInterrupt:
        return
    raise AssertionError("the interrupt was swallowed")


def run_python(code, *arguments, **options):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


def damage(path, offset, bits=0x55):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ bits]))
