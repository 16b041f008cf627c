"""The run's log and its figures as events for TensorBoard; the log's are made anew whenever a run goes on."""

from __future__ import annotations

import shutil
import struct
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

FIGURES = "plots"  # the folder of the figures' events, which TensorBoard shows as a run of its own
# Name in the log: what it is called in TensorBoard, in records of self-labellings, of epochs, and of steps.
_LABELLING = {
    "cost": "labelling/cost",
    "labelling_seconds": "labelling/seconds",
    "passes": "labelling/passes of the solver",
    "changed": "labelling/share changed",
    "nmi_with_last": "agreement/NMI with the last labels",
    "nmi_between_heads": "agreement/NMI between heads",
    "nmi_with_classes": "agreement/NMI with true classes",
    "anmi_with_classes": "agreement/adjusted NMI with true classes",
    "purity_with_classes": "agreement/mean purity of true classes",
    "entropy_with_classes": "agreement/mean entropy of true classes",
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


def write_figures(folder: Path, figures: Mapping[str, Path], step: int) -> bool:
    """
    Put figures among the events of a run, in place of those that were there.

    Parameters
    ----------
    folder : Path
        The run's events; figures have a folder of their own in it.
    figures : mapping
        Name of each figure to its PNG file.
    step : int
        The step that they show.

    Returns
    -------
    bool
        Whether the package tensorboard is installed; without it nothing is written.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.plugins.image.metadata import create_summary_metadata
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
        from tensorboard.util.tensor_util import make_tensor_proto
    except ImportError:
        return False
    place = folder / FIGURES
    with suppress(FileNotFoundError):
        shutil.rmtree(place)
    writer = EventFileWriter(str(place))
    metadata = create_summary_metadata(display_name=None, description=None)
    for name, path in figures.items():
        picture = path.read_bytes()
        width, height = struct.unpack(">II", picture[16:24])
        event = Event(wall_time=time.time(), step=step)
        content = make_tensor_proto([b"%d" % width, b"%d" % height, picture])
        event.summary.value.add(tag=name, tensor=content, metadata=metadata)
        writer.add_event(event)
    writer.close()
    return True
