from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selavi_ref.transport import marginals
from tests.support.refusal import refused


def test_uniform_is_equal() -> None:
    assert np.array_equal(marginals.uniform(4), np.full(4, 0.25))


@settings(deadline=None, max_examples=60)
@given(K=st.integers(1, 30), spare=st.integers(0, 50), sd=st.floats(0, 5), seed=st.integers(0, 999))
def test_gaussian_gives_every_cluster_a_video(K: int, spare: int, sd: float, seed: int) -> None:
    N = K + spare
    sizes = marginals.gaussian(K, N, sd, np.random.default_rng(seed))
    assert sizes.sum() == pytest.approx(1)
    assert (sizes * N >= 1 - 1e-9).all()


def test_gaussian_without_clamping_is_the_published_draw() -> None:
    draw = 1 + 0.1 * np.random.default_rng(3).standard_normal(7)
    assert np.allclose(marginals.gaussian(7, 10**6, 0.1, np.random.default_rng(3)), draw / draw.sum())


@settings(deadline=None, max_examples=60)
@given(K=st.integers(1, 30), spare=st.integers(0, 50), exponent=st.floats(-3, 6))
def test_zipf_gives_every_cluster_a_video(K: int, spare: int, exponent: float) -> None:
    sizes = marginals.zipf(K, K + spare, exponent)
    assert sizes.sum() == pytest.approx(1)
    assert (sizes * (K + spare) >= 1 - 1e-9).all()


def test_zipf_falls_with_rank() -> None:
    assert np.allclose(marginals.zipf(3, 10**6), np.array([6, 3, 2]) / 11)


def test_more_clusters_than_videos_is_refused() -> None:
    with refused(option="N", value=3):
        marginals.gaussian(5, 3)


def test_given_normalises_and_keeps_zeros() -> None:
    assert np.array_equal(marginals.given([3, 0, 1], 3), [0.75, 0, 0.25])


def test_given_spans_the_range_of_floats() -> None:
    assert np.isfinite(marginals.given([1e308, 1e308, 1e-300], 3)).all()


@pytest.mark.parametrize(
    ("sizes", "cluster"),
    [
        ([1, 2], None),
        ([1, -2, 1], 1),
        ([1, 1, np.nan], 2),
        ([np.inf, 1, 1], 0),
        ([0, 0, 0], None),
        (["a", 1, 2], None),
    ],
)
def test_sizes_that_do_not_fit_are_named(sizes: list[object], cluster: int | None) -> None:
    with refused(option="sizes", column=cluster):
        marginals.given(sizes, 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["1 2 3 2", "1,2\n3,2\n", "# sizes\n1\n2\n3\n2"])
def test_read_accepts_the_usual_texts(tmp_path, text: str) -> None:
    path = tmp_path / "sizes.txt"
    path.write_text(text)
    assert np.allclose(marginals.read(path, 4), [0.125, 0.25, 0.375, 0.25])


def test_read_accepts_npy(tmp_path) -> None:
    np.save(tmp_path / "sizes.npy", np.array([1, 3]))
    assert np.allclose(marginals.make(str(tmp_path / "sizes.npy"), 2, 9), [0.25, 0.75])


@pytest.mark.parametrize("text", ["", "1 2", "1 2 x", "1 2 -3", "1 2 nan", "0 0 0"])
def test_read_names_a_file_that_does_not_fit_in_one_line(tmp_path, text: str) -> None:
    path = tmp_path / "sizes.txt"
    path.write_text(text)
    with refused(path=path):
        marginals.read(path, 3)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"\x93NUMPY broken"])
@pytest.mark.parametrize("name", ["sizes.npy", "sizes.txt"])
def test_read_names_a_damaged_file(tmp_path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with refused(path=tmp_path / name):
        marginals.read(tmp_path / name, 3)


def test_pickles_are_not_read(tmp_path) -> None:
    np.save(tmp_path / "sizes.npy", np.array([{}, 1], dtype=object), allow_pickle=True)
    with refused(path=tmp_path / "sizes.npy"):
        marginals.read(tmp_path / "sizes.npy", 2)


def test_an_unknown_distribution_is_named() -> None:
    with refused(option="spec", value="gauss"):
        marginals.make("gauss", 3, 10)


def test_make_knows_the_names() -> None:
    assert np.array_equal(marginals.make("uniform", 3, 9), marginals.uniform(3))
    assert np.array_equal(marginals.make("zipf", 3, 9), marginals.zipf(3, 9))
    drawn = marginals.make("gaussian", 3, 9, np.random.default_rng(0))
    assert np.array_equal(drawn, marginals.gaussian(3, 9, rng=np.random.default_rng(0)))


def test_matching_gives_the_largest_size_to_the_largest_mass() -> None:
    assert np.array_equal(marginals.match(np.array([0.1, 0.6, 0.3]), [5, 1, 9]), [0.3, 0.1, 0.6])


def test_matching_is_stable() -> None:
    assert np.array_equal(marginals.match(np.array([0.1, 0.6, 0.3]), [1, 1, 1]), [0.6, 0.3, 0.1])
