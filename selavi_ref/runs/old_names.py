"""Names of settings and options of version 0.1.0 that have other names now, so that its files are still read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RENAMED = {
    "rate": "learning_rate",
    "base_rate": "base_learning_rate",
    "seconds": "audio_seconds",
    "scale_rate": "scale_learning_rate",
    "norm_warmup": "bn_warmup_batches",
    "side_heads": "overclustering_heads",
    "side_clusters": "overclusters",
    "regroup_from": "overclustering_from",
    "penalty": "marginal_penalty",
    "look_batch": "eval_batch_size",
    "sync_norm": "sync_batch_norm",
}


def with_current_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return settings, tables of settings included, with today's names in place of those of version 0.1.0.

    Parameters
    ----------
    settings : mapping
        As read from ``config.toml``, from the provenance of a store, or from the options of a pilot run.
    """
    return {
        RENAMED.get(name, name): with_current_names(value) if isinstance(value, Mapping) else value
        for name, value in settings.items()
    }
