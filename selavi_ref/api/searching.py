"""Search among labelled videos by texts, in the space of an encoder that takes both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from selavi_ref.api.video_runs import text_search
from selavi_ref.browser.collection import Collection
from selavi_ref.errors import InputError
from selavi_ref.report.table import Cell, Table
from selavi_ref.runs.cores import usable_cores
from selavi_ref.runs.reporter import SILENT, Reporter


def find_by_text(
    collection: Collection,
    texts: str | Sequence[str],
    n: int = 10,
    *,
    encoder: str | None = None,
    device: str = "auto",
    workers: int | None = None,
    reporter: Reporter = SILENT,
) -> Table:
    """
    Return the videos that are most similar to each of some texts.

    Parameters
    ----------
    collection : Collection
        The videos.
    texts : str or sequence of str
        One text or several, such as ``"a dog barking"``.
    n : int
        Number of videos for each text.
    encoder : str, optional
        Model of pictures (or sounds) and texts, such as ``"clip=transformers:openai/clip-vit-base-patch32"``; features
        that it has not computed yet are computed and kept. By default one that has computed features already.
    device, workers, reporter
        See `selavi_ref.api.video_labelling.label_videos`.

    Returns
    -------
    Table
        Columns ``query`` (the text), ``rank``, ``found`` and ``similarity`` (cosine; larger is nearer).

    Raises
    ------
    InputError
        If there is no text, n is not positive, the encoder takes no texts, or none has computed features.
    """
    wanted = [texts] if isinstance(texts, str) else list(texts)
    if not wanted or not all(map(str.strip, wanted)):
        raise InputError("a text to search for is empty", option="text", value=texts)
    if n < 1:
        raise InputError(f"n must be at least 1, not {n}", option="n", value=n)
    search = text_search().TextSearch(
        collection,
        encoder,
        device=device,
        workers=usable_cores() if workers is None else workers,
        reporter=reporter,
    )
    similarities = search.similarities(wanted)
    rows: list[Mapping[str, Cell]] = []
    for column, text in enumerate(wanted):
        for rank, row in enumerate(ranked(similarities[:, column])[:n], 1):
            found, similarity = collection.paths[row], float(similarities[row, column])
            rows.append({"query": text, "rank": rank, "found": found, "similarity": similarity})
    columns = {"query": "text", "rank": "rank", "found": "found", "similarity": "similarity"}
    notes = [f"similarity: the cosine of the features of video and text by {search.encoder}"]
    if left_out := int(np.isnan(similarities).all(1).sum()):
        notes.append(f"{left_out} of {len(collection)} videos have no features by this model, and were not compared")
    return Table("Videos most similar to a text", columns, rows, notes, {"encoder": search.encoder})


def ranked(similarity: NDArray[np.float32]) -> list[int]:
    """Return the rows that have a similarity, the most similar first."""
    order = np.argsort(-similarity, kind="stable")
    return [row for row in order.tolist() if np.isfinite(similarity[row])]
