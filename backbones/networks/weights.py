"""Files of PyTorch's: read without running anything that they hold, and pretrained weights taken from them."""

from __future__ import annotations

import os
import pickle
import re
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backbones.networks.registry import Base, NetworkSpec
from selavi_ref.errors import InputError
from selavi_ref.runs.atomic import replacing

# PyTorch's names for a global that is not allowed, and for other things done to one.
_OBJECT = re.compile(
    r"GLOBAL (\S+) (?:was|whose)|unrecognized function (.+)|Can only (?:create new|build).+got <class '(.+)'>"
)


def read_torch(path: str | os.PathLike[str]) -> Any:
    """
    Read what `torch.save` wrote, in its present or its old format: tensors, NumPy arrays and plain values, no objects.

    Raises
    ------
    InputError
        If the file is missing, damaged, no file of PyTorch's, or holds objects, which are not looked at.
    """
    try:
        with torch.serialization.safe_globals(_numpy_globals()), warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{os.fspath(path)} does not exist") from error
    except OSError as error:
        raise InputError(f"{os.fspath(path)} cannot be read: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        found = _OBJECT.search(str(error))
        if found is None:
            raise InputError(f"{os.fspath(path)} is damaged or no file of PyTorch's") from error
        what = f"objects ({found[found.lastindex or 0]})"
        raise InputError(
            f"{os.fspath(path)} is refused: it holds {what}, and loading objects could run any code"
        ) from error
    except Exception as error:  # a damaged file can raise anything
        raise InputError(f"{os.fspath(path)} is damaged or no file of PyTorch's") from error


def write_torch(path: str | os.PathLike[str], content: Any) -> None:
    """
    Write a file with `torch.save`, whole or not at all.

    Raises
    ------
    SelaviError
        If it cannot be written; a file that was there before is as it was.
    """
    with replacing(path) as file:
        torch.save(content, file)


def load_weights(network: Base, spec: NetworkSpec, path: str | os.PathLike[str]) -> list[str]:
    """
    Give a network the pretrained weights of a file with torchvision's names.

    The file holds a state dict, or one under ``state_dict`` or ``model``; a leading ``module.`` is taken away. A first
    convolution of three colours becomes one of a single channel by summing over the colours: the network then answers
    to a sound as it did to the grey picture of it.

    Parameters
    ----------
    network : Base
        As made of ``spec.build()``.
    spec : NetworkSpec
        Names the network, and the classifier of the file that is left out.
    path : path
        The file; nothing is downloaded.

    Returns
    -------
    list of str
        Entries of the file that were left out, those of its classifier.

    Raises
    ------
    InputError
        If the file cannot be read, or does not fit; it names the file, the network and the first entry that is missing,
        of another shape, or unknown.
    """
    given = _state_dict(read_torch(path), path)
    own = network.base.state_dict()
    ignored = [name for name in given if name.partition(".")[0] == spec.classifier and name not in own]
    kept = {name: _one_channel(value, own.get(name)) for name, value in given.items() if name not in ignored}
    what = f"{os.fspath(path)} does not fit the {spec.modality} network {spec.name}"
    network.base.load_state_dict(fitted(kept, own, what))
    return ignored


def fitted(given: Mapping[str, Tensor], own: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
    """
    Return given weights in the order and types of a network's own state dict, which may lie on the device ``meta``.

    Counts of batches may be missing: PyTorch had none before version 0.4.1.

    Raises
    ------
    InputError
        Beginning with `what`, if an entry is missing, of another shape, not finite, or unknown.
    """
    result = {}
    for name, ours in own.items():
        theirs = given.get(name)
        if theirs is None:
            if not name.endswith("num_batches_tracked"):
                raise InputError(f"{what}: it has no {name}")
            theirs = torch.zeros(ours.shape)
        if theirs.shape != ours.shape:
            raise InputError(f"{what}: {name} is of shape {tuple(theirs.shape)}, not {tuple(ours.shape)}")
        result[name] = theirs.to(ours.dtype).contiguous()
        if not result[name].isfinite().all():
            raise InputError(f"{what}: {name} is not finite")
    unknown = next((name for name in given if name not in own), None)
    if unknown is not None:
        raise InputError(f"{what}: it has {unknown}, which the network has not")
    return result


def without_module(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take a leading ``module.`` away, which networks that learnt on several GPUs have in their names."""
    return {name.removeprefix("module."): value for name, value in state.items()}


def is_state_dict(content: Any) -> bool:
    """Return whether something is a dict of dense tensors by name."""
    return (
        isinstance(content, Mapping)
        and bool(content)
        and all(isinstance(name, str) for name in content)
        and all(isinstance(value, Tensor) and _is_plain(value) for value in content.values())
    )


def _state_dict(content: Any, path: str | os.PathLike[str]) -> dict[str, Tensor]:
    candidates = [content]
    if isinstance(content, Mapping):
        candidates += [content.get("state_dict"), content.get("model")]
    for candidate in candidates:
        if is_state_dict(candidate):
            return without_module(candidate)
    raise InputError(
        f"{os.fspath(path)} holds no weights; wanted is a dict of tensors by name, or one under 'state_dict' or 'model'"
    )


def _is_plain(value: Tensor) -> bool:
    return value.layout == torch.strided and value.device.type != "meta" and not value.is_quantized


def _one_channel(theirs: Tensor, ours: Tensor | None) -> Tensor:
    """Sum a convolution of pictures over its colours, if it is needed for one channel."""
    colours = ours is not None and ours.dim() == theirs.dim() == 4 and ours.shape[1] == 1 and theirs.shape[1] == 3
    return theirs.sum(1, keepdim=True) if colours else theirs


def _numpy_globals() -> list[Any]:
    """Return what pickled arrays and scalars of numbers are made of, under the names of NumPy 1 and 2."""
    # By way of what NumPy itself pickles: the functions stand in modules that are not public.
    makers = {"_reconstruct": np.zeros(1).__reduce__()[0], "scalar": np.float64(0).__reduce__()[0]}
    functions = [
        (make, f"numpy.{core}.multiarray.{name}") for name, make in makers.items() for core in ("core", "_core")
    ]
    kinds = {type(np.dtype(code)) for code in "?bBhHiIlLqQefd"}
    return [*functions, np.ndarray, np.dtype, *kinds]
