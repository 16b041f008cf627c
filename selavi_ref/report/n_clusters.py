"""The estimate of the number of clusters as a table, a figure and a sentence."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from selavi_ref.ensemble.n_clusters import NClustersEstimate
from selavi_ref.errors import printable


def write_estimate(count: NClustersEstimate, stem: str | os.PathLike[str]) -> None:
    """Write the curve of an estimate as ``STEM.txt``, ``.csv``, ``.json``, ``.png`` and ``.svg``."""
    from selavi_ref.report.figures import line_figure
    from selavi_ref.report.table import Table

    shown = min(len(count.spectrum), int(count.tried[-1]))
    by_number = dict(zip(count.tried.tolist(), count.agreement.tolist(), strict=True))
    table = Table(
        f"Estimated number of clusters: {count.clusters}",
        {"clusters": "clusters", "agreement": "agreement", "eigenvalue": "eigenvalue"},
        [
            {"clusters": K, "agreement": by_number.get(K), "eigenvalue": float(count.spectrum[K - 1])}
            for K in range(1, shown + 1)
        ],
        [
            "agreement: adjusted MI of the groups that different halves of the heads come to",
            f"eigenvalue: of what picture and sound confuse; the widest gap is after {count.gap}",
        ],
        {"estimate": count.clusters, "gap": count.gap, "at_the_end": count.at_the_end},
    )
    table.write(stem)
    line_figure(
        stem,
        {
            "agreement of the heads (adjusted MI)": (count.tried, count.agreement),
            "eigenvalues": (np.arange(1, shown + 1), count.spectrum[:shown]),
        },
        title=f"How many clusters? {count.clusters}",
        x="clusters",
        y="agreement, eigenvalue",
        marks={f"{count.clusters}": float(count.clusters)},
    )


def describe(count: NClustersEstimate, folder: str | os.PathLike[str]) -> str:
    """Return an estimate in one sentence."""
    at = float(count.agreement[count.tried.tolist().index(count.clusters)])
    more = "; this is the most that were tried: there may be more" if count.at_the_end else ""
    gap = "" if count.gap == count.clusters else f"; the spectrum alone would say {count.gap}"
    return (
        f"about {count.clusters} kinds, on which the heads agree (adjusted MI {at:.2f}){gap}{more}; "
        f"the curve is in {printable(Path(folder) / 'clusters_counted.png')}"
    )
