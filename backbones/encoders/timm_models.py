"""Encoders of timm (PyTorch Image Models): classifiers and backbones of pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import timm
import torch
from timm.data import ImageNetInfo, create_transform, infer_imagenet_subset, resolve_model_data_config
from torch import Tensor, nn

from backbones.encoders.encoder import ClipInput
from backbones.encoders.hub import prepare_hub
from backbones.encoders.torch_encoder import TorchEncoder, pictures
from selavi_ref.errors import InputError


def load(model: str, weights: str, device: str) -> TorchEncoder:
    """
    Load a model by timm's name, such as ``vit_base_patch16_224`` or ``hf-hub:timm/resnet18.a1_in1k``.

    Parameters
    ----------
    model : str
        Name of the model.
    weights : str
        File of a state dict (.pth, .safetensors), or folder that timm saved for the hub; "" for the published weights.
    device : str
        Where to compute.
    """
    if weights and not os.path.exists(weights):
        raise InputError(f"{weights} does not exist", path=weights)
    if os.path.isdir(weights):
        network: Any = timm.create_model(f"local-dir:{weights}", pretrained=True)
    elif weights:
        network = _from_file(model, weights)
    else:
        prepare_hub()
        network = timm.create_model(model, pretrained=True)
    settings = resolve_model_data_config(network)
    transform = create_transform(**settings, is_training=False)
    size = int(settings["input_size"][-1] / settings["crop_pct"])  # as timm rounds

    def preprocess(batch: Sequence[Any]) -> Tensor:
        return torch.stack([transform(picture) for picture in pictures(batch)])

    classifier = network.get_classifier()
    if not isinstance(classifier, nn.Linear):
        network.reset_classifier(0)
        classifier = None
    names = _class_names(network) if classifier is not None else ()
    if classifier is not None and classifier.out_features != len(names):
        names = ()
    clip = ClipInput(frames=1, size=size)
    return TorchEncoder(network, clip, preprocess, classifier=classifier, class_names=names, device=device)


def _from_file(model: str, path: str) -> Any:
    """Build a model with as many classes as the state dict in a file has."""
    state = timm.models.load_state_dict(path, weights_only=True)
    template: Any = timm.create_model(model, pretrained=False)
    head = template.pretrained_cfg.get("classifier", "")
    bias = state.get(f"{head}.bias")
    network = timm.create_model(model, pretrained=False, num_classes=0 if bias is None else len(bias))
    network.load_state_dict(state)
    return network


def _class_names(network: Any) -> Sequence[str]:
    """Return the names in a model's configuration, or those of the part of ImageNet that it was trained on."""
    names = network.pretrained_cfg.get("label_names")
    if names:
        return [str(name) for name in names]
    subset = infer_imagenet_subset(network)
    if not subset:
        return ()
    info = ImageNetInfo(subset)
    return [info.index_to_description(index) for index in range(info.num_classes())]
