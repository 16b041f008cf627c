"""Registry of video and audio networks by name: published, torchvision's, small ones, and those of other packages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from torch import Tensor, nn

from backbones.networks.small import NanoAudio, NanoVideo, TinyAudio, TinyVideo
from selavi_ref.errors import InputError

GROUP = "selavi.backbones"


@dataclass(frozen=True)
class NetworkSpec:
    """
    A network that can be chosen by name, with the clips for which it is made.

    Parameters
    ----------
    name : str
        Value of ``--video-net`` or ``--audio-net``.
    modality : str
        ``"video"`` (input (B, 3, T, S, S)) or ``"audio"`` (input (B, 1, F, T)).
    build : callable
        Returns a module that maps the input to features (B, D).
    n_features : int
        D.
    hidden : int
        Width of the hidden layer of the heads on these features.
    clip : dict
        Settings of the clip (fields of `backbones.data.settings.ClipSettings`) that the network is made for.
    limits : dict
        Smallest and largest value of a clip setting that the network accepts; None: unbounded.
    classifier : str
        Name of the classification layer in files of pretrained weights, which the network here lacks.
    maps : str
        Name of the submodule whose output is the last feature map, (B, C, T, S, S) or (B, C, F, T), before the average
        pooling; "" for a network without one, such as a transformer.
    small : bool
        Whether a step takes tens of milliseconds on a CPU, and draws no random numbers. Two small networks are computed
        at the same time there.
    """

    name: str
    modality: str
    build: Callable[[], nn.Module]
    n_features: int
    hidden: int
    clip: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, tuple[float, float | None]] = field(default_factory=dict)
    classifier: str = "fc"
    maps: str = ""
    small: bool = False

    def check(self, clip: Any) -> None:
        """
        Raise if the network cannot process such clips.

        Parameters
        ----------
        clip : ClipSettings
            Or anything with its attributes.

        Raises
        ------
        InputError
            If a setting is outside the limits; the message names them.
        """
        given = {name: getattr(clip, name) for name in self.limits}
        wrong = [
            f"{name}={given[name]:g}"
            for name, (low, high) in self.limits.items()
            if given[name] < low or (high is not None and given[name] > high)
        ]
        if wrong:
            takes = " and ".join(_range_text(name, low, high) for name, (low, high) in self.limits.items())
            raise InputError(
                f"{self.modality} network {self.name} takes {takes}, not {', '.join(wrong)}",
                option=f"{self.modality}_net",
                value=self.name,
            )


class Base(nn.Module):
    """Wrapper that holds a network under the published name ``base`` and flattens its output to features (B, D)."""

    def __init__(self, base: nn.Module):
        super().__init__()
        self.base = base

    def forward(self, clips: Tensor) -> Tensor:
        """Return the features (B, D) of a batch of clips."""
        features: Tensor = self.base(clips)
        return features.flatten(1)


def find(modality: str, name: str) -> NetworkSpec:
    """
    Return the network of a name; of other packages, only one that registers this name is imported.

    Raises
    ------
    InputError
        If there is no such network, or its package cannot be imported; the message lists the known names.
    """
    for spec in builtin(modality):
        if spec.name == name:
            return spec
    for point in entry_points(group=GROUP, name=name):
        spec = _load(point)
        if spec.modality == modality:
            return spec
    message = f"there is no {modality} network {name!r}; known are: {', '.join(names(modality))}"
    raise InputError("; ".join([message, *load_errors()]), option=f"{modality}_net", value=name)


def names(modality: str) -> list[str]:
    """Return the sorted names of all available networks of a modality."""
    return sorted({spec.name for spec in [*builtin(modality), *_installed()[0]] if spec.modality == modality})


def load_errors() -> list[str]:
    """Return one message for each entry point of another package that cannot be loaded."""
    return _installed()[1]


def builtin(modality: str) -> list[NetworkSpec]:
    """Return the networks of this package, the published ones first; entry points cannot replace them."""
    second = {"frames": 30, "fps": 30.0, "size": 112, "decode_size": 160}
    large = {**second, "size": 224, "decode_size": 256}
    sound = {"n_filters": 257, "sample_rate": 24_000}
    small_video = {"frames": 4, "fps": 4.0, "size": 40, "decode_size": 48}
    small_audio = {"n_filters": 64, "sample_rate": 16_000}
    specs = [
        NetworkSpec("r2plus1d_18", "video", lambda: video_cnn("r2plus1d_18"), 512, 512, second, maps="layer4"),
        NetworkSpec("r3d_18", "video", lambda: video_cnn("r3d_18"), 512, 512, second, maps="layer4"),
        NetworkSpec("mc3_18", "video", lambda: video_cnn("mc3_18"), 512, 512, second, maps="layer4"),
        NetworkSpec(
            "s3d",
            "video",
            lambda: video_cnn("s3d", "classifier"),
            1024,
            512,
            large,
            {"frames": (13, None), "size": (209, None)},  # its last pooling needs 2 x 7 x 7
            "classifier",
            "features",
        ),
        NetworkSpec(
            "mvit_v2_s",
            "video",
            lambda: without_classifier("mvit_v2_s", "head"),
            768,
            512,
            {**large, "frames": 16, "fps": 16.0},
            {"frames": (15, 16), "size": (221, 224)},  # its position embeddings are for 8 x 56 x 56 patches
            "head",
        ),
        NetworkSpec(
            "swin3d_t",
            "video",
            lambda: without_classifier("swin3d_t", "head"),
            768,
            512,
            {**large, "frames": 32},
            classifier="head",
        ),
        NetworkSpec("nano", "video", NanoVideo, 192, 256, small_video, maps="maps", small=True),
        NetworkSpec("tiny", "video", TinyVideo, 192, 256, small_video, maps="23", small=True),  # its last ReLU
        NetworkSpec("resnet9", "audio", lambda: audio_resnet((1, 1, 1, 1)), 512, 512, sound, maps="layer4"),
        NetworkSpec("resnet18", "audio", lambda: audio_resnet((2, 2, 2, 2)), 512, 512, sound, maps="layer4"),
        NetworkSpec("resnet34", "audio", lambda: audio_resnet((3, 4, 6, 3)), 512, 512, sound, maps="layer4"),
        NetworkSpec(
            "resnet50", "audio", lambda: audio_resnet((3, 4, 6, 3), "Bottleneck"), 2048, 512, sound, maps="layer4"
        ),
        NetworkSpec("nano", "audio", NanoAudio, 192, 256, small_audio, maps="maps", small=True),
        NetworkSpec("tiny", "audio", TinyAudio, 192, 256, small_audio, maps="11", small=True),
    ]
    return [spec for spec in specs if spec.modality == modality]


def video_cnn(name: str, classifier: str = "fc") -> nn.Module:
    """
    Return a convolutional video network of torchvision without its classifier, with Kaiming fan-out initialisation.

    R(2+1)D-18, R3D-18 and MC3-18: Tran et al. (2018). S3D: Xie et al. (2018).
    """
    return _kaiming_fan_out(without_classifier(name, classifier))


def without_classifier(name: str, classifier: str) -> nn.Module:
    """
    Return a video network of torchvision without its classifier, with torchvision's own initialisation.

    It is used for transformers. MViTv2-S: Li et al. (2022). Swin3D-T: Liu et al. (2022).
    """
    from torchvision.models import video

    network: nn.Module = getattr(video, name)(weights=None)
    setattr(network, classifier, nn.Identity())
    return network


def audio_resnet(layers: tuple[int, int, int, int], block: str = "BasicBlock") -> nn.Module:
    """
    Return a ResNet (He et al., 2016) for one channel of log mel energies, without its classifier.

    As published, the new first convolution has PyTorch's default initialisation, all others have Kaiming fan-out.
    """
    from torchvision.models import resnet

    network = resnet.ResNet(getattr(resnet, block), list(layers))  # with Kaiming fan-out initialisation
    network.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    network.fc = nn.Identity()
    return network


def _kaiming_fan_out(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


def _installed() -> tuple[list[NetworkSpec], list[str]]:
    """Return the networks of all other packages, and the messages of those that cannot be loaded."""
    specs, failed = [], []
    for point in entry_points(group=GROUP):
        try:
            specs.append(_load(point))
        except InputError as error:
            failed.append(str(error))
    return specs, failed


def _load(point: EntryPoint) -> NetworkSpec:
    """Load the network of an entry point, under the name of the entry point."""
    where = f"entry point {point.name!r} of {GROUP} ({point.value})"
    try:
        spec = point.load()
    except Exception as error:  # another package may raise anything when it is imported
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"{where} cannot be loaded: {type(error).__name__}: {reason}", option=point.name) from error
    if not isinstance(spec, NetworkSpec):
        raise InputError(f"{where} is not a NetworkSpec but a {type(spec).__name__}", option=point.name)
    if spec.modality not in ("video", "audio"):
        raise InputError(f"{where} has the modality {spec.modality!r}; expected video or audio", option=point.name)
    return replace(spec, name=point.name)


def _range_text(name: str, low: float, high: float | None) -> str:
    if high is None:
        return f"{name} of {low:g} or more"
    return f"{name}={low:g}" if low == high else f"{name} of {low:g} to {high:g}"
