"""The plainest possible versions of the scores, straight from their definitions."""

import itertools
import math
from collections import Counter
from fractions import Fraction


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


def rand_index(labels_true, labels_pred):
    """Go through all pairs of videos."""
    pairs = list(itertools.combinations(range(len(labels_true)), 2))
    same_true = [labels_true[i] == labels_true[j] for i, j in pairs]
    same_pred = [labels_pred[i] == labels_pred[j] for i, j in pairs]
    both = sum(a and b for a, b in zip(same_true, same_pred, strict=True))
    if same_true == same_pred:
        return 1.0
    expected = sum(same_true) * sum(same_pred) / len(pairs)
    return (both - expected) / ((sum(same_true) + sum(same_pred)) / 2 - expected)


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
        for cluster in set(labels_pred)
    ]


def mean_purity(labels_true, labels_pred):
    members = clusters_of(labels_true, labels_pred)
    return sum(max(Counter(cluster).values()) / len(cluster) for cluster in members) / len(members)


def mean_entropy(labels_true, labels_pred):
    members = clusters_of(labels_true, labels_pred)
    return sum(entropy(cluster) for cluster in members) / len(members)
