"""The labels of a run come from cross-fitting on what its networks have learnt, those of other videos too."""

import shutil

import av
import numpy as np
import pytest

from backbones.data.data_source import DataSource
from backbones.runs.extract import extract
from backbones.runs.final_labels import write_final_store
from selavi_ref.datasets import Manifest, make_collection, read_manifest, scan
from selavi_ref.datasets.manifest import ManifestEntry
from selavi_ref.ensemble.labels import label_store
from selavi_ref.media import read_sound_statistics
from selavi_ref.media.decoder import run_guarded
from selavi_ref.runs.reporter import Reporter
from selavi_ref.runs.run import Run
from selavi_ref.store import FeatureStore
from tests.support import broken_decoders
from tests.support.command_line import rows_of, selavi, succeeded
from tests.support.linear_backbone import Warnings

SHORT = ["--epochs", "2", "--labellings", "2", "--heads", "2", "--overclustering-heads", "0", "--workers", "0"]
SHORT += ["--bn-warmup-batches", "3", "--frames", "4", "--mel-bands", "32"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A run of two clusters on 32 videos, and eight other videos."""
    folder = tmp_path_factory.mktemp("final")
    make_collection(folder / "videos", 32, seed=1, seconds=1.5, size=48, fps=8)
    make_collection(folder / "new", 8, seed=2, seconds=1.5, size=48, fps=8)
    succeeded(selavi("train", "videos", "--clusters", "2", *SHORT, "--out", "run", cwd=folder))
    return folder


def test_the_labels_of_a_run_are_those_of_its_log_posterior(place):
    run = Run(place / "run")
    with FeatureStore(run.features_file) as store:
        log_posterior = store.get("log_posterior")
        assert np.allclose(np.exp(log_posterior).sum(1), 1, atol=1e-5)
        labels, of_heads = label_store(store), label_store(store, head="heads")
        assert store.modalities == ["video", "audio"]  # no features of the statistics of sounds
    assert (labels.label == log_posterior.argmax(1)).all()
    assert labels.confidence == pytest.approx(np.exp(log_posterior.max(1)), abs=1e-5)
    assert [int(row["label"]) for row in rows_of(run.labels_file)] == labels.label.tolist()
    # Clusters have the numbers of those of the heads with which they share most videos.
    shared = np.zeros((2, 2))
    np.add.at(shared, (labels.label, of_heads.label), 1)
    assert np.trace(shared) >= np.trace(shared[::-1])
    assert not list(run.folder.glob("extracted*"))


def test_other_videos_get_them_by_their_heads_and_by_the_heads_of_the_networks_on_request(place):
    succeeded(selavi("label", "run", "new", "--workers", "0", "--out", "new.csv", cwd=place))
    succeeded(selavi("extract", "run", "new", "--workers", "0", "--out", "new.h5", cwd=place))
    with FeatureStore(place / "new.h5") as store:
        assert store.provenance["clips"] == 3
        final, of_heads = label_store(store), label_store(store, head="heads")
        np.testing.assert_array_equal(final.label, store.get("log_posterior").argmax(1))
    assert [int(row["label"]) for row in rows_of(place / "new.csv")] == final.label.tolist()
    options = ["--head", "heads", "--out", "heads.csv"]
    succeeded(selavi("label", "new.h5", *options, cwd=place))
    assert [int(row["label"]) for row in rows_of(place / "heads.csv")] == of_heads.label.tolist()


def test_a_video_whose_picture_cannot_be_decoded_has_no_label_by_its_sound_alone(place, tmp_path):
    whole = sorted((place / "new").rglob("*.mp4"))[0]
    (tmp_path / "new").mkdir()
    with av.open(str(whole)) as source, av.open(str(tmp_path / "new" / "a.mkv"), "w") as out:
        copies = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is None:
                continue
            if packet.stream.type == "video":
                noise = av.Packet(bytes(packet.size))
                noise.pts, noise.dts, noise.time_base = packet.pts, packet.dts, packet.time_base
                noise.is_keyframe, packet, index = packet.is_keyframe, noise, packet.stream_index
                packet.stream = copies[index]
            else:
                packet.stream = copies[packet.stream_index]
            out.mux(packet)
    succeeded(selavi("label", "run", tmp_path / "new", "--workers", "0", "--out", tmp_path / "l.csv", cwd=place))
    (row,) = rows_of(tmp_path / "l.csv")
    assert (row["label"], bool(row["reason"])) == ("", True)


def test_a_sound_that_cannot_be_read_in_time_is_told_once(place, tmp_path, monkeypatch):
    slow = sorted((place / "new").rglob("*.mp4"))[0]
    limits = []

    def slow_on_one(function, path, *arguments, limit=60.0, **options):
        if function is read_sound_statistics:
            limits.append(limit)
            if path == str(slow):
                return run_guarded(broken_decoders.hang, path, limit=0.3)
        return run_guarded(function, path, *arguments, limit=limit, **options)

    monkeypatch.setattr("backbones.runs.extract.run_guarded", slow_on_one)
    run, reporter, other = Run(place / "run"), Warnings(), sorted((place / "new").rglob("*.mp4"))[1]
    names = [f"{slow}#t=0,0.7", f"{slow}#t=0.7,1.4", str(other)]
    manifest = scan(Manifest([ManifestEntry(name) for name in names]), min_seconds=0)
    extract(run, manifest, tmp_path / "s.h5", data_source=DataSource(0), audio_statistics=True, reporter=reporter)
    assert [str(slow) in warning for warning in reporter.warnings] == [True]
    with FeatureStore(tmp_path / "s.h5") as store:
        assert np.isnan(store.features("logmel")).all(1).tolist() == [True, True, False]
        assert np.isfinite(store.features("audio")).all()
    assert min(limits) > 60  # the longer a sound, the longer it may take


@pytest.mark.processes
def test_interrupted_before_the_final_labels_it_ends_with_the_same(place, tmp_path):
    """What was extracted is not extracted again, and nothing is left behind."""
    shutil.copytree(place / "run", tmp_path / "run")
    run = Run(tmp_path / "run")
    before = rows_of(run.labels_file)
    for file in (run.features_file, run.final_labels_file, run.labels_file):
        file.unlink()
    succeeded(selavi("train", "--resume", "--workers", "0", "--out", tmp_path / "run"))
    assert rows_of(run.labels_file) == before
    run.features_file.unlink()
    in_memory = DataSource(0, memory_gb=1.0)
    with pytest.raises(ZeroDivisionError):
        write_final_store(run, read_manifest(run.videos_file), data_source=in_memory, reporter=_Failing())
    assert (run.folder / "extracted.h5").exists()
    run.labels_file.unlink()
    succeeded(selavi("train", "--resume", "--workers", "0", "--out", tmp_path / "run"))
    assert rows_of(run.labels_file) == before
    assert not list(run.folder.glob("extracted*"))


@pytest.mark.processes
def test_too_few_videos_or_the_option_leave_the_labels_of_the_heads(place, tmp_path):
    options = ["--clusters", "3", *SHORT, "--out", tmp_path / "few"]
    succeeded(selavi("train", "videos", *options, cwd=place))
    options = ["--clusters", "2", "--final-labels", "heads", *SHORT, "--out", tmp_path / "heads"]
    succeeded(selavi("train", "videos", *options, cwd=place))
    for name in ("few", "heads"):
        run = Run(tmp_path / name)
        assert run.usual_clips == 1
        with FeatureStore(run.features_file) as store:
            assert not store.has("log_posterior")
            assert label_store(store).label.tolist() == label_store(store, head="heads").label.tolist()


@pytest.mark.processes
def test_prescribed_sizes_are_met(place, tmp_path):
    (tmp_path / "sizes.txt").write_text("24\n8\n")
    options = ["--clusters", "2", "--distribution", tmp_path / "sizes.txt", *SHORT, "--out", tmp_path / "run"]
    succeeded(selavi("train", "videos", *options, cwd=place))
    counts = np.bincount([int(row["label"]) for row in rows_of(tmp_path / "run" / "labels.csv")], minlength=2)
    assert np.abs(np.sort(counts) - [8, 24]).max() <= 3


class _Failing(Reporter):
    """Fails when the final labels begin."""

    def bar(self, total, what, unit, done=0):
        if what == "final labels":
            raise ZeroDivisionError
        return super().bar(total, what, unit, done)
