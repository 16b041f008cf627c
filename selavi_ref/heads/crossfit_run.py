"""Runs of cross-fitted heads: settings, training, and applying the heads to stores of features."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selavi_ref.crossfit import CrossfitModel, CrossfitSettings, fit_crossfit
from selavi_ref.crossfit.checkpoint import load_model, save_model
from selavi_ref.crossfit.logistic import log_softmax
from selavi_ref.crossfit.model import DEFAULT_MARGINAL_PENALTY
from selavi_ref.crossfit.search import Round, SearchSummary
from selavi_ref.errors import InputError, printable
from selavi_ref.runs.checkpoints import Checkpoints
from selavi_ref.runs.provenance import Provenance
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run, RunKind
from selavi_ref.runs.session import training_session
from selavi_ref.selflabel.cluster_sizes import ClusterSizes
from selavi_ref.selflabel.constraints import HeadConstraints
from selavi_ref.store import FeatureStore, StoreWriter
from selavi_ref.transport import marginals

METHOD = "crossfit"
_NAMED = ("uniform", "gaussian", "zipf")
DEFAULT_SIZES = ClusterSizes("uniform", marginal_penalty=DEFAULT_MARGINAL_PENALTY)


@dataclass(frozen=True)
class CrossfitRunSettings:
    """
    Settings of a run of cross-fitted heads, as in its ``config.toml``.

    Parameters
    ----------
    clusters : int
        Number of clusters K.
    store : str
        Absolute path of the store with the training data.
    modalities : tuple of str
        Feature spaces to learn from.
    sizes : ClusterSizes
        Cluster sizes.
    seed : int
        Seed of all random numbers.
    heads : int
        Number of heads in stores that the run writes.
    method : str
        Tells such runs from those of version 0.1.0.
    kind : str
        A `RunKind`.
    segments : str
        How the videos of the store were cut, and further ones are: see `selavi_ref.datasets.segmentation.Segmentation`.
    """

    clusters: int
    store: str
    modalities: tuple[str, ...]
    sizes: ClusterSizes = DEFAULT_SIZES
    seed: int = 0
    heads: int = 1
    method: str = METHOD
    kind: str = RunKind.HEADS.value
    segments: str = "auto"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CrossfitRunSettings:
        """Read settings from a mapping; raises an `InputError` if it has other keys or types."""
        try:
            sizes = ClusterSizes(**{**values["sizes"], "given": tuple(values["sizes"]["given"])})
            return cls(**{**values, "sizes": sizes, "modalities": tuple(values["modalities"])})
        except (KeyError, TypeError) as error:
            raise InputError(f"the settings of the run do not fit: {error}") from error


class StoredFeatures:
    """
    Features of one modality of a store as rows that can be sliced; NaN where a video lacks the modality.

    Parameters
    ----------
    store : FeatureStore
        The store; it stays open as long as this object is used.
    modality : str
        The modality.
    """

    def __init__(self, store: FeatureStore, modality: str):
        self.store, self.modality = store, modality
        self.shape = (store.n_videos, store.width(f"features/{modality}"))
        self._present = store.present(modality)

    def __getitem__(self, rows: slice, /) -> NDArray[np.float32]:
        x = self.store.features(self.modality, rows)
        x[~self._present[rows]] = np.nan
        return x


def is_crossfit(run: Run) -> bool:
    """Return whether a run of heads is cross-fitted; those of version 0.1.0 are not."""
    return run.config.get("method") == METHOD


def start_crossfit(
    store: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    clusters: int,
    *,
    use: Sequence[str] = (),
    sizes: ClusterSizes = DEFAULT_SIZES,
    seed: int = 0,
) -> Run:
    """
    Make the folder of a run that fits cross-fitted heads on a store.

    Parameters
    ----------
    store : path
        Store with the training data.
    folder : path
        Folder of the run.
    clusters : int
        Number of clusters.
    use : sequence of str
        Feature spaces to learn from; by default all of the store.
    sizes : ClusterSizes
        Cluster sizes.
    seed : int
        Seed of all random numbers.

    Raises
    ------
    InputError
        If the store has no such features, or too few videos, or the folder holds a run already.
    """
    with FeatureStore(store) as opened:
        modalities = feature_spaces(opened, use)
        n_videos = opened.n_videos
    if n_videos < 2 * clusters or clusters < 2:
        message = f"--clusters {clusters}: it must be at least 2, and at most half of the {n_videos} videos"
        raise InputError(f"{message} of {printable(store)}", option="clusters", value=clusters)
    sizes.draw(clusters, n_videos, np.random.default_rng(seed))
    run = Run.prepare(folder)
    run.rewrite_config(asdict(CrossfitRunSettings(clusters, os.path.abspath(store), modalities, sizes, seed)))
    return run


def feature_spaces(store: FeatureStore, use: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the modalities of which a store has features, or those of them to use."""
    available = [m for m in store.modalities if store.has(f"features/{m}")]
    missing = [m for m in use if m not in available]
    if missing or not available:
        names = ", ".join(map(printable, available)) or "none"
        which = f"of {printable(missing[0])}" if missing else "to learn from"
        message = f"{printable(store.path)} has no features {which}; it has {names}"
        raise InputError(message, path=store.path, option="use", value=missing[0] if missing else None)
    return tuple(dict.fromkeys(use)) or tuple(available)


