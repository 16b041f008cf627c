"""Labels of videos, seen in training or not: heads brought together without true labels, and the table of labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.ensemble.consensus import HeadConsensus, find_consensus, groups_of
from selavi_ref.ensemble.posterior import STRENGTH, posterior
from selavi_ref.errors import InputError, printable
from selavi_ref.store import FeatureStore
from selavi_ref.store.joint_log_prob import joint_log_prob, labelling_modalities


@dataclass(frozen=True)
class Labels:
    """
    Labels of N videos.

    Parameters
    ----------
    paths : list of str
        The videos.
    label, runner_up : array
        int32, shape (N,): most and second most probable cluster; -1 without label, or with a single cluster.
    confidence : array
        Posterior of `label_store`, float32, shape (N,).
    heads : array
        Label of each head in its own numbering, int32, shape (N, H).
    modalities : list of str
        What each label rests on: ``"video+audio"``, ``"video"``, ``"audio"`` or ``""``.
    reasons : list of str
        Why there is no label; ``""`` where there is one.
    disagreement : array or None
        Share of a video's clips whose own label differs, mean over heads, shape (N,); None with a single clip.
    source : str
        How the heads were brought together, in words.
    groups : array
        Which cluster of the consensus each head's clusters belong to, int32, shape (H, K); see
        `selavi_ref.ensemble.consensus.HeadConsensus`.
    labelling : str
        ``"consensus"``, or the name of the head that all labels are of.
    entropy : array
        Of each video's posterior, in nats, float32, shape (N,); 0 without label.
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


def label_store(
    store: FeatureStore,
    *,
    head: str = "consensus",
    balanced: bool = False,
    only: str | None = None,
    joined: NDArray[np.int32] | None = None,
) -> Labels:
    """
    Label every video of a store.

    Each head's posterior is the softmax of the summed log-probabilities of the modalities that a video has. The
    consensus is the mean of the posteriors of the heads that can see the video, over the groups that the clusters of
    all heads form (`selavi_ref.ensemble.consensus`); no true label is used.

    Parameters
    ----------
    store : FeatureStore
        With log-probabilities of every head.
    head : str
        ``"consensus"``; ``"best"`` for the head that agrees best with the others; or the name of a head.
    balanced : bool
        Add the frozen potentials of the last self-labelling, which keep the clusters near their prescribed sizes.
    only : str, optional
        The one modality to label by; videos without it have no label.
    joined : array, optional
        The cluster that each cluster was joined into by hand, int32, shape (K,) or longer, as of
        `browser.edit_history.Edits.merge_targets`. A video stays where the most probable cluster of its own has
        gone, so
        that joining moves no other; confidence and runner-up are those of the joined clusters.

    Raises
    ------
    InputError
        If there is no such head or modality, or the store has no potentials for `balanced`.
    """
    names = store.heads
    if not names:
        raise InputError(f"{printable(store.path)} holds no log-probabilities, so there is nothing to label by")
    shift = _potentials(store, names) if balanced else None
    seen_by = [labelling_modalities(store, name) for name in names]
    if only is not None:
        seen_by = [[only] if only in seen else [] for seen in seen_by]
        if not any(seen_by):
            labelling_modalities(store, names[0], only)  # says which there are
    present = {modality: store.present(modality) for modality in store.modalities}
    usable = np.stack([_any_of(present, seen, store.n_videos) for seen in seen_by], axis=1)
    head_labels = np.full((store.n_videos, len(names)), -1, np.int32)
    for column, rows, shares in _posteriors(store, names, seen_by, shift, only):
        head_labels[rows, column] = shares.argmax(1)
    head_labels[~usable] = -1
    agreement = stored_consensus(store, len(names)) or find_consensus(head_labels, store.n_clusters)
    chosen, source = _choose(head, names, agreement)
    targets = agreement.groups if head == "consensus" else groups_of(agreement.alignment)
    membership = np.eye(store.n_clusters, dtype=np.float32)[targets]

    votes = usable[:, chosen].sum(1, dtype=np.float32)[:, None]
    mean = np.zeros((store.n_videos, store.n_clusters), np.float32)
    picked = [names[c] for c in chosen], [seen_by[c] for c in chosen]
    for column, rows, shares in _posteriors(store, *picked, shift, only):
        shares = shares @ membership[chosen[column]] / np.maximum(votes[rows], 1)
        mean[rows] += np.where(usable[rows, chosen[column], None], shares, 0)
    first: NDArray[np.integer[Any]] = mean.argmax(1)
    kept = np.arange(store.n_clusters, dtype=np.int32)
    if joined is not None:
        kept = joined[: store.n_clusters]
        first, mean = joined[first], mean @ np.eye(int(kept.max()) + 1, dtype=np.float32)[kept]
    second = _best_other(mean, first, np.unique(kept))
    labelled = votes[:, 0] > 0
    rests_on = {m: present[m] for m in present if any(m in seen_by[c] for c in chosen)}
    return Labels(
        paths=store.paths,
        label=np.where(labelled, first, -1).astype(np.int32),
        runner_up=np.where(labelled, second, -1).astype(np.int32),
        confidence=np.where(labelled, mean[np.arange(len(mean)), first], 0).astype(np.float32),
        heads=head_labels,
        modalities=["+".join(m for m in rests_on if rests_on[m][row]) for row in range(store.n_videos)],
        reasons=store.reasons,
        disagreement=store.get("disagreement").mean(1) if _many_clips(store) else None,
        source=source,
        groups=agreement.groups,
        labelling="consensus" if head == "consensus" else names[chosen[0]],
        entropy=_entropy(mean),
    )


