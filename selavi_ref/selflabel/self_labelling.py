"""Self-labelling: labels of all videos from log-probabilities and prescribed cluster sizes, by optimal transport."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from selavi_ref.ensemble.strength import STRENGTH
from selavi_ref.runs.processes import Exchange, SingleProcess, engine, local_rows, raise_together
from selavi_ref.selflabel.constraints import HeadConstraints
from selavi_ref.store import FeatureStore
from selavi_ref.store.joint_log_prob import labelling_modalities
from selavi_ref.transport import Assignment, assign, engines, marginals
from selavi_ref.transport.store_scores import joint_scores


def self_label(
    store: FeatureStore,
    head: str | int,
    sizes: ArrayLike,
    *,
    strength: float = STRENGTH,
    potentials: ArrayLike | None = None,
    tol: float = 1e-6,
    max_passes: int = 2000,
    matched: bool = True,
    marginal_penalty: float = 0.0,
    only: str | None = None,
    constraints: HeadConstraints | None = None,
    n_videos: int | None = None,
    log_prob: Any = None,
    exchange: Exchange = SingleProcess(),  # noqa: B008
) -> tuple[Assignment, NDArray[np.float64]]:
    """
    Label all videos of a store with one head, under prescribed cluster sizes.

    With several processes, each passes a store of its own videos, and gets their labels.

    Parameters
    ----------
    store, head
        See `selavi_ref.store.joint_log_prob.joint_log_prob`.
    sizes : array of float, shape (K,)
        Sizes of the clusters, in any order: the cluster with the largest predicted mass gets the largest size.
    strength : float
        How closely the labels follow the predictions: 1 / reg of POT on costs -log p, lambda / 2 in the paper.
    potentials : array of float, shape (K,), optional
        Start of the solver: those of the last self-labelling of this head.
    tol, max_passes
        See `selavi_ref.transport.assign`.
    matched : bool
        False: the sizes belong to clusters 0, 1, 2, ... in their order.
    marginal_penalty : float
        Price of missing the sizes, as in `selavi_ref.transport.assign`; 0: they are met.
    only : str, optional
        Use the log-probabilities of this modality alone.
    constraints : HeadConstraints, optional
        Clusters that some videos must or must not get, by the rows of all processes together. Sizes that they make
        impossible are replaced by the nearest possible ones.
    n_videos : int, optional
        With constraints: the number of videos of all processes together; by default that of the store.
    log_prob : array or tensor, optional
        Joint log-probabilities of the head, float32, shape (N, K), where memory holds them; the store is not read then.
        Not with constraints.
    exchange : Exchange
        The other processes of the run.

    Returns
    -------
    Assignment, array
        The solution, and the marginal (K,) in the order of the clusters.
    """
    with raise_together(exchange):
        scores = joint_scores(store, head, only=only) if log_prob is None else log_prob
    marginal = np.asarray(sizes, np.float64)
    if matched:
        marginal = marginals.match(marginal, predicted_mass(scores, exchange))
    if constraints is not None:
        N = store.n_videos if n_videos is None else n_videos
        own = constraints.local(local_rows(N, exchange))
        with raise_together(exchange):
            scores = joint_scores(
                store, head, only=only, change=lambda rows, values: own.scores(rows, values, strength)
            )
        marginal = constraints.sizes(marginal / marginal.sum(), N)
    solution = assign(
        scores,
        marginal,
        strength=strength,
        potentials=potentials,
        tol=tol,
        max_passes=max_passes,
        marginal_penalty=marginal_penalty or None,
        engine=engine(exchange),
    )
    return solution, marginal


def predicted_mass(
    log_prob: Any,
    exchange: Exchange = SingleProcess(),  # noqa: B008
) -> NDArray[np.float64]:
    """
    Return the mean posterior (K,) of all videos, given their joint log-probabilities (N, K).

    With several processes, each passes the rows of its own videos.
    """
    return engines.create(engine(exchange), log_prob, 1.0)(np.zeros(log_prob.shape[1]))[1]


def align_modalities(
    store: FeatureStore,
    head: str | int,
    exchange: Exchange = SingleProcess(),  # noqa: B008
) -> NDArray[np.int64]:
    """
    Match the outputs of a head of the second modality with those of the first, before they have learnt anything.

    Minimises ``sum_k sum_i |p_v[i, k] - p_a[i, permutation[k]]|`` exactly, as a linear assignment problem; the
    modalities are those of the store, video first. Videos that lack a modality do not count. With several
    processes, each passes a store of its own videos.

    Returns
    -------
    array
        The permutation, int64, shape (K,).
    """
    first, second = labelling_modalities(store, head)[:2]
    K = store.width(f"log_prob/{first}/{head}")
    cost = np.zeros((K, K))
    both = store.present(first) & store.present(second)
    for rows in store.blocks():
        a, b = (np.exp(store.log_prob(modality, head, rows))[both[rows]] for modality in (first, second))
        cost += np.stack([np.abs(a[:, k, None] - b).sum(0, dtype=np.float64) for k in range(K)])
    cost = exchange.all_sum(cost.reshape(-1)).reshape(K, K)
    permutation: NDArray[np.int64] = linear_sum_assignment(cost)[1].astype(np.int64)
    return permutation
