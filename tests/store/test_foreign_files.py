"""Stores of other programs, malicious ones too, and failing file systems: each is refused in one line."""

import errno
import os
import resource
import subprocess
import sys
import textwrap

import h5py
import numpy as np
import pytest

from selavi_ref.errors import StoreError
from selavi_ref.store import FeatureStore, StoreWriter, hdf5_errors, join, layout, partial_path, shard_path, writer
from tests.support.refusal import refused

N = 6
PATHS = [f"{i}.mp4" for i in range(N)]


@pytest.fixture
def path(tmp_path):
    """A store by another program."""
    with h5py.File(tmp_path / "features.h5", "w") as file:
        file.attrs["format"], file.attrs["version"], file.attrs["complete"] = layout.FORMAT, 1, True
        file["videos/path"] = PATHS
        file["features/video"] = np.zeros((N, 2), np.float32)
        file["log_prob/video/0"] = np.zeros((N, 3), np.float32)
    return tmp_path / "features.h5"


def replace(path, name, **dataset):
    with h5py.File(path, "r+") as file:
        if name in file:
            del file[name]
        file.create_dataset(name, **dataset)


class TestOtherFiles:
    """Nothing of another file may reach labels, exports or the page."""

    @pytest.mark.parametrize(
        "name", ["videos/path", "videos/class", "features/video", "log_prob/video/0", "potentials"]
    )
    def test_bytes_that_lie_in_another_file(self, path, tmp_path, name):
        (tmp_path / "secret").write_bytes(b"secret" * 100)
        shape = (N,) if name.startswith("videos") else (N, 3)
        replace(
            path, name, shape=shape, dtype="S8" if shape == (N,) else "f4", external=[(tmp_path / "secret", 0, 600)]
        )
        with refused(StoreError, problem="unsafe", dataset=name, path=path):
            FeatureStore(path)

    @pytest.mark.parametrize("name", ["videos/class", "features/audio", "log_prob/audio", "whole"])
    def test_links_to_another_file(self, path, tmp_path, name):
        with h5py.File(tmp_path / "other.h5", "w") as file:
            file["secret"] = np.zeros((N, 3))
        with h5py.File(path, "r+") as file:
            file[name] = h5py.ExternalLink("other.h5", "/secret")
        with refused(StoreError, problem="unsafe", dataset=name):
            FeatureStore(path)

    def test_virtual_data_sets_of_what_is_no_shard(self, path, tmp_path):
        with h5py.File(tmp_path / "other.h5", "w") as file:
            file["secret"] = np.zeros((N, 3), np.float32)
        virtual = h5py.VirtualLayout((N, 3), "f4")
        virtual[:] = h5py.VirtualSource("other.h5", "secret", (N, 3))
        with h5py.File(path, "r+") as file:
            file.create_virtual_dataset("features/audio", virtual)
        with refused(StoreError, problem="unsafe", dataset="features/audio"):
            FeatureStore(path)
        with h5py.File(path, "r+") as file:  # not even if it calls itself joined
            file["shards/file"], file["shards/id"] = ["other.h5"], [""]
        with pytest.raises(StoreError):
            FeatureStore(path)

    def test_a_shard_that_is_the_store_itself_or_far_away(self, path, tmp_path):
        with h5py.File(path, "r+") as file:
            file["shards/file"], file["shards/id"] = [path.name], [""]
        with refused(StoreError, problem="unsafe"):
            FeatureStore(path)
        (tmp_path / "elsewhere").mkdir()
        with h5py.File(tmp_path / "elsewhere" / "s.h5", "w") as file:
            file.attrs["complete"] = True
        replace(path, "shards/file", data=["elsewhere/s.h5"])
        with refused(StoreError, problem="unsafe"):
            FeatureStore(path)

    def test_a_partial_store_is_not_written_through(self, tmp_path):
        secret = tmp_path / "secret"
        secret.write_bytes(b"s" * 1000)
        with StoreWriter(tmp_path / "s.h5", PATHS, {"features/video": 3}):
            pass
        partial = partial_path(tmp_path / "s.h5")
        replace(partial, "features/video", shape=(N, 3), dtype="f4", external=[(secret, 0, 72)])
        with refused(StoreError, problem="unsafe", path=partial):
            StoreWriter(tmp_path / "s.h5", PATHS, {"features/video": 3})
        assert secret.read_bytes() == b"s" * 1000


