"""The plainest possible versions of the scores, straight from their definitions."""

import itertools
import math
from collections import Counter
from fractions import Fraction

import numpy as np


def contingency(labels_true, labels_pred):
    return Counter(zip(labels_true, labels_pred, strict=True))


def entropy(labels):
    n = len(labels)
    return -sum(count / n * math.log(count / n) for count in Counter(labels).values())


def mutual_information(labels_true, labels_pred):
    n = len(labels_true)
    a, b = Counter(labels_true), Counter(labels_pred)
    return sum(
        count / n * math.log(n * count / (a[k] * b[c]))
        for (k, c), count in contingency(labels_true, labels_pred).items()
    )


def expected_mutual_information(sizes_a, sizes_b):
    """Exact hypergeometric probabilities, one rational number at a time."""
    n = sum(sizes_a)
    total = 0.0
    for a, b in itertools.product(sizes_a, sizes_b):
        for x in range(max(1, a + b - n), min(a, b) + 1):
            probability = Fraction(math.comb(a, x) * math.comb(n - a, b - x), math.comb(n, b))
            total += float(probability) * x / n * math.log(n * x / (a * b))
    return total


def pairs_together(labels_true, labels_pred):
    """Go through all pairs of videos: whether each is together in a class, and in a cluster."""
    pairs = list(itertools.combinations(range(len(labels_true)), 2))
    return [[labels[i] == labels[j] for i, j in pairs] for labels in (labels_true, labels_pred)]


def rand_index(labels_true, labels_pred):
    same_true, same_pred = pairs_together(labels_true, labels_pred)
    agree = [a == b for a, b in zip(same_true, same_pred, strict=True)]
    return sum(agree) / len(agree) if agree else 1.0


def adjusted_rand_index(labels_true, labels_pred):
    same_true, same_pred = pairs_together(labels_true, labels_pred)
    both = sum(a and b for a, b in zip(same_true, same_pred, strict=True))
    if same_true == same_pred:
        return 1.0
    expected = sum(same_true) * sum(same_pred) / len(same_true)
    return (both - expected) / ((sum(same_true) + sum(same_pred)) / 2 - expected)


def fowlkes_mallows(labels_true, labels_pred):
    same_true, same_pred = pairs_together(labels_true, labels_pred)
    both = sum(a and b for a, b in zip(same_true, same_pred, strict=True))
    return both / math.sqrt(sum(same_true) * sum(same_pred)) if both else 0.0


def hungarian_accuracy(labels_true, labels_pred):
    """Try all ways of naming clusters after classes."""
    classes, clusters = sorted(set(labels_true)), sorted(set(labels_pred))
    names = [*classes, *[None] * len(clusters)]
    counts = contingency(labels_true, labels_pred)
    return max(
        sum(counts[name, cluster] for name, cluster in zip(naming, clusters, strict=True))
        for naming in itertools.permutations(names, len(clusters))
    ) / len(labels_true)


def clusters_of(labels_true, labels_pred):
    return [
        [k for k, other in zip(labels_true, labels_pred, strict=True) if other == cluster]
        for cluster in sorted(set(labels_pred))
    ]


def purity(labels_true, labels_pred):
    return sum(max(Counter(cluster).values()) for cluster in clusters_of(labels_true, labels_pred)) / len(labels_true)


def mean_purity(labels_true, labels_pred):
    members = clusters_of(labels_true, labels_pred)
    return sum(max(Counter(cluster).values()) / len(cluster) for cluster in members) / len(members)


def mean_entropy(labels_true, labels_pred):
    members = clusters_of(labels_true, labels_pred)
    return sum(entropy(cluster) for cluster in members) / len(members)


def distances(queries, items, metric):
    """All distances, in float64, one difference or one product at a time."""
    queries, items = np.asarray(queries, np.float64), np.asarray(items, np.float64)
    if metric == "euclidean":
        return np.array([[math.sqrt(sum((a - b) ** 2)) for b in items] for a in queries])
    return np.array([[1 - cosine(a, b) for b in items] for a in queries])


def cosine(a, b):
    lengths = math.sqrt(sum(a * a)) * math.sqrt(sum(b * b))
    return sum(a * b) / lengths if lengths > 0 else 0.0


def nearest(queries, items, k, metric="euclidean", leave_out_self=False):
    """Sort all items of each query; equal distances by index."""
    apart = distances(queries, items, metric)
    if leave_out_self:
        np.fill_diagonal(apart, np.inf)
    indices = np.argsort(apart, axis=1, kind="stable")[:, :k]
    return indices, np.take_along_axis(apart, indices, axis=1)


def recall(queries, query_classes, items, item_classes, k, metric="euclidean", leave_out_self=False):
    """Look the classes of the nearest items up, one query after the other."""
    indices, _ = nearest(queries, items, k, metric, leave_out_self)
    hits = [wanted in [item_classes[j] for j in row] for wanted, row in zip(query_classes, indices, strict=True)]
    return sum(hits) / len(hits)


def population_scores(joint):
    """Scores of infinitely many videos of a joint distribution whose diagonal is the best matching."""
    classes, clusters = joint.sum(1), joint.sum(0)
    information = np.sum(joint * np.log(joint / np.outer(classes, clusters)))
    entropies = -np.sum(classes * np.log(classes)) - np.sum(clusters * np.log(clusters))
    together = np.sum(joint**2)
    chance = np.sum(classes**2) * np.sum(clusters**2)
    return {
        "nmi": 2 * information / entropies,
        "ami": 2 * information / entropies,
        "ari": (together - chance) / ((np.sum(classes**2) + np.sum(clusters**2)) / 2 - chance),
        "accuracy": np.trace(joint),
    }
