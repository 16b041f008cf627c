"""Optimal transport between many rows and few columns: labels for clusters of prescribed sizes, and POT's Sinkhorn."""

from selavi_ref.transport import marginals
from selavi_ref.transport.clustering import Assignment, assign
from selavi_ref.transport.engines import PlanPass, Rows, register
from selavi_ref.transport.pot import sinkhorn

__all__ = ["Assignment", "PlanPass", "Rows", "assign", "marginals", "register", "sinkhorn"]