class TestSizes:
    @pytest.mark.parametrize(
        ("name", "shape", "dtype"),
        [
            ("videos/path", (10**11,), "S8"),
            ("videos/path", (10**10,), h5py.string_dtype()),
            ("features/video", (N, 10**12), "f4"),
            ("log_prob/video/0", (10**11, 3), "f4"),
            ("alignment", (10**6, 10**6), "i4"),
            ("potentials", (10**9, 10**3), "f8"),
            ("done", (10**12,), "?"),
        ],
    )
    @pytest.mark.parametrize("options", [{}, {"compression": "gzip"}])
    def test_declared_sizes_of_which_nothing_is_there(self, path, name, shape, dtype, options):
        replace(path, name, shape=shape, dtype=dtype, chunks=tuple(min(n, 1000) for n in shape), **options)
        with refused(StoreError, problem="damaged", dataset=name):
            FeatureStore(path)

    def test_declared_sizes_of_a_store_that_is_not_complete(self, path):
        replace(path, "done", shape=(10**12,), dtype="?", chunks=(1000,))
        with h5py.File(path, "r+") as file:
            file.attrs["complete"] = False
        with refused(StoreError, problem="damaged", dataset="done"):
            FeatureStore(path)

    def test_a_chunk_that_unpacks_to_gigabytes(self, path):
        replace(path, "features/video", shape=(N, 400_000_000), dtype="f4", chunks=(2, 400_000_000), compression="gzip")
        with refused(StoreError, problem="damaged", dataset="features/video"):
            FeatureStore(path)

    def test_what_compresses_well_is_read(self, path):
        replace(path, "features/video", data=np.ones((N, 4000), np.float32), compression="gzip")
        with FeatureStore(path) as store:
            assert (store.features("video") == 1).all()

    def test_texts_that_share_their_bytes(self, path):
        """A small file whose texts share their bytes would fill the memory."""
        replace(path, "videos/reason", data=["x" * 100_000] + ["x"] * (N - 1))
        with h5py.File(path) as file:
            offset = file["videos/reason"].id.get_offset()
        content = bytearray(path.read_bytes())
        content[offset : offset + 16 * N] = content[offset : offset + 16] * N  # references to the first text
        path.write_bytes(content)
        with FeatureStore(path) as store, refused(StoreError, problem="damaged", dataset="videos/reason"):
            _ = store.reasons

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in the file system")
    def test_pipes_are_not_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        for name in ("link.h5", "other.h5.partial"):
            (tmp_path / name).symlink_to("pipe")
        for path in (tmp_path / "pipe", tmp_path / "link.h5", tmp_path / "other.h5"):
            with refused(StoreError, problem="foreign"):
                FeatureStore(path)
        with refused(StoreError, problem="foreign"):
            StoreWriter(tmp_path / "other.h5", PATHS, {"features/video": 3})


class TestNamesAndAttributes:
    def test_numbers_of_thousands_of_digits(self, path):
        with h5py.File(path, "r+") as file:
            for head in ("10", "9", "09", "x", "7" * 200, "²"):
                file[f"log_prob/video/{head}"] = np.zeros((N, 3), np.float32)
        with FeatureStore(path) as store:
            assert store.heads == ["0", "09", "9", "10", "7" * 200, "x", "²"]
        with h5py.File(path, "r+") as file:
            file["log_prob/video/" + "7" * 5000] = np.zeros((N, 3), np.float32)
        with refused(StoreError, problem="damaged") as caught:
            FeatureStore(path)
        assert len(str(caught.value)) < 300

    @pytest.mark.parametrize(
        "value", [3, "[1]", "no json", "null", b"\xff", np.arange(3), "[" * 100_000, h5py.Empty("f4"), "1e999"]
    )
    def test_provenance_of_another_type(self, path, value):
        with h5py.File(path, "r+", libver="latest") as file:
            file.attrs["provenance"] = value
        with FeatureStore(path) as store, refused(StoreError, problem="damaged", path=path):
            _ = store.provenance

    @pytest.mark.parametrize("name", ["format", "version"])
    @pytest.mark.parametrize("value", [np.arange(3), h5py.Empty("f4"), "x" * 1000, b"\xff", -1.5])
    def test_attributes_of_another_type(self, path, name, value):
        with h5py.File(path, "r+") as file:
            file.attrs[name] = value
        with pytest.raises(StoreError):
            FeatureStore(path)

    @pytest.mark.parametrize("name", ["videos", "videos/path", "features", "features/video", "log_prob/video"])
    def test_a_data_set_for_a_group_and_the_other_way_round(self, path, name):
        with h5py.File(path, "r+") as file:
            is_group = isinstance(file[name], h5py.Group)
            del file[name]
            if is_group:
                file[name] = np.zeros((N, 3))
            else:
                file.create_group(name)
        with pytest.raises(StoreError):
            FeatureStore(path)


