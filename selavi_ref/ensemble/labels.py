"""Labels of the videos of a store: the heads combined to one cluster per video, without true classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.ensemble.consensus import HeadConsensus, find_consensus, groups_of
from selavi_ref.ensemble.posterior import HeadPosteriors
from selavi_ref.ensemble.strength import STRENGTH
from selavi_ref.errors import InputError, printable
from selavi_ref.runs.provenance import Provenance
from selavi_ref.store import FeatureStore
from selavi_ref.store.joint_log_prob import labelling_modalities


@dataclass(frozen=True)
class Labels:
    """
    Labels of N videos.

    Parameters
    ----------
    paths : list of str
        The videos.
    label, runner_up : array
        Most and second most probable cluster, int32, shape (N,); -1 without a label, or with a single cluster.
    confidence : array
        Posterior of `label`, float32, shape (N,); 0 without a label.
    heads : array
        Label by each head in its own cluster numbers, int32, shape (N, H); -1 if it has none.
    modalities : list of str
        Modalities that each label is based on: ``"video+audio"``, ``"video"``, ``"audio"`` or ``""``.
    reasons : list of str
        Why there is no label; ``""`` where there is one.
    disagreement : array or None
        Fraction of a video's clips whose own label differs, mean over the heads, shape (N,); None with a single clip.
    source : str
        How the heads were combined, in words.
    groups : array
        Cluster of the consensus that each head's clusters belong to, int32, shape (H, K); see
        `selavi_ref.ensemble.consensus.HeadConsensus`.
    labelling : str
        ``"consensus"``, or the name of the one head that the labels are of.
    entropy : array
        Entropy of each video's posterior, in nats, float32, shape (N,); 0 without a label.
    posterior : array or None
        Posterior of each cluster, float32, shape (N, K), zeros without a label; only on request.
    """

    paths: list[str]
    label: NDArray[np.int32]
    runner_up: NDArray[np.int32]
    confidence: NDArray[np.float32]
    heads: NDArray[np.int32]
    modalities: list[str]
    reasons: list[str]
    disagreement: NDArray[np.float32] | None
    source: str
    groups: NDArray[np.int32] = field(default_factory=lambda: np.zeros((0, 0), np.int32))
    labelling: str = "consensus"
    entropy: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    posterior: NDArray[np.float32] | None = None


def label_store(
    store: FeatureStore,
    *,
    head: str = "consensus",
    balanced: bool = False,
    only: str | None = None,
    merge_targets: NDArray[np.int32] | None = None,
    with_posterior: bool = False,
) -> Labels:
    """
    Label every video of a store.

    Each head's posterior is the softmax of the summed log-probabilities of the modalities that a video has. The
    consensus is the mean posterior of all heads over groups of their clusters (`selavi_ref.ensemble.consensus`). Where
    the store has a ``log_posterior``, of the final labels of a run, it takes the place of this mean. True classes are
    not used.

    Parameters
    ----------
    store : FeatureStore
        With log-probabilities of every head.
    head : str
        ``"consensus"``; ``"heads"`` for the mean posterior of the heads, even where there are final labels; ``"best"``
        for the head that agrees most with the others; or the name of a head.
    balanced : bool
        Add the potentials of the last self-labelling, which keep the clusters near their prescribed sizes.
    only : str, optional
        Use this modality alone; videos without it get no label.
    merge_targets : array, optional
        The cluster that each cluster was merged into by hand, int32, shape (K,) or longer; see
        `selavi_ref.browser.edit_history.Edits.merge_targets`. A video follows its most probable cluster, so that
        merging two clusters moves no video of the others; confidence and runner-up are those of the merged clusters.
    with_posterior : bool
        Also return the posteriors.

    Raises
    ------
    InputError
        If there is no such head or modality, or the store has no potentials for `balanced`.
    """
    names, K = store.heads, store.n_clusters if store.heads else 0
    if not names:
        raise InputError(f"{printable(store.path)} holds no log-probabilities to label by", path=store.path)
    if only is not None and not any(only in labelling_modalities(store, name) for name in names):
        labelling_modalities(store, names[0], only)  # raises an error that lists the modalities
    posteriors = HeadPosteriors(store, only=only, shifts=_scaled_potentials(store, names) if balanced else None)
    head_labels = np.empty((store.n_videos, len(names)), np.int32)
    for rows in store.blocks():
        for column, name in enumerate(names):
            values, present = posteriors.of_head(name, rows)
            head_labels[rows, column] = np.where(present, values.argmax(1), -1)
    consensus = stored_consensus(store, len(names)) or find_consensus(head_labels, K)
    chosen, source = _choose(head, names, consensus)
    groups = consensus.groups if head in ("consensus", "heads") else groups_of(consensus.alignment)
    memberships = {names[c]: np.eye(K, dtype=np.float32)[groups[c]] for c in chosen}
    mean, labelled = np.empty((store.n_videos, K), np.float32), np.empty(store.n_videos, bool)
    final = head == "consensus" and only is None and not balanced and has_final_labels(store)
    for rows in store.blocks():
        mean[rows], labelled[rows] = final_posterior(store, rows) if final else posteriors.mean(rows, memberships)
    first: NDArray[np.integer[Any]] = mean.argmax(1)
    clusters = np.arange(K, dtype=np.int32)
    if merge_targets is not None:
        clusters = merge_targets[:K]
        first, mean = merge_targets[first], mean @ np.eye(int(clusters.max()) + 1, dtype=np.float32)[clusters]
    second = _runner_up(mean, first, np.unique(clusters))
    used = {m: store.present(m) for m in store.modalities if any(m in posteriors.modalities[n] for n in memberships)}
    many_clips = store.has("disagreement") and (Provenance.of(store).clips or 1) > 1
    return Labels(
        paths=store.paths,
        label=np.where(labelled, first, -1).astype(np.int32),
        runner_up=np.where(labelled, second, -1).astype(np.int32),
        confidence=np.where(labelled, mean[np.arange(len(mean)), first], 0).astype(np.float32),
        heads=head_labels,
        modalities=["+".join(m for m in used if used[m][row]) for row in range(store.n_videos)],
        reasons=store.reasons,
        disagreement=store.get("disagreement").mean(1, dtype=np.float32) if many_clips else None,
        source="cross-fitted final labels" if final else source,
        groups=consensus.groups,
        labelling="consensus" if head in ("consensus", "heads") else names[chosen[0]],
        entropy=_entropy(mean),
        posterior=mean * labelled[:, None] if with_posterior else None,
    )


def has_final_labels(store: FeatureStore) -> bool:
    """Return whether a store has the log-posterior of the final labels of a run."""
    return store.has("log_posterior")


def final_posterior(store: FeatureStore, rows: slice) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the posterior (n, K) of the final labels, zero for videos without one, and which videos have one."""
    values = np.exp(store.get("log_posterior", rows))
    present = np.isfinite(values).all(1)
    return np.where(present[:, None], values, np.float32(0)), present


