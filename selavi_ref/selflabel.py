"""One self-labelling: from the log-probabilities of a feature store to labels under prescribed cluster sizes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from selavi_ref.errors import InputError
from selavi_ref.exchange import Alone, Exchange, agreed, engine
from selavi_ref.media.container import printable
from selavi_ref.store import FeatureStore
from selavi_ref.transport import Assignment, Blocks, assign, engines, marginals

STRENGTH = 10.0  # lambda / 2 of the paper
_IN_MEMORY = 1 << 30  # bytes of the log-probabilities of one head up to which they are solved in memory


@dataclass(frozen=True)
class ClusterSizes:
    """
    How large the clusters should be.

    Parameters
    ----------
    distribution : str
        ``"uniform"``, ``"gaussian"``, ``"zipf"``, or the name of the file that `given` was read from.
    spread : float
        Standard deviation of the gaussian sizes, relative to the mean size.
    given : tuple of float
        Sizes of K clusters, in any unit; empty for the distributions with a name.
    per_head : bool
        Whether each head draws sizes of its own.
    redrawn : bool
        Whether they are drawn anew for each self-labelling, not kept for the run.
    matched : bool
        Whether the cluster with the largest predicted mass gets the largest size; else the sizes stay in the order in
        which they were drawn.
    penalty : float
        What it costs to miss the sizes (``marginal_penalty`` of `selavi_ref.transport.assign`); 0: they are met. In
        training they are met in any case until it settles (see `selavi_ref.schedule.TrainingSettings`): networks that
        have learnt nothing yet would rather put all videos into one cluster.
    """

    distribution: str = "gaussian"
    spread: float = 0.1
    given: tuple[float, ...] = ()
    per_head: bool = True
    redrawn: bool = False
    matched: bool = True
    penalty: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.penalty < float("inf"):
            raise InputError(f"the price of missing the sizes must be a number of at least 0, not {self.penalty}")

    def draw(self, K: int, N: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return the sizes of K clusters of N videos, as shares (K,)."""
        if self.given:
            return marginals.given(self.given, K)
        if self.distribution == "gaussian":
            return marginals.gaussian(K, N, self.spread, rng)
        return marginals.make(self.distribution, K, N, rng)


def joint_log_prob(
    store: FeatureStore, head: str | int, rows: slice | None = None, only: str | None = None
) -> NDArray[np.float32]:
    """
    Add up the log-probabilities of the modalities that each video has.

    Parameters
    ----------
    store : FeatureStore
        With data sets ``log_prob/{modality}/{head}``.
    head : str or int
        Which head.
    rows : slice, optional
        Which videos; all by default.
    only : str, optional
        The one modality to look at.

    Returns
    -------
    array
        float32, shape (N, K); zeros where a video has no modality at all.

    Raises
    ------
    InputError
        If a value is NaN or infinite; the video and the cluster are named.
    """
    total: NDArray[np.float32] | None = None
    for modality in labelling_modalities(store, head, only):
        values = store.log_prob(modality, head, rows)
        present = store.present(modality)[rows if rows is not None else slice(None)]
        values[~present] = 0.0
        _check_finite(store, modality, head, values, rows)
        total = values if total is None else np.add(total, values, out=total)
    if total is None:
        raise InputError(f"{printable(store.path)} holds no log-probabilities")
    return total


def labelling_modalities(store: FeatureStore, head: str | int, only: str | None = None) -> list[str]:
    """
    Return the modalities of which a store has log-probabilities; of others it may have features alone.

    Raises
    ------
    InputError
        If `only` one is asked for, which it lacks.
    """
    found = [modality for modality in store.modalities if store.has(f"log_prob/{modality}/{head}")]
    if only is None:
        return found
    if only not in found:
        has = ", ".join(map(printable, found)) or "none"
        raise InputError(f"{printable(store.path)} has no log-probabilities of {only} for head {head}; it has {has}")
    return [only]


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
    penalty: float = 0.0,
    only: str | None = None,
    exchange: Exchange = Alone(),  # noqa: B008
) -> tuple[Assignment, NDArray[np.float64]]:
    """
    Label all videos of a store with one head, under prescribed cluster sizes.

    With several processes, each has a store of its share of the videos, and gets the labels of these.

    Parameters
    ----------
    store, head
        As in `joint_log_prob`.
    sizes : array of float, shape (K,)
        Of the clusters, in any order: the cluster with the largest predicted mass gets the largest size.
    strength : float
        lambda / 2: how closely the labels follow the predictions.
    potentials : array of float, shape (K,), optional
        Of the last self-labelling of this head, to start from.
    tol, max_passes
        As in `selavi_ref.transport.assign`.
    matched : bool
        False: the sizes are those of clusters 0, 1, 2, ... as they stand.
    penalty : float
        What it costs to miss the sizes; 0: they are met.
    only : str, optional
        The one modality whose log-probabilities are looked at.
    exchange : Exchange
        With the other processes of the run.

    Returns
    -------
    Assignment, array
        The labels, and the marginal (K,) that the clusters were given.
    """
    with agreed(exchange):
        scores = joint_scores(store, head, only=only)
    marginal = np.asarray(sizes, np.float64)
    if matched:
        marginal = marginals.match(marginal, predicted_mass(scores, exchange))
    found = assign(
        scores,
        marginal,
        strength=strength,
        potentials=potentials,
        tol=tol,
        max_passes=max_passes,
        marginal_penalty=penalty or None,
        engine=engine(exchange),
    )
    return found, marginal


