"""Labels unlabelled videos from scratch: transport solver, metrics, feature store and self-labelling; no PyTorch."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.2.0"

_LAZY = {
    "BalancedKMeans": "selavi_ref.estimators",
    "FeatureStore": "selavi_ref.store",
    "Run": "selavi_ref.api",
    "SelfLabeller": "selavi_ref.estimators",
    "assign": "selavi_ref.transport",
    "label_videos": "selavi_ref.api",
    "sinkhorn": "selavi_ref.transport",
    "train_heads": "selavi_ref.api",
}
__all__ = [
    "BalancedKMeans",
    "FeatureStore",
    "Run",
    "SelfLabeller",
    "__version__",
    "assign",
    "label_videos",
    "sinkhorn",
    "train_heads",
]


def __getattr__(name: str) -> Any:
    """Import a name when it is first used, so that ``import selavi_ref`` stays cheap (PEP 562)."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