def train_crossfit(run: Run, reporter: Reporter = SILENT) -> CrossfitModel:
    """
    Fit the heads of a run, unless it has them already; an interrupted search starts anew, with the same result.

    Raises
    ------
    StopRequest
        If the system has sent SIGTERM or SIGUSR1.
    """
    settings, checkpoints = CrossfitRunSettings.from_dict(run.config), Checkpoints(run.checkpoint_folder, suffix=".npz")
    newest = checkpoints.read_newest(load_model, reporter=reporter) if checkpoints.newest_first() else None
    if newest is not None:
        return newest[1]
    search = CrossfitSettings()
    run.keep_records(lambda _: False)
    with (
        training_session(run, reporter=reporter) as session,
        FeatureStore(settings.store) as store,
        reporter.bar(search.total_rounds, "labelling", "round") as bar,
    ):

        def on_round(finished: Round) -> None:
            best = float(finished.information.max())
            changed = float(finished.changed.mean())
            session.log({"step": finished.number, "information": best, "changed": changed})
            bar.note(f"information {best:.2f}, changed {changed:.1%}")
            bar.update(1)

        sizes = settings.sizes.draw(settings.clusters, store.n_videos, np.random.default_rng(settings.seed))
        model, _ = fit_crossfit(
            {modality: StoredFeatures(store, modality) for modality in settings.modalities},
            settings.clusters,
            marginal=sizes,
            marginal_penalty=settings.sizes.marginal_penalty or None,
            settings=search,
            seed=settings.seed,
            on_round=on_round,
        )
        session.log({"step": search.total_rounds, **asdict(model.summary)})
        save_model(checkpoints.next_path(search.total_rounds), model)
    return model


def apply_crossfit(
    run: Run, store: str | os.PathLike[str], out: str | os.PathLike[str], reporter: Reporter = SILENT
) -> Path:
    """
    Write the log-probabilities of a run's heads for a store with features of the same models.

    Videos that were learnt from get held-out log-probabilities. Videos that lack a modality get those of the others.

    Parameters
    ----------
    run : Run
        A trained run of cross-fitted heads.
    store, out : path
        The store to read, and the store to write.

    Returns
    -------
    Path
        The store that was written.

    Raises
    ------
    InputError
        If the run has not learnt anything, or the store has no features that it has learnt from.
    """
    newest = Checkpoints(run.checkpoint_folder, suffix=".npz").read_newest(load_model, reporter=reporter)
    if newest is None:
        raise InputError(f"{run.folder} has no checkpoint yet: the run has not learnt anything", path=run.folder)
    return write_log_prob(newest[1], store, out, Provenance(run=os.path.abspath(run.folder)), reporter)


