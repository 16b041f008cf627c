"""From a video file to NumPy arrays: probing, lists of videos, exact clips, log mel energies, a demo collection."""

from __future__ import annotations

from selavi_ref.media.clip import Clip, Squares, read_clip, read_video
from selavi_ref.media.container import VideoInfo, probe
from selavi_ref.media.decoder import Decoder
from selavi_ref.media.manifest import Manifest, ManifestEntry, find_videos, read_manifest, write_manifest
from selavi_ref.media.mel import log_mel
from selavi_ref.media.scan import scan
from selavi_ref.media.synthetic import KINDS, make_collection

__all__ = [
    "KINDS",
    "Clip",
    "Decoder",
    "Manifest",
    "ManifestEntry",
    "Squares",
    "VideoInfo",
    "find_videos",
    "log_mel",
    "make_collection",
    "probe",
    "read_clip",
    "read_manifest",
    "read_video",
    "scan",
    "write_manifest",
]
