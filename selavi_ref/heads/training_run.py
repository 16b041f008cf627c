"""Runs of heads on features: settings, training, and applying trained heads to stores of features."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from selavi_ref.ensemble.consensus import find_consensus
from selavi_ref.errors import WRONG_CONTENT, InputError, printable
from selavi_ref.heads.backbone import HeadOptions, HeadsBackbone, read_checkpoint, standardizer_of
from selavi_ref.heads.features import PairedFeatures
from selavi_ref.runs.checkpoints import Checkpoints
from selavi_ref.runs.provenance import Provenance
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run, RunKind
from selavi_ref.runs.session import training_session
from selavi_ref.runs.setting_fields import check_settings, described
from selavi_ref.selflabel.backbone import working_datasets
from selavi_ref.selflabel.cluster_sizes import ClusterSizes
from selavi_ref.selflabel.settings import TrainingSettings, overclustering_for
from selavi_ref.selflabel.training import Training
from selavi_ref.store import FeatureStore, StoreWriter, WorkingStore

_STEPS = 1000  # of a training with the default number of epochs, about
_SETTLE_FRACTION = 0.3  # of the epochs: those in which the learning rate falls


@dataclass(frozen=True)
class HeadsSettings:
    """Settings of a run of heads on features, as in its ``config.toml``; the help of each field describes it."""

    clusters: int = field(metadata=described("Clusters K of each main head", minimum=1))
    heads: int = field(
        metadata=described("Main heads H, each of which learns its own labels", minimum=1, option="heads")
    )
    overclusters: int = field(metadata=described("Clusters of each over-clustering head", minimum=0))
    training: TrainingSettings
    options: HeadOptions
    store: str  # the one that is learnt from
    kind: str = RunKind.HEADS.value

    def __post_init__(self) -> None:
        check_settings(self, "")

    @property
    def head_sizes(self) -> tuple[int, ...]:
        """Number of clusters of every head, the main heads first."""
        return (self.clusters,) * self.heads + (self.overclusters,) * self.training.overclustering_heads

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> HeadsSettings:
        """Read settings from a mapping; raises an `InputError` if it has other keys or types."""
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
    sizes: ClusterSizes = ClusterSizes(),  # noqa: B008
    strength: float = 10.0,
    labellings: int = 60,
    overclustering_heads: int | None = None,
    seed: int = 0,
) -> HeadsSettings:
    """
    Return the settings of a run of heads; the defaults depend on the number of videos.

    Parameters
    ----------
    store : path
        Store with the training data.
    n_videos : int
        Number of its videos that have both modalities.
    clusters : int
        Number of clusters of each main head.
    heads, hidden
        See `HeadsSettings` and `HeadOptions`.
    epochs, batch_size, learning_rate, sizes, strength, labellings, overclustering_heads, seed
        See `TrainingSettings`; None: by the number of videos.

    Raises
    ------
    InputError
        If there are fewer videos than clusters.
    """
    if clusters > n_videos:
        raise InputError(
            f"--clusters {clusters}: only {n_videos} videos of {printable(store)} have both modalities",
            option="clusters",
        )
    batch = batch_size or (32 if n_videos < 1000 else 64 if n_videos < 4000 else 256)
    per_epoch = max(1, round(n_videos / batch))
    default_epochs = max(5, round(_STEPS / per_epoch))
    default_heads, overclusters = overclustering_for(n_videos, clusters)
    overclustering_heads = default_heads if overclustering_heads is None else overclustering_heads
    training = TrainingSettings(
        epochs=epochs or default_epochs,
        settle_epochs=max(1, round(_SETTLE_FRACTION * default_epochs))
        if overclustering_heads and epochs is None
        else 0,
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


def start_heads(store: str | os.PathLike[str], folder: str | os.PathLike[str], clusters: int, **options: Any) -> Run:
    """
    Make the folder of a run that learns heads on a store; ``options`` are those of `heads_settings`.

    Raises
    ------
    InputError
        If the store does not fit, or the folder holds a run already.
    """
    with FeatureStore(store) as opened:
        n_videos = PairedFeatures(opened, max_bytes=0).n_videos
    settings = heads_settings(store, n_videos, clusters, **options)
    settings.training.sizes.draw(clusters, n_videos, np.random.default_rng(0))
    run = Run.prepare(folder)
    run.rewrite_config(asdict(settings))
    return run


def train_heads(run: Run, reporter: Reporter = SILENT) -> Training:
    """
    Train heads to the end, from the newest checkpoint if there is one.

    Raises
    ------
    StopRequest
        If the system has sent SIGTERM or SIGUSR1; the state is saved.
    """
    settings = HeadsSettings.from_dict(run.config)
    with training_session(run, reporter=reporter) as session, FeatureStore(settings.store) as features:
        paired = PairedFeatures(features)
        backbone = HeadsBackbone(
            paired.standardizer, settings.head_sizes, settings.options, features=paired, seed=settings.training.seed
        )
        paths = [features.paths[row] for row in paired.videos]
        datasets = working_datasets(backbone, settings.training.overclustering_heads)
        datasets = {name: width for name, width in datasets.items() if not name.startswith("features/")}
        classes = [features.classes[row] for row in paired.videos]
        with WorkingStore.create(run.working_file, paths, datasets) as store:
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
    Write the log-probabilities of every main head for a store with features of the same models.

    Videos that lack a modality get those of the other; videos that lack both keep their reason.

    Parameters
    ----------
    run : Run
        A run of heads.
    store, out : path
        The store to read, and the store to write.

    Returns
    -------
    Path
        The store that was written.

    Raises
    ------
    InputError
        If the run has not learnt anything, or the features are of another width.
    """
    settings = HeadsSettings.from_dict(run.config)
    backbone, state = _trained_heads(run, settings, reporter)
    with FeatureStore(store) as features:
        for m, width in backbone.standardizer.widths.items():
            if not features.has(f"features/{m}") or features.width(f"features/{m}") != width:
                raise InputError(
                    f"{printable(store)} has no features/{m} of {width} numbers, which the heads learnt from",
                    path=store,
                )
        heads = range(settings.heads)
        consensus = find_consensus(state["labels"][:, : settings.heads].astype(np.int32), settings.clusters)
        writer = StoreWriter(
            out,
            features.paths,
            {f"log_prob/{m}/{head}": settings.clusters for m in backbone.networks for head in heads},
            classes=features.classes,
            provenance=Provenance(
                run=os.path.abspath(run.folder),
                store=os.path.abspath(store),
                strength=settings.training.strength,
                reference=consensus.reference,
                agreement=tuple(consensus.agreement.tolist()),
                versions={"selavi-ref": version("selavi-ref"), "numpy": np.__version__},
            ).to_dict(),
            whole={
                "alignment": consensus.alignment,
                "groups": consensus.groups,
                "potentials": np.stack([state[f"potentials_{head}"] for head in heads]),
            },
            resume=False,
        )
        with writer, reporter.bar(features.n_videos, "labelling", "video") as bar:
            for rows in features.blocks():
                values, present = _log_prob(features, backbone, heads, rows)
                missing = ~np.logical_or.reduce(list(present.values()))
                reasons = [
                    reason or ("it has no features" if without else "")
                    for reason, without in zip(features.reasons[rows], missing, strict=True)
                ]
                writer.write(rows, values, present=present, reason=reasons)
                bar.update(rows.stop - rows.start)
            return writer.finish()


