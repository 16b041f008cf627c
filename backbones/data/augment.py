"""Augmentation: turns a batch of decoded clips into network inputs, with or without random changes, on any device."""

from __future__ import annotations

import math
from functools import cache
from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.data.settings import AugmentSettings, ClipSettings

# Purpose of each uniform random number of a clip; some of them choose where the clip is cut out of its video.
DRAWS = (
    *("rotation", "zoom", "scale", "shift_x", "shift_y", "flip", "gain", "offset", "grey"),
    *(f"colour_{row}{column}" for row in range(3) for column in range(3)),
    *("volume", "band_shift", "band_mask", "band_mask_at", "time_mask", "time_mask_at"),
    *("start", "across", "down", "time_shift"),
    *("jitter", "jitter_order", "jitter_brightness", "jitter_contrast", "jitter_saturation", "blur", "blur_width"),
    *("background", "background_of", "background_level"),
)
_COLUMN = {name: index for index, name in enumerate(DRAWS)}
_LUMA = (0.299, 0.587, 0.114)
_PIXEL_MEAN, _PIXEL_STD = 0.45, 0.225
_BLUR = (0.1, 2.0)  # standard deviations, pixels
_BACKGROUND = (1.0, 6.0)  # how much less energy a background has than the sound in front of it, nats
_EMPTY_BAND = -35.5  # only the log energy of a mel filter without any FFT bin is lower; the volume does not change it
_ADJUSTMENTS = ("brightness", "contrast", "saturation")
_ORDERS = tuple(permutations(_ADJUSTMENTS))


class Draw:
    """
    Uniform random numbers of a batch, addressed by name.

    Parameters
    ----------
    numbers : Tensor
        float32 in [0, 1), shape (B, ``len(DRAWS)``).
    """

    def __init__(self, numbers: Tensor):
        self._numbers = numbers

    def between(self, name: str, low: float, high: float) -> Tensor:
        """Return B numbers between `low` and `high`."""
        return low + (high - low) * self._numbers[:, _COLUMN[name]]

    def around(self, name: str, spread: float) -> Tensor:
        """Return B numbers between minus and plus `spread`."""
        return self.between(name, -spread, spread)

    def chance(self, name: str, probability: float) -> Tensor:
        """Return B booleans, each true with the probability."""
        return self._numbers[:, _COLUMN[name]] < probability

    def whole(self, name: str, low: int, high: int) -> Tensor:
        """Return B whole numbers from `low` to `high`, both included."""
        return self.between(name, low, high + 1).floor().long()

    def colour(self, spread: float) -> Tensor:
        """Return B matrices (3, 3) around zero whose entries have the standard deviation `spread`."""
        first = _COLUMN["colour_00"]
        return (self._numbers[:, first : first + 9].reshape(-1, 3, 3) - 0.5) * (math.sqrt(12) * spread)


def video_input(frames: Tensor, clip: ClipSettings, change: AugmentSettings | None, draw: Draw | None) -> Tensor:
    """
    Return the video network's input for decoded frames.

    Parameters
    ----------
    frames : Tensor
        uint8, shape (B, T, R, R, 3).
    clip : ClipSettings
        Its `size` is the side S of the result.
    change, draw
        Augmentation and random numbers of the batch, the same for all frames of a clip; None: frames are only scaled.

    Returns
    -------
    Tensor
        float32, shape (B, 3, T, S, S).
    """
    n_clips, n_frames, side = frames.shape[:3]
    planes = torch.empty((n_clips, n_frames, 3, side, side), device=frames.device)
    x = planes.copy_(frames.permute(0, 1, 4, 2, 3)).div_(255).view(n_clips, n_frames * 3, side, side)
    if change is not None and draw is not None:
        x = _warp(x, clip.size, change, draw) if change.warps else _flip(_resize(x, clip), change, draw)
        x = _jitter(x.view(n_clips, n_frames, 3, clip.size, clip.size), change, draw)
        x = _recolour(x.view(n_clips, n_frames, 3, -1), change, draw)
        x = _blur(x.view(n_clips, n_frames, 3, clip.size, clip.size), change, draw)
    else:
        x = _resize(x, clip)
    x = x.view(n_clips, n_frames, 3, clip.size, clip.size).transpose(1, 2)
    return x.sub_(_PIXEL_MEAN).div_(_PIXEL_STD)


def audio_input(mel: Tensor, clip: ClipSettings, change: AugmentSettings | None, draw: Draw | None) -> Tensor:
    """
    Return the audio network's input (B, 1, F, T) for log mel energies (B, F, T), both float32.

    Parameters are those of `video_input`. Masked entries are set to the collection's mean.
    """
    x = mel.clamp(min=clip.mel_floor)
    if change is not None and draw is not None:
        x = _add_background(x, change, draw)
        if change.volume:
            x = x + draw.around("volume", 2 * change.volume)[:, None, None] * (x > _EMPTY_BAND)
        x = _shift_bands(x, draw.whole("band_shift", -change.band_shift, change.band_shift)) if change.band_shift else x
    x = (x - clip.mel_mean) / clip.mel_std
    if change is not None and draw is not None:
        if change.band_mask:
            x = x.masked_fill(_mask(draw, "band_mask", change.band_mask, x.shape[1], x.device)[:, :, None], 0.0)
        if change.time_mask:
            x = x.masked_fill(_mask(draw, "time_mask", change.time_mask, x.shape[2], x.device)[:, None, :], 0.0)
    return x[:, None]