def stored_consensus(store: FeatureStore, H: int) -> HeadConsensus | None:
    """
    Return how the H heads of a store go together, as its writer has found; None if it does not say.

    Raises
    ------
    InputError
        If what it says does not fit.
    """
    if not store.has("alignment"):
        return None
    name, provenance, K = printable(store.path), store.provenance, store.n_clusters
    alignment = store.get("alignment").astype(np.int32)
    if alignment.shape != (H, K) or (np.sort(alignment, 1) != np.arange(K)).any():
        raise InputError(f"{name}: alignment must hold a permutation of the {K} clusters for each of {H} heads")
    reference = provenance.get("reference", 0)
    if type(reference) is not int or not 0 <= reference < H:
        raise InputError(f"{name}: reference in the provenance must be a head, 0 to {H - 1}, not {reference!r}")
    try:
        agreement = np.array(provenance.get("agreement", [1.0] * H), np.float64)
    except (TypeError, ValueError):
        agreement = np.empty(0)
    if agreement.shape != (H,):
        raise InputError(f"{name}: agreement in the provenance must be a list of {H} numbers, one for each head")
    groups = groups_of(alignment)
    if store.has("groups"):
        groups = store.get("groups").astype(np.int32)
        if groups.shape != (H, K) or groups.min() < 0 or groups.max() >= K:
            raise InputError(f"{name}: groups must hold a cluster, 0 to {K - 1}, for each of {K} of each of {H} heads")
    return HeadConsensus(reference, agreement, alignment, groups)


def _posteriors(
    store: FeatureStore,
    names: Sequence[str],
    seen_by: Sequence[Sequence[str]],
    shift: Mapping[str, NDArray[np.float32]] | None,
    only: str | None,
) -> Iterator[tuple[int, slice, NDArray[np.float32]]]:
    """Yield the posteriors of each head that sees anything, block by block."""
    for column, name in enumerate(names):
        for rows in store.blocks() if seen_by[column] else ():
            log_prob = joint_log_prob(store, name, rows, only)
            yield column, rows, posterior(log_prob if shift is None else log_prob + shift[name])


def _any_of(present: Mapping[str, NDArray[np.bool_]], modalities: Sequence[str], N: int) -> NDArray[np.bool_]:
    """Return which videos have any of some modalities."""
    return np.logical_or.reduce([np.zeros(N, bool), *(present[m] for m in modalities)])


def _potentials(store: FeatureStore, names: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    if not store.has("potentials"):
        raise InputError(f"{printable(store.path)} has no potentials of a self-labelling; leave --balanced out")
    strength = float(store.provenance.get("strength", STRENGTH))
    potentials = store.get("potentials")
    if potentials.shape != (len(names), store.n_clusters):
        wanted = (len(names), store.n_clusters)
        raise InputError(f"{printable(store.path)}: potentials have shape {potentials.shape}, not {wanted}")
    return {name: (potentials[h] / strength).astype(np.float32) for h, name in enumerate(names)}


def _choose(head: str, names: Sequence[str], agreement: HeadConsensus) -> tuple[list[int], str]:
    if head == "consensus":
        return list(range(len(names))), f"consensus of {len(names)} heads" if len(names) > 1 else "the only head"
    if head == "best":
        mean = agreement.agreement[agreement.reference]
        return [
            agreement.reference
        ], f"head {names[agreement.reference]}, which agrees best with the others (NMI {mean:.2f})"
    if head in names:
        return [list(names).index(head)], f"head {head}"
    raise InputError(f"there is no head {head!r}; choose consensus, best, or one of {', '.join(map(printable, names))}")


def _best_other(
    shares: NDArray[np.float32], first: NDArray[np.integer[Any]], clusters: NDArray[np.integer[Any]]
) -> NDArray[np.int64]:
    """Return which of some clusters has the largest share but one that is given for each row; -1 if there is none."""
    if len(clusters) == 1:
        return np.full(len(shares), -1)
    rest = np.full_like(shares, -1)
    rest[:, clusters] = shares[:, clusters]
    rest[np.arange(len(shares)), first] = -1
    return rest.argmax(1)


def _entropy(shares: NDArray[np.float32]) -> NDArray[np.float32]:
    return -np.einsum("nk,nk->n", shares, np.log(np.maximum(shares, np.finfo(np.float32).tiny)))


def _many_clips(store: FeatureStore) -> bool:
    return store.has("disagreement") and int(store.provenance.get("clips", 1)) > 1
