"""Several processes, started by torchrun, come to what one process does; runs survive what happens to processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

ROOT = Path(__file__).parents[3]
PROGRAM = str(ROOT / "tests" / "support" / "small_training.py")
PATHS = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
ENVIRONMENT = {**os.environ, "PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1"}


def torchrun(processes, *arguments, options=()):
    return [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", *options, *arguments]


def run(command, place, **more):
    done = subprocess.run(command, cwd=place, env=ENVIRONMENT, capture_output=True, text=True, timeout=240, **more)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    place = tmp_path_factory.mktemp("together")
    run([sys.executable, PROGRAM, str(place)], place)
    return place, np.load(place / "found-1-0.npz")


@pytest.mark.processes
@pytest.mark.parametrize("size", [2, 4])
def test_processes_do_together_what_one_does(alone, size):
    place, one = alone
    run(torchrun(size, PROGRAM, str(place), options=["--standalone"]), place)
    assert_as_one(place, size, one)


@pytest.fixture
def hosts():
    """Two network namespaces, each with one end of a cable: as two machines."""
    commands = """netns add selavi-a; netns add selavi-b; link add selavi-va type veth peer name selavi-vb;
        link set selavi-va netns selavi-a; link set selavi-vb netns selavi-b;
        -n selavi-a addr add 10.77.0.1/24 dev selavi-va; -n selavi-b addr add 10.77.0.2/24 dev selavi-vb;
        -n selavi-a link set selavi-va up; -n selavi-b link set selavi-vb up;
        -n selavi-a link set lo up; -n selavi-b link set lo up"""
    if shutil.which("ip") is None:
        pytest.skip("the command ip is missing, which makes network namespaces")
    _remove_hosts()  # of a run that was killed
    try:
        for command in commands.split(";"):
            done = subprocess.run(["ip", *command.split()], capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"network namespaces may not be made here: {done.stderr.strip()}")
        yield ["selavi-a", "selavi-b"]
    finally:
        _remove_hosts()


def _remove_hosts():
    for command in ("netns del selavi-a", "netns del selavi-b", "link del selavi-va"):
        subprocess.run(["ip", *command.split()], capture_output=True)


@pytest.mark.processes
def test_processes_of_two_hosts_do_together_what_one_does(alone, hosts):
    place, one = alone
    for file in place.glob("found-2-*"):
        file.unlink()
    running = []
    for rank, name in enumerate(hosts):
        where = ["--nnodes=2", f"--node-rank={rank}", "--master-addr=10.77.0.1", "--master-port=29511"]
        command = torchrun(1, PROGRAM, str(place), options=where)
        environment = ENVIRONMENT | {"GLOO_SOCKET_IFNAME": name.replace("-", "-v")}
        running.append(subprocess.Popen(["ip", "netns", "exec", name, *command], env=environment, cwd=place))
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    assert_as_one(place, 2, one)


def assert_as_one(place, size, one):
    found = [np.load(place / f"found-{size}-{rank}.npz") for rank in range(size)]
    for each in found:
        assert each["numbers"].tolist() == [size * k + sum(range(size)) for k in range(5)]
        assert each["rows"].tolist() == [
            [100 * rank + 3 * row + column for column in range(3)] for rank in range(size) for row in range(rank)
        ]
        assert each["lines"].tolist() == [f"{rank}/{size}" for rank in range(size) for _ in range(rank)]
        for name in ("out", "slope", "weight_slope", "mean", "var", "eval"):
            assert np.allclose(each[name], one[name], rtol=1e-4, atol=1e-4), name
        # Given the same log-probabilities, labels are the same to the last video.
        assert np.array_equal(each["solved"], one["solved"])
        assert np.allclose(each["marginal"], one["marginal"], atol=1e-12)
        assert float(each["cost"]) == pytest.approx(float(one["cost"]), abs=1e-9)
        # Learning differs by the rounding of sums.
        assert np.allclose(each["losses"], one["losses"], rtol=2e-3)
        assert np.allclose(each["costs"], one["costs"], rtol=2e-3, atol=1e-5)
        assert np.allclose(each["weights"], one["weights"], atol=2e-3)
        assert np.array_equal(each["labels"], one["labels"])
        assert np.array_equal(each["statistics"], found[0]["statistics"])
        assert np.abs(each["spread"]).max() < 1e-7  # all processes have the same weights
