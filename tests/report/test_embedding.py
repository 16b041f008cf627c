"""The map of all videos: like ones lie together, whatever is missing, equal or few; it is kept with the store."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from selavi_ref.errors import StoreError
from selavi_ref.report import embedding
from selavi_ref.report.embedding import cached_embedding, embed, embedding_file, saved_embedding
from selavi_ref.store import FeatureStore, StoreWriter
from tests.support.refusal import refused

pytest.importorskip("openTSNE")
ROOT = Path(__file__).parents[2]


def write_store(path, provenance=None, names=None, **datasets):
    """A store of some features or log-probabilities, such as ``features_video=array``."""
    values = {name.replace("prob", "PROB").replace("_", "/").replace("PROB", "prob"): v for name, v in datasets.items()}
    values = {name.replace("log/prob", "log_prob"): v for name, v in values.items()}
    N = len(next(iter(values.values())))
    modalities = {name.split("/")[1] for name in values}
    writer = StoreWriter(
        path,
        names or [f"v{i}.mp4" for i in range(N)],
        {name: v.shape[1] for name, v in values.items()},
        provenance=provenance or {},
        resume=False,
    )
    with writer:
        writer.write(slice(0, N), values, present={m: np.ones(N, bool) for m in modalities})
        writer.finish()
    return path


def places(path, seed=0, **options):
    with FeatureStore(path) as store:
        return embed(store, rng=np.random.default_rng(seed), **options)


def four_kinds(rng, N=120):
    """Features of videos of four kinds, of which picture and sound tell two each."""
    kind = rng.integers(4, size=N)
    centres = rng.normal(size=(2, 2, 24))
    video, audio = (
        (centres[m][side] + 0.3 * rng.normal(size=(N, 24))).astype(np.float32)
        for m, side in enumerate((kind // 2, kind % 2))
    )
    return kind, video, audio


def purity(xy, kind, k=5):
    """The share of the k nearest others on the map that are of the same kind."""
    apart = np.square(xy[:, None] - xy).sum(-1)
    np.fill_diagonal(apart, np.inf)
    return np.mean(kind[np.argsort(apart, 1)[:, :k]] == kind[:, None])


def test_kinds_that_only_both_modalities_distinguish_are_apart(tmp_path):
    kind, video, audio = four_kinds(np.random.default_rng(0))
    fractions = []
    path = write_store(tmp_path / "s.h5", features_video=video, features_audio=audio)
    xy = places(path, progress=fractions.append)
    assert xy.dtype == np.float32
    assert purity(xy, kind) > 0.99
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    alone = places(path, by=["features/audio"])
    assert purity(alone, kind % 2) > 0.99
    assert purity(alone, kind) < 0.9


def test_no_modality_outweighs_another(tmp_path):
    _, video, audio = four_kinds(np.random.default_rng(1))
    plain = write_store(tmp_path / "a.h5", features_video=video, features_audio=audio)
    loud = write_store(tmp_path / "b.h5", features_video=video, features_audio=1024 * audio)
    np.testing.assert_array_equal(places(plain), places(loud))


def test_the_same_state_gives_the_same_places(tmp_path):
    _, video, audio = four_kinds(np.random.default_rng(2))
    path = write_store(tmp_path / "s.h5", features_video=video, features_audio=audio)
    np.testing.assert_array_equal(places(path), places(path))
    assert (places(path) != places(path, seed=1)).any()


def test_a_video_that_lacks_a_modality_lies_with_its_kind_and_one_without_any_nowhere(tmp_path):
    kind, video, audio = four_kinds(np.random.default_rng(3), 200)
    kind = kind // 2
    audio += 3 * video  # either tells
    video[:20], audio[20:40], video[190:], audio[190:] = np.nan, np.nan, np.nan, np.nan
    xy = places(write_store(tmp_path / "s.h5", features_video=video, features_audio=audio))
    assert np.isnan(xy[190:]).all()
    assert np.isfinite(xy[:190]).all()
    assert purity(xy[:190], kind[:190]) > 0.95


@settings(max_examples=25)
@given(
    st.integers(1, 24).flatmap(
        lambda N: st.tuples(
            *(arrays(np.float32, (N, D), elements=st.sampled_from([0, 1, -2, 3e30, 1e-30, np.nan])) for D in (1, 3))
        )
    )
)
def test_every_video_with_features_has_a_place_whatever_they_are(tmp_path_factory, both):
    video, audio = both
    xy = places(write_store(tmp_path_factory.mktemp("s") / "s.h5", features_video=video, features_audio=audio))
    known = np.isfinite(video).all(1) | np.isfinite(audio).all(1)
    np.testing.assert_array_equal(np.isfinite(xy).all(1), known)
    np.testing.assert_array_equal(np.isnan(xy).all(1), ~known)


@pytest.mark.parametrize("N", [1, 2, 3, 9, 10, 11, 40])
def test_equal_videos_have_places(tmp_path, N):
    xy = places(write_store(tmp_path / "s.h5", features_video=np.full((N, 4), 0.1, np.float32)))
    assert xy.shape == (N, 2)
    assert np.isfinite(xy).all()


def test_components_keep_the_distances_of_normalised_features(tmp_path):
    _, video, audio = four_kinds(np.random.default_rng(4), 30)
    path = write_store(tmp_path / "s.h5", features_video=video, features_audio=audio)
    plain = [values - values.mean(0) for values in (video.astype(float), audio.astype(float))]
    plain = np.hstack([values / np.linalg.norm(values, axis=1, keepdims=True) for values in plain]) / np.sqrt(2)
    with FeatureStore(path) as store:
        parts = embedding._Parts(store, ["features/video", "features/audio"])
        vectors, known = embedding._components(parts, np.random.default_rng(0), lambda share: None)
    assert known.all()
    assert vectors.shape == (30, 48)
    np.testing.assert_allclose(between(vectors), between(plain), atol=2e-5)
    spread = vectors.std(0)
    assert (np.diff(spread) <= 1e-6).all()


@given(arrays(np.float32, st.tuples(st.integers(5, 40), st.just(2)), elements=st.integers(-2, 2)), st.integers(1, 4))
def test_neighbours_are_the_nearest_others(vectors, k):
    indices, distances = embedding._neighbours(vectors, k, lambda share: None)
    assert (indices != np.arange(len(vectors))[:, None]).all()
    assert all(len(set(row)) == k for row in indices.tolist())
    apart = between(vectors)
    np.testing.assert_allclose(np.take_along_axis(apart, indices.astype(int), 1), distances, atol=1e-6)
    np.fill_diagonal(apart, np.inf)
    np.testing.assert_allclose(np.sort(apart, 1)[:, :k], distances, atol=1e-6)


def between(vectors):
    return np.sqrt(np.square(vectors[:, None].astype(float) - vectors).sum(-1))


def test_without_features_those_that_the_heads_learnt_from_are_taken_or_log_probabilities(tmp_path):
    kind, video, audio = four_kinds(np.random.default_rng(5))
    log_prob = np.log(np.where(np.eye(4)[kind] > 0, 0.97, 0.01)).astype(np.float32)
    log_prob[:5] = np.log(np.eye(4)[kind[:5]] + 1e-45)
    first = write_store(tmp_path / "first.h5", features_video=video, features_audio=audio)
    provenance = {"store": str(first)}
    heads = write_store(tmp_path / "heads.h5", provenance, log_prob_video_0=log_prob, log_prob_audio_0=log_prob)
    np.testing.assert_array_equal(places(heads), places(first))
    assert cached_embedding(heads, tmp_path / "a").words == "features of video and audio; t-SNE, perplexity 30"
    first.unlink()
    assert purity(places(heads), kind) > 0.9
    assert cached_embedding(heads, tmp_path / "b").words == "log-probabilities of video and audio; t-SNE, perplexity 30"
    others = [f"w{i}.mp4" for i in range(len(kind))]
    write_store(first, names=others, features_video=video, features_audio=audio)
    assert cached_embedding(heads, tmp_path / "c").words.startswith("log-probabilities")


def test_a_store_of_neither_has_no_map(tmp_path):
    writer = StoreWriter(tmp_path / "s.h5", ["a", "b"], {"disagreement": 1}, resume=False)
    with writer:
        writer.write(slice(0, 2), {"disagreement": np.zeros((2, 1), np.float32)})
        writer.finish()
    with refused(StoreError, path=tmp_path / "s.h5"):
        places(tmp_path / "s.h5")


def test_a_map_is_kept_until_the_store_changes(tmp_path):
    _, video, audio = four_kinds(np.random.default_rng(6))
    path = write_store(tmp_path / "s.h5", features_video=video, features_audio=audio)
    assert saved_embedding(path, tmp_path) is None
    made = cached_embedding(path, tmp_path)
    written = embedding_file(tmp_path).stat().st_mtime_ns
    again = cached_embedding(path, tmp_path)
    np.testing.assert_array_equal(again.xy, made.xy)
    assert again.words == made.words
    assert embedding_file(tmp_path).stat().st_mtime_ns == written
    os.utime(path, ns=(1, 1))
    assert saved_embedding(path, tmp_path) is None
    cached_embedding(path, tmp_path)
    assert saved_embedding(path, tmp_path) is not None
    whole = embedding_file(tmp_path).read_bytes()
    for damaged in (b"", whole[:100], whole[:-40], b"no file of NumPy"):
        embedding_file(tmp_path).write_bytes(damaged)
        assert saved_embedding(path, tmp_path) is None
    (tmp_path / "file").write_text("")
    assert cached_embedding(path, tmp_path / "file").words == made.words  # a folder that cannot be written


def test_a_process_of_its_own_reports_progress(tmp_path):
    _, video, audio = four_kinds(np.random.default_rng(7))
    path = write_store(tmp_path / "s.h5", features_video=video, features_audio=audio)
    done = started(path, embedding_file(tmp_path))
    assert done.returncode == 0, done.stderr
    shares = [float(line) for line in done.stdout.split()]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    saved = saved_embedding(path, tmp_path)
    np.testing.assert_array_equal(saved.xy, places(path))


@pytest.mark.parametrize("missing", ["store", "folder"])
def test_a_process_that_fails_reports_one_line(tmp_path, missing):
    path = tmp_path / "s.h5"
    if missing == "folder":
        write_store(path, features_video=np.eye(4, dtype=np.float32))
    done = started(path, tmp_path / "nowhere" / "out.npz")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert ("does not exist" if missing == "store" else "out.npz cannot be written") in done.stderr


def started(*arguments):
    program = [sys.executable, "-m", "selavi_ref.report.embedding", *map(str, arguments)]
    return subprocess.run(program, cwd=ROOT, capture_output=True, text=True)