def joint_scores(
    store: FeatureStore, head: str | int, most_bytes: int = _IN_MEMORY, only: str | None = None
) -> NDArray[np.float32] | Blocks:
    """Return what `joint_log_prob` does, but left in the file where it is larger than ``most_bytes``."""
    modalities = labelling_modalities(store, head, only)
    names = [f"log_prob/{modality}/{head}" for modality in modalities]
    if not names or 4 * store.n_videos * store.width(names[0]) <= most_bytes:
        return joint_log_prob(store, head, only=only)
    if all(store.present(modality).all() for modality in modalities):
        return Blocks(*(store.views(name) for name in names))
    return Blocks(_Joint(store, head, (store.n_videos, store.width(names[0])), only))


@dataclass(frozen=True)
class _Joint:
    """Joint log-probabilities that are read and added up anew whenever they are asked for."""

    store: FeatureStore
    head: str | int
    shape: tuple[int, int]
    only: str | None = None
    dtype = np.dtype(np.float32)

    def __getitem__(self, rows: slice) -> NDArray[np.float32]:
        return joint_log_prob(self.store, self.head, rows, self.only)


def predicted_mass(
    log_prob: NDArray[np.float32] | Blocks,
    exchange: Exchange = Alone(),  # noqa: B008
) -> NDArray[np.float64]:
    """
    Return the means over all videos (K,) of the posteriors, row softmaxes of joint log-probabilities (N, K).

    With several processes, each gives the rows of its videos.
    """
    return engines.create(engine(exchange), log_prob, 1.0)(np.zeros(log_prob.shape[1]))[1]


def posterior(log_prob: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the row softmax (N, K) of joint log-probabilities (N, K)."""
    shares = np.exp(log_prob - log_prob.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    return shares


def align_modalities(
    store: FeatureStore,
    head: str | int,
    exchange: Exchange = Alone(),  # noqa: B008
) -> NDArray[np.int64]:
    """
    Find which output of the second modality's head goes with which of the first's, before they have learnt anything.

    Minimises ``sum_k sum_i |p_v[i, k] - p_a[i, permutation[k]]|`` exactly, as a linear assignment problem; the
    modalities are those of the store, video first. With several processes, each has a store of its share of the videos.

    Returns
    -------
    array
        The permutation, int64, shape (K,).
    """
    first, second = labelling_modalities(store, head)[:2]
    K = store.width(f"log_prob/{first}/{head}")
    cost = np.zeros((K, K))
    for rows in store.blocks():
        a, b = (np.exp(store.log_prob(modality, head, rows)) for modality in (first, second))
        cost += np.stack([np.abs(a[:, k, None] - b).sum(0, dtype=np.float64) for k in range(K)])
    cost = exchange.all_sum(cost.reshape(-1)).reshape(K, K)
    permutation: NDArray[np.int64] = linear_sum_assignment(cost)[1].astype(np.int64)
    return permutation


def _check_finite(
    store: FeatureStore, modality: str, head: str | int, values: NDArray[np.float32], rows: slice | None
) -> None:
    if np.isfinite(values).all():
        return
    row, cluster = (int(index) for index in np.argwhere(~np.isfinite(values))[0])
    first = 0 if rows is None or rows.start is None else rows.start
    raise InputError(
        f"{printable(store.path)}: log_prob/{modality}/{head} is {values[row, cluster]} "
        f"in row {first + row}, cluster {cluster}; log-probabilities must be finite numbers"
    )
