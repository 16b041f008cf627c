"""Labelling a collection of videos from Python, and what a run has found."""

from selavi_ref.api.feature_labelling import train_heads
from selavi_ref.api.naming import ClassProbabilities, NamedClusters
from selavi_ref.api.predictions import Predictions
from selavi_ref.api.progress import TqdmReporter
from selavi_ref.api.run import Run
from selavi_ref.api.video_labelling import label_videos

__all__ = ["ClassProbabilities", "NamedClusters", "Predictions", "Run", "TqdmReporter", "label_videos", "train_heads"]
