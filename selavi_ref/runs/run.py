"""The run folder: what a command leaves behind and the next one picks up."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import tomli_w

from selavi_ref.errors import InputError, SelaviError, printable
from selavi_ref.runs.atomic import write_text
from selavi_ref.runs.old_names import with_current_names


class Run:
    """
    The files of one training run.

    Parameters
    ----------
    folder : path
        Where they lie.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        self.folder = Path(folder)
        self.config_file = self.folder / "config.toml"
        self.videos_file = self.folder / "videos.csv"
        self.skipped_file = self.folder / "skipped.csv"
        self.failures_file = self.folder / "not_decoded.txt"
        self.checkpoint_folder = self.folder / "checkpoints"
        self.events_folder = self.folder / "tensorboard"
        self.working_file = self.folder / "working.h5"
        self.features_file = self.folder / "features.h5"
        self.labels_file = self.folder / "labels.csv"
        self.log_file = self.folder / "metrics.jsonl"
        self.sheet_file = self.folder / "clusters.png"
        self.annotations_file = self.folder / "annotations.json"
        self.browser_folder = self.folder / "browser"
        self.links_folder = self.folder / "labelled"

    @classmethod
    def prepare(cls, folder: str | os.PathLike[str]) -> Run:
        """
        Make the folder of a new run; it becomes a run when its settings are written, which should come last.

        Raises
        ------
        InputError
            If the folder holds a run already, or cannot be made.
        """
        run = cls(folder)
        if run.config_file.exists():
            raise InputError(f"{run.folder} holds a run already; go on with --resume, or choose another --out")
        try:
            run.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{run.folder} cannot be made: {error.strerror}") from error
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
            raise InputError(f"{run.folder} is not a folder; name the folder of a run, as made by selavi train --out")
        if not run.config_file.exists():
            raise InputError(f"{run.folder} holds no run: it has no config.toml")
        return run

    @classmethod
    def of_videos(cls, folder: str | os.PathLike[str], instead: str = "") -> Run:
        """
        Open a run that has learnt from videos, and so has both networks and their heads.

        Parameters
        ----------
        folder : path
            The run.
        instead : str
            What to do with a run of heads that have learnt from features.

        Raises
        ------
        InputError
            If there is no run, or it is of another kind.
        """
        run = cls.open(folder)
        kind = run.config.get("kind")
        if kind == "heads":
            advice = f"; {instead}" if instead else ""
            raise InputError(f"{run.folder} has learnt from features, and has no networks that look at videos{advice}")
        if kind is not None:
            raise InputError(f"{run.folder} is no run of selavi train, but one of selavi {kind}")
        return run

    @property
    def config(self) -> dict[str, Any]:
        """
        The settings.

        Raises
        ------
        InputError
            If the file is damaged.
        """
        try:
            return with_current_names(tomllib.loads(self.config_file.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise InputError(f"{self.config_file} cannot be read: {error}") from error

    def rewrite_config(self, config: Mapping[str, Any]) -> None:
        """Replace the settings, such as by what was measured of the collection."""
        write_text(self.config_file, tomli_w.dumps(dict(config)))

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one line of JSON to the run's metrics."""
        try:
            with open(self.log_file, "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise SelaviError(f"{printable(self.log_file)} cannot be written: {error.strerror or error}") from error

    @property
    def records(self) -> list[dict[str, Any]]:
        """The run's metrics so far, without the half line that a killed process may have left."""
        records = []
        for line in self.log_file.read_text(encoding="utf-8").splitlines() if self.log_file.exists() else ():
            with suppress(ValueError):
                record = json.loads(line)
                if isinstance(record, dict) and "step" in record:
                    records.append(record)
        return records

    def forget_log_after(self, step: int) -> None:
        """Drop what a resumed run will do again: steps after this one, and the self-labelling just before the next."""
        if self.log_file.exists():
            kept = [r for r in self.records if r["step"] < step or (r["step"] == step and "changed" not in r)]
            write_text(self.log_file, "".join(f"{json.dumps(record)}\n" for record in kept))
