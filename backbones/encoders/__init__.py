"""Encoders: pretrained models that turn frames or sound into features, looked up by name, and stores made with them."""

from backbones.encoders.encoder import ClipInput, Encoder
from backbones.encoders.extraction import extract_features
from backbones.encoders.registry import load_encoders

__all__ = ["ClipInput", "Encoder", "extract_features", "load_encoders"]
