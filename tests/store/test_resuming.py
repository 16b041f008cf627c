"""Writers of a store that are stopped, killed or out of room, and continued."""

import shutil
import signal
import subprocess
import sys
import textwrap

import h5py
import numpy as np
import pytest

from selavi_ref.errors import StoreError
from selavi_ref.store import FeatureStore, StoreWriter, partial_path
from tests.support.example_store import (
    DATASETS,
    OLD,
    PATHS,
    RNG,
    VALUES,
    D,
    K,
    N,
    damage,
    interrupted,
    make,
    rows_of,
    run_python,
)
from tests.support.refusal import refused


class TestResuming:
    def test_a_stopped_writer_goes_on(self, tmp_path):
        path = make(tmp_path / "s.h5", provenance={"old": True})
        with interrupted(), StoreWriter(path, PATHS, DATASETS, provenance={"seed": 1}) as writer:
            writer.write(slice(0, 20), rows_of(VALUES, slice(0, 20)))
            raise KeyboardInterrupt
        with FeatureStore(path) as store:
            assert store.provenance == {"old": True}
        with StoreWriter(path, PATHS, DATASETS, provenance={"seed": 1}) as writer:
            assert writer.resumed
            assert np.array_equal(writer.remaining, np.arange(20, N))
            with refused(StoreError, problem="incomplete", row=20):
                writer.finish()
            writer.write(writer.remaining, rows_of(VALUES, writer.remaining))
            writer.finish()
        with FeatureStore(path) as store:
            assert store.provenance == {"seed": 1}
            assert np.array_equal(store.features("video"), VALUES["features/video"])

    @pytest.mark.parametrize(
        "change",
        [
            {"paths": [*PATHS[:-1], "other"]},
            {"datasets": DATASETS | {"features/video": D + 1}},
            {"provenance": {"seed": 2}},
            {"classes": ["a"] * N},
            {"start": 1},
            {"whole": {"potentials": np.zeros((1, K))}},
            {"resume": False},
        ],
    )
    def test_a_partial_file_of_something_else_is_written_anew(self, tmp_path, change):
        same = {"paths": PATHS, "datasets": DATASETS, "provenance": {"seed": 1}}
        with StoreWriter(tmp_path / "s.h5", **same) as writer:
            writer.write([0], {})
        with StoreWriter(tmp_path / "s.h5", **(same | change)) as writer:
            assert not writer.resumed
            assert not writer.done.any()

    def test_a_damaged_partial_file_is_written_anew(self, tmp_path):
        partial_path(tmp_path / "s.h5").write_bytes(b"no store")
        make(tmp_path / "s.h5")

    def test_only_the_rows_of_a_damaged_chunk_are_written_again(self, tmp_path):
        path, wide, n = tmp_path / "s.h5", 60_000, 11
        values = RNG.normal(size=(n, wide)).astype(np.float32)
        datasets = {"features/video": wide}
        with StoreWriter(path, PATHS[:n], datasets) as writer:
            writer.write(slice(0, n), {"features/video": values})
        with h5py.File(partial_path(path)) as file:
            chunk_rows = file["features/video"].chunks[0]
            chunk = file["features/video"].id.get_chunk_info(file["features/video"].id.get_num_chunks() - 1)
        damage(partial_path(path), chunk.byte_offset + 100)
        with StoreWriter(path, PATHS[:n], datasets) as writer:
            assert np.array_equal(writer.remaining, np.arange(chunk.chunk_offset[0], n))
            assert 0 < len(writer.remaining) <= chunk_rows
            writer.write(writer.remaining, {"features/video": values[writer.remaining]})
            writer.finish()
        with FeatureStore(path) as store:
            assert np.array_equal(store.features("video"), values)

    def test_a_killed_writer_loses_nothing_that_was_checkpointed(self, tmp_path):
        code = """
            import sys, numpy as np
            from selavi_ref.store import StoreWriter
            writer = StoreWriter(sys.argv[1], [str(i) for i in range(3000)], {"features/video": 64})
            for row in range(0, 3000, 10):
                writer.write(slice(row, row + 10), {"features/video": np.full((10, 64), row)})
                if row == 2000:
                    writer.checkpoint()
                    print("ready", flush=True)
        """
        command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "s.h5")]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            process.send_signal(signal.SIGKILL)
        assert not (tmp_path / "s.h5").exists()
        with refused(StoreError, problem="incomplete", path=tmp_path / "s.h5"):
            FeatureStore(tmp_path / "s.h5")
        with StoreWriter(tmp_path / "s.h5", [str(i) for i in range(3000)], {"features/video": 64}) as writer:
            assert writer.resumed
            assert writer.done[:2010].all()
            rows = writer.remaining
            writer.write(rows, {"features/video": np.repeat(rows[:, None] // 10 * 10, 64, axis=1)})
            writer.finish()
        with FeatureStore(tmp_path / "s.h5") as store:
            assert np.array_equal(store.features("video")[:, 5], np.arange(3000) // 10 * 10)

    def test_a_second_writer_is_refused(self, tmp_path):
        code = """
            import sys
            from selavi_ref.store import StoreWriter
            StoreWriter(sys.argv[1], ["a"], {"features/video": 1})
        """
        with StoreWriter(tmp_path / "s.h5", PATHS, DATASETS):
            outcome = run_python(code, tmp_path / "s.h5")
        assert "StoreError" in outcome.stderr
        assert "in use by another process" in outcome.stderr


class TestFullDisk:
    """A full disk ends in one line, never in a crash of HDF5, and never touches the store that is there."""

    SWEEP = """
        import os, resource, signal, sys
        import numpy as np
        from selavi_ref.errors import StoreError
        from selavi_ref.store import FeatureStore, StoreWriter, WorkingStore, join, partial_path
        path, kind = sys.argv[1], sys.argv[2]
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

        def work():
            n = 500
            with StoreWriter(path, [str(i) for i in range(n)], {"features/video": 64, "log_prob/video/0": 8}) as writer:
                if kind == "late":
                    limit_size()
                for row in range(0, n, 50):
                    values = {"features/video": np.ones((50, 64)), "log_prob/video/0": np.ones((50, 8))}
                    writer.write(slice(row, row + 50), values)
                    writer.checkpoint()
                writer.finish()

        def limit_size():
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        for limit in map(int, sys.argv[3:]):
            child = os.fork()
            if child == 0:
                if kind == "early":
                    limit_size()
                try:
                    work()
                except StoreError as error:
                    print(limit, error, flush=True)
                    sys.exit(2)
                sys.exit(0)
            status = os.waitpid(child, 0)[1]
            print("status", status, flush=True)
            if kind == "early":
                assert not os.path.exists(partial_path(path))
            assert open(path, "rb").read().startswith(b"\\x89HDF")
    """

    @pytest.mark.parametrize("kind", ["early", "late"])
    def test_of_a_limited_file_size(self, tmp_path, kind):
        pytest.importorskip("resource")
        path = tmp_path / "s.h5"
        path.write_bytes(OLD)
        limits = range(0, 250_000, 9_973) if kind == "early" else range(0, 250_000, 49_999)
        outcome = run_python(self.SWEEP, path, kind, *limits)
        assert outcome.returncode == 0, outcome.stderr
        assert outcome.stderr == ""
        lines = outcome.stdout.splitlines()
        assert len(lines) == 2 * len(limits)
        assert all("no space left" in line and "s.h5" in line for line in lines[::2])
        assert set(lines[1::2]) == {"status 512"}

    def test_of_a_small_file_system(self, tmp_path):
        disk = tmp_path / "disk"
        disk.mkdir()
        mounted = shutil.which("mount") and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256k", "none", disk], capture_output=True, check=False
        )
        if not mounted or mounted.returncode:
            pytest.skip("mounting a small file system needs root")
        try:
            (disk / "s.h5").write_bytes(OLD)
            with refused(StoreError, problem="full", path=disk / "s.h5"):
                StoreWriter(disk / "s.h5", PATHS, {"features/video": 4096})
            assert [entry.name for entry in disk.iterdir()] == ["s.h5"]
            assert (disk / "s.h5").read_bytes() == OLD
            with StoreWriter(disk / "s.h5", PATHS, DATASETS) as writer:
                writer.write(slice(None), VALUES)
                (disk / "filler").write_bytes(b"x" * (shutil.disk_usage(disk).free))
                writer.finish()
            with FeatureStore(disk / "s.h5") as store:
                assert np.array_equal(store.features("video"), VALUES["features/video"])
        finally:
            subprocess.run(["umount", disk], check=True)
        make(tmp_path / "another.h5")
