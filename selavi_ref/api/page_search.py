"""Search of the page of `selavi browse`: the videos that are similar to a text, or to a file dropped on it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from selavi_ref.api.neighbours import find_by_encoders, find_neighbours
from selavi_ref.api.searching import ranked
from selavi_ref.api.video_runs import as_manifest, text_search
from selavi_ref.browser.collection import Collection
from selavi_ref.browser.search import Found
from selavi_ref.datasets import Manifest
from selavi_ref.errors import InputError, SelaviError, printable
from selavi_ref.report.store_search import SearchedStores
from selavi_ref.report.table import Table
from selavi_ref.runs.run import Run, RunKind


class PageSearch:
    """
    Search among the videos of a collection, as `selavi_ref.browser.search.Search` describes it.

    Networks and encoders are loaded at the first search that needs them, and stores stay open from one to the next.

    Parameters
    ----------
    collection : Collection
        The videos, and where their features are.
    device : str
        Where to compute.
    workers : int, optional
        Files that are decoded at the same time.
    """

    def __init__(self, collection: Collection, *, device: str = "auto", workers: int | None = 0):
        self.collection = collection
        self._device = device
        self._workers = workers
        self._stores = SearchedStores()

    def refusals(self) -> dict[str, str]:
        """Return why videos cannot be found by ``"text"`` or by ``"file"``; "" where they can."""
        source = shlex.quote(printable(self.collection.source))
        try:
            encoded = text_search().encoded_videos(self.collection)
        except SelaviError as error:
            return {"text": str(error), "file": str(error)}
        takes_texts = any(one.takes_texts for one in encoded)
        by_text = (
            f"Search by a text needs features of a model of pictures (or sounds) and texts: selavi retrieve {source} "
            '"a dog" --encoder clip=transformers:openai/clip-vit-base-patch32 computes them.'
        )
        by_file = (
            f"Similar videos are found by the networks of a run, or by features of encoders: selavi name {source} "
            "--encoder efficientnet-lite0 computes some."
        )
        has_networks = self._run is not None and self._run.kind is RunKind.VIDEOS and self._run.features_file.exists()
        return {"text": "" if takes_texts else by_text, "file": "" if has_networks or encoded else by_file}

    def by_text(self, text: str, n: int) -> Found:
        """Return the row numbers of the n most similar videos and their similarities, by the name of the model."""
        similarity = self._texts.similarities([text])[:, 0]
        return {self._texts.encoder: [(row, float(similarity[row])) for row in ranked(similarity)[:n]]}

    def by_file(self, path: Path, n: int) -> Found:
        """Return the row numbers of the n nearest videos and their distances, by each feature space."""
        rows = {file: row for row, file in enumerate(self.collection.files)}
        rows |= {listed: row for row, listed in enumerate(self.collection.paths)}
        found: Found = {}
        for table in self._tables(as_manifest([path]), n):
            for line in table.rows:
                row = rows.get(str(line["found"]))
                if row is not None:  # a store may have more videos than are shown
                    found.setdefault(str(line["by"]), []).append((row, float(str(line["distance"]))))
        return found

    def _tables(self, query: Manifest, n: int) -> Iterator[Table]:
        how: dict[str, Any] = {"device": self._device, "workers": self._workers, "stores": self._stores}
        refusal = InputError(self.refusals()["file"] or "the run has no features to compare")
        if self._run is not None and self._run.features_file.exists():
            try:
                yield find_neighbours(self._run, query, n, segments="whole", **how)
                return
            except InputError as error:
                if str(error.path) == query.paths[0]:
                    raise
                refusal = error
        stores = dict.fromkeys(one.store for one in text_search().encoded_videos(self.collection))
        if not stores:
            raise refusal
        with TemporaryDirectory(prefix="selavi-neighbours-") as folder:
            for number, store in enumerate(stores):
                yield find_by_encoders(store, query, n, Path(folder) / f"{number}.h5", **how)

    @cached_property
    def _run(self) -> Run | None:
        """The run that is shown, if it is one."""
        run = Run(self.collection.source)
        return run if run.config_file.exists() else None

    @cached_property
    def _texts(self) -> Any:
        """The search by texts, which keeps its encoder."""
        return text_search().TextSearch(self.collection, device=self._device)
