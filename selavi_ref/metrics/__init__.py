"""How well clusters agree with classes: names and arguments as in scikit-learn, from one pass over the labels.

The scores take the true and the predicted labels as two sequences of equal length: integers of any size, strings, or
any other hashable values. All raise `selavi_ref.errors.InputError`, a ValueError, when the lengths differ, when there
are no labels, or when one is NaN.
"""

from selavi_ref.metrics.clusters import hungarian_accuracy, mean_entropy, mean_purity
from selavi_ref.metrics.contingency import ContingencyTable, contingency_table
from selavi_ref.metrics.information import adjusted_mutual_info_score, normalized_mutual_info_score
from selavi_ref.metrics.pairs import adjusted_rand_score
from selavi_ref.metrics.report import summary

__all__ = [
    "ContingencyTable",
    "adjusted_mutual_info_score",
    "adjusted_rand_score",
    "contingency_table",
    "hungarian_accuracy",
    "mean_entropy",
    "mean_purity",
    "normalized_mutual_info_score",
    "summary",
]
