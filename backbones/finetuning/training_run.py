"""Starting a fine-tuning run, and training its unfinished folds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from backbones.data.data_source import DataSource, n_loader_processes
from backbones.finetuning.evaluation import Predictions
from backbones.finetuning.fold_training import FoldContext, FoldTraining
from backbones.finetuning.folds import Fold
from backbones.finetuning.results import FoldResult, results_table, write_results
from backbones.finetuning.settings import FineTuneSettings, input_settings
from backbones.finetuning.video_clips import VideoOnlyClips
from backbones.learner.checkpoint import is_weights, read_checkpoint, read_newest, write_checkpoint
from backbones.networks import registry
from backbones.networks.registry import Base
from backbones.networks.weights import load_weights
from backbones.runs.run_settings import RunSettings, choose_device
from selavi_ref.datasets import Manifest
from selavi_ref.errors import InputError, SelaviError, printable
from selavi_ref.report.table import Table
from selavi_ref.runs.atomic import write_text
from selavi_ref.runs.checkpoints import Checkpoints
from selavi_ref.runs.checksums import forget_checksum, record_checksum, verify_checksum
from selavi_ref.runs.processes import Exchange, SingleProcess, raise_together
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run, RunKind
from selavi_ref.runs.session import training_session

_PREFIX = "video_network."  # of the video network's weights in a run's checkpoint


class FoldFiles:
    """Paths of the files of one fold, in a subfolder of the run folder."""

    def __init__(self, run: Run, number: int):
        self.folder = run.folder / f"fold{number}"
        self.videos = self.folder / "videos.csv"
        self.checkpoints = self.folder / "checkpoints"
        self.predictions = self.folder / "predictions.csv"
        self.not_decoded = self.folder / "not_decoded.txt"
        self.result = self.folder / "outcome.json"  # written last: marks the fold as finished


def settings_for(
    source: str,
    videos: str,
    *,
    frames: int | None = None,
    fps: float | None = None,
    size: int | None = None,
    augment: Sequence[str] = (),
    **options: Any,
) -> FineTuneSettings:
    """
    Return the settings for fine-tuning a run on a collection.

    Parameters
    ----------
    source, videos : str
        Folder of the run, and the collection.
    frames, fps, size, augment
        As in `input_settings`.
    options
        Fields of `FineTuneSettings`.

    Raises
    ------
    InputError
        If the run has no video network, or something does not fit.
    """
    run = Run.of_videos(source, "name a run of selavi train or convert")
    backbone = RunSettings.from_dict(run.config).backbone
    clips = input_settings(backbone, frames=frames, fps=fps, size=size, augment=augment)
    paths: dict[str, Any] = {"run": os.path.abspath(source), "videos": os.path.abspath(videos)}
    if options.get("video_weights"):
        if options.get("from_scratch"):
            raise InputError("--video-weights goes without --from-scratch", option="video_weights")
        paths["video_weights"] = os.path.abspath(options.pop("video_weights"))
    return FineTuneSettings(**paths, **clips, **options)


def start(
    folder: str | os.PathLike[str], settings: FineTuneSettings, folds: Sequence[Fold], reporter: Reporter = SILENT
) -> Run:
    """
    Make the folder of a fine-tuning run: its settings, the videos of its folds, and the initial weights.

    Raises
    ------
    InputError
        If the source run has no checkpoint yet, a file of weights does not fit, or the folder holds a run already.
    """
    base = _initial_weights(settings, reporter)
    run = Run.prepare(folder)
    for fold in folds:
        files = FoldFiles(run, fold.number)
        _make_folder(files.folder)
        forget_checksum(files.videos)
        fold.write(files.videos)
        record_checksum(files.videos)
    if base is not None:
        write_checkpoint(_base_file(run), {"model": base})
    run.rewrite_config(settings.to_dict())  # last: from here on the folder is a run
    return run


def _initial_weights(settings: FineTuneSettings, reporter: Reporter) -> dict[str, Tensor] | None:
    """Return the weights of the network with which every fold begins, or None for random ones."""
    if settings.from_scratch:
        return None
    if settings.video_weights:
        spec = registry.find("video", settings.video_net)
        network = Base(spec.build())
        load_weights(network, spec, settings.video_weights)
        return network.state_dict()
    weights = read_newest(Run.open(settings.run), reporter)["model"]
    return {name.removeprefix(_PREFIX): value for name, value in weights.items() if name.startswith(_PREFIX)}


def open_finetuning(folder: str | os.PathLike[str]) -> tuple[Run, FineTuneSettings]:
    """
    Open a fine-tuning run that was started before.

    Raises
    ------
    InputError
        If the folder holds no fine-tuning run.
    """
    run = Run.open(folder)
    if run.kind is not RunKind.FINETUNE:
        raise InputError(f"{printable(folder)} holds a run that is no fine-tuning; choose another --out", path=folder)
    return run, FineTuneSettings.from_dict(run.config)


def finetune(
    run: Run,
    *,
    device: str = "auto",
    data_source: DataSource = DataSource(),  # noqa: B008
    minutes: float = 15.0,
    exchange: Exchange = SingleProcess(),  # noqa: B008
    reporter: Reporter = SILENT,
) -> Table:
    """
    Train and evaluate the unfinished folds, each from its newest checkpoint, and write the results.

    Parameters
    ----------
    run : Run
        As made by `start`.
    device : str
        See `choose_device`.
    data_source : DataSource
        How clips are read.
    minutes : float
        Interval of checkpoints within an epoch, minutes; one is also written at the end of each epoch.
    exchange : Exchange
        The other processes of the run, which all call this; the first one writes.

    Returns
    -------
    Table
        The results of all folds.

    Raises
    ------
    StopRequest
        If the system has sent SIGTERM or SIGUSR1; the state is saved.
    """
    run, settings = open_finetuning(run.folder)
    with training_session(run, exchange=exchange, reporter=reporter, tensorboard=False) as session:
        with raise_together(exchange):
            folds = [_read_fold(run, number) for number in settings.folds]
            unfinished = [fold for fold in folds if not FoldFiles(run, fold.number).result.exists()]
            base = None if settings.from_scratch else _base_weights(run)
        clips = None
        if unfinished:
            clips = VideoOnlyClips(_usable(unfinished), settings.clip, data_source, exchange, session.reporter)
        for fold in unfinished:
            assert clips is not None
            files = FoldFiles(run, fold.number)
            train, test = clips.part(fold.train.paths), clips.part(fold.test.usable.paths)
            context = FoldContext(
                Checkpoints(files.checkpoints, last=2, keep_every=0, minutes=minutes),
                choose_device(device),
                n_loader_processes(train, data_source),
                session.log,
                exchange,
                session.reporter,
            )
            training = FoldTraining(settings, fold, train, test, base, context)
            session.restore(training)
            predictions = session.learn(training, f"learning fold {fold.number}")
            with raise_together(exchange):
                if exchange.rank == 0:
                    _write_fold(files, fold, predictions, training, reporter)
                    write_results(run, settings, _results(run, settings))
        with raise_together(exchange):
            if exchange.rank == 0:
                write_results(run, settings, _results(run, settings))
    return results_table(settings, _results(run, settings))


def _write_fold(
    files: FoldFiles, fold: Fold, predictions: Predictions, training: FoldTraining, reporter: Reporter
) -> None:
    """Write the tables of a fold that was trained; the file of its result comes last, and marks it as complete."""
    predictions.write(files.predictions, fold)
    if training.state.failures:
        reasons = sorted(training.state.failures.items())
        write_text(files.not_decoded, "".join(f"{reason}\n" for _, reason in reasons))
        reporter.warn(f"some videos could not always be decoded; see {printable(files.not_decoded)}")
    FoldResult.of(fold, predictions, training.state.epochs).write(files.result)


def _read_fold(run: Run, number: int) -> Fold:
    """Read the videos of a fold; an `InputError` if the list was changed since."""
    path = FoldFiles(run, number).videos
    verify_checksum(path, "restore it, or start another run with --out")
    return Fold.read(number, path)


def _usable(folds: Sequence[Fold]) -> Manifest:
    """Return the usable videos of all folds, each once."""
    entries = {entry.path: entry for fold in folds for entry in [*fold.train, *fold.test.usable]}
    return replace(folds[0].train, entries=list(entries.values()))


def _results(run: Run, settings: FineTuneSettings) -> list[FoldResult]:
    """Return the results of the finished folds."""
    files = [FoldFiles(run, number).result for number in settings.folds]
    return [FoldResult.read(path) for path in files if path.exists()]


def _base_weights(run: Run) -> dict[str, Tensor]:
    """Return the weights with which every fold begins."""
    path = _base_file(run)
    weights = read_checkpoint(path).get("model")
    if weights is None or not is_weights(weights):
        raise InputError(f"{printable(path)} holds no weights of a network; start another run", path=path)
    return weights


def _base_file(run: Run) -> Path:
    return run.folder / "begin.pt"


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SelaviError(f"{printable(folder)} cannot be made: {error.strerror}", path=folder) from error
