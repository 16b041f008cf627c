"""Checkpoints of cross-fitted heads: one ``.npz`` file without pickle, whose bytes are all checked when it is read."""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from selavi_ref.crossfit.components import Components
from selavi_ref.crossfit.model import CrossfitModel
from selavi_ref.crossfit.search import SearchSummary
from selavi_ref.errors import CheckpointError, printable
from selavi_ref.runs.atomic import replacing

_COMPONENTS = ("mean", "spread", "vectors", "variances", "total")
_OTHERS = ("weights", "keys", "held_out")


def save_model(path: Path, model: CrossfitModel) -> None:
    """Write a model as one ``.npz``, whole or not at all."""
    content = {name: getattr(model, name) for name in ("log_prior", "potentials")}
    content["modalities"] = np.array([modality.encode() for modality in model.components])
    content["summary"] = np.array(json.dumps(asdict(model.summary)).encode())
    for number, (modality, components) in enumerate(model.components.items()):
        parts = {name: np.asarray(getattr(components, name)) for name in _COMPONENTS}
        parts |= {name: getattr(model, name)[modality] for name in _OTHERS}
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
        components: dict[str, Components] = {}
        others: dict[str, dict[str, Any]] = {name: {} for name in _OTHERS}
        for number, modality in enumerate(modalities):
            parts = {name: content[f"{number}/{name}"] for name in _COMPONENTS}
            components[modality] = Components(**{**parts, "total": float(parts["total"])})
            for name, values in others.items():
                values[modality] = content[f"{number}/{name}"]
        whole = {name: content[name] for name in ("log_prior", "potentials")}
        summary = SearchSummary(**json.loads(content["summary"].item()))
        return CrossfitModel(
            components,
            others["weights"],
            whole["log_prior"],
            whole["potentials"],
            others["keys"],
            others["held_out"],
            summary,
        )
    except (OSError, ValueError, TypeError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{printable(path)} is damaged or missing") from error
