"""The estimated number of clusters as a table, a figure and a sentence, and the start of a run with it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from selavi_ref.ensemble.n_clusters import NClustersEstimate, estimate_n_clusters
from selavi_ref.errors import printable
from selavi_ref.runs.pilot_run import PilotRun
from selavi_ref.runs.processes import Exchange, SingleProcess, raise_together
from selavi_ref.runs.reporter import SILENT, Reporter
from selavi_ref.runs.run import Run
from selavi_ref.store import FeatureStore


def start_with_estimate(
    pilot_run: PilotRun,
    learn: Callable[[Run], None],
    start: Callable[[int], object],
    *,
    most: int | None,
    exchange: Exchange = SingleProcess(),  # noqa: B008
    reporter: Reporter = SILENT,
) -> Run:
    """
    Train the pilot of a run, estimate the number of clusters from it, and start the run with that number.

    Parameters
    ----------
    pilot_run : PilotRun
        As made by `PilotRun.create`.
    learn : callable
        Trains the pilot to its end, and writes its store.
    start : callable
        Starts the run with a number of clusters; only the first process calls it.
    most : int, optional
        Largest number of clusters tried; see `estimate_n_clusters`.
    exchange : Exchange
        The processes of the run, all of which call this.
    reporter : Reporter
        Receives the estimate as a sentence.
    """
    with raise_together(exchange):
        pilot = Run.open(pilot_run.pilot.folder)
    learn(pilot)
    with raise_together(exchange):
        if exchange.rank == 0:
            with FeatureStore(pilot.features_file) as store:
                estimate = estimate_n_clusters(store, most=most)
            write_estimate(estimate, pilot_run.estimate_stem)
            reporter.info(describe(estimate, pilot_run.estimate_stem))
            start(estimate.clusters)
    return Run.open(pilot_run.folder)


def write_estimate(estimate: NClustersEstimate, stem: str | os.PathLike[str]) -> None:
    """Write the curve of an estimate as ``STEM.txt``, ``.csv``, ``.json``, ``.png`` and ``.svg``."""
    from selavi_ref.report.figures import line_figure
    from selavi_ref.report.table import Table

    n_eigenvalues = min(len(estimate.spectrum), int(estimate.tried[-1]))
    agreement = dict(zip(estimate.tried.tolist(), estimate.agreement.tolist(), strict=True))
    table = Table(
        f"Estimated number of clusters: {estimate.clusters}",
        {"clusters": "clusters", "agreement": "agreement", "eigenvalue": "eigenvalue"},
        [
            {"clusters": K, "agreement": agreement.get(K), "eigenvalue": float(estimate.spectrum[K - 1])}
            for K in range(1, n_eigenvalues + 1)
        ],
        [
            "agreement: adjusted MI of the labels by different halves of the heads",
            "eigenvalue: of the graph of clusters that picture and sound confuse; "
            f"the widest gap is after {estimate.gap}",
        ],
        {"estimate": estimate.clusters, "gap": estimate.gap, "at_the_end": estimate.at_the_end},
    )
    table.write(stem, figures=[stem])
    line_figure(
        stem,
        {
            "agreement of the heads (adjusted MI)": (estimate.tried, estimate.agreement),
            "eigenvalues": (np.arange(1, n_eigenvalues + 1), estimate.spectrum[:n_eigenvalues]),
        },
        title=f"Estimated number of clusters: {estimate.clusters}",
        x="clusters",
        y="agreement, eigenvalue",
        marks={f"{estimate.clusters}": float(estimate.clusters)},
    )


def describe(estimate: NClustersEstimate, stem: str | os.PathLike[str]) -> str:
    """Return an estimate in one sentence, which names the figure of `write_estimate`."""
    at = float(estimate.agreement[estimate.tried.tolist().index(estimate.clusters)])
    more = "; this is the largest number tried, so there may be more" if estimate.at_the_end else ""
    gap = "" if estimate.gap == estimate.clusters else f"; the spectrum alone would say {estimate.gap}"
    return (
        f"about {estimate.clusters} clusters, on which the heads agree (adjusted MI {at:.2f}){gap}{more}; "
        f"the curve is in {printable(Path(f'{os.fspath(stem)}.png'))}"
    )
