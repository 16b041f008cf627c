"""Several files of a run that are replaced together, also if the process is killed in between."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from selavi_ref.errors import SelaviError, printable
from selavi_ref.runs.atomic import write_text
from selavi_ref.runs.checksums import forget_checksum, record_checksum
from selavi_ref.runs.run import Run

_JOURNAL = "commit.json"


class StagedFiles:
    """
    New files of a run in a folder of their own, which replace the run's all together.

    The list of them is written when all are complete. From then on, `complete` moves them into place, and does the rest
    of it if the process was killed; before, the run is as it was.

    Parameters
    ----------
    run : Run
        The run.
    folder : Path, optional
        The folder, on the same disk; by default the run's ``update_folder``.
    """

    def __init__(self, run: Run, folder: Path | None = None):
        self.run = run
        self.folder = folder or run.update_folder
        self.journal = self.folder / _JOURNAL

    def path(self, name: str | Path) -> Path:
        """Return where a new file lies until it replaces that of the same name; makes the folder."""
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise SelaviError(f"{printable(self.folder)} cannot be made: {error.strerror}", path=self.folder) from error
        return self.folder / Path(name).name

    def commit(
        self, files: Iterable[Path], removed: Iterable[Path] = (), note: Mapping[str, Any] | None = None
    ) -> None:
        """
        Decide to replace files; call `complete` next.

        Parameters
        ----------
        files : iterable of Path
            Files or folders of the run; the new ones lie at `path`.
        removed : iterable of Path
            Files of the run that are removed.
        note : mapping, optional
            Plain JSON values for the callback of `complete`.
        """
        content = {"files": [p.name for p in files], "removed": [p.name for p in removed], "note": dict(note or {})}
        write_text(self.journal, json.dumps(content, indent=1))

    def complete(self, finish: Callable[[Mapping[str, Any]], object] = lambda note: None) -> bool:
        """
        Move the files of a decided replacement into place, and remove the folder; nothing happens if none was decided.

        Parameters
        ----------
        finish : callable
            Called with the note of `commit` before the files are moved; a second time if the process was killed.

        Returns
        -------
        bool
            Whether there was one.
        """
        if not self.journal.exists():
            return False
        content = self._decided()
        tables = [file for file in (self.run.videos_file, self.run.labels_file) if file.name in content["files"]]
        try:
            finish(content["note"])
            for table in tables:
                forget_checksum(table)
            for name in content["files"]:
                self._replace(name)
            for name in content["removed"]:
                (self.run.folder / name).unlink(missing_ok=True)
            if tables:
                record_checksum(*tables)
            self.journal.unlink()
        except OSError as error:
            raise SelaviError(
                f"{printable(self.run.folder)} cannot be updated: {error.strerror or error}", path=self.run.folder
            ) from error
        self.discard()
        return True

    def _decided(self) -> dict[str, Any]:
        """Return the content of the journal; an error if it is damaged or names files outside of the run."""
        try:
            content = json.loads(self.journal.read_bytes())
            names = [*content["files"], *content["removed"]]
            if isinstance(content["note"], dict) and all(Path(name).name == name for name in names):
                return {**content}
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass
        message = f"{printable(self.journal)} is damaged; remove {printable(self.folder)}, and update the run again"
        raise SelaviError(message, path=self.journal)

    def discard(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _replace(self, name: str) -> None:
        staged, target, old = self.folder / name, self.run.folder / name, self.folder / f"{name}.replaced"
        if not staged.exists():
            return  # done before
        if target.is_dir():
            shutil.rmtree(old, ignore_errors=True)
            os.replace(target, old)
        os.replace(staged, target)
