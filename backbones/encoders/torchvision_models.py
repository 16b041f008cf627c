"""Encoders of torchvision: classifiers of pictures and of clips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models

from backbones.encoders.encoder import ClipInput
from backbones.encoders.torch_encoder import TorchEncoder, last_linear, planes
from selavi_ref.errors import InputError

# Frames and frames per second of networks for clips, where they differ from 16 and 15.
_CLIPS = {
    "mvit_v1_b": (16, 7.5),
    "mvit_v2_s": (16, 7.5),
    "s3d": (64, 15.0),
    **dict.fromkeys(("swin3d_t", "swin3d_s", "swin3d_b"), (32, 15.0)),
}


def load(model: str, weights: str, device: str) -> TorchEncoder:
    """
    Load a classifier by torchvision's name, such as ``resnet18`` or ``r3d_18``, with its best published weights.

    Parameters
    ----------
    model : str
        Name of the model.
    weights : str
        File of a state dict; "" for the published weights.
    device : str
        Where to compute.
    """
    try:
        published = models.get_model_weights(model).DEFAULT
    except (ValueError, AttributeError):
        raise InputError(f"torchvision has no model {model!r} with weights") from None
    transforms = published.transforms()
    is_clip = type(transforms).__name__ == "VideoClassification"
    if not (is_clip or type(transforms).__name__ == "ImageClassification"):
        raise InputError(f"{model} of torchvision is no classifier of pictures or clips")
    transforms.resize_size = [min(transforms.resize_size)]  # keeps the aspect ratio, as most of them do
    names: Sequence[str] = published.meta["categories"]
    network = _from_file(model, weights) if weights else models.get_model(model, weights=published)
    classifier = last_linear(network)
    if classifier is None or classifier.out_features != len(names):
        names = ()
    frames, fps = _CLIPS.get(model, (16, 15.0)) if is_clip else (1, 1.0)

    def preprocess(batch: Sequence[Any]) -> Tensor:
        clips = planes(batch)
        result: Tensor = transforms(clips if is_clip else clips[:, 0])
        return result

    clip = ClipInput(frames=frames, fps=fps, size=transforms.resize_size[0])
    return TorchEncoder(network, clip, preprocess, classifier=classifier, class_names=names, device=device)


def _from_file(model: str, path: str) -> nn.Module:
    """Build a model with as many classes as the state dict in a file has."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    network: nn.Module = models.get_model(model, weights=None)
    classifier = last_linear(network)
    name = next((name for name, module in network.named_modules() if module is classifier), "")
    bias = state.get(f"{name}.bias")
    if classifier is not None and bias is not None and len(bias) != classifier.out_features:
        network = models.get_model(model, weights=None, num_classes=len(bias))
    network.load_state_dict(state)
    return network
