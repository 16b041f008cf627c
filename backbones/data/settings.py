"""Settings of a clip, and of the random changes of clips in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from selavi_ref.errors import InputError

_MOST_SCALE = 16.0


@dataclass(frozen=True)
class ClipSettings:
    """
    Length and format of one clip.

    Parameters
    ----------
    frames, fps : int, float
        Number of frames T and frames per second.
    decode_size, size : int
        Pixels of the short side of videos that are kept decoded, and of the square that enters the network.
    audio_seconds : float
        Length of the sound, which begins with the first frame.
    sample_rate, n_filters : int
        Samples per second, and mel bands F; windows of 20 ms every 10 ms.
    mel_mean, mel_std, mel_floor : float
        The log energies x enter as ``(max(x, mel_floor) - mel_mean) / mel_std``.
    """

    frames: int = 4
    fps: float = 4.0
    decode_size: int = 48
    size: int = 40
    audio_seconds: float = 1.0
    sample_rate: int = 16_000
    n_filters: int = 64
    mel_mean: float = 0.0
    mel_std: float = 1.0
    mel_floor: float = -40.0

    @property
    def video_seconds(self) -> float:
        """From the first frame shown to the end of the last."""
        return self.frames / self.fps

    @property
    def length(self) -> float:
        """Seconds of a video that a clip needs."""
        return max(self.audio_seconds, self.video_seconds)


@dataclass(frozen=True)
class AugmentSettings:
    """
    Random changes of a training clip; one draw holds for all frames of the clip. Zero switches a change off.

    Parameters
    ----------
    rotation : float
        Up to this angle either way, radians.
    zoom : float
        The side of the window seen is the short side times ``exp(u)``, u between minus and plus this.
    scale : tuple of float
        The short side is scaled to between these times the side of the square that is then cut out anywhere; 1 or more.
    shift : float
        Up to this share of half the side.
    flip : float
        Probability of a mirror image.
    colour : float
        Mixing of the colour channels: a random 3 x 3 matrix of this spread is added to the identity.
    brightness : float
        Gain ``exp(u)`` with u up to this, and offset up to half of this.
    jitter : float
        Brightness, contrast and saturation, in random order, each times 1 minus to plus this.
    jitter_chance : float
        Probability of such a jitter.
    grey : float
        Probability of a grey picture.
    blur : float
        Probability of a Gaussian blur, of a standard deviation of 0.1 to 2 pixels.
    volume : float
        The sound is multiplied by ``exp(u)``, u between minus and plus this.
    time_shift : float
        The sound begins up to so many seconds before or after the picture.
    band_shift : int
        Up to this many mel bands up or down.
    band_mask, time_mask : int
        One mask of up to this many mel bands, and of up to this many time steps.
    """

    rotation: float = 0.25
    zoom: float = 0.2
    scale: tuple[float, float] = (1.0, 1.0)
    shift: float = 0.3
    flip: float = 0.0
    colour: float = 0.5
    brightness: float = 0.4
    jitter: float = 0.0
    jitter_chance: float = 0.8
    grey: float = 0.5
    blur: float = 0.0
    volume: float = 0.65
    time_shift: float = 0.0
    band_shift: int = 4
    band_mask: int = 10
    time_mask: int = 20

    def __post_init__(self) -> None:
        low, high = self.scale
        if not 1 <= low <= high <= _MOST_SCALE:
            raise InputError(
                f"augmentation scale={low:g},{high:g}: two numbers from 1 up to {_MOST_SCALE:g}, the smaller first"
            )
        for name in ("flip", "jitter_chance", "grey", "blur"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"augmentation {name}={getattr(self, name):g}: a probability lies between 0 and 1")
        for item in fields(self):
            if item.name != "scale" and not 0 <= getattr(self, item.name) < float("inf"):
                raise InputError(f"augmentation {item.name}={getattr(self, item.name)}: must be 0 (off) or more")
        if self.jitter > 1:
            raise InputError(f"augmentation jitter={self.jitter:g}: must be at most 1")

    @property
    def warps(self) -> bool:
        """Whether pictures are turned, zoomed or shifted, and so need to be looked at between their pixels."""
        return bool(self.rotation or self.zoom or self.shift)

    def changed(self, assignments: Sequence[str]) -> AugmentSettings:
        """
        Return these settings with some changed, each written ``name=value`` (``scale=1.1,1.4``).

        Raises
        ------
        InputError
            If a name is unknown, or a value does not fit.
        """
        values: dict[str, Any] = {}
        known = {item.name: item for item in fields(self)}
        for text in assignments:
            name, equals, value = text.partition("=")
            name = name.strip().replace("-", "_")
            if name not in known or not equals:
                raise InputError(f"--augment {text}: write name=value; names are {', '.join(known)}")
            values[name] = _value_of(text, value, known[name].default)
        return replace(self, **values)


def _value_of(text: str, value: str, like: Any) -> Any:
    """Return the value of an assignment, of the kind of the usual one: a number, a whole number, or two numbers."""
    kinds = {tuple: "two numbers, such as 1.1,1.4", int: "a whole number", float: "a number"}
    try:
        if isinstance(like, tuple):
            low, high = value.split(",")
            return float(low), float(high)
        return type(like)(value)
    except ValueError:
        raise InputError(f"--augment {text}: {text.partition('=')[0]} takes {kinds[type(like)]}") from None


NO_AUGMENTATION = AugmentSettings(
    rotation=0.0,
    zoom=0.0,
    shift=0.0,
    colour=0.0,
    brightness=0.0,
    grey=0.0,
    volume=0.0,
    band_shift=0,
    band_mask=0,
    time_mask=0,
)


# Published pre-training: short side 128..160, a 112 crop anywhere, flip, volume x 0.9..1.1; colours are not changed.
PUBLISHED_AUGMENTATION = replace(NO_AUGMENTATION, scale=(128 / 112, 160 / 112), flip=0.5, volume=0.1)
