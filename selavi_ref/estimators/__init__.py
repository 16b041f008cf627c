"""Estimators in the conventions of scikit-learn, which this room alone of the core needs."""

from selavi_ref.estimators.balanced_kmeans import BalancedKMeans
from selavi_ref.estimators.self_labeller import SelfLabeller

__all__ = ["BalancedKMeans", "SelfLabeller"]
