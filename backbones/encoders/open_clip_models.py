"""Encoders of OpenCLIP: the picture halves of models that were trained on pictures and their captions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import open_clip
import torch
from torch import Tensor, nn

from backbones.encoders.encoder import ClipInput
from backbones.encoders.hub import prepare_hub
from backbones.encoders.torch_encoder import TorchTextEncoder, pictures
from selavi_ref.errors import InputError


def load(model: str, weights: str, device: str) -> TorchTextEncoder:
    """
    Load a model by OpenCLIP's name, such as ``ViT-B-32`` or ``hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K``.

    Parameters
    ----------
    model : str
        Name of the model.
    weights : str
        File of weights, or a name of published ones, such as ``laion2b_s34b_b79k``; "" for the first of these.
    device : str
        Where to compute.
    """
    published = open_clip.list_pretrained_tags_by_model(model)
    if not weights and not published and ":" not in model:
        raise InputError(f"OpenCLIP has no weights of a model {model!r}; name their file: ...@PATH")
    prepare_hub()
    whole, _, transform = open_clip.create_model_and_transforms(
        model, pretrained=weights or (published[0] if published else None)
    )
    side = whole.visual.image_size
    size = int(side[0] if isinstance(side, (tuple, list)) else side)

    def preprocess(batch: Sequence[Any]) -> Tensor:
        return torch.stack([transform(picture) for picture in pictures(batch)])

    def texts(batch: Sequence[str], where: torch.device) -> Tensor:
        features: Tensor = whole.encode_text(open_clip.get_tokenizer(model)(list(batch)).to(where))
        return features

    return TorchTextEncoder(
        _Pictures(whole),
        ClipInput(frames=1, size=size),
        preprocess,
        texts=texts,
        text_scale=float(whole.logit_scale.detach().exp()),
        device=device,
    )


class _Pictures(nn.Module):
    """The picture half of a model, with its projection to the space that captions share."""

    def __init__(self, whole: Any):
        super().__init__()
        self.whole = whole

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.whole.encode_image(x)
        return features
