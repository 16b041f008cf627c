"""`selavi label`: the table of labels of videos."""

from __future__ import annotations

import io
import json
import os
import shlex
import tempfile
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from backbones.commands.command import Command, Interruptible, given_on_command_line, refuse_options
from backbones.commands.extract import extract_videos, segments_for
from backbones.commands.messages import note, warning
from backbones.commands.output import STANDARD_OUTPUT, OutPath, echo, force_option, refuse_foreign_table
from backbones.commands.shared_options import (
    OF_NETWORKS,
    balanced_option,
    drop_misfits_option,
    head_option,
    json_option,
    min_confidence_option,
    viewing_options_of,
)
from backbones.commands.timeline import timeline_format_option, timeline_option, write_timeline_files
from selavi_ref.errors import InputError


@click.command(
    cls=Command,
    examples="""
    selavi label features.h5 --out labels.csv
    selavi label RUN VIDEOS --clips 3 --out labels.csv
    selavi label features.h5 --head best --out labels.csv
    selavi label RUN VIDEOS --files videos,sounds --out labels.csv
    selavi label RUN VIDEOS --noise 0 --out noisy.csv
    selavi label RUN LONG_VIDEOS --timeline --out timeline.csv
    selavi label RUN talk.mp4 --timeline --segments 1 --out talk.vtt
    selavi label RUN LONG_VIDEOS --timeline --format audacity --out tracks
    """,
)
@click.argument("source", type=click.Path(), metavar="STORE|RUN")
@click.argument("videos", type=click.Path(), required=False)
@click.option(
    "--out",
    type=OutPath(allow_dash=True),
    default="labels.csv",
    help="Table to write; replaces only tables of selavi label. - prints it. [default: labels.csv, a new file; "
    "timeline.csv with --timeline]",
)
@force_option
@timeline_option
@timeline_format_option
@head_option
@balanced_option
@click.option(
    "--as-learnt", is_flag=True, help="Ignore names and merged clusters that RUN was given on the page of browse."
)
@min_confidence_option
@drop_misfits_option
@json_option
@viewing_options_of("those that RUN has", "as those that RUN has learnt from; with --timeline: windows of 2 s")
def label(
    source: str,
    videos: str | None,
    out: str,
    force: bool,
    head: str,
    balanced: bool,
    as_learnt: bool,
    min_confidence: float,
    drop_misfits: bool,
    as_json: bool,
    timeline: bool,
    form: str | None,
    **viewing: Any,
) -> None:
    """
    Label the videos of a STORE, or VIDEOS with the networks of RUN, seen in training or not.

    The table has a row for every video: label, confidence, runner-up, which modalities were used, the label of each
    head, and, for a video that has no label, the reason. Where clusters of RUN were named or merged on the page of
    selavi browse, labels are those of the merged clusters, with a column for the name. A STORE needs no PyTorch. A RUN
    of heads on features of encoders encodes VIDEOS first; any run of heads takes a STORE in their place.
    """
    if timeline:
        _label_over_time(source, videos, out, form, force, head, as_learnt, viewing)
        return
    refuse_options(["form"], "goes with --timeline")
    if os.path.isdir(out):
        raise InputError(f"--out {out} is a folder; name a table to write, such as labels.csv", option="out")
    if out != STANDARD_OUTPUT:
        refuse_foreign_table(out, given_on_command_line("out"), force)
    summary: dict[str, Any] = {
        "min_confidence": min_confidence,
        "drop_misfits": drop_misfits,
        "as_json": as_json,
    }
    if videos is None:
        if os.path.isdir(source):
            raise InputError(
                f"{source} is a folder: name the videos to label too, as in selavi label RUN VIDEOS", path=source
            )
        refuse_options(viewing, "goes with RUN VIDEOS; a store has its log-probabilities already")
        refuse_options(["as_learnt"], "goes with RUN VIDEOS; a store is labelled as learnt")
        write_labels(source, out, head, balanced, source=source, **summary)
        return
    from selavi_ref.browser.annotations import annotations_of

    run = _run_for(source, videos, head, viewing)
    # Read before the long work, so that damaged annotations are refused at once.
    annotations = None if as_learnt else annotations_of(run).read()
    with ExitStack() as stack:
        store = f"{out}.features.h5"
        if out == STANDARD_OUTPUT:
            store = os.path.join(stack.enter_context(tempfile.TemporaryDirectory()), "features.h5")
        stack.enter_context(Interruptible("the same command continues where it stopped"))
        _write_log_probabilities(run, videos, store, viewing)
        try:
            write_labels(store, out, head, balanced, annotations, of_training=False, **summary)
        finally:
            os.unlink(store)


def _run_for(source: str, videos: str, head: str, viewing: dict[str, Any]) -> Any:
    """Return the run that is to label videos; refuse options that it does not take."""
    from selavi_ref.api.applying import is_features
    from selavi_ref.runs.run import Run, RunKind

    run = Run.open(source)
    if run.kind is not RunKind.HEADS:
        Run.of_videos(source)
    else:
        refuse_options(("clips", *OF_NETWORKS), f"goes with a run on videos; {source} has learnt from features")
        if is_features(videos):
            refuse_options(viewing, f"goes with videos; {videos} has their features already")
    known = [str(number) for number in range(run.config.get("heads", 0))]
    if head not in ("consensus", "heads", "best", *known):
        raise InputError(f"--head {head}: choose consensus, heads, best, or one of {', '.join(known)}", option="head")
    return run


