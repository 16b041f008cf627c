"""Label features that any models have computed, and learn heads that label others; without PyTorch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from selavi_ref.api.predictions import label_features
from selavi_ref.api.progress import choose_reporter
from selavi_ref.api.run import Run
from selavi_ref.ensemble.label_table import write_csv
from selavi_ref.errors import FilePath, InputError
from selavi_ref.heads.any_run import apply, learnt_store, train
from selavi_ref.heads.crossfit_run import cluster_sizes, start_crossfit
from selavi_ref.heads.pilot import finish_pilot, start_pilot
from selavi_ref.runs.pilot_run import PilotRun
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run as RunFolder
from selavi_ref.runs.run import RunKind
from selavi_ref.runs.run_lock import locked
from selavi_ref.store import FeatureStore

_INPUT = "input.h5"  # in the folder of the run: arrays as they were given


def train_heads(
    features: FilePath | Mapping[str, Any],
    n_clusters: int | str,
    out: FilePath,
    *,
    paths: Sequence[FilePath] | None = None,
    classes: Sequence[str] | None = None,
    use: Sequence[str] = (),
    distribution: str | None = None,
    soft_sizes: float | None = None,
    seed: int = 0,
    resume: bool = False,
    reporter: Reporter | None = None,
    progress: bool = False,
) -> Run:
    """
    Label videos by their features, learn heads that label others, and return the run.

    The same as ``selavi train-heads STORE --clusters N --out RUN``.

    Parameters
    ----------
    features : path or mapping of str to array
        A store, or arrays of shape (N, D), real numbers, by the name of their feature space, such as ``"clip"``; a row
        of NaN marks a video that lacks it. Arrays are kept in the folder of the run.
    n_clusters : int or "auto"
        Number of clusters; ``"auto"``: it is estimated first, from two feature spaces or more.
    out : path
        Folder of the run.
    paths : sequence of path, length N, optional
        The videos, or other names of the rows of arrays; by default ``"row 0"`` and so on.
    classes : sequence of str, length N, optional
        True classes of the rows of arrays, "" where unknown; for evaluation only.
    use : sequence of str
        Feature spaces to label by; by default all.
    distribution : str, optional
        Sizes of the clusters: ``"uniform"``, ``"gaussian"``, ``"zipf"``, or a file of sizes.
    soft_sizes : float, optional
        Penalty for missing these sizes: the smaller, the more the features decide; 0: they are met. By default 0.3, or
        0 with `distribution`.
    seed : int
        Seed of all random numbers.
    resume : bool
        Continue the run in `out`, if there is one, with its own settings. Otherwise, a run in `out` is an error.
    reporter, progress
        See `selavi_ref.api.video_labelling.label_videos`.

    Returns
    -------
    Run
        The finished run; its ``predict`` takes arrays or a store of the same feature spaces.

    Raises
    ------
    InputError
        If the features or an option do not fit, or `out` holds a run.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> clip = np.repeat(np.eye(2, 8, dtype=np.float32), 20, axis=0) * 5 + np.random.default_rng(0).normal(size=(40, 8))
    >>> run = train_heads({"clip": clip}, 2, f"{folder.name}/run")
    >>> len(set(run.labels[:20].tolist())), len(set(run.labels.tolist()))
    (1, 2)
    >>> folder.cleanup()
    """
    exists = RunFolder(out).config_file.exists() or PilotRun(Path(out)).under_way
    if exists and not resume:
        raise InputError(f"{out} holds a run already; give resume=True to continue it, or choose another out", path=out)
    with locked(out):
        if not exists:
            number = None if n_clusters == "auto" else _checked(n_clusters)
            store = _stored(features, Path(out) / _INPUT, paths, classes)
            try:
                start_heads_run(
                    store, out, n_clusters=number, use=use, distribution=distribution, soft_sizes=soft_sizes, seed=seed
                )
            except InputError:
                if store is not features:  # the same call with other options must not find it in its way
                    Path(store).unlink()
                raise
        run = finish_heads_run(out, choose_reporter(reporter, progress))
        write_csv(label_features(run.features_file)[0], run.labels_file)
    return Run.open(run.folder)


def start_heads_run(
    store: FilePath,
    out: FilePath,
    *,
    n_clusters: int | None = None,
    most: int | None = None,
    use: Sequence[str] = (),
    distribution: str | None = None,
    soft_sizes: float | None = None,
    seed: int = 0,
) -> None:
    """
    Make the folder of a run of heads on a store; without `n_clusters` that of its pilot run, for at most `most`.

    Parameters and errors are those of `train_heads`.
    """
    sizes = cluster_sizes(distribution, soft_sizes, n_clusters)
    if n_clusters is not None:
        start_crossfit(store, out, n_clusters, use=use, sizes=sizes, seed=seed)
    else:
        start_pilot(store, out, most, use=tuple(use), sizes=sizes, seed=seed)


def finish_heads_run(out: FilePath, reporter: Reporter = SILENT) -> RunFolder:
    """
    Take a run of heads from where it is to its end: pilot run, heads, and log-probabilities of its videos.

    Raises
    ------
    InputError
        If there is no run, or it has learnt from videos.
    StopRequest
        If the system has sent SIGTERM or SIGUSR1; the state is saved.
    """
    with locked(out):
        pilot = PilotRun(Path(out))
        run = pilot.pilot if pilot.under_way else RunFolder.open(out)
        if run.kind is not RunKind.HEADS:
            raise InputError(f"{out} is a run on videos; continue with: selavi train --resume --out {out}", path=out)
        if pilot.under_way:
            run = finish_pilot(pilot, reporter)
        train(run, reporter)
        apply(run, learnt_store(run), run.features_file, reporter)
    return run


def _checked(n_clusters: int | str) -> int:
    if not isinstance(n_clusters, int) or isinstance(n_clusters, bool) or n_clusters < 2:
        raise InputError(
            f'n_clusters must be a number from 2 or "auto", not {n_clusters!r}', option="n_clusters", value=n_clusters
        )
    return n_clusters


def _stored(
    features: FilePath | Mapping[str, Any],
    store: Path,
    paths: Sequence[FilePath] | None,
    classes: Sequence[str] | None,
) -> FilePath:
    """Return the path of a store of features: the given one, or a new one of the given arrays."""
    if isinstance(features, (str, os.PathLike)):
        if paths is not None or classes is not None:
            raise InputError("a store has paths and classes of its own; give them with arrays only", option="paths")
        return features
    if not isinstance(features, Mapping):
        raise InputError(
            "give the path of a store of features, or a mapping of the names of feature spaces to arrays",
            option="features",
        )
    if store.exists():
        raise InputError(f"{store} exists already; choose another out", path=store)
    spaces = {name: np.asarray(values) for name, values in features.items()}
    n_rows = max((len(values) for values in spaces.values()), default=0)
    names = [f"row {row}" for row in range(n_rows)] if paths is None else paths
    FeatureStore.from_arrays(store, spaces, paths=names, classes=classes).close()
    return store
