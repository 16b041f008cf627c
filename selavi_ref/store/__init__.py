"""The feature store: an HDF5 file with the features and log-probabilities of all videos.

`StoreWriter` makes one, `FeatureStore` reads it, `WorkingStore` is rewritten in place during training, and `join` joins
the shards of several processes to one store. The layout on disk is described in ``docs/store.md``.
"""

from selavi_ref.store.joining import join
from selavi_ref.store.layout import FORMAT, VERSION, partial_path, shard_path
from selavi_ref.store.reader import FeatureStore
from selavi_ref.store.working_store import WorkingStore
from selavi_ref.store.writer import StoreWriter

__all__ = ["FORMAT", "VERSION", "FeatureStore", "StoreWriter", "WorkingStore", "join", "partial_path", "shard_path"]
