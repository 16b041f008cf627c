"""PyTorch files, read without unpickling objects, and loading of pretrained weights from them."""

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

# PyTorch's error messages for objects that are not allowed.
_OBJECT = re.compile(
    r"GLOBAL (\S+) (?:was|whose)|unrecognized function (.+)|Can only (?:create new|build).+got <class '(.+)'>"
)


def read_torch(path: str | os.PathLike[str]) -> Any:
    """
    Read a file of `torch.save`, in either of its formats, with tensors, NumPy arrays and plain values only.

    Raises
    ------
    InputError
        If the file is missing, damaged, not a PyTorch file, or holds objects, which are never unpickled.
    """
    try:
        with torch.serialization.safe_globals(_numpy_globals()), warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{os.fspath(path)} does not exist", path=path) from error
    except OSError as error:
        raise InputError(f"{os.fspath(path)} cannot be read: {error.strerror or error}", path=path) from error
    except pickle.UnpicklingError as error:
        match = _OBJECT.search(str(error))
        if match is None:
            raise InputError(f"{os.fspath(path)} is damaged or not a PyTorch file", path=path) from error
        what = f"objects ({match[match.lastindex or 0]})"
        raise InputError(
            f"{os.fspath(path)} is refused: it holds {what}, and loading objects could run any code", path=path
        ) from error
    except Exception as error:  # a damaged file can raise anything
        raise InputError(f"{os.fspath(path)} is damaged or not a PyTorch file", path=path) from error


def write_torch(path: str | os.PathLike[str], content: Any) -> None:
    """
    Write a file with `torch.save`, atomically.

    Raises
    ------
    SelaviError
        If it cannot be written; an existing file is left unchanged.
    """
    with replacing(path) as file:
        torch.save(content, file)


def load_weights(network: Base, spec: NetworkSpec, path: str | os.PathLike[str]) -> list[str]:
    """
    Load pretrained weights with torchvision's parameter names into a network.

    The file holds a state dict, or one under ``state_dict`` or ``model``; a leading ``module.`` is removed from names.
    For a network with a single channel, the weights of a first convolution on three colours are summed over the
    colours, which is equivalent to a grey image as input.

    Parameters
    ----------
    network : Base
        Wraps the result of ``spec.build()``.
    spec : NetworkSpec
        Specification of the network, with the name of the classifier that is ignored.
    path : path
        A local file; nothing is downloaded.

    Returns
    -------
    list of str
        Ignored entries of the file, those of its classifier.

    Raises
    ------
    InputError
        If the file cannot be read, or an entry is missing, of another shape, or unknown.
    """
    given = _state_dict(read_torch(path), path)
    own = network.base.state_dict()
    ignored = [name for name in given if name.partition(".")[0] == spec.classifier and name not in own]
    weights = {name: _one_channel(value, own.get(name)) for name, value in given.items() if name not in ignored}
    what = f"{os.fspath(path)} does not fit the {spec.modality} network {spec.name}"
    network.base.load_state_dict(checked_weights(weights, own, what))
    return ignored


def checked_weights(given: Mapping[str, Tensor], own: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
    """
    Return weights in the order and dtypes of a network's state dict, which may be on the device ``meta``.

    ``num_batches_tracked`` may be missing: PyTorch before version 0.4.1 did not have it.

    Raises
    ------
    InputError
        If an entry is missing, of another shape, not finite, or unknown; the message begins with `what`.
    """
    result = {}
    for name, ours in own.items():
        theirs = given.get(name)
        if theirs is None:
            if not name.endswith("num_batches_tracked"):
                raise InputError(f"{what}: it has no {name}", option=name)
            theirs = torch.zeros(ours.shape)
        if theirs.shape != ours.shape:
            raise InputError(f"{what}: {name} is of shape {tuple(theirs.shape)}, not {tuple(ours.shape)}", option=name)
        result[name] = theirs.to(ours.dtype).contiguous()
        if not result[name].isfinite().all():
            raise InputError(f"{what}: {name} is not finite", option=name)
    unknown = next((name for name in given if name not in own), None)
    if unknown is not None:
        raise InputError(f"{what}: it has {unknown}, which the network does not have", option=unknown)
    return result


def without_module_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove the leading ``module.`` that `DistributedDataParallel` adds to parameter names."""
    return {name.removeprefix("module."): value for name, value in state.items()}


def is_state_dict(content: Any) -> bool:
    """Return whether an object is a dict of dense tensors by name."""
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
            return without_module_prefix(candidate)
    raise InputError(
        f"{os.fspath(path)} holds no weights; expected a dict of tensors by name, or one under 'state_dict' or 'model'",
        path=os.fspath(path),
    )


def _is_plain(value: Tensor) -> bool:
    return value.layout == torch.strided and value.device.type != "meta" and not value.is_quantized


def _one_channel(theirs: Tensor, ours: Tensor | None) -> Tensor:
    """Sum the weights of a convolution over its three colours if the network has one channel."""
    colours = ours is not None and ours.dim() == theirs.dim() == 4 and ours.shape[1] == 1 and theirs.shape[1] == 3
    return theirs.sum(1, keepdim=True) if colours else theirs


def _numpy_globals() -> list[Any]:
    """Return the globals in pickled NumPy arrays and scalars, under their names in NumPy 1 and 2."""
    # Taken from what NumPy itself pickles, since the functions are in private modules.
    makers = {"_reconstruct": np.zeros(1).__reduce__()[0], "scalar": np.float64(0).__reduce__()[0]}
    functions = [
        (make, f"numpy.{core}.multiarray.{name}") for name, make in makers.items() for core in ("core", "_core")
    ]
    kinds = {type(np.dtype(code)) for code in "?bBhHiIlLqQefd"}
    return [*functions, np.ndarray, np.dtype, *kinds]
