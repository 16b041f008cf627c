"""What `selavi train-heads` does: learn heads on a store of features, and label that store and others with them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from selavi_ref.ensemble.consensus import find_consensus
from selavi_ref.errors import InputError, printable
from selavi_ref.heads.backbone import HeadOptions, HeadsBackbone, read_checkpoint, standardizer_of
from selavi_ref.heads.features import PairedFeatures
from selavi_ref.runs.checkpoints import Checkpoints
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run, RunKind
from selavi_ref.runs.session import training_session
from selavi_ref.selflabel.backbone import working_datasets
from selavi_ref.selflabel.self_labelling import ClusterSizes
from selavi_ref.selflabel.settings import TrainingSettings, overclustering_for
from selavi_ref.selflabel.training import Training
from selavi_ref.store import FeatureStore, StoreWriter, WorkingStore

_STEPS = 1000
_SETTLING = 0.3  # of the steps: those in which the rate falls


@dataclass(frozen=True)
class HeadsSettings:
    """
    Everything that makes a run of heads.

    Parameters
    ----------
    clusters, heads : int
        Clusters K of each labelling head, and number H of these heads.
    overclusters : int
        Clusters of each side head.
    training : TrainingSettings
        Of the loop.
    options : HeadOptions
        Of the heads.
    store : str
        The store that is learnt from.
    kind : str
        Tells such a run from others.
    """

    clusters: int
    heads: int
    overclusters: int
    training: TrainingSettings
    options: HeadOptions
    store: str
    kind: str = RunKind.HEADS.value

    @property
    def head_sizes(self) -> tuple[int, ...]:
        """Number of clusters of every head, the labelling ones first."""
        return (self.clusters,) * self.heads + (self.overclusters,) * self.training.overclustering_heads

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> HeadsSettings:
        """Make settings of what a run's file has; an `InputError` where they do not fit."""
        try:
            training = TrainingSettings.from_dict(values["training"])
            parts = {"training": training, "options": HeadOptions(**values["options"])}
            return cls(**{**values, **parts})
        except (KeyError, TypeError) as error:
            raise InputError(f"the settings of the run do not fit: {error}") from error


def heads_settings(
    store: str | os.PathLike[str],
    n_videos: int,
    clusters: int,
    *,
    heads: int = 5,
    hidden: int = 0,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float = 0.1,
    sizes: ClusterSizes = ClusterSizes("gaussian", 0.02),  # noqa: B008
    strength: float = 10.0,
    labellings: int = 60,
    overclustering_heads: int | None = None,
    seed: int = 0,
) -> HeadsSettings:
    """
    Return settings by the number of videos and what a user wants.

    Raises
    ------
    InputError
        If there are fewer videos than clusters.
    """
    if clusters > n_videos:
        raise InputError(f"--clusters {clusters}: only {n_videos} videos of {printable(store)} have both modalities")
    batch = batch_size or (32 if n_videos < 1000 else 64 if n_videos < 4000 else 256)
    per_epoch = max(1, round(n_videos / batch))
    usual = max(5, round(_STEPS / per_epoch))
    usual_overclustering, overclusters = overclustering_for(n_videos, clusters)
    overclustering_heads = usual_overclustering if overclustering_heads is None else overclustering_heads
    training = TrainingSettings(
        epochs=epochs or usual,
        settle_epochs=max(1, round(_SETTLING * usual)) if overclustering_heads and epochs is None else 0,
        batch_size=batch,
        learning_rate=learning_rate,
        warmup_epochs=1.0,
        labellings=labellings,
        sizes=sizes,
        strength=strength,
        overclustering_heads=overclustering_heads,
        seed=seed,
    )
    options = HeadOptions(hidden, feature_dropout=0.3 if hidden else 0.5)
    return HeadsSettings(clusters, heads, overclusters, training, options, os.path.abspath(store))


def start_heads(store: str | os.PathLike[str], folder: str | os.PathLike[str], clusters: int, **wanted: Any) -> Run:
    """
    Make the folder of a run that learns heads on a store; ``wanted`` are options of `heads_settings`.

    Raises
    ------
    InputError
        If the store does not fit, or the folder holds a run already.
    """
    with FeatureStore(store) as opened:
        n_videos = PairedFeatures(opened, most_bytes=0).n_videos
    settings = heads_settings(store, n_videos, clusters, **wanted)
    settings.training.sizes.draw(clusters, n_videos, np.random.default_rng(0))
    run = Run.prepare(folder)
    run.rewrite_config(asdict(settings))
    return run


