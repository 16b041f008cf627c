"""Encoders: pretrained models that turn frames or sound into features, looked up by name, and stores made with them."""

from backbones.encoders.encoder import ClipInput, Encoder, TextEncoder
from backbones.encoders.extraction import extract_features
from backbones.encoders.registry import load_encoders

__all__ = [
    "ClipInput",
    "Encoder",
    "TextEncoder",
    "extract_features",
    "load_encoders",
]
