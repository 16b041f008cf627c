"""The run's log as events for TensorBoard, made anew from the log whenever a run goes on."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

# Name in the log: what it is called in TensorBoard, in records of self-labellings, of epochs, and of steps.
_LABELLING = {
    "cost": "labelling/cost",
    "labelling_seconds": "labelling/seconds",
    "passes": "labelling/passes of the solver",
    "changed": "labelling/share changed",
    "nmi_with_last": "agreement/NMI with the last labels",
    "nmi_between_heads": "agreement/NMI between heads",
    "nmi_with_classes": "agreement/NMI with true classes",
}
_EPOCH = {"loss": "epoch/loss", "rate": "epoch/rate", "not_decoded": "epoch/videos not decoded"}
_STEP = {"loss": "step/loss", "rate": "step/rate"}


class Events:
    """
    Event files of one run; use it as a context manager.

    Without the package tensorboard nothing is written: the log has everything too.

    Parameters
    ----------
    folder : Path or None
        Where they lie; None: nowhere.
    """

    def __init__(self, folder: Path | None):
        self.folder = folder
        self._writer: Any = None

    def restart(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Replace all events by those of the log so far."""
        if self.folder is None:
            return
        with suppress(OSError):
            shutil.rmtree(self.folder)
        try:
            from tensorboard.summary import Writer
        except ImportError:
            return
        self._writer = Writer(str(self.folder))
        for record in records:
            self._write(record)
        self._writer.flush()

    def add(self, record: Mapping[str, Any]) -> None:
        """Write what a record of the log says in numbers."""
        if self._writer is not None:
            self._write(record)
            self._writer.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def _write(self, record: Mapping[str, Any]) -> None:
        named = _LABELLING if "labelling_seconds" in record else _EPOCH if "epoch" in record else _STEP
        for key, tag in named.items():
            if key in record:
                self._writer.add_scalar(tag, float(record[key]), step=int(record["step"]))