def train_heads(run: Run, reporter: Reporter = SILENT) -> Training:
    """
    Learn heads from the newest checkpoint, or from the beginning, to the end.

    Raises
    ------
    StopRequest
        If the system has sent SIGTERM or SIGUSR1; the state is saved.
    """
    settings = HeadsSettings.from_dict(run.config)
    with training_session(run, reporter=reporter) as session, FeatureStore(settings.store) as features:
        collection = PairedFeatures(features)
        backbone = HeadsBackbone(
            collection.level,
            settings.head_sizes,
            settings.options,
            collection=collection,
            seed=settings.training.seed,
        )
        names = [features.paths[row] for row in collection.videos]
        datasets = working_datasets(backbone, settings.training.overclustering_heads)
        datasets = {name: width for name, width in datasets.items() if not name.startswith("features/")}
        classes = [features.classes[row] for row in collection.videos]
        with WorkingStore.create(run.working_file, names, datasets) as store:
            training = Training(
                backbone, settings.training, store, _checkpoints(run), session.log, classes=classes, reporter=reporter
            )
            session.restore(training)
            session.learn(training)
            training.finish()
    run.working_file.unlink(missing_ok=True)
    return training


def apply_heads(
    run: Run, store: str | os.PathLike[str], out: str | os.PathLike[str], reporter: Reporter = SILENT
) -> Path:
    """
    Write the log-probabilities of every labelling head for a store of features of the same models.

    Videos that lack a modality are looked at by the other; those that lack both keep their reason.

    Raises
    ------
    InputError
        If the run has not learnt anything, or the features are of another width.
    """
    settings = HeadsSettings.from_dict(run.config)
    backbone, state = _trained_heads(run, settings, reporter)
    with FeatureStore(store) as features:
        for m, width in backbone.level.widths.items():
            if not features.has(f"features/{m}") or features.width(f"features/{m}") != width:
                raise InputError(
                    f"{printable(store)} has no features/{m} of {width} numbers, which the heads learnt from"
                )
        heads = range(settings.heads)
        agreement = find_consensus(state["labels"][:, : settings.heads].astype(np.int32), settings.clusters)
        writer = StoreWriter(
            out,
            features.paths,
            {f"log_prob/{m}/{head}": settings.clusters for m in backbone.networks for head in heads},
            classes=features.classes,
            provenance={
                "run": os.path.abspath(run.folder),
                "store": os.path.abspath(store),
                "strength": settings.training.strength,
                "reference": agreement.reference,
                "agreement": agreement.agreement.tolist(),
                "versions": {"selavi-ref": version("selavi-ref"), "numpy": np.__version__},
            },
            whole={
                "alignment": agreement.alignment,
                "groups": agreement.groups,
                "potentials": np.stack([state[f"potentials_{head}"] for head in heads]),
            },
            resume=False,
        )
        with writer, reporter.bar(features.n_videos, "labelling", "video") as bar:
            reasons = features.reasons
            for rows in features.blocks():
                values, present = _look(features, backbone, heads, rows)
                nothing = ~np.logical_or.reduce(list(present.values()))
                told = [
                    reason or ("it has no features" if none else "")
                    for reason, none in zip(reasons[rows], nothing, strict=True)
                ]
                writer.write(rows, values, present=present, reason=told)
                bar.update(rows.stop - rows.start)
            return writer.finish()


def _look(
    features: FeatureStore, backbone: HeadsBackbone, heads: range, rows: slice
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return log-probabilities of some videos, and which modalities they have."""
    values, present = {}, {}
    for m, network in backbone.networks.items():
        x = features.features(m, rows)
        present[m] = features.present(m)[rows] & np.isfinite(x).all(1)
        x = backbone.level.standardised(m, np.where(present[m][:, None], x, 0))
        for head in heads:
            found = network.log_prob(x, head)
            values[f"log_prob/{m}/{head}"] = np.where(present[m][:, None], found, np.float32(np.nan))
    return values, present


def newest_state(run: Run, reporter: Reporter = SILENT) -> dict[str, Any]:
    """
    Return the state of the training loop of a run of heads, from its newest checkpoint that is not damaged.

    Raises
    ------
    CheckpointError
        If all checkpoints are damaged.
    InputError
        If there is none.
    """
    return _trained_heads(run, HeadsSettings.from_dict(run.config), reporter)[1]


def _trained_heads(run: Run, settings: HeadsSettings, reporter: Reporter) -> tuple[HeadsBackbone, dict[str, Any]]:
    """Return the heads of the newest checkpoint that is not damaged, and the state of the training loop."""

    def read(path: Path) -> tuple[HeadsBackbone, dict[str, Any]]:
        backbone = HeadsBackbone(standardizer_of(read_checkpoint(path)), settings.head_sizes, settings.options)
        return backbone, backbone.load(path)

    newest = _checkpoints(run).read_newest(read, reporter=reporter)
    if newest is None:
        raise InputError(f"{run.folder} has no checkpoint yet: the run has not learnt anything")
    return newest[1]


def _checkpoints(run: Run) -> Checkpoints:
    return Checkpoints(run.checkpoint_folder, suffix=".npz")
