"""A store whose data sets are rewritten in place, as at every self-labelling of a training run."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from selavi_ref.errors import InputError, StoreError
from selavi_ref.store import layout
from selavi_ref.store.hdf5_errors import abandon, explain, guarded
from selavi_ref.store.reader import FeatureStore
from selavi_ref.store.row_access import count, row_numbers, write_rows
from selavi_ref.store.writer import StoreWriter

WriteRows = Callable[[layout.Rows, Mapping[str, ArrayLike]], None]


class WorkingStore(FeatureStore):
    """
    A store that is read and rewritten in place, for instance with the log-probabilities of one head at a time.

    A data set that was never written, or whose rewriting was cut off, refuses to be read until it is written again; the
    others stay as they are.

    Parameters
    ----------
    path : path
        A store made by `create`, or any other that is not joined of shards.

    Raises
    ------
    StoreError
        As for `FeatureStore`; or the store is joined of shards, or in use by another process.
    """

    _mode = "r+"
    _equal_heads = False

    def __init__(self, path: str | os.PathLike[str]):
        super().__init__(path)
        if "shards" in self._file:
            self.close()
            message = f"{self.path} is joined of shards; rewrite the shards themselves"
            raise StoreError(message, path=self.path, problem="foreign")

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        paths: Sequence[str | os.PathLike[str]],
        datasets: Mapping[str, int],
        *,
        classes: Sequence[str] | None = None,
        provenance: Mapping[str, Any] | None = None,
        present: Mapping[str, ArrayLike] | None = None,
    ) -> Self:
        """
        Make a store whose data sets are not written yet, and open it.

        `present` tells which videos have a modality, bool, shape (N,); by default all have all modalities. Other
        parameters and errors are those of `StoreWriter`; an existing store is replaced.
        """
        with StoreWriter(path, paths, datasets, classes=classes, provenance=provenance, resume=False) as writer:
            writer.write(slice(None), {}, present={**dict.fromkeys(writer.modalities, True), **(present or {})})
            writer.invalidate(datasets)
            writer.finish()
        return cls(path)

    @contextlib.contextmanager
    def rewrite(self, *names: str) -> Iterator[WriteRows]:
        """
        Rewrite data sets block by block.

        ``with store.rewrite("log_prob/video/current") as write: write(rows, {"log_prob/video/current": values})``

        Parameters
        ----------
        *names : str
            The data sets; each of their rows must be written before the context is left.

        Yields
        ------
        function
            Takes rows and a mapping of names to values of shape (rows, width).

        Raises
        ------
        InputError
            Names, rows or shapes that do not fit.
        StoreError
            A row was not written, or the file cannot be written.
        """
        unknown = [name for name in names if name not in self._rows]
        if unknown or not names:
            message = f"{self.path} has no data set {', '.join(unknown) or '(none named)'} that could be rewritten"
            raise InputError(message, path=self.path, option="names")
        written = {name: np.zeros(self.n_videos, bool) for name in names}

        def write(rows: layout.Rows, values: Mapping[str, ArrayLike]) -> None:
            numbers = row_numbers(rows, self.n_videos)
            for name, value in values.items():
                if name not in written:
                    raise InputError(f"{name!r} is not being rewritten, only {', '.join(names)}", option=name)
                array = np.asarray(value, layout.dtype_of(name))
                expected = (count(numbers), self._rows[name].shape[1])
                if array.shape != expected:
                    message = f"{name} of {expected[0]} rows has shape {array.shape}, not {expected}"
                    raise InputError(message, option=name, path=self.path)
                with self._writing(name):
                    write_rows(self._rows[name], numbers, array)
                written[name][numbers] = True

        self._mark(names, valid=False)
        yield write
        for name, rows in written.items():
            if not rows.all():
                message = f"{self.path}: {np.count_nonzero(~rows)} rows of {name} were not written"
                raise StoreError(message, path=self.path, dataset=name, problem="incomplete")
        self._mark(names, valid=True)

    def replace(self, name: str, values: ArrayLike) -> None:
        """Rewrite a whole data set from an array of shape (N, width)."""
        with self.rewrite(name) as write:
            write(slice(None), {name: values})

    def _mark(self, names: Sequence[str], *, valid: bool) -> None:
        with self._writing(names[0]):
            self._file.flush()
            for name in names:
                self._rows[name].attrs.modify("valid", valid)
            self._file.flush()

    @contextlib.contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        with guarded(self.path, name):
            try:
                yield
            except (OSError, RuntimeError) as error:
                file, self._file = self._file, None
                abandon(file)
                raise explain(self.path, error, name) from error
