"""Checkpoints of cross-fitted heads: one ``.npz`` file without pickle, whose bytes are all checked when it is read."""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from selavi_ref.crossfit.components import Components
from selavi_ref.crossfit.model import CrossfitModel
from selavi_ref.crossfit.search import SearchSummary
from selavi_ref.errors import WRONG_CONTENT, CheckpointError, printable, reason
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
        model = CrossfitModel(
            components,
            others["weights"],
            whole["log_prior"],
            whole["potentials"],
            others["keys"],
            others["held_out"],
            summary,
        )
        _check(model)
    except OSError as error:
        raise CheckpointError(f"{printable(path)} cannot be read: {reason(error)}", path=path) from error
    except (EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error, *WRONG_CONTENT) as error:
        raise CheckpointError(f"{printable(path)} is damaged or no checkpoint of heads", path=path) from error
    return model


def _check(model: CrossfitModel) -> None:
    """Raise an error if the arrays of a model do not fit each other."""
    K = len(model.log_prior)
    shapes: list[tuple[Any, tuple[int, ...], str]] = [(model.log_prior, (K,), "f"), (model.potentials, (K,), "f")]
    for modality, components in model.components.items():
        D, C = np.shape(components.vectors)
        n = len(model.keys[modality])
        shapes += [
            (components.mean, (D,), "f"),
            (components.spread, (D,), "f"),
            (components.vectors, (D, C), "f"),
            (components.variances, (C,), "f"),
            (components.total, (), "f"),
            (model.weights[modality], (C + 1, K), "f"),
            (model.keys[modality], (n,), "u"),
            (model.held_out[modality], (n, K), "f"),
        ]
    if not model.components or not K or any(np.shape(x) != shape for x, shape, _ in shapes):
        raise ValueError("shapes do not fit each other")
    if any(np.asarray(x).dtype.kind != kind for x, _, kind in shapes):
        raise TypeError("an array is of another type")
    summary = model.summary
    numbers = [summary.penalty, *summary.information.values()]
    if summary.agreement is not None:  # labels that were refined have none
        numbers.append(summary.agreement)
    if not all(isinstance(number, (int, float)) for number in numbers):
        raise TypeError("the summary is of another type")
    if summary.candidate not in summary.information:
        raise ValueError("the summary lacks its candidate")
