"""Checkpoint files of PyTorch networks: written atomically, verified and read without unpickling objects."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from selavi_ref.errors import CheckpointError, InputError, printable
from selavi_ref.runs.atomic import replacing
from selavi_ref.runs.checkpoints import Checkpoints
from selavi_ref.runs.processes import Exchange
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run
from selavi_ref.selflabel.training_state import checked_state

_FORMAT, _VERSION = "selavi-checkpoint", 2


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """
    Write a checkpoint of tensors, numbers and strings by name, atomically.

    Raises
    ------
    SelaviError
        If the file cannot be written; an existing one is left unchanged.
    """
    with replacing(path) as file:
        torch.save({"format": _FORMAT, "version": _VERSION, **content}, file)


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """
    Read a checkpoint of `write_checkpoint`, after verifying every byte.

    Raises
    ------
    CheckpointError
        If it is missing or damaged.
    InputError
        If it is not a checkpoint of this program.
    """
    name = printable(path)
    try:
        with zipfile.ZipFile(path) as archive:  # PyTorch itself does not verify checksums
            broken = archive.testzip()
        if broken is not None:
            raise CheckpointError(f"{name} is damaged", path=path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{name} does not exist; the run has no checkpoint yet", path=path) from error
    except OSError as error:
        raise CheckpointError(f"{name} cannot be read: {error.strerror or error}", path=path) from error
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"{name} is damaged or not a checkpoint", path=path) from error
    if not isinstance(checkpoint, dict) or checkpoint.get("format") != _FORMAT:
        raise InputError(f"{name} is not a checkpoint of selavi", path=path)
    if checkpoint.get("version") != _VERSION:
        raise InputError(
            f"{name} is a checkpoint of version {checkpoint.get('version')}; this selavi reads {_VERSION}", path=path
        )
    return checkpoint


def read_training_checkpoint(path: str | os.PathLike[str], *, n_heads: int | None = None) -> dict[str, Any]:
    """
    Read a checkpoint of a training on videos, with ``model``, ``optimizer``, ``random`` and a complete ``state``.

    Parameters
    ----------
    path : path
        The file.
    n_heads : int, optional
        Number of heads that it must have at least.

    Raises
    ------
    CheckpointError
        If it is missing or damaged.
    InputError
        If its content is another one.
    """
    checkpoint = read_checkpoint(path)
    weights = checkpoint.get("model")
    if not is_weights(weights):
        raise InputError(
            f"{printable(path)} is no checkpoint of a training: its model is no table of weights", path=path
        )
    for name in ("optimizer", "random", "cuda_random"):
        if name not in checkpoint:
            raise InputError(f"{printable(path)} is no checkpoint of a training: {name} is missing", path=path)
    random = checkpoint["random"]
    if not isinstance(random, torch.Tensor) or random.ndim != 2:
        raise InputError(
            f"{printable(path)} is no checkpoint of a training: random is no table of random states", path=path
        )
    checkpoint["state"] = checked_state(checkpoint.get("state"), path, n_heads=n_heads)
    return checkpoint


def is_weights(weights: Any) -> bool:
    """Return whether an object is a table of tensors by name."""
    return isinstance(weights, dict) and all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in weights.items()
    )


def read_newest(run: Run, reporter: Reporter = SILENT) -> dict[str, Any]:
    """
    Read the newest checkpoint of a run that is not damaged, with a warning if a newer one is.

    Raises
    ------
    CheckpointError
        If all are damaged.
    InputError
        If there is none.
    """
    heads = run.config.get("heads")
    n_heads = heads if isinstance(heads, int) else None
    newest = Checkpoints(run.checkpoint_folder).read_newest(
        lambda path: read_training_checkpoint(path, n_heads=n_heads), reporter=reporter
    )
    if newest is None:
        raise InputError(f"{run.folder} has no checkpoint yet: the run has not learnt anything", path=run.folder)
    return newest[1]


def random_states(exchange: Exchange, device: torch.device) -> dict[str, torch.Tensor | None]:
    """Return PyTorch's random states of all processes, as ``random`` and ``cuda_random`` of a checkpoint."""
    random = exchange.gather(torch.get_rng_state()[None].numpy())
    if device.type != "cuda":
        return {"random": torch.from_numpy(random), "cuda_random": None}
    on_gpu = exchange.gather(torch.cuda.get_rng_state(device)[None].numpy())
    return {"random": torch.from_numpy(random), "cuda_random": torch.from_numpy(on_gpu)}


def restore_random_states(checkpoint: Mapping[str, Any], exchange: Exchange, device: torch.device) -> None:
    """Restore `random_states` if the number of processes is the same; otherwise each keeps that of its seed."""
    states = torch.atleast_2d(checkpoint["random"])  # of a single process in older checkpoints of fine-tuning
    if len(states) == exchange.size:
        # Copied, since set_rng_state ignores the storage offset of a view, and crashes.
        torch.set_rng_state(states[exchange.rank].clone())
    on_gpu = checkpoint["cuda_random"]
    if on_gpu is not None and device.type == "cuda" and len(torch.atleast_2d(on_gpu)) == exchange.size:
        torch.cuda.set_rng_state(torch.atleast_2d(on_gpu)[exchange.rank].clone(), device)


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's text, or its type if it has none."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
