"""TensorBoard events of a run's log and figures; a resumed run writes those of its log anew."""

from __future__ import annotations

import shutil
import struct
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

FIGURES = "plots"  # folder of the figures' events, which TensorBoard shows as a run of its own
# Key in the log and tag in TensorBoard, for records of self-labellings, of epochs, and of steps.
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
    Event files of one run; a context manager.

    Without the package tensorboard nothing is written; the log holds the same.

    Parameters
    ----------
    folder : Path or None
        Folder of the files; None writes nothing.
    """

    def __init__(self, folder: Path | None):
        self.folder = folder
        self._writer: Any = None

    def restart(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Replace all events by those of the given records."""
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
        """Write the numbers of a record of the log."""
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
            if isinstance(record.get(key), (int, float)):
                self._writer.add_scalar(tag, float(record[key]), step=int(record["step"]))


def write_figures(folder: Path, figures: Mapping[str, Path], step: int) -> bool:
    """
    Write figures as TensorBoard events of a run, in place of earlier ones.

    Parameters
    ----------
    folder : Path
        Events of the run; the figures are written to a folder in it.
    figures : mapping
        PNG file of each figure, by name.
    step : int
        The training step that they show.

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
    figures_folder = folder / FIGURES
    with suppress(FileNotFoundError):
        shutil.rmtree(figures_folder)
    writer = EventFileWriter(str(figures_folder))
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
