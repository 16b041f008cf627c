"""Optimal transport between many rows and few columns: labels for clusters of prescribed sizes, and POT's Sinkhorn."""

from selavi_ref.transport import marginals
from selavi_ref.transport.assignment import Assignment, assign
from selavi_ref.transport.blocks import Blocks
from selavi_ref.transport.engines import register
from selavi_ref.transport.plan_pass import PlanPass, PlanStats, Rows
from selavi_ref.transport.pot import sinkhorn
from selavi_ref.transport.sharded import Sharded

__all__ = [
    "Assignment",
    "Blocks",
    "PlanPass",
    "PlanStats",
    "Rows",
    "Sharded",
    "assign",
    "marginals",
    "register",
    "sinkhorn",
]
