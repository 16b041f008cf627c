"""An encoder made of a PyTorch module and the preprocessing that belongs to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backbones.encoders.encoder import ClipInput
from backbones.runs.run_settings import choose_device

_TEXT_BATCH = 64
_SHORTEST = 0.1  # seconds of a sound that networks have at least; a shorter one is padded with zeros


class TorchEncoder:
    """
    Features of a PyTorch module: what enters its last linear layer, or its output, if it has no classifier.

    Parameters
    ----------
    network : module
        Maps preprocessed clips to logits (B, C), with `classifier`, or to features (B, ...).
    clip : ClipInput
        The clips it takes.
    preprocess : callable
        Turns a batch (see `Encoder.encode`) into the network's input: a tensor, or tensors by name of the argument.
    classifier : Linear, optional
        The layer of `network` that makes logits of features.
    class_names : sequence of str
        Of the classifier's outputs.
    device : str
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    """

    def __init__(
        self,
        network: nn.Module,
        clip: ClipInput,
        preprocess: Callable[[Sequence[NDArray[Any]]], Any],
        *,
        classifier: nn.Linear | None = None,
        class_names: Sequence[str] = (),
        device: str = "auto",
    ):
        self.name = ""
        self.input = clip
        self.class_names = list(class_names)
        self._device = torch.device(choose_device(device))
        self._network = network.eval().to(self._device)
        self._preprocess = preprocess
        self._shortest = round(_SHORTEST * clip.sample_rate)
        self._classifier = classifier
        blank = np.zeros(int(clip.seconds * clip.sample_rate), np.float32)
        if not clip.is_audio:
            blank = np.zeros((clip.frames, clip.size, clip.size, 3), np.uint8)
        self.n_features = classifier.in_features if classifier is not None else self.encode([blank]).shape[1]

    def encode(self, batch: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Return the features of a batch; see `Encoder`."""
        if not self.input.is_audio:
            return self._encode_equal(batch)
        # Sounds of other lengths go one after the other: padded to the longest, their features would depend on it.
        sounds = [np.pad(samples, (0, max(0, self._shortest - len(samples)))) for samples in batch]
        lengths = np.array([len(samples) for samples in sounds])
        out: NDArray[np.float32] | None = None
        for length in np.unique(lengths):
            rows = np.flatnonzero(lengths == length)
            features = self._encode_equal([sounds[row] for row in rows])
            out = np.empty((len(sounds), features.shape[1]), np.float32) if out is None else out
            out[rows] = features
        assert out is not None
        return out

    def _encode_equal(self, batch: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Return the features of clips of one shape."""
        inputs = self._preprocess(batch)
        with torch.inference_mode():
            if isinstance(inputs, Tensor):
                features = self._features(inputs.to(self._device))
            else:
                features = self._features(**{name: value.to(self._device) for name, value in inputs.items()})
        return features.float().cpu().numpy()

    def classify(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits of a batch; see `Encoder`."""
        assert self._classifier is not None
        with torch.inference_mode():
            logits: Tensor = self._classifier(torch.from_numpy(features).to(self._device))
        return logits.float().cpu().numpy()

    def _features(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        if self._classifier is None:
            output: Tensor = self._network(*inputs, **named)
            return output.flatten(1)
        entered: list[Tensor] = []
        hook = self._classifier.register_forward_pre_hook(lambda module, arguments: entered.append(arguments[0]))
        try:
            self._network(*inputs, **named)
        finally:
            hook.remove()
        features = entered[-1]
        return features if features.ndim == 2 else features.flatten(1, -2).mean(1)


class TorchTextEncoder(TorchEncoder):
    """
    An encoder of PyTorch whose features share their space with those of texts.

    Parameters
    ----------
    network, clip, preprocess, device
        See `TorchEncoder`.
    texts : callable
        Returns features of a batch of texts on a device, shape (B, D).
    text_scale : float
        See `backbones.encoders.encoder.TextEncoder`.
    """

    def __init__(
        self,
        network: nn.Module,
        clip: ClipInput,
        preprocess: Callable[[Sequence[NDArray[Any]]], Any],
        *,
        texts: Callable[[Sequence[str], torch.device], Tensor],
        text_scale: float,
        device: str = "auto",
    ):
        super().__init__(network, clip, preprocess, device=device)
        self.text_scale = text_scale
        self._texts = texts

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return features of texts, float32, shape (len(texts), D)."""
        with torch.inference_mode():
            parts = [
                self._texts(texts[start : start + _TEXT_BATCH], self._device).float().cpu()
                for start in range(0, len(texts), _TEXT_BATCH)
            ]
        return torch.cat(parts).numpy() if parts else np.zeros((0, self.n_features), np.float32)


def last_linear(network: nn.Module) -> nn.Linear | None:
    """Return the linear layer that a network ends with, or None if it has none."""
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    return linear[-1] if linear else None


def pictures(batch: Sequence[NDArray[np.uint8]]) -> list[Any]:
    """Return the single frame of each clip as a picture of Pillow's, which libraries' own preprocessing takes."""
    from PIL import Image

    return [Image.fromarray(frames[0]) for frames in batch]


def planes(batch: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Return clips as a tensor of planes, uint8, shape (B, T, 3, S, S)."""
    return torch.from_numpy(np.stack(batch)).permute(0, 1, 4, 2, 3)
