"""The feature store: the one HDF5 file in which a backbone hands its features and log-probabilities to the core.

`StoreWriter` makes one, `FeatureStore` reads it, `WorkingStore` is rewritten in place during training, and `join` makes
one store of the shards of several processes. The layout on disk is described in ``docs/store.md``.
"""

from selavi_ref.store.layout import FORMAT, VERSION, partial_path, shard_path
from selavi_ref.store.reader import FeatureStore
from selavi_ref.store.shards import join
from selavi_ref.store.working import WorkingStore
from selavi_ref.store.writer import StoreWriter

__all__ = ["FORMAT", "VERSION", "FeatureStore", "StoreWriter", "WorkingStore", "join", "partial_path", "shard_path"]
