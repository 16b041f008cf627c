"""Settings of a training run from a preset, a settings file and the options of `selavi train`, the last one first."""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, replace
from typing import Any

from backbones.data.settings import NO_AUGMENTATION, PUBLISHED_AUGMENTATION, AugmentSettings, ClipSettings
from backbones.learner.settings import BackboneSettings
from backbones.runs.network_choice import choose_networks
from backbones.runs.run_settings import RunSettings, choose_device, choose_precision
from selavi_ref.errors import InputError
from selavi_ref.runs.modality_names import BOTH
from selavi_ref.runs.old_names import with_current_names
from selavi_ref.runs.setting_fields import published, settings_of
from selavi_ref.selflabel.cluster_sizes import ClusterSizes
from selavi_ref.selflabel.settings import TrainingSettings, overclustering_for
from selavi_ref.transport import marginals

LAYOUT_CLUSTERS = {"vggsound": 309, "kinetics": 400, "kinetics-sound": 32, "ave": 28}  # as published

_STEPS = 50  # steps of a small network, times the square root of the number of videos
_SMALL_COLLECTION = 1000  # videos below which batches are smaller
_MIN_EPOCHS = 10
_SOFT_SIZES_PENALTY = 10.0  # marginal penalty unless sizes are requested
_MIN_AUDIO_SECONDS, _MIN_BANDS = 0.1, 4
_MAX_STEPS = 4000  # or twice the usual steps, if more: settling begins even if the modalities do not agree
_LABELLING_STRIDE = 2  # before picture and sound agree, more self-labellings only take time
_STABLE_CHANGE = 0.03  # of the labels, below which a run is finished sooner
_MIN_SETTLING_STEPS = 800  # or half of the usual steps, if more
_PUBLISHED_AUDIO_LEVEL = (1.93, 17.89)  # mean and standard deviation of log energies in the published code
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text in quotes"}
_BACKBONE_OPTIONS = {"modalities": "modalities", "concatenate_features": "concatenate"}  # on which heads depend
_MIN_LOG_ENERGY = math.log(2.0**-52)  # of an empty mel band, the minimum

_TABLES = (
    (RunSettings, ""),
    (TrainingSettings, "training."),
    (ClusterSizes, "training.sizes."),
    (BackboneSettings, "backbone."),
    (ClipSettings, "backbone.clip."),
)
# Path of each option in the settings.
SETTING_PATHS = {
    "clusters": "clusters",
    **{
        details.option.replace("-", "_"): f"{table}{item.name}"
        for cls, table in _TABLES
        for item, details in settings_of(cls)
        if details.option
    },
}


def run_settings(
    n_videos: int,
    *,
    preset: str | None = None,
    layout: str | None = None,
    config: Mapping[str, Any] | None = None,
    video_net: str | None = None,
    audio_net: str | None = None,
    distribution: str | None = None,
    stride: int | None = None,
    augment: Sequence[str] = (),
    sound_level: str | None = None,
    precision: str = "auto",
    device: str = "auto",
    **options: Any,
) -> RunSettings:
    """
    Return complete settings: options override the file, which overrides the preset.

    Parameters
    ----------
    n_videos : int
        Number of training videos, on which the number of epochs of small networks depends.
    preset : str, optional
        ``"small"``, ``"published"`` or ``"one-gpu"``; by default ``"small"``, or ``"published"`` for a video network
        that is not small.
    layout : str, optional
        Layout of a published collection, which determines the number of clusters.
    config : mapping, optional
        Some or all settings of a ``config.toml``.
    video_net, audio_net, distribution, stride, augment, sound_level, precision, device
        Options of `selavi train`.
    options
        Further options of `selavi train`; None: not given.

    Raises
    ------
    InputError
        If a setting is unknown, or does not fit the others.
    """
    device = choose_device(device)
    file = _parse_file(config)
    given = {name: value for name, value in options.items() if value is not None}
    if unknown := sorted(given.keys() - SETTING_PATHS):
        known = ", ".join(sorted(SETTING_PATHS))
        raise InputError(f"there is no setting {unknown[0]}; there are {known}", option=unknown[0])
    for option, value in given.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"--{option.replace('_', '-')} must be a finite number, not {value}", option=option)
    clusters = given.get("clusters", file.get("clusters", LAYOUT_CLUSTERS.get(layout or "")))
    if clusters is None:
        raise InputError("--clusters is missing: how many kinds of videos are to be found?", option="clusters")
    if isinstance(clusters, int) and clusters < 2:
        raise InputError(
            f"--clusters {clusters}: at least 2, for one cluster has nothing to tell apart", option="clusters"
        )
    file_backbone = file["backbone"]
    named = file_backbone.pop("video_net", None), file_backbone.pop("audio_net", None)
    video_net, audio_net = video_net or named[0], audio_net or named[1]
    preset, backbone = choose_networks(preset, video_net, audio_net, given.get("init", file.get("init", "")))
    if preset == "small":
        of_file = {option: file_backbone[name] for option, name in _BACKBONE_OPTIONS.items() if name in file_backbone}
        base = _small_preset(n_videos, clusters, backbone, {**file["training"], **of_file, **given})
    else:
        base = (_published_preset if preset == "published" else _one_gpu_preset)(clusters, backbone)
    lower = preset == "small" or (preset == "one-gpu" and device == "cuda")
    if precision != "auto" or (lower and "precision" not in file_backbone):
        given["precision"] = choose_precision(precision, device)
    values = base.to_dict()
    _merge(values, {name: value for name, value in file.items() if value != {}}, "")
    _apply_options(values, {**given, "clusters": clusters})
    if distribution is not None:
        values["training"]["sizes"] |= _distribution(distribution, clusters)
        values["training"]["sizes"]["marginal_penalty"] = given.get("soft_sizes", 0.0)  # requested sizes are exact
    _apply_clip_options(values["backbone"], stride, augment, sound_level)
    return _check(RunSettings.from_dict(values))


