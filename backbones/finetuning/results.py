"""Results of a fine-tuning run: a table of the folds, and a figure of the accuracy over the epochs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from backbones.finetuning.evaluation import Predictions
from backbones.finetuning.folds import Fold
from backbones.finetuning.settings import FineTuneSettings
from selavi_ref.errors import WRONG_CONTENT, InputError, printable
from selavi_ref.report.figures import line_figure
from selavi_ref.report.table import Table
from selavi_ref.runs.atomic import write_text
from selavi_ref.runs.run import Run

COLUMNS = {
    "fold": "fold",
    "train_videos": "train videos",
    "test_videos": "test videos",
    "not_decoded": "not decoded",
    "top_1": "top-1",
    "top_5": "top-5",
    "best_epoch": "best epoch*",
    "best_top_1": "top-1*",
    "best_top_5": "top-5*",
}
_LAST = "top-1 and top-5 are of the last epoch, as shares of all test videos."
_BEST = "* of the epoch that is best on the test videos themselves: chosen on the test set, and so too good."
_NAMED = 3  # videos that are named below a table


@dataclass(frozen=True)
class FoldResult:
    """
    Result of one fold.

    Parameters
    ----------
    fold, train_videos, test_videos : int
        Number of the fold, of its training videos and of its test videos.
    failures : list of (str, str)
        Test videos that cannot be decoded, with the reasons; they count as wrong.
    epochs : list of dict
        Records of the epochs: ``epoch``, ``loss``, and ``top_1`` and ``top_5`` if it was evaluated.
    """

    fold: int
    train_videos: int
    test_videos: int
    failures: list[tuple[str, str]]
    epochs: list[dict[str, Any]]

    @classmethod
    def of(cls, fold: Fold, predictions: Predictions, epochs: Sequence[dict[str, Any]]) -> FoldResult:
        """Return the result of a fold, from its last predictions and the records of its epochs."""
        failures = [(path, why) for path, why in zip(fold.test.paths, predictions.reasons, strict=True) if why]
        return cls(fold.number, len(fold.train), len(fold.test), failures, list(epochs))

    def write(self, path: Path) -> None:
        """Write the result as JSON, atomically."""
        write_text(path, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> FoldResult:
        """
        Read a result of `write`.

        Raises
        ------
        InputError
            If the file is damaged.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            counts = [values[name] for name in ("fold", "train_videos", "test_videos")]
            if not all(type(count) is int for count in counts) or "top_1" not in values["epochs"][-1]:
                raise TypeError("a number is missing")
            failures = [(str(name), str(why)) for name, why in values["failures"]]
            return cls(**{**values, "failures": failures, "epochs": checked_epochs(values["epochs"])})
        except (OSError, *WRONG_CONTENT) as error:
            raise InputError(
                f"{printable(path)} cannot be read; without it, the fold is learnt again: {error}", path=path
            ) from error

    @property
    def row(self) -> dict[str, Any]:
        """Row of the table of results."""
        best = max(self.tested, key=lambda record: record["top_1"])  # the first of equal ones
        return {
            "fold": str(self.fold),
            "train_videos": self.train_videos,
            "test_videos": self.test_videos,
            "not_decoded": len(self.failures),
            "top_1": self.epochs[-1]["top_1"],
            "top_5": self.epochs[-1]["top_5"],
            "best_epoch": best["epoch"],
            "best_top_1": best["top_1"],
            "best_top_5": best["top_5"],
        }

    @property
    def tested(self) -> list[dict[str, Any]]:
        """Records of the evaluated epochs."""
        return [record for record in self.epochs if "top_1" in record]


def checked_epochs(records: Any) -> list[dict[str, Any]]:
    """
    Return records of epochs as they were read from a file.

    Raises
    ------
    ValueError
        If they are no records, or a value is no finite number.
    """
    fits = isinstance(records, list) and all(
        isinstance(record, dict) and "epoch" in record and all(map(_is_finite, record.values())) for record in records
    )
    if not fits:
        raise ValueError("the records of the epochs are damaged")
    return list(records)


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and abs(value) < math.inf


def results_table(settings: FineTuneSettings, results: Sequence[FoldResult]) -> Table:
    """Return the table of the finished folds, and their mean."""
    rows: list[Mapping[str, Any]] = [result.row for result in results]
    if len(rows) > 1:
        shares = [name for name in COLUMNS if "top_" in name]
        rows.append({"fold": "mean", **{name: float(np.mean([row[name] for row in rows])) for name in shares}})
    notes = [_LAST]
    columns = dict(COLUMNS)
    if settings.test_last_only:
        columns = {name: heading for name, heading in columns.items() if not name.startswith("best")}
    else:
        notes.append(_BEST)
    failures = [f"fold {result.fold}: {name}: {why}" for result in results for name, why in result.failures]
    if failures:
        more = "; ..." if len(failures) > _NAMED else ""
        notes.append(f"Not decoded, and counted as wrong: {'; '.join(failures[:_NAMED])}{more}")
    if missing := sorted(set(settings.folds) - {result.fold for result in results}):
        notes.append(f"Not finished: fold {', '.join(map(str, missing))}.")
    facts = {
        "folds": [asdict(result) for result in results],
        "settings": settings.to_dict(),
        "versions": {name: version(name) for name in ("selavi-ref", "torch", "torchvision")},
    }
    return Table(title_of(settings), columns, rows, notes, facts)


def title_of(settings: FineTuneSettings) -> str:
    """Return a title that names network, initial weights and collection."""
    what = "linear probe" if settings.linear_probe else "fine-tuning"
    begin = "random weights" if settings.from_scratch else settings.video_weights or settings.run
    return f"{what} of {settings.video_net} ({begin}) on {settings.layout or settings.videos}"


def write_results(run: Run, settings: FineTuneSettings, results: Sequence[FoldResult]) -> Table:
    """Write table and figure of the finished folds to the run folder, and return the table."""
    table = results_table(settings, results)
    table.write(run.folder / "results")
    lines = {
        f"fold {result.fold}": (
            [record["epoch"] for record in result.tested],
            [record["top_1"] for record in result.tested],
        )
        for result in results
    }
    what = settings.layout or Path(settings.videos).name
    line_figure(
        run.folder / "accuracy",
        lines,
        title=f"{settings.video_net} on {what}",
        x="epoch",
        y="top-1 accuracy on the test videos",
        y_range=(0.0, 1.0),
    )
    return table
