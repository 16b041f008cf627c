"""What `selavi finetune` does with a folder: start it, and carry out what is left of its folds."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from backbones.data.data_source import DataSource, n_loader_processes
from backbones.finetuning.fold_training import FoldContext, FoldProgress, FoldTraining
from backbones.finetuning.folds import Fold
from backbones.finetuning.results import FoldResult, write_results
from backbones.finetuning.settings import FineTuneSettings, input_settings
from backbones.finetuning.video_clips import VideoOnlyClips
from backbones.learner.checkpoint import read_checkpoint, read_newest, write_checkpoint
from backbones.runs.run_settings import RunSettings, choose_device
from selavi_ref.datasets import Manifest
from selavi_ref.errors import InputError, SelaviError, printable
from selavi_ref.report.table import Table
from selavi_ref.runs.atomic import write_text
from selavi_ref.runs.checkpoints import Checkpoints
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run, RunKind
from selavi_ref.runs.signals import Stops, stoppable

_PREFIX = "video_network."  # of the video network's weights in a run's checkpoint


class FoldFiles:
    """The files of one fold, in a folder of its own below that of the fine-tuning."""

    def __init__(self, run: Run, number: int):
        self.folder = run.folder / f"fold{number}"
        self.videos = self.folder / "videos.csv"
        self.checkpoints = self.folder / "checkpoints"
        self.predictions = self.folder / "predictions.csv"
        self.not_decoded = self.folder / "not_decoded.txt"
        self.result = self.folder / "outcome.json"  # written last: with it, the fold is finished


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
    Return the settings of a fine-tuning of a run on a collection.

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
    places: dict[str, Any] = {"run": os.path.abspath(source), "videos": os.path.abspath(videos)}
    return FineTuneSettings(**places, **clips, **options)


def start(folder: str | os.PathLike[str], settings: FineTuneSettings, folds: Sequence[Fold]) -> Run:
    """
    Make the folder of a fine-tuning: its settings, the videos of its folds, and the weights that they begin with.

    Raises
    ------
    InputError
        If the run has not learnt anything yet, or the folder holds a run already.
    """
    weights = None if settings.from_scratch else read_newest(Run.open(settings.run))["model"]
    run = Run.prepare(folder)
    for fold in folds:
        files = FoldFiles(run, fold.number)
        _make(files.folder)
        fold.write(files.videos)
    if weights is not None:
        kept = {name.removeprefix(_PREFIX): value for name, value in weights.items() if name.startswith(_PREFIX)}
        write_checkpoint(_base_file(run), {"model": kept})
    run.rewrite_config(settings.to_dict())  # last: from here on the folder is a run
    return run


def open_finetuning(folder: str | os.PathLike[str]) -> tuple[Run, FineTuneSettings]:
    """
    Open a fine-tuning that was started before.

    Raises
    ------
    InputError
        If the folder holds none.
    """
    run = Run.open(folder)
    if run.kind is not RunKind.FINETUNE:
        raise InputError(f"{printable(folder)} holds a run that is no fine-tuning; choose another --out")
    return run, FineTuneSettings.from_dict(run.config)


def finetune(
    run: Run,
    *,
    device: str = "auto",
    data_source: DataSource = DataSource(),  # noqa: B008
    minutes: float = 15.0,
    reporter: Reporter = SILENT,
) -> Table:
    """
    Carry out the folds that are not finished, each from its newest checkpoint, and write the results.

    Parameters
    ----------
    run : Run
        As made by `start`.
    device : str
        See `choose_device`.
    loading : Loading
        Where the clips come from.
    minutes : float
        Within an epoch a checkpoint is written every so many minutes, beside those at its end.

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
    with stoppable() as stops:
        folds = [Fold.read(number, FoldFiles(run, number).videos) for number in settings.folds]
        left = [fold for fold in folds if not FoldFiles(run, fold.number).result.exists()]
        pictures = VideoOnlyClips(_usable(left), settings.clip, data_source, reporter) if left else None
        base = None if settings.from_scratch else read_checkpoint(_base_file(run))["model"]
        for fold in left:
            assert pictures is not None
            _run_fold(
                run, settings, fold, pictures, base, (choose_device(device), data_source, minutes), stops, reporter
            )
            write_results(run, settings, _outcomes(run, settings))
    return write_results(run, settings, _outcomes(run, settings))


def _run_fold(
    run: Run,
    settings: FineTuneSettings,
    fold: Fold,
    pictures: VideoOnlyClips,
    base: Mapping[str, Tensor] | None,
    where: tuple[str, DataSource, float],
    stops: Stops,
    reporter: Reporter,
) -> None:
    """Learn what is left of a fold, and note its result."""
    files = FoldFiles(run, fold.number)
    train, test = pictures.part(fold.train.paths), pictures.part(fold.test.usable.paths)
    device, data_source, minutes = where
    place = FoldContext(
        Checkpoints(files.checkpoints, last=2, keep_every=0, minutes=minutes),
        device,
        n_loader_processes(train, data_source),
        run.log,
        reporter,
    )
    learning = FoldTraining(settings, fold, train, test, base, place)
    learning.restore()
    _forget_log(run, fold.number, len(learning.state.epochs))
    stops.on_stop = learning.request_stop
    with reporter.bar(learning.total_steps, f"learning fold {fold.number}", "step", learning.state.step) as bar:

        def show_progress(now: FoldProgress) -> None:
            bar.note(f"epoch {now.epoch}, loss {now.loss:.3f}, rate {now.rates[0]:.3g}")
            bar.update(1)

        answers = learning.run(show_progress)
    stops.on_stop = None
    answers.write(files.predictions, fold)
    if learning.state.failures:
        write_text(files.not_decoded, "".join(f"{why}\n" for _, why in sorted(learning.state.failures.items())))
        reporter.warn(f"some videos could not always be decoded; see {printable(files.not_decoded)}")
    FoldResult.of(fold, answers, learning.state.epochs).write(files.result)


def _usable(folds: Sequence[Fold]) -> Manifest:
    """Return the videos of all folds that can be used, each once."""
    entries = {entry.path: entry for fold in folds for entry in [*fold.train, *fold.test.usable]}
    return replace(folds[0].train, entries=list(entries.values()))


def _outcomes(run: Run, settings: FineTuneSettings) -> list[FoldResult]:
    """Return what the folds that are finished have come to."""
    files = [FoldFiles(run, number).result for number in settings.folds]
    return [FoldResult.read(path) for path in files if path.exists()]


def _forget_log(run: Run, fold: int, epochs: int) -> None:
    """Drop what a fold that goes on will log again."""
    if run.log_file.exists():
        kept = [record for record in run.records if record["fold"] != fold or record["epoch"] <= epochs]
        write_text(run.log_file, "".join(f"{json.dumps(record)}\n" for record in kept))


def _base_file(run: Run) -> Path:
    return run.folder / "begin.pt"


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SelaviError(f"{printable(folder)} cannot be made: {error.strerror}") from error
