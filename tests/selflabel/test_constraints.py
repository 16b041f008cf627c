"""Corrections of people hold in the labels of the transport, and cluster sizes are met as far as that is possible."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from selavi_ref.selflabel.constraints import Constraints, HeadConstraints
from selavi_ref.selflabel.self_labelling import self_label
from selavi_ref.store import WorkingStore
from selavi_ref.transport import assign
from selavi_ref.transport.pot import sinkhorn

STRENGTH = 10.0


def log_softmax(values):
    return (values - np.log(np.exp(values).sum(1, keepdims=True))).astype(np.float32)


@st.composite
def problems(draw):
    """Log-probabilities, sizes, and constraints of some rows: one cluster, all but one, or any set."""
    seed = draw(st.integers(0, 10_000))
    N, K = draw(st.integers(6, 40)), draw(st.integers(2, 6))
    rng = np.random.default_rng(seed)
    log_prob = log_softmax(rng.normal(0, draw(st.floats(0, 6)), (N, K)))
    rows = np.flatnonzero(rng.random(N) < draw(st.floats(0, 1)))
    kind = rng.integers(0, 3, len(rows))
    k = rng.integers(0, K, len(rows))
    allowed = rng.random((len(rows), K)) < 0.5
    allowed[kind == 0] = np.eye(K, dtype=bool)[k[kind == 0]]
    allowed[kind == 1] = ~np.eye(K, dtype=bool)[k[kind == 1]]
    target = np.arange(K, dtype=np.int32)
    if K > 2 and draw(st.booleans()):
        target[0] = 1
    sizes = rng.dirichlet(np.full(K, draw(st.sampled_from([1.0, 50.0]))))
    return log_prob, sizes, HeadConstraints.of(rows, allowed, target)


def can_be_met(sizes, constraints, N):
    """Whether there is any plan of these sizes: a linear programme over all pairs of rows and clusters."""
    K = len(sizes)
    allowed = np.ones((N, K), bool)
    allowed[constraints.rows] = constraints.allowed
    allowed &= constraints.target == np.arange(K)
    row, column = np.nonzero(allowed)
    equations = np.zeros((N + K, len(row)))
    equations[row, np.arange(len(row))] = 1
    equations[N + column, np.arange(len(row))] = 1
    return linprog(np.zeros(len(row)), A_eq=equations, b_eq=[*np.full(N, 1 / N), *sizes]).status == 0


@settings(max_examples=60, deadline=None)
@given(problems())
def test_forbidden_pairs_have_no_mass_and_possible_sizes_are_met(problem):
    log_prob, wanted, constraints = problem
    N, K = log_prob.shape
    sizes = constraints.sizes(wanted, N)
    assert sizes.sum() == pytest.approx(1)
    assert can_be_met(sizes, constraints, N)
    scores = constraints.scores(slice(0, N), log_prob, STRENGTH)
    solution = assign(scores, sizes, strength=STRENGTH)
    assert solution.converged
    assert np.abs(solution.plan.sum(0) - sizes).sum() < 1e-5
    assert (constraints.target[solution.labels] == solution.labels).all()
    assert constraints.allowed[np.arange(len(constraints.rows)), solution.labels[constraints.rows]].all()
    forbidden = np.zeros((N, K), bool)
    forbidden[constraints.rows] = ~constraints.allowed
    forbidden[:, constraints.target != np.arange(K)] = True
    assert solution.plan[forbidden].max(initial=0) < (1e-12 if len(constraints.rows) == N else 1e-300)


@settings(max_examples=60, deadline=None)
@given(problems())
def test_sizes_change_only_where_they_are_impossible_or_at_the_border(problem):
    log_prob, wanted, constraints = problem
    N = len(log_prob)
    merged = np.bincount(constraints.target, wanted, len(wanted))  # none is unused
    sizes = constraints.sizes(wanted, N)
    if not np.allclose(sizes, merged):
        # A wish that is far inside of what is possible is met exactly: move it out by a fiftieth of the way.
        outside = merged + 0.02 * (merged - sizes) / np.abs(merged - sizes).sum()
        assert not can_be_met(outside, constraints, N) or (outside < 0).any()


def test_the_plan_is_that_of_infinite_costs():
    rng = np.random.default_rng(0)
    log_prob = log_softmax(rng.normal(0, 2, (30, 4)))
    allowed = np.ones((6, 4), bool)
    allowed[:3, 1:] = False
    allowed[3:, 2] = False
    constraints = HeadConstraints.of(np.arange(6), allowed)
    scores = constraints.scores(slice(0, 30), log_prob, STRENGTH)
    cost = -log_prob.astype(float)
    cost[:6][~allowed] = np.inf
    plan = sinkhorn(np.full(30, 1 / 30), np.full(4, 0.25), cost, 1 / STRENGTH, stopThr=1e-10)
    assert np.allclose(assign(scores, strength=STRENGTH, tol=1e-9).plan, plan, atol=1e-7)


def test_more_videos_than_a_cluster_should_have_enlarge_it_and_leave_the_others_in_proportion():
    allowed = np.zeros((50, 4), bool)
    allowed[:, 2] = True
    sizes = HeadConstraints.of(np.arange(50), allowed).sizes(np.full(4, 0.25), 100)
    assert 0.5 <= sizes[2] < 0.52
    assert sizes.sum() == pytest.approx(1)


def test_a_merged_cluster_has_the_videos_and_the_size_of_its_parts():
    log_prob = log_softmax(np.repeat(np.eye(3) * 5, 10, 0))
    constraints = HeadConstraints.of(np.zeros(0, np.int64), np.zeros((0, 3), bool), np.array([1, 1, 2], np.int32))
    sizes = constraints.sizes(np.full(3, 1 / 3), 30)
    assert sizes == pytest.approx([0, 2 / 3, 1 / 3])
    labels = assign(constraints.scores(slice(0, 30), log_prob, STRENGTH), sizes, strength=STRENGTH).labels
    assert labels.tolist() == [1] * 20 + [2] * 10


def test_an_unused_cluster_gets_nothing():
    target = np.array([0, -1, 2], np.int32)
    constraints = HeadConstraints.of(np.array([0]), np.array([[False, True, True]]), target)
    sizes = constraints.sizes(np.array([0.25, 0.5, 0.25]), 30)
    assert sizes == pytest.approx([0.5, 0, 0.5])
    log_prob = log_softmax(np.repeat(np.eye(3) * 5, 10, 0))
    labels = assign(constraints.scores(slice(0, 30), log_prob, STRENGTH), sizes, strength=STRENGTH).labels
    assert set(labels.tolist()) == {0, 2}
    assert labels[0] == 2


def test_heads_number_the_clusters_in_their_own_way():
    groups = np.array([[0, 1, 2], [2, 0, 1], [0, 0, 2]], np.int32)
    constraints = Constraints(np.array([4]), np.array([[True, False, False]]), np.array([0, 1, 2], np.int32), groups)
    assert [np.flatnonzero(constraints.of_head(h).allowed[0]).tolist() for h in range(3)] == [[0], [1], [0, 1]]
    merged = Constraints(np.array([4]), np.array([[False, True, True]]), np.array([0, 2, 2], np.int32), groups)
    assert [merged.of_head(h).target.tolist() for h in range(3)] == [[0, 2, 2], [0, 1, 0], [0, 1, 2]]
    assert np.flatnonzero(merged.of_head(1).allowed[0]).tolist() == [0]
    assert np.flatnonzero(merged.of_overclusters(np.array([0, 0, 1, 2, 2])).allowed[0]).tolist() == [3, 4]


def test_a_video_without_any_allowed_cluster_in_a_head_is_free():
    groups = np.array([[0, 0, 2]], np.int32)
    constraints = Constraints(np.array([0]), np.array([[False, True, False]]), np.arange(3, dtype=np.int32), groups)
    assert constraints.of_head(0).allowed.all()


@pytest.mark.parametrize("most_bytes", [1 << 30, 1])
def test_self_labelling_takes_constraints_in_memory_and_out_of_core(tmp_path, monkeypatch, most_bytes):
    monkeypatch.setattr("selavi_ref.transport.store_scores._IN_MEMORY", most_bytes)
    monkeypatch.setattr("selavi_ref.transport.store_scores.joint_scores.__defaults__", (most_bytes, None, None))
    rng = np.random.default_rng(1)
    names = {f"log_prob/{m}/0": 5 for m in ("video", "audio")}
    with WorkingStore.create(tmp_path / "w.h5", [str(i) for i in range(200)], names) as store:
        for name in names:
            store.replace(name, log_softmax(rng.normal(0, 2, (200, 5))))
        allowed = np.zeros((7, 5), bool)
        allowed[:, 3] = True
        constraints = HeadConstraints.of(np.arange(10, 17), allowed)
        with warnings.catch_warnings(action="error"):
            solution, marginal = self_label(store, 0, np.full(5, 0.2), constraints=constraints)
    assert (solution.labels[10:17] == 3).all()
    assert marginal == pytest.approx(0.2)
    assert solution.mass == pytest.approx(marginal, abs=1e-5)