def _log_prob(
    features: FeatureStore, backbone: HeadsBackbone, heads: range, rows: slice
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return log-probabilities of some videos, and which modalities they have."""
    values, present = {}, {}
    for m, network in backbone.networks.items():
        x = features.features(m, rows)
        present[m] = features.present(m)[rows] & np.isfinite(x).all(1)
        x = backbone.standardizer.transform(m, np.where(present[m][:, None], x, 0))
        for head in heads:
            log_prob = network.log_prob(x, head)
            values[f"log_prob/{m}/{head}"] = np.where(present[m][:, None], log_prob, np.float32(np.nan))
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
        content = read_checkpoint(path)
        try:
            backbone = HeadsBackbone(standardizer_of(content), settings.head_sizes, settings.options)
        except WRONG_CONTENT as error:
            raise InputError(f"{printable(path)} does not fit the heads of this run: {error}", path=path) from error
        return backbone, backbone.load(path)

    newest = _checkpoints(run).read_newest(read, reporter=reporter)
    if newest is None:
        raise InputError(f"{run.folder} has no checkpoint yet: the run has not learnt anything", path=run.folder)
    return newest[1]


def _checkpoints(run: Run) -> Checkpoints:
    return Checkpoints(run.checkpoint_folder, suffix=".npz")
