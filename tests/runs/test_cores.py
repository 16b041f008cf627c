"""The cores that a process may use: affinity, and quotas of cgroups of both versions."""

import os
import subprocess
import sys

import pytest

from selavi_ref.runs.cores import usable_cores

ALL = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def system(root, cgroup, files):
    """A folder with the files of a Linux system's cgroups."""
    for path, text in {"proc/self/cgroup": cgroup, **files}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text + "\n")
    return root


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


@pytest.mark.parametrize(
    ("cgroup", "files", "cores"),
    [
        ("0::/", {}, 8),
        ("0::/", {"sys/fs/cgroup/cpu.max": "max 100000"}, 8),
        ("0::/", {"sys/fs/cgroup/cpu.max": "200000 100000"}, 2),
        ("0::/", {"sys/fs/cgroup/cpu.max": "150000 100000"}, 2),
        ("0::/", {"sys/fs/cgroup/cpu.max": "1000 100000"}, 1),
        ("0::/", {"sys/fs/cgroup/cpu.max": "1600000 100000"}, 8),
        ("0::/", {"sys/fs/cgroup/cpu.max": "nonsense"}, 8),
        ("0::/", {"sys/fs/cgroup/cpu.max": "100000 0"}, 8),
        ("0::/a/b", {"sys/fs/cgroup/a/cpu.max": "300000 100000", "sys/fs/cgroup/a/b/cpu.max": "max 100000"}, 3),
        ("0::/of/the/host", {"sys/fs/cgroup/cpu.max": "400000 100000"}, 4),
        (
            "4:memory:/x\n3:cpu,cpuacct:/job",
            {
                "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "500000",
                "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            5,
        ),
        (
            "1:cpu:/",
            {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"},
            1,
        ),
    ],
)
def test_quotas_of_cgroups_count(tmp_path, cgroup, files, cores):
    assert usable_cores(system(tmp_path, cgroup, files)) == cores


def test_where_there_are_no_cgroups_affinity_counts(tmp_path):
    assert usable_cores(tmp_path) == 8


@pytest.mark.skipif(sys.platform != "linux", reason="affinity is set as on Linux")
def test_one_permitted_core_gets_one_decoder():
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from selavi_ref.runs.cores import usable_cores; from backbones.data.data_source import DataSource\n"
        "print(usable_cores(), DataSource().n_workers)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1"]