def _resize(x: Tensor, clip: ClipSettings) -> Tensor:
    side, size = x.shape[-1], clip.size
    if side == size:
        return x
    return F.interpolate(x, size=(size, size), mode="bilinear", antialias=side > size and clip.antialias)


def _flip(x: Tensor, change: AugmentSettings, draw: Draw) -> Tensor:
    """Mirror a random part of the clips (B, C, S, S)."""
    if not change.flip:
        return x
    return torch.where(draw.chance("flip", change.flip)[:, None, None, None], x.flip(-1), x)


def _warp(x: Tensor, size: int, change: AugmentSettings, draw: Draw) -> Tensor:
    """Rotate, zoom, shift and mirror by one affine map per clip (B, C, S, S), whose frames are channels here."""
    zoom = draw.around("zoom", change.zoom).exp()
    angle = draw.around("rotation", change.rotation)
    mirror = 1 - 2 * draw.chance("flip", change.flip).float()
    cosine, sine = zoom * angle.cos(), zoom * angle.sin()
    rows = (
        torch.stack([mirror * cosine, -sine, draw.around("shift_x", 1.0) * change.shift], 1),
        torch.stack([mirror * sine, cosine, draw.around("shift_y", 1.0) * change.shift], 1),
    )
    grid = F.affine_grid(torch.stack(rows, 1), [len(x), 1, size, size], align_corners=False)
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def _jitter(x: Tensor, change: AugmentSettings, draw: Draw) -> Tensor:
    """Change brightness, contrast and saturation of a random part of the clips (B, T, 3, S, S), in random order."""
    if not change.jitter:
        return x
    from torchvision.transforms.v2 import functional as adjust

    jittered = draw.chance("jitter", change.jitter_chance).tolist()
    orders = draw.whole("jitter_order", 0, len(_ORDERS) - 1).tolist()
    factors = {name: (1 + draw.around(f"jitter_{name}", change.jitter)).tolist() for name in _ADJUSTMENTS}
    clips = []
    for index, clip in enumerate(x):
        if jittered[index]:
            for name in _ORDERS[orders[index]]:
                clip = getattr(adjust, f"adjust_{name}")(clip, factors[name][index])
        clips.append(clip)
    return torch.stack(clips)


def _blur(x: Tensor, change: AugmentSettings, draw: Draw) -> Tensor:
    """Blur a random part of the clips (B, T, 3, S, S)."""
    if not change.blur:
        return x
    from torchvision.transforms.v2 import functional as adjust

    blurred = draw.chance("blur", change.blur).tolist()
    widths = draw.between("blur_width", *_BLUR).tolist()
    kernel = x.shape[-1] // 20 * 2 + 1  # a tenth of the side, odd
    clips = [
        adjust.gaussian_blur(clip, [kernel, kernel], [width, width]) if chosen else clip
        for clip, chosen, width in zip(x, blurred, widths, strict=True)
    ]
    return torch.stack(clips)


def _recolour(x: Tensor, change: AugmentSettings, draw: Draw) -> Tensor:
    """Mix the colour channels (B, T, 3, pixels), make some clips grey, and change gain and offset."""
    if not (change.colour or change.grey or change.brightness):
        return x
    mix = torch.eye(3, device=x.device) + draw.colour(change.colour)
    mix = torch.where(draw.chance("grey", change.grey)[:, None, None], _luma(x.device), mix)
    mix = mix * draw.around("gain", change.brightness).exp()[:, None, None]
    offset = draw.around("offset", change.brightness / 2)
    return torch.matmul(mix[:, None], x) + offset[:, None, None, None]


@cache
def _luma(device: torch.device) -> Tensor:
    """Return the matrix (3, 3) that makes colours grey; a CUDA graph cannot copy it from the CPU."""
    return torch.tensor(_LUMA, device=device).expand(3, 3)


def _add_background(x: Tensor, change: AugmentSettings, draw: Draw) -> Tensor:
    """Add to a random part of the log mel energies (B, F, T) those of another clip of the batch, quieter."""
    if not change.background or len(x) < 2:
        return x
    source = (torch.arange(len(x), device=x.device) + draw.whole("background_of", 1, len(x) - 1)) % len(x)
    energy = x.flatten(1).logsumexp(1)
    gain = (energy - energy[source] - draw.between("background_level", *_BACKGROUND)).clamp(
        max=0
    )  # silence stays silent
    chosen = draw.chance("background", change.background)[:, None, None] & (x > _EMPTY_BAND)
    other = x[source] + gain[:, None, None]
    # PyTorch's logaddexp takes five times as long.
    both = (other - x).abs_().neg_().exp_().add_(1).log_().add_(torch.maximum(x, other))
    return torch.where(chosen, both, x)


def _shift_bands(x: Tensor, bands: Tensor) -> Tensor:
    """Shift mel energies (B, F, T) up or down by whole bands; the outermost band fills the gap."""
    n_bands = x.shape[1]
    source = (torch.arange(n_bands, device=x.device) + bands[:, None]).clamp(0, n_bands - 1)
    return x.gather(1, source[:, :, None].expand_as(x))


def _mask(draw: Draw, name: str, longest: int, length: int, device: torch.device) -> Tensor:
    """Return B masks, bool, shape (B, length), each true over one random stretch of up to `longest` entries."""
    width = draw.whole(name, 0, min(longest, length))
    begin = (draw.between(f"{name}_at", 0.0, 1.0) * (length - width)).long()
    index = torch.arange(length, device=device)
    return (index >= begin[:, None]) & (index < (begin + width)[:, None])
