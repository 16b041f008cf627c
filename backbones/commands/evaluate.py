"""`selavi evaluate`: scores of labels by true classes."""

from __future__ import annotations

import json

import click

from backbones.commands.command import Command
from backbones.commands.messages import note
from backbones.commands.output import OutPath
from backbones.commands.shared_options import format_option
from selavi_ref.errors import InputError


@click.command(
    cls=Command,
    examples="""
    selavi evaluate labels.csv
    selavi evaluate labels.csv --truth classes.csv --intervals --heads
    selavi evaluate labels.csv --clusters --confusion --out evaluation
    selavi evaluate labels.csv --format json
    """,
)
@click.argument("labels", type=click.Path())
@click.option(
    "--truth",
    type=click.Path(),
    help="CSV with the columns path and class: the true classes. [default: folders of the videos]",
)
@click.option("--heads", is_flag=True, help="Score each head, too.")
@click.option("--intervals", is_flag=True, help="Add bootstrap intervals of NMI, adjusted MI, ARI and accuracy.")
@click.option("--clusters", is_flag=True, help="Show each cluster: size, most frequent class, purity, entropy.")
@click.option("--confusion", is_flag=True, help="Show the confusion matrix after matching clusters to classes.")
@format_option
@click.option(
    "--out",
    type=OutPath(file_okay=False),
    help="Folder for all tables in all formats, and a figure.",
)
def evaluate(
    labels: str,
    truth: str | None,
    heads: bool,
    intervals: bool,
    clusters: bool,
    confusion: bool,
    form: str,
    out: str | None,
) -> None:
    """Compare a table of labels with true classes: those of the videos' folders, or of a CSV file."""
    from backbones.commands.output import echo
    from selavi_ref.report.evaluation import clusters_table, confusion_table, evaluation_table, read_labelled
    from selavi_ref.report.figures import check_drawing
    from selavi_ref.report.plot_confusion import draw_confusion
    from selavi_ref.report.table import results_folder

    if out is not None:
        check_drawing()
    if form == "csv" and (clusters or confusion):
        raise InputError("--format csv prints one table; --out writes them all")
    rows, classes = read_labelled(labels, truth)
    tables = {"scores": evaluation_table(rows, classes, heads=heads, intervals=intervals)}
    if clusters or out is not None:
        tables["clusters"] = clusters_table(rows, classes)
    if confusion or out is not None:
        tables["confusion"] = confusion_table(rows, classes)
    hidden = {"clusters": not clusters, "confusion": not confusion}
    shown = {name: table for name, table in tables.items() if not hidden.get(name)}
    if form == "json" and len(shown) > 1:
        echo(json.dumps({name: json.loads(table.json()) for name, table in shown.items()}, indent=1))
    else:
        echo("\n\n".join(table.to(form).rstrip("\n") for table in shown.values()))
    if out is None:
        return
    folder = results_folder(out)
    for name, table in tables.items():
        table.write(folder / name)
    draw_confusion(folder / "confusion", tables["confusion"])
    note(f"tables and a figure are in {click.format_filename(out)}", err=True)