class TestTheSystem:
    def explained(self, code, text="unable to open file: errno = {}, error message = '...'"):
        return hdf5_errors.explain(layout.Path("s.h5"), OSError(text.format(code)))

    @pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EIO, errno.ESTALE, errno.ENOMEM])
    def test_a_refusal_of_the_system_is_no_damage(self, code):
        error = self.explained(code)
        assert error.problem == "system"
        assert os.strerror(code) in str(error)
        assert "anew" not in str(error)

    @pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
    def test_a_disk_without_locks_is_not_in_use(self, code):
        error = self.explained(code, "unable to lock file, errno = {}, error message = '...'")
        assert error.problem == "system"
        assert os.strerror(code) in str(error)
        assert (
            self.explained(errno.EAGAIN, "unable to lock file, errno = {}, error message = '...'").problem == "in use"
        )

    def test_hours_of_work_are_not_begun_anew_because_of_the_system(self, tmp_path, monkeypatch):
        with StoreWriter(tmp_path / "s.h5", PATHS, {"features/video": 3}) as begun:
            begun.write([0, 1], {"features/video": np.ones((2, 3))})

        def refuse(*arguments, **options):
            raise OSError(errno.EMFILE, "unable to open file")

        with monkeypatch.context() as patch:
            patch.setattr(writer.h5py, "File", refuse)
            with refused(StoreError, problem="system"):
                StoreWriter(tmp_path / "s.h5", PATHS, {"features/video": 3})
        with StoreWriter(tmp_path / "s.h5", PATHS, {"features/video": 3}) as again:
            assert again.remaining.tolist() == [2, 3, 4, 5]

    @pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
    def test_a_disk_without_fsync(self, tmp_path, monkeypatch, code):
        def refuse(descriptor):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(hdf5_errors.os, "fsync", refuse)
        shards = [shard_path(tmp_path / "s.h5", i, 2) for i in range(2)]
        for i, shard in enumerate(shards):
            with StoreWriter(shard, PATHS[3 * i : 3 * i + 3], {"features/video": 3}, start=3 * i, total=N) as writer:
                writer.write(slice(None), {"features/video": np.ones((3, 3))})
                writer.finish()
        with FeatureStore(join(tmp_path / "s.h5", shards)) as store:
            assert store.features("video").shape == (N, 3)

    def test_an_fsync_that_fails_is_not_passed_over(self, tmp_path, monkeypatch):
        def fail(descriptor):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(hdf5_errors.os, "fsync", fail)
        with refused(StoreError, problem="system"):
            StoreWriter(tmp_path / "s.h5", PATHS, {"features/video": 3})

    def test_more_shards_than_files_may_be_open(self, tmp_path):
        n_shards = 60
        for i in range(n_shards):
            shard = shard_path(tmp_path / "s.h5", i, n_shards)
            with StoreWriter(shard, [f"{i}.mp4"], {"features/video": 3}, start=i, total=n_shards) as writer:
                writer.write([0], {"features/video": np.full((1, 3), i)})
                writer.finish()
        join(tmp_path / "s.h5", [shard_path(tmp_path / "s.h5", i, n_shards) for i in range(n_shards)])
        code = f"""
            import resource
            import numpy as np
            from selavi_ref.store import FeatureStore
            resource.setrlimit(resource.RLIMIT_NOFILE, (40, {resource.getrlimit(resource.RLIMIT_NOFILE)[1]}))
            with FeatureStore({str(tmp_path / "s.h5")!r}) as store:
                print((store.features("video")[:, 0] == np.arange({n_shards})).all())
                print((store.features("video", np.arange({n_shards})[::-7])[:, 0] == np.arange({n_shards})[::-7]).all())
                views = store.views("features/video")
                print(all((values[:, 0] == np.arange(rows.start, rows.stop)).all() for rows, values in views))
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
        )
        assert done.stdout.split() == ["True"] * 3, done.stderr
