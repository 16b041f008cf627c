"""Encoders of Hugging Face's transformers: models of pictures, clips and sounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn

from backbones.encoders.encoder import ClipInput
from backbones.encoders.hub import prepare_hub
from backbones.encoders.torch_encoder import TorchEncoder, TorchTextEncoder, last_linear
from selavi_ref.errors import InputError

_CLIP_SECONDS = 2.0  # over which the frames of a clip are spread
_SOUND_SECONDS = 10.0  # for models that take any length
_CLASSIFIERS = (
    "ForImageClassification",
    "ForVideoClassification",
    "ForAudioClassification",
    "ForSequenceClassification",
)


def load(model: str, weights: str, device: str) -> TorchEncoder:
    """
    Load a model by its name on the hub, such as ``openai/clip-vit-base-patch32``, or from a folder.

    Features are what enters the classifier; or the features that the model shares with captions (CLIP, SigLIP, CLAP);
    or its pooled output; or else the mean of its last hidden states.

    Parameters
    ----------
    model : str
        Name on the hub, or a folder.
    weights : str
        Folder that ``save_pretrained`` wrote, of the model and its preprocessing; "" for `model`.
    device : str
        Where to compute.
    """
    source = weights or model
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    prepare_hub()
    config = transformers.AutoConfig.from_pretrained(source)
    architecture = next(iter(config.architectures or []), "")
    classifies = architecture.endswith(_CLASSIFIERS)
    if getattr(config, "mask_ratio", 0):
        config.mask_ratio = 0.0  # masked autoencoders hide patches in training only
    kind = getattr(transformers, architecture) if classifies else transformers.AutoModel
    network, report = kind.from_pretrained(source, config=config, output_loading_info=True)
    missing = [name for name in report["missing_keys"] if "pooler" not in name]
    if missing:
        raise InputError(f"the weights lack {len(missing)} tensors of {architecture or 'the model'}: {missing[0]} ...")
    if getattr(config, "is_encoder_decoder", False):
        network = network.get_encoder()
    classifier = last_linear(network) if classifies else None
    names = [str(config.id2label[index]) for index in range(config.num_labels)] if classifies else []
    if classifier is not None and classifier.out_features != len(names):
        names = []
    processor, clip = _preprocessing(source, config)
    whole = network if classifies else _Pooled(network, clip.is_audio, not report["missing_keys"])
    if hasattr(network, "get_text_features"):
        texts = _texts(network, source)
        return TorchTextEncoder(whole, clip, processor, texts=texts, text_scale=_text_scale(network), device=device)
    return TorchEncoder(whole, clip, processor, classifier=classifier, class_names=names, device=device)


class _Pooled(nn.Module):
    """A model of which a forward pass returns one vector for each clip."""

    def __init__(self, network: Any, is_audio: bool, has_pooler: bool):
        super().__init__()
        self.network = network
        self.has_pooler = has_pooler
        self.method = "get_audio_features" if is_audio else "get_image_features"

    def forward(self, **inputs: Tensor) -> Tensor:
        output = getattr(self.network, self.method, self.network)(**inputs)
        if isinstance(output, Tensor):
            return output
        pooled = getattr(output, "pooler_output", None)
        if pooled is not None and self.has_pooler:
            return pooled.flatten(1)
        hidden: Tensor = output.last_hidden_state
        return hidden.flatten(2).mean(2) if hidden.ndim == 4 else hidden.mean(1)


def _texts(network: Any, source: str) -> Callable[[Sequence[str], torch.device], Tensor]:
    """Return the function that computes features of texts; the tokenizer is loaded when it is called first."""
    load_tokenizer = cache(lambda: transformers.AutoTokenizer.from_pretrained(source))
    positions = getattr(getattr(network.config, "text_config", None), "max_position_embeddings", 64)

    def texts(batch: Sequence[str], where: torch.device) -> Tensor:
        tokenizer = load_tokenizer()
        # SigLIP was trained on texts that are padded to the longest length.
        padding = "max_length" if network.config.model_type.startswith("siglip") else True
        longest = min(positions, tokenizer.model_max_length)
        tokens = tokenizer(list(batch), padding=padding, truncation=True, max_length=longest, return_tensors="pt")
        features = network.get_text_features(**tokens.to(where))
        return features if isinstance(features, Tensor) else features.pooler_output

    return texts


def _text_scale(network: Any) -> float:
    """Return the factor of similarities; of CLAP, that of sounds."""
    for name in ("logit_scale", "logit_scale_a"):
        if (scale := getattr(network, name, None)) is not None:
            return float(scale.detach().exp())
    return 1.0


def _preprocessing(source: str, config: Any) -> tuple[Any, ClipInput]:
    """Return the model's own preprocessing of a batch, and the clips that it takes."""
    kinds = transformers.models.auto
    model_type = config.model_type
    if model_type in kinds.feature_extraction_auto.FEATURE_EXTRACTOR_MAPPING_NAMES:
        extractor = transformers.AutoFeatureExtractor.from_pretrained(source)
        return _sounds(extractor), _sound_input(extractor)
    n_frames = getattr(config, "num_frames", None) or getattr(config, "frames_per_clip", None)
    if n_frames is None:
        processor = transformers.AutoImageProcessor.from_pretrained(source)

        def frame(batch: Sequence[NDArray[np.uint8]]) -> Any:
            return {"pixel_values": processor(images=[frames[0] for frames in batch], return_tensors="pt").pixel_values}

        return frame, ClipInput(frames=1, size=_side(processor))
    try:
        video_processor = transformers.AutoVideoProcessor.from_pretrained(source)
    except (OSError, ValueError):
        video_processor = None
        processor = transformers.AutoImageProcessor.from_pretrained(source)
    size = _side(video_processor or processor)

    def clips(batch: Sequence[NDArray[np.uint8]]) -> Any:
        if video_processor is None:
            return {"pixel_values": processor([list(frames) for frames in batch], return_tensors="pt").pixel_values}
        return dict(video_processor(videos=list(batch), return_tensors="pt"))

    return clips, ClipInput(frames=n_frames, fps=n_frames / _CLIP_SECONDS, size=size)


def _side(processor: Any) -> int:
    """Return the pixels of the short side that a processor scales pictures to, before it crops them."""
    size = processor.size
    return int(size.get("shortest_edge") or size.get("height") or processor.crop_size["height"])


def _sound_input(extractor: Any) -> ClipInput:
    """Return the sounds that an extractor takes: of the length that its model was made for."""
    if getattr(extractor, "max_length_s", None):  # CLAP
        seconds = extractor.max_length_s
    elif getattr(extractor, "chunk_length", None):  # Whisper
        seconds = extractor.chunk_length
    elif getattr(extractor, "num_mel_bins", None) and getattr(extractor, "max_length", None):  # AST: steps of 10 ms
        seconds = extractor.max_length / 100
    else:
        seconds = _SOUND_SECONDS
    return ClipInput(sample_rate=extractor.sampling_rate, seconds=float(seconds))


def _sounds(extractor: Any) -> Any:
    def preprocess(batch: Sequence[NDArray[np.float32]]) -> Any:
        return dict(extractor(list(batch), sampling_rate=extractor.sampling_rate, return_tensors="pt"))

    return preprocess
