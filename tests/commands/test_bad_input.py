"""What a user can mend is one line that names the file or the option, and leaves nothing behind."""

import shutil

import h5py
import numpy as np
import pytest
import torch

from selavi_ref.store import FeatureStore
from tests.support.command_line import refused, selavi, start_process
from tests.support.small_runs import small_place

SHORT = ["--clusters", "3", "--epochs", "3", "--labellings", "3", "--heads", "2", "--workers", "1"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with small_place(tmp_path_factory.mktemp("bad")) as folder:
        yield folder


def test_scanning(place, tmp_path):
    refused(selavi("scan", "missing", cwd=place), "missing", "does not exist")
    refused(selavi("scan", "videos", "--split", "train", cwd=place), "--split train", "names no splits")
    refused(selavi("scan", "videos", "--fold", "2", cwd=place), "--fold", "--layout")
    refused(selavi("scan", "videos", "--layout", "ave", cwd=place), "Annotations.txt", "--annotations")
    refused(selavi("scan", "videos", "--out", "run/labels.csv", cwd=place), "run/labels.csv", "name another")
    refused(selavi("scan", "videos", "--out", "none/list.csv", cwd=place), "none/list.csv", "cannot be written")


def test_clips_and_caches(place):
    refused(selavi("train", "videos", *SHORT, "--cache-format", "raw", "--out", "r7", cwd=place), "--cache-format")
    refused(selavi("train", "videos", *SHORT, "--sound-rate", "11025", "--out", "r7", cwd=place), "--sound-rate 11025")
    refused(selavi("train", "videos", *SHORT, "--sound-seconds", "5", "--out", "r7", cwd=place), "shorter than 5.1 s")
    refused(selavi("train", "videos", *SHORT, "--augment", "scale=1,inf", "--out", "r7", cwd=place), "scale=1,inf")
    refused(selavi("label", "run", "videos", "--noise", "-100000", cwd=place), "--noise")
    refused(selavi("scan", "videos", "--limit", "inf", cwd=place), "--limit")
    assert not (place / "r7").exists()


def test_a_cache_that_cannot_be_made(place):
    (place / "a_file").write_text("")
    done = selavi("train", "videos", *SHORT, "--cache", "a_file/cache", "--out", "r8", cwd=place)
    refused(done, "--cache a_file/cache")


def test_folders(place, tmp_path):
    (tmp_path / "none").mkdir()
    refused(selavi("train", "none", *SHORT, "--out", "run", cwd=tmp_path), "none", "no video")
    refused(selavi("train", "missing", *SHORT, "--out", "run", cwd=tmp_path), "missing", "does not exist")
    assert not (tmp_path / "run").exists()


def test_a_file_that_is_no_video(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_text("text")
    refused(selavi("train", "videos", *SHORT, "--out", "run", cwd=tmp_path), "a.mp4", "not a video")
    assert not (tmp_path / "run").exists()


def test_too_many_clusters(place):
    refused(selavi("train", "videos", "--clusters", "33", "--out", "r2", cwd=place), "--clusters 33", "32 usable")
    assert not (place / "r2").exists()


def test_options_out_of_range(place):
    refused(selavi("train", "videos", "--clusters", "0", "--out", "r2", cwd=place), "--clusters")
    refused(selavi("train", "videos", "--clusters", "1", "--out", "r2", cwd=place), "--clusters")
    refused(selavi("train", "videos", "--out", "r2", cwd=place), "--clusters")
    refused(selavi("train", "videos", *SHORT, "--video-net", "vgg", "--out", "r2", cwd=place), "vgg", "tiny")
    refused(selavi("train", "videos", *SHORT, "--groups", "9", "--out", "r2", cwd=place), "--groups 9")
    refused(selavi("label", "run", "--out", "x.csv", cwd=place), "name the videos")
    refused(selavi("label", "run", "videos", "--head", "9", "--out", "x.csv", cwd=place), "--head 9", "0, 1")
    refused(selavi("label", "run/features.h5", "--clips", "3", "--out", "x.csv", cwd=place), "--clips")
    refused(selavi("train", "videos", *SHORT, "--strength", "nan", "--out", "r2", cwd=place), "--strength")
    refused(selavi("demo", "--seed", "-1", cwd=place), "selavi demo:", "--seed")
    refused(selavi("label", cwd=place), "selavi label:", "STORE|RUN")
    refused(selavi("lable", cwd=place), "selavi:", "lable")
    assert selavi("--version", cwd=place).exit_code == 0
    assert not (place / "r2").exists()
    assert not list(place.glob("x.csv*"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there(place):
    refused(selavi("train", "videos", *SHORT, "--device", "cuda", "--out", "r2", cwd=place), "--device cuda")
    refused(selavi("demo", "--device", "cuda", "--out", "d2", cwd=place), "--device cuda")
    assert not (place / "r2").exists()
    assert not (place / "d2").exists()


def test_a_single_video(place, tmp_path):
    (tmp_path / "one").mkdir()
    shutil.copy(next((place / "videos" / "ball").iterdir()), tmp_path / "one")
    refused(selavi("train", "one", "--clusters", "2", "--out", "run", cwd=tmp_path), "one usable video")


def test_distributions_that_do_not_fit(place):
    (place / "sizes.txt").write_text("1 2 3 4\n")
    refused(selavi("train", "videos", *SHORT, "--distribution", "sizes.txt", "--out", "r2", cwd=place), "sizes.txt")
    refused(selavi("train", "videos", *SHORT, "--distribution", "none", "--out", "r2", cwd=place), "none")
    assert not (place / "r2").exists()


def test_a_run_that_is_there_and_one_that_is_not(place):
    refused(selavi("train", "videos", *SHORT, "--out", "run", cwd=place), "run", "--resume")
    refused(selavi("train", "--resume", "--out", "nothing", cwd=place), "nothing")
    refused(selavi("train", "--resume", "--epochs", "9", "--out", "run", cwd=place), "--epochs")
    refused(selavi("label", "videos", "videos", "--out", "x.csv", cwd=place), "videos", "no run")


def test_stores(place):
    shutil.copy(place / "run" / "features.h5", place / "store.h5")
    with FeatureStore(place / "store.h5") as store:
        name = f"log_prob/video/{store.heads[0]}"
    with h5py.File(place / "store.h5", "r+") as file:
        file[name][3, 1] = np.nan
    refused(selavi("label", "store.h5", "--out", "x.csv", cwd=place), "store.h5", "row 3", "cluster 1")
    with h5py.File(place / "store.h5", "r+") as file:
        file.attrs.modify("version", 99)
    refused(selavi("label", "store.h5", "--out", "x.csv", cwd=place), "store.h5", "99")
    data = (place / "run" / "features.h5").read_bytes()
    (place / "cut.h5").write_bytes(data[: len(data) // 2])
    refused(selavi("label", "cut.h5", "--out", "x.csv", cwd=place), "cut.h5")
    refused(selavi("label", "no.h5", "--out", "x.csv", cwd=place), "no.h5")
    refused(selavi("label", "run/features.h5", "--head", "9", "--out", "x.csv", cwd=place), "'9'")
    assert not (place / "x.csv").exists()


def test_tables(place):
    (place / "bad.csv").write_text("a,b\n1,2\n")
    refused(selavi("evaluate", "bad.csv", cwd=place), "bad.csv", "path")
    refused(selavi("evaluate", "none.csv", cwd=place), "none.csv")
    refused(selavi("evaluate", "run/labels.csv", "--truth", "bad.csv", cwd=place), "bad.csv")


@pytest.mark.processes
def test_a_full_disk(place):
    """A limit on the size of files stands in for it: the system refuses to write beyond."""
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)); sys.argv = ['selavi', *sys.argv[1:]];"
        "import cli; cli.main()"
    )
    running = start_process("extract", "run", "videos", "--out", "full.h5", "--workers", "0", cwd=place, code=script)
    _, err = running.communicate(timeout=120)
    assert running.returncode == 2
    assert "Traceback" not in err
    assert "full.h5" in err.strip().splitlines()[-1]
    assert not (place / "full.h5").exists()
