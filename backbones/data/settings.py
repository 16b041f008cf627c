"""Settings of a clip, and of the random changes of clips in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from selavi_ref.errors import InputError
from selavi_ref.runs.setting_fields import check_settings, setting

_MOST_SCALE = 16.0


@dataclass(frozen=True)
class ClipSettings:
    """Length and format of one clip; the help of each field describes it."""

    frames: int = setting(4, help="Frames of a clip", minimum=1, option="frames", published=30)
    fps: float = setting(4.0, help="Frames per second", above=0, published=30.0)
    decode_size: int = setting(
        48, help="Short side of videos that are kept decoded", unit="pixels", minimum=1, published=160
    )
    size: int = setting(40, help="Side of the square that enters the network", unit="pixels", minimum=1, published=112)
    audio_seconds: float = setting(
        1.0,
        help="Length of a clip's sound, which begins with the first frame",
        unit="seconds",
        minimum=0.02,
        option="sound-seconds",
    )
    sample_rate: int = setting(
        16_000,
        help="Sound samples per second, a multiple of 100",
        minimum=4000,
        option="sound-rate",
        published=24_000,
    )
    n_filters: int = setting(
        64, help="Mel bands of the sound, in windows of 20 ms every 10 ms", minimum=1, option="mel-bands", published=257
    )
    mel_mean: float = setting(0.0, help="Mean that is subtracted from log energies")
    mel_std: float = setting(1.0, help="Standard deviation that log energies are divided by", above=0)
    mel_floor: float = setting(-40.0, help="Least log energy; smaller ones are raised to it")
    antialias: bool = setting(True, help="Smooth frames when they are scaled down", option="antialias", published=False)

    def __post_init__(self) -> None:
        check_settings(self, "backbone.clip.")

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
    Random changes of a training clip; one draw holds for all frames of the clip.

    Zero switches a change off; u is a random number between minus and plus the value.
    """

    rotation: float = setting(0.25, help="Largest angle either way", unit="radians", minimum=0)
    zoom: float = setting(0.2, help="The visible window is the short side times exp(u)", minimum=0)
    scale: tuple[float, float] = setting(
        (1.0, 1.0),
        help="The short side is scaled to between these multiples of the side of the square, which is then cut out "
        "anywhere",
    )
    shift: float = setting(0.3, help="Largest shift, as a proportion of half the side", minimum=0)
    flip: float = setting(0.5, help="Probability of a mirror image", minimum=0, maximum=1)
    colour: float = setting(
        0.5, help="Spread of a random 3 x 3 matrix that is added to the identity to mix colour channels", minimum=0
    )
    brightness: float = setting(0.4, help="Gain exp(u), and offset of up to half of this", minimum=0)
    jitter: float = setting(
        0.0,
        help="Brightness, contrast and saturation, in random order, are each multiplied by 1 + u",
        minimum=0,
        maximum=1,
    )
    jitter_chance: float = setting(0.8, help="Probability of such a jitter", minimum=0, maximum=1)
    grey: float = setting(0.5, help="Probability of a grey picture", minimum=0, maximum=1)
    blur: float = setting(
        0.0,
        help="Probability of a Gaussian blur with a standard deviation of 0.1 to 2 pixels",
        minimum=0,
        maximum=1,
    )
    background: float = setting(
        0.5,
        help="Probability of a background: the sound of another clip of the batch, 4 to 26 dB quieter",
        minimum=0,
        maximum=1,
    )
    volume: float = setting(0.65, help="The sound is multiplied by exp(u)", minimum=0)
    time_shift: float = setting(
        0.0, help="Largest shift of the sound before or after the picture", unit="seconds", minimum=0
    )
    band_shift: int = setting(4, help="Largest shift up or down", unit="mel bands", minimum=0)
    band_mask: int = setting(10, help="Largest mask of mel bands", minimum=0)
    time_mask: int = setting(20, help="Largest mask of time steps", minimum=0)

    def __post_init__(self) -> None:
        low, high = self.scale
        if not 1 <= low <= high <= _MOST_SCALE:
            raise InputError(
                f"augment.scale={low:g},{high:g}: two numbers from 1 up to {_MOST_SCALE:g}, the smaller first",
                option="augment.scale",
                value=self.scale,
            )
        check_settings(self, "augment.")

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
                raise InputError(f"--augment {text}: write name=value; names are {', '.join(known)}", option="augment")
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
        raise InputError(
            f"--augment {text}: {text.partition('=')[0]} takes {kinds[type(like)]}", option="augment"
        ) from None


NO_AUGMENTATION = AugmentSettings(
    rotation=0.0,
    zoom=0.0,
    shift=0.0,
    flip=0.0,
    colour=0.0,
    brightness=0.0,
    grey=0.0,
    background=0.0,
    volume=0.0,
    band_shift=0,
    band_mask=0,
    time_mask=0,
)


# Published pre-training: short side 128..160, a 112 crop anywhere, flip, volume x 0.9..1.1; colours are not changed.
PUBLISHED_AUGMENTATION = replace(NO_AUGMENTATION, scale=(128 / 112, 160 / 112), flip=0.5, volume=0.1)