def _parse_file(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the validated settings of a file, with empty tables where it has none."""
    file: dict[str, Any] = {"training": {}, "backbone": {}} | deepcopy(dict(config or {}))
    for table in ("training", "backbone"):
        if not isinstance(file[table], Mapping):
            raise InputError(f"{table} is a table of settings, not {file[table]!r}", option=table)
    kinds = RunSettings(1, 1, 1, TrainingSettings(), BackboneSettings()).to_dict()
    if file["backbone"].keys() >= {"video_net", "momentum"}:
        file["backbone"].setdefault("optimizer", "sgd")  # a complete file from before there was a choice
    _merge(kinds, file, "")  # raises if a setting is unknown or of another type
    RunSettings.from_dict(kinds)
    return file


def read_config(path: str | os.PathLike[str] | None) -> dict[str, Any] | None:
    """
    Read a settings file: a run's ``config.toml``, or some of its lines.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    if path is None:
        return None
    try:
        with open(path, "rb") as file:
            return with_current_names(tomllib.load(file))
    except OSError as error:
        raise InputError(f"--config {path} cannot be read: {error.strerror}", option="config") from error
    except ValueError as error:
        raise InputError(f"--config {path} cannot be read: {error}", option="config") from error


def _small_preset(n_videos: int, clusters: int, backbone: BackboneSettings, chosen: Mapping[str, Any]) -> RunSettings:
    """Return the preset for small networks on a CPU, by the size of the collection and the chosen options."""
    batch = chosen.get("batch_size") or (32 if n_videos < _SMALL_COLLECTION else 64)
    overclustering_heads, overclusters = overclustering_for(n_videos, clusters)
    by_both = chosen.get("label_by", "both") == "both" and not chosen.get("concatenate_features")
    if not by_both or chosen.get("modalities", BOTH) != BOTH:
        overclustering_heads = 0  # over-clustering compares both modalities
    overclustering_heads = (
        overclustering_heads if chosen.get("overclustering_heads") is None else chosen["overclustering_heads"]
    )
    usual, most, settling = _small_epochs(n_videos * (chosen.get("clips_per_video") or 1), batch)
    adaptive = overclustering_heads > 0 and chosen.get("epochs") is None
    training = TrainingSettings(
        epochs=most if adaptive else usual,
        settle_epochs=settling if adaptive else 0,
        stable_change=_STABLE_CHANGE if adaptive else 0.0,
        batch_size=batch,
        labellings=160 if adaptive else 80,
        labelling_stride=_LABELLING_STRIDE if adaptive and chosen.get("labellings") is None else 1,
        sizes=ClusterSizes(marginal_penalty=_SOFT_SIZES_PENALTY),
        overclustering_heads=overclustering_heads,
    )
    final = "crossfit" if by_both else "heads"
    return RunSettings(clusters, 5, overclusters, training, replace(backbone, optimizer="muon"), final)


def _published_preset(clusters: int, backbone: BackboneSettings) -> RunSettings:
    """Return the preset of the paper: 10 heads, 200 epochs, 16 clips in each of 64 processes."""
    backbone = replace(backbone, clip=replace(backbone.clip, antialias=False))
    training = published(TrainingSettings, sizes=published(ClusterSizes))
    return published(RunSettings, clusters=clusters, overclusters=5 * clusters, training=training, backbone=backbone)


def _one_gpu_preset(clusters: int, backbone: BackboneSettings) -> RunSettings:
    """Return a smaller preset for one GPU: half of the paper's frames and epochs, and a cosine learning rate."""
    clip = replace(backbone.clip, frames=min(16, backbone.clip.frames), fps=16.0)
    backbone = replace(backbone, clip=clip, mel_normalise="collection", eval_batch_size=128)
    training = TrainingSettings(
        epochs=100,
        batch_size=64,
        learning_rate=0.04,  # the published one, scaled with the batch size
        warmup_epochs=5.0,
        labellings=99,
        sizes=published(ClusterSizes),
    )
    return RunSettings(clusters, 5, 5 * clusters, training, backbone)


def _merge(values: dict[str, Any], chosen: Mapping[str, Any], prefix: str) -> None:
    """Replace settings by those of a file, which must be of the same type."""
    for name, value in chosen.items():
        path = f"{prefix}{name}"
        if name not in values:
            raise InputError(f"the settings have no {path}; known here are {', '.join(values)}", option=path)
        default = values[name]
        if isinstance(default, Mapping):
            if not isinstance(value, Mapping):
                raise InputError(f"{path} is a table of settings, not {value!r}", option=path)
            _merge(values[name], value, f"{path}.")
        elif isinstance(default, (tuple, list)):
            if not isinstance(value, (tuple, list)):
                raise InputError(f"{path} is a list of numbers, not {value!r}", option=path)
            values[name] = tuple(value)
        else:
            number = isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool)
            if type(value) is not type(default) and not number:
                raise InputError(f"{path} is {value!r}; it must be {_KINDS[type(default)]}", option=path)
            values[name] = float(value) if number else value


