import numpy as np
import pytest

from backbones.encoders import ClipInput, extract_features, load_encoders
from selavi_ref.datasets import Manifest, scan
from selavi_ref.datasets.manifest import ManifestEntry
from selavi_ref.store import FeatureStore
from tests.support.mean_encoder import MeanEncoder
from tests.support.media_files import tone, write_video

PICTURE = ClipInput(frames=1, size=32)
SOUND = ClipInput(sample_rate=8000, seconds=1.5)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "both.mp4", n_frames=60, sound=tone(2, 440))
    write_video(folder / "short.mp4", n_frames=15, sound=tone(0.5, 440))
    write_video(folder / "silent.mp4", n_frames=60)
    (folder / "broken.mp4").write_bytes(b"no video")
    names = ["both", "broken", "short", "silent"]
    return scan(
        Manifest([ManifestEntry(str(folder / f"{name}.mp4"), "a") for name in names]), min_seconds=0.0, require="any"
    )


def test_every_video_has_a_row(manifest, tmp_path):
    encoders = {"picture": MeanEncoder(PICTURE), "sound": MeanEncoder(SOUND)}
    out = extract_features(manifest, encoders, tmp_path / "f.h5", clips=2)
    with FeatureStore(out) as store:
        assert store.paths == manifest.paths
        assert store.classes == ["a"] * 4
        assert store.present("picture").tolist() == [True, False, True, True]
        assert store.present("sound").tolist() == [True, False, True, False]
        assert [bool(reason) for reason in store.reasons] == [False, True, False, False]
        assert np.isnan(store.features("sound")[[1, 3]]).all()
        assert np.isfinite(store.features("picture")[[0, 2, 3]]).all()
        log_prob = store.get("class_log_prob/picture")[0]
        assert np.exp(log_prob).sum() == pytest.approx(1, abs=1e-4)
        parts = store.provenance["encoders"]
        assert parts["picture"]["class_names"] == ["dark", "bright"]
        assert parts["sound"]["input"]["sample_rate"] == 8000


def test_clips_are_as_many_and_as_long_as_there_is_room_for(manifest, tmp_path):
    picture, sound = MeanEncoder(PICTURE), MeanEncoder(SOUND)
    extract_features(manifest, {"picture": picture, "sound": sound}, tmp_path / "f.h5", clips=3)
    assert picture.batches == [[(1, 32, 32, 3)] * 9]  # three clips of three videos
    assert sound.batches == [[(12000,), (4000,)]]  # two seconds have room for one sound of 1.5 s


def test_features_are_the_mean_of_clips(manifest, tmp_path):
    only = Manifest(manifest.entries[:1])
    with FeatureStore(extract_features(only, {"p": MeanEncoder(PICTURE)}, tmp_path / "1.h5", clips=1)) as store:
        middle = store.features("p")
    with FeatureStore(extract_features(only, {"p": MeanEncoder(PICTURE)}, tmp_path / "3.h5", clips=3)) as store:
        assert not np.array_equal(store.features("p"), middle)


def test_an_interrupted_store_is_continued(manifest, tmp_path, monkeypatch):
    monkeypatch.setattr("backbones.encoders.extraction._BATCH", 2)

    class Interrupted(MeanEncoder):
        def encode(self, batch):
            if self.batches:
                raise KeyboardInterrupt
            return super().encode(batch)

    with pytest.raises(KeyboardInterrupt):
        extract_features(manifest, {"p": Interrupted(PICTURE)}, tmp_path / "f.h5", clips=1)
    rest = MeanEncoder(PICTURE)
    extract_features(manifest, {"p": rest}, tmp_path / "f.h5", clips=1)
    assert [len(batch) for batch in rest.batches] == [2]
    extract_features(manifest, {"p": MeanEncoder(PICTURE)}, tmp_path / "whole.h5", clips=1)
    with FeatureStore(tmp_path / "f.h5") as one, FeatureStore(tmp_path / "whole.h5") as other:
        assert np.array_equal(one.features("p"), other.features("p"), equal_nan=True)


def test_features_that_are_no_numbers_are_left_out_with_a_reason(manifest, tmp_path):
    class Overflowing(MeanEncoder):
        def encode(self, batch):
            return np.full((len(batch), 2), np.inf, np.float32)

    with FeatureStore(extract_features(manifest, {"p": Overflowing(PICTURE)}, tmp_path / "f.h5")) as store:
        assert not store.present("p").any()
        assert all(store.reasons)


def test_logmel_statistics_are_those_of_log_mel_energies():
    from selavi_ref.media import log_mel

    encoder = load_encoders(["logmel"])["logmel"]
    rng = np.random.default_rng(0)
    sounds = [rng.normal(scale=0.1, size=n).astype(np.float32) for n in (24000, 100, 1)]
    features = encoder.encode(sounds)
    mel = log_mel(sounds[0], 24000, n_filters=128, n_fft=2048)
    assert features.shape == (3, encoder.n_features)
    assert np.allclose(features[0, :128], mel.mean(1), atol=1e-4)
    assert np.allclose(features[0, 128:256], mel.std(1), atol=1e-4)
    assert np.allclose(features[0, 256:], np.abs(np.diff(mel, axis=1)).mean(1), atol=1e-4)
    assert np.isfinite(features).all()
    assert encoder.encode([np.zeros(2400, np.float32)])[0, :128].max() == -5