def store_consensus(store: FeatureStore) -> HeadConsensus:
    """Return the consensus of the heads of a store: as its writer found it, or else from the labels of its heads."""
    stored = stored_consensus(store, len(store.heads))
    return stored or find_consensus(label_store(store).heads, store.n_clusters)


def stored_consensus(store: FeatureStore, H: int) -> HeadConsensus | None:
    """
    Return the consensus of the H heads that the writer of a store found; None if it did not write one.

    Raises
    ------
    InputError
        If it does not fit the store.
    """
    if not store.has("alignment"):
        return None
    provenance, K = Provenance.of(store), store.n_clusters

    def require(fits: bool, name: str, content: str) -> None:
        if not fits:
            raise InputError(f"{printable(store.path)}: {name} must {content}", path=store.path, option=name)

    alignment = store.get("alignment").astype(np.int32)
    fits = alignment.shape == (H, K) and bool((np.sort(alignment, 1) == np.arange(K)).all())
    require(fits, "alignment", f"hold a permutation of the {K} clusters for each of {H} heads")
    reference = provenance.reference or 0
    require(0 <= reference < H, "reference", f"be a head, 0 to {H - 1}, not {reference}")
    agreement = np.array([1.0] * H if provenance.agreement is None else provenance.agreement)
    require(agreement.shape == (H,), "agreement", f"be a list of {H} numbers, one for each head")
    groups = groups_of(alignment)
    if store.has("groups"):
        groups = store.get("groups").astype(np.int32)
        fits = groups.shape == (H, K) and bool(((groups >= 0) & (groups < K)).all())
        require(fits, "groups", f"hold a cluster, 0 to {K - 1}, for each of the {K} clusters of {H} heads")
    return HeadConsensus(reference, agreement, alignment, groups)


def _scaled_potentials(store: FeatureStore, names: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """Return the potentials of each head, divided by the strength: in the unit of log-probabilities."""
    if not store.has("potentials"):
        raise InputError(
            f"{printable(store.path)} has no potentials of a self-labelling; leave --balanced out", path=store.path
        )
    strength = Provenance.of(store).strength or STRENGTH
    potentials, shape = store.get("potentials"), (len(names), store.n_clusters)
    if potentials.shape != shape:
        raise InputError(
            f"{printable(store.path)}: potentials have shape {potentials.shape}, not {shape}", path=store.path
        )
    return {name: (potentials[h] / strength).astype(np.float32) for h, name in enumerate(names)}


def _choose(head: str, names: Sequence[str], consensus: HeadConsensus) -> tuple[list[int], str]:
    """Return the numbers of the heads that label, and how they were combined in words."""
    if head in ("consensus", "heads"):
        return list(range(len(names))), f"consensus of {len(names)} heads" if len(names) > 1 else "the only head"
    if head == "best":
        best = consensus.reference
        return [best], f"head {names[best]}, which agrees best with the others (NMI {consensus.agreement[best]:.2f})"
    if head in names:
        return [list(names).index(head)], f"head {head}"
    raise InputError(
        f"there is no head {head!r}; choose consensus, heads, best, or one of {', '.join(map(printable, names))}",
        option="head",
        value=head,
    )


def _runner_up(
    posterior: NDArray[np.float32], first: NDArray[np.integer[Any]], clusters: NDArray[np.integer[Any]]
) -> NDArray[np.int64]:
    """Return the most probable of some clusters except the first, for each row; -1 if there is only one cluster."""
    if len(clusters) == 1:
        return np.full(len(posterior), -1)
    others = np.full_like(posterior, -1)
    others[:, clusters] = posterior[:, clusters]
    others[np.arange(len(posterior)), first] = -1
    return others.argmax(1)


def _entropy(posterior: NDArray[np.float32]) -> NDArray[np.float32]:
    return -np.einsum("nk,nk->n", posterior, np.log(np.maximum(posterior, np.finfo(np.float32).tiny)))
