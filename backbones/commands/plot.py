"""`selavi plot`: figures of a run."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from backbones.commands.command import Command, Interruptible
from backbones.commands.messages import note, warning
from backbones.commands.output import OutPath, force_option
from backbones.commands.progress import TERMINAL, bar
from backbones.commands.shared_options import truth_option
from selavi_ref.errors import InputError, SelaviError

if TYPE_CHECKING:
    from selavi_ref.report.run_figures import RunFigures
    from selavi_ref.runs.run import Run

# As in selavi_ref.report.run_figures, which is not imported for the help; a test holds them equal.
_FIGURES = ("training", "sizes", "confusion", "agreement", "embedding")


@click.command(
    cls=Command,
    examples="""
    selavi plot RUN
    selavi plot RUN --only sizes --only embedding --out figures
    selavi plot RUN --truth classes.csv
    tensorboard --logdir RUN/tensorboard
    """,
)
@click.argument("run", type=click.Path())
@click.option("--out", type=OutPath(file_okay=False), help="Folder for figures and tables. [default: RUN/plots]")
@click.option("--only", type=click.Choice(_FIGURES), multiple=True, help="Draw only this figure; repeatable.")
@truth_option
@force_option
@click.option(
    "--tensorboard/--no-tensorboard",
    default=True,
    show_default=True,
    help="Write the figures to RUN/tensorboard, too, in place of earlier ones.",
)
def plot(run: str, out: str | None, only: tuple[str, ...], truth: str | None, force: bool, tensorboard: bool) -> None:
    """
    Draw what RUN has learnt, as PNG and SVG, with the tables behind each figure.

    Curves of loss, learning rate and agreement; prescribed and actual sizes of clusters; confusion of classes and
    clusters after matching, if true classes are known; agreement of heads; and a map of all videos, on which videos
    with similar features lie together, by cluster and by class. Clusters are as learnt, with the names given on the
    page of selavi browse. Figures that cannot be drawn are named and left out. Tables and figures of somebody else are
    replaced with --force only.
    """
    from selavi_ref.browser.annotations import annotations_of
    from selavi_ref.report.figures import check_drawing
    from selavi_ref.report.run_figures import draw_run_figures
    from selavi_ref.report.table import results_folder
    from selavi_ref.runs.run import Run, RunKind

    opened = Run.open(run)
    if opened.kind is RunKind.FINETUNE:
        raise InputError(f"{run} is not a run of selavi train or train-heads, but of selavi {opened.kind}")
    check_drawing()
    names = annotations_of(opened).read().edits_of("consensus").names
    chosen = list(dict.fromkeys(only)) or list(_FIGURES)
    state = _last_state(opened) if "sizes" in chosen else None
    folder = results_folder(out or opened.folder / "plots")
    with Interruptible("start it again; an unfinished map is computed anew"):
        with closing(_Bar()) as progress:
            plots = draw_run_figures(
                opened, folder, only=chosen, truth=truth, state=state, names=names, progress=progress, force=force
            )
        for name, reason in plots.left_out.items():
            warning(f"{name} is left out: {reason}")
        if not plots.pictures:
            raise InputError(f"nothing can be drawn of {run}")
        if tensorboard:
            _to_tensorboard(opened, plots)
    note(f"{len(plots.pictures)} figures and their tables are in {click.format_filename(str(folder))}")


class _Bar:
    """A progress bar that appears with the first progress: a map that was computed before takes no time."""

    def __init__(self) -> None:
        self._bar: Any = None

    def __call__(self, proportion: float) -> None:
        self._bar = self._bar or bar(100, "map", "%")
        self._bar.update(int(100 * proportion) - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def _last_state(run: Run) -> Mapping[str, Any] | None:
    """Return the state of the loop in the newest checkpoint; without one, tell what will be missing."""
    from selavi_ref.runs.run import RunKind

    try:
        if run.kind is RunKind.HEADS:
            from selavi_ref.heads.any_run import prescribed_state

            return prescribed_state(run, TERMINAL)
        from backbones.learner.checkpoint import read_newest

        state: Mapping[str, Any] = read_newest(run, TERMINAL)["state"]
        return state
    except ModuleNotFoundError as error:
        reason = f"it needs the package {error.name}"
    except (SelaviError, KeyError) as error:
        reason = str(error)
    warning(f"sizes are drawn without the prescribed ones: {reason}")
    return None


def _to_tensorboard(run: Run, plots: RunFigures) -> None:
    from selavi_ref.runs.tensorboard import write_figures

    step = max((int(record["step"]) for record in run.records), default=0)
    try:
        written = write_figures(run.events_folder, plots.pictures, step)
    except OSError as error:
        warning(f"{run.events_folder} cannot be written: {error.strerror or error}")
        return
    if not written:
        warning("figures are not shown in TensorBoard: it needs the package tensorboard")
