"""The run folder: settings, log and the names of all files that a command leaves for the next one."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import tomli_w

from selavi_ref.errors import InputError, SelaviError, printable
from selavi_ref.runs.atomic import write_text
from selavi_ref.runs.checksums import is_recorded
from selavi_ref.runs.old_names import with_current_names

FINAL_CLIPS = 3  # clips of each video from which cross-fitted final labels are found
_LARGEST = 2.0**63  # of a number in the log


_COMMON = {"clusters": int, "heads": int, "store": str}  # settings that are read whatever the kind of run


class RunKind(StrEnum):
    """What a run has learnt: networks for videos, heads on features, or a classifier of known classes."""

    VIDEOS = "videos"
    HEADS = "heads"
    FINETUNE = "finetune"


class Run:
    """
    A run folder, and the names of its files.

    Parameters
    ----------
    folder : path
        The folder.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        self.folder = Path(folder)
        self.config_file = self.folder / "config.toml"
        self.videos_file = self.folder / "videos.csv"
        self.skipped_file = self.folder / "skipped.csv"
        self.added_file = self.folder / "added.csv"
        self.contents_file = self.folder / "contents.csv"
        self.failures_file = self.folder / "not_decoded.txt"
        self.checkpoint_folder = self.folder / "checkpoints"
        self.events_folder = self.folder / "tensorboard"
        self.working_file = self.folder / "working.h5"
        self.features_file = self.folder / "features.h5"
        self.final_labels_file = self.folder / "final_labels.npz"
        self.labels_file = self.folder / "labels.csv"
        self.log_file = self.folder / "metrics.jsonl"
        self.sheet_file = self.folder / "clusters.png"
        self.annotations_file = self.folder / "annotations.json"
        self.names_file = self.folder / "names.json"
        self.browser_folder = self.folder / "browser"
        self.links_folder = self.folder / "labelled"
        self.constraints_file = self.folder / "constraints.npz"
        self.update_folder = self.folder / "update"
        self.learning_folder = self.folder / "learning"
        self.learnt_file = self.folder / "learnt.json"

    @property
    def usual_clips(self) -> int:
        """Clips of each video by which other videos are labelled unless a number is given."""
        return FINAL_CLIPS if self.final_labels_file.exists() else 1

    @property
    def usual_segments(self) -> str:
        """How the videos that it has learnt from were cut, and others are unless something else is asked for."""
        return str(self.config.get("segments", "auto"))

    @classmethod
    def prepare(cls, folder: str | os.PathLike[str]) -> Run:
        """
        Make the folder of a new run; it counts as a run once its settings are written, which should come last.

        Raises
        ------
        InputError
            If the folder holds a run already or a file that the run would replace, or cannot be made.
        """
        run = cls(folder)
        if run.config_file.exists():
            raise InputError(
                f"{run.folder} holds a run already; go on with --resume, or choose another --out", path=run.folder
            )
        try:
            run.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{run.folder} cannot be made: {error.strerror}", path=run.folder) from error
        for file in (run.videos_file, run.labels_file, run.features_file, run.annotations_file, run.log_file):
            if file.exists() and not is_recorded(file):  # an interrupted start has left recorded ones
                what = "which no run has written and a new one would replace"
                raise InputError(f"{run.folder} holds {file.name}, {what}; choose another --out", path=file)
        return run

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Run:
        """
        Open a run that was started before.

        Raises
        ------
        InputError
            If the folder is missing or holds no run.
        """
        run = cls(folder)
        if not run.folder.is_dir():
            raise InputError(
                f"{run.folder} is not a folder; name the folder of a run, as made by selavi train --out",
                path=run.folder,
            )
        if not run.config_file.exists():
            raise InputError(
                f"{run.folder} holds no run: it has no config.toml; "
                "name the folder of a run, as made by selavi train --out",
                path=run.folder,
            )
        return run

    @classmethod
    def of_videos(cls, folder: str | os.PathLike[str], instead: str = "") -> Run:
        """
        Open a run that has learnt from videos, with both networks and their heads.

        Parameters
        ----------
        folder : path
            The folder.
        instead : str
            Advice in the error if the run has learnt from features.

        Raises
        ------
        InputError
            If there is no run, or it is of another kind.
        """
        run = cls.open(folder)
        if run.kind is RunKind.HEADS:
            advice = f"; {instead}" if instead else ""
            raise InputError(
                f"{run.folder} has learnt from features, and has no networks for videos{advice}", path=run.folder
            )
        if run.kind is not RunKind.VIDEOS:
            raise InputError(f"{run.folder} is no run of selavi train, but one of selavi {run.kind}", path=run.folder)
        return run

    @property
    def kind(self) -> RunKind:
        """
        What the run has learnt.

        Raises
        ------
        InputError
            If the settings cannot be read, or name no known kind.
        """
        kind = self.config.get("kind", RunKind.VIDEOS)
        if kind not in list(RunKind):
            raise InputError(
                f"{printable(self.config_file)}: kind is {kind!r}; known are {', '.join(RunKind)}",
                path=self.config_file,
            )
        return RunKind(kind)

    def refuse_unfinished(self) -> None:
        """
        Do nothing if the run has the features and log-probabilities of its videos.

        Raises
        ------
        InputError
            If it has none, since its training was stopped before the end.
        """
        if not self.features_file.exists():
            of_heads = self.kind is RunKind.HEADS
            how = "its command with --resume" if of_heads else f"selavi train --resume --out {printable(self.folder)}"
            raise InputError(f"{printable(self.folder)} is not finished; go on with: {how}", path=self.folder)

    @property
    def config(self) -> dict[str, Any]:
        """
        The settings, under today's names.

        Raises
        ------
        InputError
            If the file cannot be read, or a setting that every kind of run has is of another type.
        """
        try:
            config = with_current_names(tomllib.loads(self.config_file.read_text(encoding="utf-8")))
        except (OSError, ValueError, RecursionError) as error:
            message = f"{printable(self.config_file)} cannot be read: {error}"
            raise InputError(message, path=self.config_file) from error
        for name, kind in _COMMON.items():
            if name in config and type(config[name]) is not kind:
                what = "a whole number" if kind is int else "a text"
                message = f"{printable(self.config_file)}: {name} is {config[name]!r:.40}; it must be {what}"
                raise InputError(message, path=self.config_file, option=name, value=config[name])
        return config

    def rewrite_config(self, config: Mapping[str, Any]) -> None:
        """Write the settings, in place of those that were there."""
        write_text(self.config_file, tomli_w.dumps(dict(config)))

    def log(self, record: Mapping[str, Any]) -> None:
        """Append a record to the log, as one line of JSON."""
        try:
            with open(self.log_file, "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise SelaviError(
                f"{printable(self.log_file)} cannot be written: {error.strerror or error}", path=self.log_file
            ) from error

    @property
    def records(self) -> list[dict[str, Any]]:
        """
        The records of the log: lines with a step, and of them plain values and finite numbers.

        Lines that are cut off or damaged are left out.

        Raises
        ------
        SelaviError
            If the file cannot be read.
        """
        if not self.log_file.is_file():
            return []
        try:
            lines = self.log_file.read_bytes().splitlines()
        except OSError as error:
            raise SelaviError(
                f"{printable(self.log_file)} cannot be read: {error.strerror or error}", path=self.log_file
            ) from error
        return [record for record in map(_record, lines) if record is not None]

    def keep_records(self, keep: Callable[[Mapping[str, Any]], bool]) -> None:
        """Remove all records of the log for which `keep` is false, such as those of steps that will be taken again."""
        if self.log_file.exists():
            kept = [record for record in self.records if keep(record)]
            write_text(self.log_file, "".join(f"{json.dumps(record)}\n" for record in kept))


def _record(line: bytes) -> dict[str, Any] | None:
    """Return the record in a line of the log, without values that are not plain, or None."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or type(record.get("step")) is not int or not _is_plain(record["step"]):
        return None
    return {name: value for name, value in record.items() if _is_plain(value)}


def _is_plain(value: Any) -> bool:
    """Return whether a value is text or a finite number, or a list of such."""
    if isinstance(value, list):
        return all(not isinstance(item, list) and _is_plain(item) for item in value)
    return isinstance(value, (str, bool)) or (isinstance(value, (int, float)) and abs(value) < _LARGEST)
