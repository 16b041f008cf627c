"""Checkpoints of cross-fitted heads: one ``.npz`` file without pickle, whose bytes are all checked when it is read."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from selavi_ref.crossfit.components import Components
from selavi_ref.crossfit.model import CrossfitModel
from selavi_ref.errors import CheckpointError, printable
from selavi_ref.runs.atomic import replacing

_COMPONENTS = ("mean", "spread", "vectors", "variances", "total")


def save_model(path: Path, model: CrossfitModel) -> None:
    """Write a model as one ``.npz``, whole or not at all."""
    content = {name: getattr(model, name) for name in ("log_prior", "potentials", "rows")}
    content["modalities"] = np.array([modality.encode() for modality in model.components])
    for number, (modality, components) in enumerate(model.components.items()):
        parts = {name: np.asarray(getattr(components, name)) for name in _COMPONENTS}
        parts |= {"weights": model.weights[modality], "held_out": model.held_out[modality]}
        content |= {f"{number}/{name}": value for name, value in parts.items()}
    with replacing(path) as file:
        np.savez(file, **content)


def load_model(path: Path) -> CrossfitModel:
    """
    Read what `save_model` wrote.

    Raises
    ------
    CheckpointError
        If the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
        modalities = [name.decode() for name in content["modalities"].tolist()]
        components, weights, held_out = {}, {}, {}
        for number, modality in enumerate(modalities):
            parts = {name: content[f"{number}/{name}"] for name in _COMPONENTS}
            components[modality] = Components(**{**parts, "total": float(parts["total"])})
            weights[modality], held_out[modality] = content[f"{number}/weights"], content[f"{number}/held_out"]
        whole = {name: content[name] for name in ("log_prior", "potentials", "rows")}
        return CrossfitModel(components, weights, held_out=held_out, **whole)
    except (OSError, ValueError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{printable(path)} is damaged or missing") from error
