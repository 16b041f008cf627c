from pathlib import Path

import numpy as np
import pytest

from selavi_ref.datasets.embeddings import read_embeddings
from selavi_ref.errors import InputError
from selavi_ref.store import FeatureStore
from tests.support.refusal import refused

X = np.arange(12, dtype=np.float32).reshape(4, 3)
Y = np.arange(8, dtype=np.float64).reshape(4, 2)
NAMES = ["a.mp4", "b.mp4", "c.mp4", "d.mp4"]


@pytest.fixture
def videos(tmp_path):
    path = tmp_path / "videos.csv"
    path.write_text("path,class\na.mp4,x\nb.mp4,y\nc.mp4,\nd.mp4,x\n")
    return str(path)


def npy(tmp_path, name, array):
    np.save(tmp_path / f"{name}.npy", array)
    return str(tmp_path / f"{name}.npy")


def test_spaces_are_named_by_their_files_or_by_options(tmp_path, videos):
    read = read_embeddings([npy(tmp_path, "clip", X), f"sound={npy(tmp_path, 'b', Y)}", videos])
    assert list(read.spaces) == ["clip", "sound"]
    assert np.array_equal(read.spaces["sound"], Y)
    assert isinstance(read.spaces["clip"], np.memmap)
    assert read.paths == [str(tmp_path / name) for name in NAMES]
    assert read.classes == ["x", "y", "", "x"]


def test_npz_names_its_spaces_and_its_videos(tmp_path):
    np.savez(tmp_path / "all.npz", clip=X, sound=Y, paths=np.array(NAMES))
    read = read_embeddings([str(tmp_path / "all.npz")])
    assert (sorted(read.spaces), read.paths, read.classes) == (["clip", "sound"], NAMES, [""] * 4)
    np.savez(tmp_path / "one.npz", X, paths=NAMES)
    assert list(read_embeddings([str(tmp_path / "one.npz")]).spaces) == ["one"]


def test_parquet_columns_are_spaces(tmp_path, videos):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    lists = pa.array([[1.0, 2.0], None, [3.0, 4.0], [5.0, 6.0]], pa.list_(pa.float32()))
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), 3)
    table = pa.table({"path": NAMES, "class": ["x", None, "y", ""], "clip": fixed, "sound": lists})
    pq.write_table(table, tmp_path / "f.parquet", row_group_size=3)
    read = read_embeddings([str(tmp_path / "f.parquet")])
    assert (read.paths, read.classes) == (NAMES, ["x", "", "y", ""])
    with FeatureStore.from_arrays(tmp_path / "f.h5", read.spaces, paths=read.paths) as store:
        assert np.array_equal(store.features("clip"), X)
        assert store.present("sound").tolist() == [True, False, True, True]
        assert np.array_equal(store.features("sound", slice(2, 4)), [[3, 4], [5, 6]])

    wide = pa.table({f"f{column}": Y[:, column] for column in range(2)})
    pq.write_table(wide, tmp_path / "wide.parquet", row_group_size=3)
    read = read_embeddings([str(tmp_path / "wide.parquet"), videos])
    assert np.array_equal(read.spaces["wide"][1:4], Y[1:4])


def test_lists_of_other_lengths_are_refused(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = pa.table({"path": NAMES[:2], "clip": pa.array([[1.0, 2.0], [3.0]], pa.list_(pa.float32()))})
    pq.write_table(table, tmp_path / "f.parquet")
    read = read_embeddings([str(tmp_path / "f.parquet")])
    with refused(InputError, row=1):
        FeatureStore.from_arrays(tmp_path / "f.h5", read.spaces, paths=read.paths)


def test_files_that_do_not_fit_are_refused(tmp_path, videos):
    x = npy(tmp_path, "x", X)
    with refused(InputError, path=tmp_path / "missing.npy"):
        read_embeddings([str(tmp_path / "missing.npy"), videos])
    with refused(InputError, path=tmp_path / "f.txt.gz"):
        read_embeddings([str(tmp_path / "f.txt.gz"), videos])
    with refused(InputError):
        read_embeddings([x])
    with refused(InputError):
        read_embeddings([videos])
    with refused(InputError, path=tmp_path / "x.npy"):
        read_embeddings([x, x, videos])
    with refused(InputError, path=tmp_path / "videos.csv"):
        read_embeddings([x, videos, videos])
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object))
    with refused(InputError, path=tmp_path / "pickled.npy"):
        read_embeddings([str(tmp_path / "pickled.npy"), videos])
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 no archive")
    with refused(InputError, path=tmp_path / "broken.npz"):
        read_embeddings([str(tmp_path / "broken.npz"), videos])
    np.savez(tmp_path / "two.npz", X, Y)
    with refused(InputError, path=tmp_path / "two.npz"):
        read_embeddings([f"name={tmp_path / 'two.npz'}", videos])


def test_rows_that_do_not_match_the_list_name_the_file(tmp_path, videos):
    short = npy(tmp_path, "short", X[:3])
    with refused(path=Path(short), option="clip"):
        read_embeddings([npy(tmp_path, "other", Y), f"clip={short}", videos])
