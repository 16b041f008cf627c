"""Lists of videos: from folders, list files, published data sets, and a synthetic data set."""

from __future__ import annotations

from selavi_ref.datasets.manifest import Manifest, ManifestEntry, find_videos, read_manifest, write_manifest
from selavi_ref.datasets.scan import scan
from selavi_ref.datasets.synthetic import KINDS, make_collection

__all__ = [
    "KINDS",
    "Manifest",
    "ManifestEntry",
    "find_videos",
    "make_collection",
    "read_manifest",
    "scan",
    "write_manifest",
]