def write_log_prob(
    model: CrossfitModel,
    store: str | os.PathLike[str],
    out: str | os.PathLike[str],
    provenance: Provenance,
    reporter: Reporter = SILENT,
    corrected: HeadConstraints | None = None,
) -> Path:
    """Write the log-probabilities of a model for a store, as `apply_crossfit` does, with corrections of people."""
    with FeatureStore(store) as opened:
        spaces = _matching_spaces(opened, model)
        origin = {
            **provenance.to_dict(),
            "store": os.path.abspath(store),
            "strength": CrossfitSettings().strength,
            "search": asdict(model.summary),
            "versions": {"selavi-ref": version("selavi-ref"), "numpy": np.__version__},
        }
        writer = StoreWriter(
            out,
            opened.paths,
            {f"log_prob/{modality}/0": model.n_clusters for modality in spaces},
            classes=opened.classes,
            provenance=origin,
            whole={"potentials": np.zeros((1, model.n_clusters))},  # they are part of the log-probabilities
            resume=False,
        )
        with writer, reporter.bar(opened.n_videos, "labelling", "video") as bar:
            for rows in opened.blocks():
                log_prob = model.log_prob({modality: x[rows] for modality, x in spaces.items()})
                if corrected is not None:
                    log_prob = {m: log_softmax(corrected.scores(rows, x, 1.0)) for m, x in log_prob.items()}
                present = {modality: np.isfinite(values[:, 0]) for modality, values in log_prob.items()}
                missing = ~np.logical_or.reduce(list(present.values()))
                reasons = [
                    reason or ("it has no features" if without else "")
                    for reason, without in zip(opened.reasons[rows], missing, strict=True)
                ]
                values = {f"log_prob/{modality}/0": each for modality, each in log_prob.items()}
                writer.write(rows, values, present=present, reason=reasons)
                bar.update(rows.stop - rows.start)
            return writer.finish()


def cluster_sizes(distribution: str | None, marginal_penalty: float | None, clusters: int | None) -> ClusterSizes:
    """
    Return cluster sizes as options say.

    Parameters
    ----------
    distribution : str, optional
        ``"uniform"``, ``"gaussian"``, ``"zipf"`` or a file of sizes; None: uniform sizes, as a guess.
    marginal_penalty : float, optional
        Penalty for missing the sizes; 0: they are met. None: 0 if a distribution is given.
    clusters : int, optional
        Number of clusters; None if it is not known yet, so that there can be no file of sizes.

    Raises
    ------
    InputError
        If there is no such distribution, or the file has not one size for each cluster.
    """
    if distribution is None:
        return DEFAULT_SIZES if marginal_penalty is None else replace(DEFAULT_SIZES, marginal_penalty=marginal_penalty)
    sizes = ClusterSizes(distribution, marginal_penalty=marginal_penalty or 0.0)
    if distribution in _NAMED:
        return sizes
    if clusters is None:
        raise InputError(
            f"--distribution {distribution} has sizes for a number of clusters; give --clusters this number",
            option="distribution",
        )
    return replace(sizes, given=tuple(marginals.read(distribution, clusters).tolist()))


def describe_run(run: Run) -> str:
    """Return in one line what the search of a trained run has chosen; "" for a run of version 0.1.0."""
    if not is_crossfit(run):
        return ""
    with FeatureStore(run.features_file) as store:
        summary = SearchSummary(**store.provenance["search"])
    agreement = "" if summary.agreement is None else f", agreement of the runs (NMI) {summary.agreement:.2f}"
    return (
        f"cross-fitted heads: {summary.candidate}, penalty {summary.penalty:g}, held-out information "
        f"{summary.information[summary.candidate]:.2f} nats{agreement}"
    )


def _matching_spaces(store: FeatureStore, model: CrossfitModel) -> dict[str, StoredFeatures]:
    """Return the feature spaces of a store that the heads were fitted on; others may be missing, but not differ."""
    spaces = {}
    for modality, width in model.widths.items():
        if not store.has(f"features/{modality}"):
            continue
        spaces[modality] = StoredFeatures(store, modality)
        if spaces[modality].shape[1] != width:
            raise InputError(
                f"{printable(store.path)} has no features/{printable(modality)} of {width} numbers, which the heads "
                f"learnt from, but of {spaces[modality].shape[1]}",
                path=store.path,
            )
    if not spaces:
        names = " or ".join(f"features/{printable(modality)}" for modality in model.widths)
        raise InputError(f"{printable(store.path)} has no {names}, which the heads learnt from", path=store.path)
    return spaces
