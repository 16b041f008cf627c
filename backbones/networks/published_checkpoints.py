"""Reading and writing of checkpoints in the layout of the published SeLaVi program."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from backbones.networks import registry
from backbones.networks.model import MODALITIES, SelaviModel
from backbones.networks.registry import NetworkSpec
from backbones.networks.weights import checked_weights, is_state_dict, read_torch, without_module_prefix, write_torch
from selavi_ref.errors import InputError

_HEAD = re.compile(r"mlp_([va])(\d*)\.")


@dataclass(frozen=True)
class PublishedCheckpoint:
    """
    Content of a published checkpoint, with the parameter names and order of this program.

    Parameters
    ----------
    model : dict
        State dict of the `SelaviModel` that `build` makes; float32, on the CPU.
    clusters : tuple of int
        Number of clusters K of each of the H heads.
    mlp : bool
        Whether the heads have a hidden layer.
    hidden : dict
        Width of the hidden layer per modality; empty without hidden layers.
    video_net, audio_net : str
        Names of the networks.
    epoch : int
        Number of trained epochs.
    sizes : list of array, optional
        Cluster sizes of each head, float64, shape (K,), as drawn by the published code, whose marginal is proportional
        to their inverse.
    selflabels : array, optional
        Pseudo-labels, int64, shape (N, H), in the order of the training videos.
    optimizer : dict, optional
        State dict of `torch.optim.SGD` over the parameters of the model.
    """

    model: dict[str, Tensor]
    clusters: tuple[int, ...]
    mlp: bool
    hidden: dict[str, int]
    video_net: str
    audio_net: str
    epoch: int
    sizes: list[NDArray[np.float64]] | None = None
    selflabels: NDArray[np.int64] | None = None
    optimizer: dict[str, Any] | None = None

    def build(self, dropout: float = 0.3) -> SelaviModel:
        """Return the model with its weights; `dropout` applies to heads with a hidden layer."""
        video, audio = registry.find("video", self.video_net), registry.find("audio", self.audio_net)
        model = _empty_model(video, audio, self.clusters, self.hidden, dropout)
        model.load_state_dict({name: value.clone() for name, value in self.model.items()}, assign=True)
        return model


def read_published(path: str | os.PathLike[str]) -> PublishedCheckpoint:
    """
    Read a published checkpoint without unpickling objects, whatever the version of PyTorch and the number of GPUs.

    Networks, heads and clusters are inferred from the names and shapes of the weights.

    Raises
    ------
    InputError
        If the file is missing, damaged, not a SeLaVi checkpoint, or holds objects.
    """
    what = f"{os.fspath(path)} is not a SeLaVi checkpoint"
    content = read_torch(path)
    if not isinstance(content, Mapping):
        raise InputError(f"{what}: it holds a {type(content).__name__}, not a dict")
    for key in ("model", "epoch"):
        if key not in content:
            raise InputError(f"{what}: it has no {key!r}", option=key)
    if not is_state_dict(content["model"]):
        raise InputError(f"{what}: its 'model' is not a dict of tensors by name", option="model")
    given = without_module_prefix(content["model"])
    video, audio = (_network(given, modality) for modality in MODALITIES)
    clusters, hidden = _heads(given, what)
    model = _empty_model(video, audio, clusters, hidden)
    weights = checked_weights(given, model.state_dict(), f"{what} of {video.name} and {audio.name}")
    return PublishedCheckpoint(
        model=weights,
        clusters=clusters,
        mlp=bool(hidden),
        hidden=hidden,
        video_net=video.name,
        audio_net=audio.name,
        epoch=_epoch(content["epoch"], what),
        sizes=_sizes(content.get("dist"), clusters, what),
        selflabels=_selflabels(content.get("selflabels"), clusters, what),
        optimizer=_reorder_optimizer(content.get("optimizer"), model, list(given), list(weights), what),
    )


def write_published(
    path: str | os.PathLike[str],
    model: Mapping[str, Tensor],
    *,
    epoch: int,
    sizes: Sequence[ArrayLike] | None = None,
    selflabels: NDArray[Any] | None = None,
    optimizer: Mapping[str, Any] | None = None,
    module: bool = False,
) -> None:
    """
    Write a checkpoint in the published layout, atomically.

    Parameters
    ----------
    path : path
        The file.
    model : dict
        State dict of a `SelaviModel` with networks of this package.
    epoch : int
        Number of trained epochs.
    sizes : sequence of array, optional
        Cluster sizes of each head, shape (K,).
    selflabels : array, optional
        Integers, shape (N, H).
    optimizer : dict, optional
        State of `torch.optim.SGD` over the parameters of the model, in their order.
    module : bool
        Whether parameter names get the prefix ``module.``, as after training on several GPUs.

    Raises
    ------
    InputError
        If the model or the other content does not fit the published layout.
    SelaviError
        If the file cannot be written.
    """
    what = f"{os.fspath(path)} cannot be written as a SeLaVi checkpoint"
    video, audio = (_network(model, modality) for modality in MODALITIES)
    clusters, hidden = _heads(model, what)
    empty = _empty_model(video, audio, clusters, hidden)
    own = empty.state_dict()
    order = sorted(own, key=_published_order)
    weights = checked_weights(model, {name: own[name] for name in order}, f"{what} of {video.name} and {audio.name}")
    drawn = _sizes(sizes, clusters, what)
    labels = _selflabels(selflabels, clusters, what)
    content: dict[str, Any] = {
        "epoch": _epoch(epoch, what),
        "dist": drawn and [torch.from_numpy(one.copy()).view(-1, 1) for one in drawn],
        "model": {f"module.{name}" if module else name: value.cpu() for name, value in weights.items()},
    }
    # The published code restores whatever it finds under a name, None included: unknown entries are left out.
    if optimizer is not None:
        content["optimizer"] = _reorder_optimizer(optimizer, empty, list(own), order, what)
    if labels is not None:
        content["selflabels"] = torch.from_numpy(labels.copy())
    write_torch(path, content)


def _network(given: Mapping[str, Tensor], modality: str) -> NetworkSpec:
    """Return the network whose parameter names and shapes are nearest to the given weights."""
    prefix = f"{modality}_network.base."
    shapes = _shapes({name.removeprefix(prefix): value for name, value in given.items() if name.startswith(prefix)})
    candidates = registry.builtin(modality)
    if not shapes:
        return candidates[0]
    return min(candidates, key=lambda spec: len(shapes ^ _shapes_of(modality, spec.name)))


@cache
def _shapes_of(modality: str, name: str) -> frozenset[tuple[str, torch.Size]]:
    with torch.device("meta"):
        return _shapes(registry.find(modality, name).build().state_dict())


def _shapes(weights: Mapping[str, Tensor]) -> frozenset[tuple[str, torch.Size]]:
    return frozenset((name, w.shape) for name, w in weights.items() if not name.endswith("num_batches_tracked"))


def _heads(given: Mapping[str, Tensor], what: str) -> tuple[tuple[int, ...], dict[str, int]]:
    """Return the number of clusters of each head, and the hidden width per modality (empty for linear heads)."""
    matches = [match for match in map(_HEAD.match, given) if match]
    n_heads = len({match[2] for match in matches if match[1] == "v"})
    single = any(not match[2] for match in matches)
    roots = ["mlp_v"] if single or not matches else [f"mlp_v{head}" for head in range(max(1, n_heads))]
    mlp = any(match.string.startswith("block_forward.", match.end()) for match in matches)
    clusters = tuple(
        _width(given, f"{root}.block_forward.8.weight" if mlp else f"{root}.weight", what) for root in roots
    )
    if not mlp:
        return clusters, {}
    number = "" if single else "0"
    return clusters, {m: _width(given, f"mlp_{m[0]}{number}.block_forward.2.weight", what) for m in MODALITIES}


def _width(given: Mapping[str, Tensor], name: str, what: str) -> int:
    """Return the number of outputs of a linear layer."""
    if name not in given:
        raise InputError(f"{what}: it has no {name}", option=name)
    if given[name].dim() != 2 or not given[name].numel():
        raise InputError(f"{what}: {name} is of shape {tuple(given[name].shape)}", option=name)
    return int(given[name].shape[0])


def _empty_model(
    video: NetworkSpec,
    audio: NetworkSpec,
    clusters: Sequence[int],
    hidden: Mapping[str, int],
    dropout: float = 0.0,
) -> SelaviModel:
    """Return a model on the device ``meta``: it has names and shapes only, and draws no random numbers."""
    if hidden:
        video, audio = replace(video, hidden=hidden["video"]), replace(audio, hidden=hidden["audio"])
    with torch.device("meta"):
        return SelaviModel(video, audio, clusters, dropout, mlp=bool(hidden))


def _published_order(name: str) -> tuple[int, ...]:
    """Return the sort key of the published order of parameters: networks, then video and audio heads in turn."""
    match = _HEAD.match(name)
    return (0,) if match is None else (1, int(match[2] or 0), int(match[1] == "a"))


def _reorder_optimizer(
    optimizer: Any, model: SelaviModel, before: Sequence[str], after: Sequence[str], what: str
) -> dict[str, Any] | None:
    """
    Return the state of an optimiser for another order of the parameters.

    An optimiser identifies parameters by their index alone, and many have the same shape: without this, heads would
    silently exchange their momentum.
    """
    if optimizer is None:
        return None
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    before, after = ([name for name in names if name in shapes] for names in (before, after))
    try:
        (group,) = optimizer["param_groups"]
        numbers = dict(zip(before, group["params"], strict=True))
        states = {name: optimizer["state"].get(numbers[name], {}) for name in after}
        for name, state in states.items():
            if any(isinstance(v, Tensor) and v.dim() and v.shape != shapes[name] for v in state.values()):
                raise ValueError
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{what}: its 'optimizer' is not one of the {len(shapes)} parameters of the model", option="optimizer"
        ) from error
    settings = {key: value for key, value in group.items() if key not in ("params", "param_names")}
    return {
        "state": {number: state for number, state in enumerate(states.values()) if state},
        "param_groups": [{**settings, "params": list(range(len(states)))}],
    }


def _epoch(value: Any, what: str) -> int:
    epoch = _numbers(value, "iu")
    if epoch is None or epoch.size != 1 or epoch.min() < 0:
        raise InputError(f"{what}: its 'epoch' is not a number of epochs", option="epoch")
    return int(epoch.item())


def _sizes(value: Any, clusters: Sequence[int], what: str) -> list[NDArray[np.float64]] | None:
    """Return the cluster sizes of every head; a single array holds for all heads."""
    if value is None:
        return None
    parts: Sequence[Any] = value if isinstance(value, (list, tuple)) else []
    single = None if parts else _numbers(value, "iuf")
    if single is not None:
        parts = [single] * len(clusters) if single.size == clusters[0] else list(np.atleast_1d(single))
    arrays = [_numbers(part, "iuf") for part in parts]
    sizes = [array.astype(np.float64).reshape(-1) for array in arrays if array is not None]
    if [len(one) for one in sizes] != list(clusters) or not all(np.isfinite(one).all() for one in sizes):
        raise InputError(
            f"{what}: its cluster sizes ('dist') are not one number for each cluster of each head", option="dist"
        )
    return sizes


def _selflabels(value: Any, clusters: Sequence[int], what: str) -> NDArray[np.int64] | None:
    if value is None:
        return None
    labels = _numbers(value, "iu")
    if labels is not None and labels.ndim == 1:
        labels = labels[:, None]
    if labels is None or labels.ndim != 2 or labels.shape[1] != len(clusters):
        raise InputError(
            f"{what}: its 'selflabels' are not one whole number for each video and each of {len(clusters)} heads",
            option="selflabels",
        )
    if labels.size and not ((labels >= 0) & (labels < np.array(clusters))).all():
        raise InputError(f"{what}: its 'selflabels' contain clusters that do not exist", option="selflabels")
    return labels.astype(np.int64)


def _numbers(value: Any, kinds: str) -> NDArray[Any] | None:
    """Return a tensor, array or number as a NumPy array, or None if its dtype is not of the given kinds."""
    try:
        array = np.asarray(value.detach().cpu().numpy() if isinstance(value, Tensor) else value)
    except (RuntimeError, TypeError, ValueError):
        return None
    return array if array.dtype.kind in kinds else None
