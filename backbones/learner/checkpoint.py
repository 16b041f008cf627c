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
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run

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
            raise CheckpointError(f"{name} is damaged")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{name} does not exist; the run has no checkpoint yet") from error
    except OSError as error:
        raise CheckpointError(f"{name} cannot be read: {error.strerror or error}") from error
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"{name} is damaged or not a checkpoint") from error
    if not isinstance(checkpoint, dict) or checkpoint.get("format") != _FORMAT:
        raise InputError(f"{name} is not a checkpoint of selavi")
    if checkpoint.get("version") != _VERSION:
        raise InputError(f"{name} is a checkpoint of version {checkpoint.get('version')}; this selavi reads {_VERSION}")
    return checkpoint


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
    newest = Checkpoints(run.checkpoint_folder).read_newest(read_checkpoint, reporter=reporter)
    if newest is None:
        raise InputError(f"{run.folder} has no checkpoint yet: the run has not learnt anything")
    return newest[1]
