"""Scores of clusters against true classes, with names and arguments of scikit-learn, and retrieval.

The scores take the true and the predicted labels as two sequences of equal length: integers of any size, strings, or
any other hashable values. Retrieval takes features. All raise `selavi_ref.errors.InputError`,
a ValueError, when the lengths differ, when there are no labels, or when one is NaN.
"""

from selavi_ref.metrics.all_scores import summary
from selavi_ref.metrics.bootstrap import bootstrap_intervals
from selavi_ref.metrics.contingency import ContingencyTable, contingency_table
from selavi_ref.metrics.information import (
    adjusted_mutual_info_score,
    mutual_info_score,
    normalized_mutual_info_score,
)
from selavi_ref.metrics.matching import MatchedConfusion, hungarian_accuracy, matched_confusion
from selavi_ref.metrics.pair_counting import adjusted_rand_score, fowlkes_mallows_score, rand_score
from selavi_ref.metrics.purity import ClusterReport, cluster_report, mean_entropy, mean_purity, purity_score
from selavi_ref.metrics.retrieval import nearest, retrieval_recall
from selavi_ref.metrics.vmeasure import homogeneity_completeness_v_measure

__all__ = [
    "ClusterReport",
    "ContingencyTable",
    "MatchedConfusion",
    "adjusted_mutual_info_score",
    "adjusted_rand_score",
    "bootstrap_intervals",
    "cluster_report",
    "contingency_table",
    "fowlkes_mallows_score",
    "homogeneity_completeness_v_measure",
    "hungarian_accuracy",
    "matched_confusion",
    "mean_entropy",
    "mean_purity",
    "mutual_info_score",
    "nearest",
    "normalized_mutual_info_score",
    "purity_score",
    "rand_score",
    "retrieval_recall",
    "summary",
]