def _write_log_probabilities(run: Any, videos: str, store: str, viewing: dict[str, Any]) -> None:
    """Write the log-probabilities of a run for videos, or of a run of heads for features, to a store."""
    from backbones.commands.progress import TERMINAL
    from selavi_ref.api.applying import apply_heads_run
    from selavi_ref.runs.run import RunKind

    viewing = viewing | segments_for(run)
    if run.kind is not RunKind.HEADS:
        extract_videos(run, videos, store, **viewing)
        return
    encoded = Path(f"{store}.encoded")  # kept where the encoding is interrupted
    options = {name: viewing[name] for name in ("segments", "types", "device", "workers")}
    apply_heads_run(run, videos, store, encoded=encoded, reporter=TERMINAL, **options)
    encoded.unlink(missing_ok=True)


def _label_over_time(
    source: str,
    videos: str | None,
    out: str,
    form: str | None,
    force: bool,
    head: str,
    as_learnt: bool,
    viewing: dict[str, Any],
) -> None:
    """Write stretches of one label instead of a table; refuse options that do not go with them."""
    refused = ("balanced", "min_confidence", "drop_misfits", "as_json", "crops", "shrink", "attenuate", "noise")
    refuse_options(refused, "does not go with --timeline")
    if videos is None or out == STANDARD_OUTPUT:
        raise InputError(
            "--timeline goes with RUN VIDEOS and a file or folder: selavi label RUN VIDEOS --timeline",
            option="timeline",
        )
    _run_for(source, videos, head, viewing)
    write_timeline_files(
        source,
        videos,
        out if given_on_command_line("out") else "timeline.csv",
        form,
        segments=viewing["segments"],
        types=viewing["types"],
        force=force,
        head=head,
        as_learnt=as_learnt,
        clips=viewing["clips"],
        device=viewing["device"],
        workers=viewing["workers"],
    )


def write_labels(
    store: str,
    out: str,
    head: str = "consensus",
    balanced: bool = False,
    annotations: Any = None,
    *,
    source: str | None = None,
    of_training: bool = True,
    min_confidence: float = 0.0,
    drop_misfits: bool = False,
    as_json: bool = False,
) -> None:
    """
    Label the videos of a store, write the table, and print a summary, with the reasons to doubt the labels.

    Parameters
    ----------
    store, out : str
        The store, and the table to write.
    head, balanced
        See `selavi_ref.ensemble.labels.label_store`.
    annotations : Annotations, optional
        Names and merged clusters.
    source : str, optional
        Store or finished run that `selavi check` can check.
    of_training
        See `selavi_ref.diagnostics.doubts.doubts`.
    min_confidence, drop_misfits
        See `selavi_ref.diagnostics.doubts.reject`.
    as_json : bool
        Print the summary as JSON.
    """
    from selavi_ref.api.predictions import label_features
    from selavi_ref.diagnostics.doubts import doubts, reject
    from selavi_ref.ensemble.label_table import label_table, write_csv
    from selavi_ref.ensemble.labels import label_store
    from selavi_ref.report.summaries import labels_summary
    from selavi_ref.store import FeatureStore

    labels, names = label_features(store, head=head, balanced=balanced, annotations=annotations)
    with FeatureStore(store) as opened:
        as_learnt = labels if annotations is None else label_store(opened, head=head, balanced=balanced)
        findings = doubts(opened, as_learnt, of_training=of_training)
        if min_confidence or drop_misfits:
            labels = reject(opened, labels, min_confidence=min_confidence, drop_misfits=drop_misfits)
        search = opened.provenance.get("search")
    printed = out == STANDARD_OUTPUT
    if printed:
        text = io.StringIO()
        label_table(labels, names).write(text)
        echo(text.getvalue())
    else:
        write_csv(labels, out, names)
    advice = None if source is None or not findings else shlex.join(["selavi", "check", source])
    if as_json:
        summary = {
            "out": out,
            "videos": len(labels.paths),
            "labelled": int((labels.label >= 0).sum()),
            "doubts": {finding.name: {"sentence": finding.sentence, **finding.figures} for finding in findings},
            "check": advice,
            "search": search,
        }
        echo(json.dumps(summary))
        return
    note(labels_summary(labels), err=printed)
    if not printed:
        note(f"wrote {click.format_filename(out)}")
    if findings:
        warn_of_doubts(findings, err=printed)
        if advice:
            note(f"more about it: {advice}", err=printed)


def warn_of_doubts(findings: Sequence[Any], *, err: bool = False) -> None:
    """Say why labels cannot be trusted."""
    sentences = "; ".join(finding.sentence for finding in findings)
    warning(f"these labels cannot be trusted: {sentences}", err=err)


def report_labels(run: Any, classes: Collection[str], truth: Path | None = None, *, quiet: bool = False) -> None:
    """
    Draw the contact sheet of a run, and compare its labels with the folders of its videos.

    Parameters
    ----------
    run : Run
        A run that has labels.
    classes : collection of str
        The folders' names; a single one is no class to compare with.
    truth : Path, optional
        Table of the true classes, if they are not the names of the folders.
    quiet : bool
        Only draw, and print nothing.
    """
    from selavi_ref.report.contact_sheet import contact_sheet
    from selavi_ref.report.evaluation import evaluate_csv, scores_table

    contact_sheet(run.labels_file, run.sheet_file)
    if quiet:
        return
    note(f"wrote {click.format_filename(run.sheet_file)}, the most typical videos of each cluster")
    if len(classes) > 1:
        click.echo("compared with the folders of the videos, which were not used for learning:")
        click.echo(scores_table({"labels": evaluate_csv(run.labels_file, truth)}).text())
    note(f"view and name the clusters: selavi browse {shlex.quote(str(run.folder))}")
