"""Optimal transport between many rows and few columns: labels for clusters of prescribed sizes, and POT's Sinkhorn."""

from selavi_ref.transport import marginals
from selavi_ref.transport.blocks import Blocks
from selavi_ref.transport.clustering import Assignment, assign
from selavi_ref.transport.engines import PlanPass, Rows, Survey, register
from selavi_ref.transport.pot import sinkhorn
from selavi_ref.transport.sharded import Sharded

__all__ = [
    "Assignment",
    "Blocks",
    "PlanPass",
    "Rows",
    "Sharded",
    "Survey",
    "assign",
    "marginals",
    "register",
    "sinkhorn",
]
