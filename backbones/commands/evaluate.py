"""`selavi evaluate`: scores of labels by true classes."""

from __future__ import annotations

import csv
import io
import json
import os

import click

from backbones.commands.command import Command
from backbones.commands.messages import note
from backbones.commands.output import OutPath
from backbones.commands.shared_options import format_option
from selavi_ref.errors import InputError


@click.command(
    cls=Command,
    examples="""
    selavi evaluate RUN
    selavi evaluate labels.csv
    selavi evaluate labels.csv --truth classes.csv --intervals --heads
    selavi evaluate labels.csv --clusters --confusion --out evaluation
    selavi evaluate labels.csv --format json
    """,
)
@click.argument("labels", type=click.Path(), metavar="RUN|LABELS")
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
    """
    Compare the labels of a RUN or a table with true classes: those of the videos' folders, or of a CSV file.

    Labels of a RUN are those that people have left on the page of selavi browse; RUN/labels.csv has them as learnt.
    """
    from backbones.commands.output import echo
    from selavi_ref.report.evaluation import clusters_table, confusion_table, evaluation_table, read_labelled
    from selavi_ref.report.figures import check_drawing
    from selavi_ref.report.plot_confusion import draw_confusion
    from selavi_ref.report.table import results_folder

    if not os.path.exists(labels):
        raise InputError(f"{labels} does not exist; name a run or a table of labels", path=labels)
    if out is not None:
        check_drawing()
    if form == "csv" and (clusters or confusion):
        raise InputError("--format csv prints one table; --out writes them all", option="format")
    rows, classes = _labels_of_run(labels, truth) if os.path.isdir(labels) else read_labelled(labels, truth)
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


def _labels_of_run(folder: str, truth: str | None) -> tuple[list[dict[str, str]], list[str]]:
    """Return the labels of a run after all edits, as rows of a table, and the true class of each."""
    from selavi_ref.browser.collection import open_collection
    from selavi_ref.browser.final_labels import final_labels
    from selavi_ref.report.evaluation import true_classes
    from selavi_ref.report.export import csv_bytes

    collection = open_collection(folder)
    labels = final_labels(collection)
    text = io.StringIO(csv_bytes(labels).decode("utf-8", "surrogateescape"), newline="")
    rows = list(csv.DictReader(text))
    edited = sum(mark != "" for mark in labels.mark)
    if edited or collection.annotations.read().edits_of("consensus").merged:
        note(f"{folder} was edited on its page; as learnt: selavi evaluate {folder}/labels.csv", err=True)
    classes = true_classes(folder, labels.paths, labels.classes, truth)
    if not any(true and row["label"] for true, row in zip(classes, rows, strict=True)):
        raise InputError(
            f"{folder}: none of {len(rows)} videos has both a label and a true class; see --truth", path=folder
        )
    return rows, classes