def _apply_options(values: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Write the values of options to their paths in the settings."""
    for name, value in given.items():
        *path, last = SETTING_PATHS[name].split(".")
        table = values
        for step in path:
            table = table[step]
        table[last] = value
    if "epochs" in given:
        values["training"]["settle_epochs"] = 0


def _distribution(chosen: str, clusters: int) -> dict[str, Any]:
    if chosen in ("uniform", "gaussian", "zipf"):
        return {"distribution": chosen, "given": ()}
    if not os.path.exists(chosen):
        raise InputError(
            f"--distribution {chosen}: not uniform, gaussian or zipf, and no file of that name exists",
            option="distribution",
        )
    return {"distribution": chosen, "given": tuple(marginals.read(chosen, clusters).tolist())}


def _apply_clip_options(
    backbone: dict[str, Any], stride: int | None, augment: Sequence[str], sound_level: str | None
) -> None:
    """Apply the options of clips, augmentation and audio level."""
    clip = backbone["clip"]
    if stride is not None:
        clip["fps"] /= stride
    if augment:
        default = AugmentSettings(**{**backbone["augment"], "scale": tuple(backbone["augment"]["scale"])})
        backbone["augment"] = asdict(_augmentation(default, augment))
    if sound_level is None:
        return
    backbone["mel_normalise"] = "collection" if sound_level == "collection" else "given"
    if sound_level != "collection":
        mean, std = _parse_audio_level(sound_level)
        clip |= {"mel_mean": mean, "mel_std": std, "mel_floor": _MIN_LOG_ENERGY}


def _parse_audio_level(text: str) -> tuple[float, float]:
    """Return mean and standard deviation of the log energies that an option names."""
    known = {"none": (0.0, 1.0), "published": _PUBLISHED_AUDIO_LEVEL}
    if text in known:
        return known[text]
    try:
        mean, std = (float(part) for part in text.split(","))
    except ValueError:
        mean, std = math.nan, 0.0
    if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
        raise InputError(
            f"--sound-level {text}: collection, none, published, or MEAN,STD such as 1.93,17.89", option="sound-level"
        )
    return mean, std


def _augmentation(default: AugmentSettings, assignments: Sequence[str]) -> AugmentSettings:
    """Return the default, ``none``, ``published`` or ``strong`` augmentation, changed by ``name=value``."""
    known = {"none": NO_AUGMENTATION, "published": PUBLISHED_AUGMENTATION, "strong": AugmentSettings()}
    named = [text for text in assignments if text in known]
    if len(named) > 1:
        raise InputError(f"--augment {' --augment '.join(named)}: name one of them", option="augment")
    start = known[named[0]] if named else default
    return start.changed([text for text in assignments if text not in known])


def _check(settings: RunSettings) -> RunSettings:
    """Raise if settings do not fit each other; return them otherwise."""
    from backbones.networks import registry  # with PyTorch, which reading settings does not need

    clip, training = settings.backbone.clip, settings.training
    if clip.sample_rate % 100:
        raise InputError(
            f"--sound-rate {clip.sample_rate}: a multiple of 100, so that 10 ms are whole samples", option="sound-rate"
        )
    if clip.audio_seconds < _MIN_AUDIO_SECONDS or clip.n_filters < _MIN_BANDS:
        raise InputError(
            f"--sound-seconds {clip.audio_seconds:g} --mel-bands {clip.n_filters}: at least {_MIN_AUDIO_SECONDS} s and "
            f"{_MIN_BANDS} bands",
            option="sound-seconds",
        )
    for modality, name in (("video", settings.backbone.video_net), ("audio", settings.backbone.audio_net)):
        registry.find(modality, name).check(clip)
    if training.overclustering_heads and training.overclustering_heads * settings.overclusters < settings.clusters:
        raise InputError(
            f"--overclustering-heads {training.overclustering_heads}: "
            f"there are too few videos for finer labels than {settings.clusters}",
            option="overclustering-heads",
        )
    if settings.backbone.modalities != BOTH:
        _check_single_modality(settings)
    if settings.backbone.concatenate:
        _check_concatenated(settings)
    if training.overclustering_heads and training.label_by != "both":
        raise InputError(
            f"--label-by {training.label_by}: over-clustering merges clusters by both modalities; "
            "give --overclustering-heads 0",
            option="label-by",
        )
    if training.groups > settings.heads:
        raise InputError(f"--groups {training.groups}: there are only {settings.heads} heads to split", option="groups")
    return settings


def _check_single_modality(settings: RunSettings) -> None:
    """Raise if settings ask for a modality that the run does not learn on."""
    training, only = settings.training, settings.backbone.modalities
    if training.overclustering_heads:
        raise InputError(
            f"--modalities {only}: over-clustering merges clusters by both modalities; give --overclustering-heads 0",
            option="modalities",
        )
    if training.label_by not in ("both", only):
        raise InputError(f"--label-by {training.label_by} does not go with --modalities {only}", option="label-by")


def _check_concatenated(settings: RunSettings) -> None:
    """Raise if settings compare two modalities, of which joint heads know nothing."""
    training, option = settings.training, "concatenate-features"
    if settings.backbone.modalities != BOTH:
        only = settings.backbone.modalities
        raise InputError(f"--{option} needs both modalities; --modalities {only} leaves one", option=option)
    if training.label_by != "both":
        raise InputError(f"--{option} does not go with --label-by {training.label_by}", option=option)
    if training.overclustering_heads:
        raise InputError(
            f"--{option}: over-clustering compares the heads of both modalities; give --overclustering-heads 0",
            option=option,
        )
    if settings.final_labels == "crossfit":
        raise InputError(f"--{option} goes with --final-labels heads, which are its labels", option=option)


def _small_epochs(n_videos: int, batch_size: int) -> tuple[int, int, int]:
    """Return usual, maximum and settling epochs of a small network, by the size of the collection."""
    steps_per_epoch = max(1, round(n_videos / batch_size))
    usual = max(_STEPS * n_videos**0.5, _MIN_EPOCHS * steps_per_epoch)
    steps = (usual, max(_MAX_STEPS, 2 * usual), max(_MIN_SETTLING_STEPS, usual / 2))
    most, settling = (max(1, round(number / steps_per_epoch)) for number in steps[1:])
    return max(1, round(usual / steps_per_epoch)), most, settling
