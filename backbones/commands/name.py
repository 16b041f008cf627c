"""`selavi name`: proposals of names for clusters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from backbones.commands.command import Command, Interruptible, refuse_options
from backbones.commands.help_text import option_group
from backbones.commands.messages import note
from backbones.commands.shared_options import device_option, format_option, videos_option, workers_option
from selavi_ref.errors import InputError, printable, reason


@click.command(
    cls=Command,
    examples="""
    selavi name RUN
    selavi name RUN --accept 0.5
    selavi name RUN --encoder efficientnet-lite0
    selavi name RUN --encoder clip=transformers:openai/clip-vit-base-patch32 --words words.txt
    selavi name RUN --features features.h5 --no-files
    selavi name RUN --command 'python ask_a_model.py'
    selavi name labels.csv --command http://localhost:8000/name
    """,
)
@click.argument("source", type=click.Path(), metavar="RUN|LABELS|STORE")
@option_group(
    "Where names come from",
    click.option(
        "--files/--no-files",
        default=True,
        help="Words of file names, folders, and texts beside the videos (.txt, .json, .srt).",
    ),
    click.option(
        "--encoder",
        "encoders",
        multiple=True,
        metavar="[NAME=]MODEL",
        help="Class names of a classifier, such as efficientnet-lite0; with --words, a model of pictures (or sounds) "
        "and texts, such as transformers:openai/clip-vit-base-patch32; repeatable.",
    ),
    click.option(
        "--words", type=click.Path(), help="Possible names, one a line, for models of --encoder that take texts."
    ),
    click.option(
        "--features",
        type=click.Path(),
        help="Store with class probabilities. [default: that which RUN has learnt from]",
    ),
    click.option(
        "--command",
        "program",
        metavar="PROGRAM|URL",
        help="Ask a program (JSON about a cluster on its standard input, name on its standard output), or an HTTP "
        "address (POST), for each cluster without a name.",
    ),
    click.option(
        "--seconds",
        type=click.FloatRange(0, min_open=True),
        default=60.0,
        help="Seconds that the program or HTTP address of --command has to answer for a cluster.",
    ),
)
@click.option(
    "--accept",
    type=click.FloatRange(0, 1),
    metavar="SCORE",
    help="Name each cluster without a name by its best proposal, if the score is at least this. [default: name none]",
)
@click.option("--head", default="consensus", help="consensus of all heads, or the number of a head.")
@videos_option
@format_option
@device_option
@workers_option
def name(
    source: str,
    files: bool,
    encoders: tuple[str, ...],
    words: str | None,
    features: str | None,
    program: str | None,
    seconds: float,
    accept: float | None,
    head: str,
    videos: str | None,
    form: str,
    device: str,
    workers: int | None,
) -> None:
    """
    Propose names for the clusters of a RUN, a table or a store.

    A proposal's score is the correlation of what speaks for it with membership in the cluster: 1 where it is found in
    exactly its videos, 0 where it says nothing. Proposals are saved in names.json, and shown by selavi browse, where a
    key accepts them. Nothing is named without a person or --accept, and no name is ever replaced.
    """
    from backbones.commands.output import echo
    from backbones.commands.progress import TERMINAL
    from selavi_ref.api.naming import class_probabilities, propose_names, stored_class_probabilities
    from selavi_ref.browser.collection import open_collection
    from selavi_ref.runs.run import Run

    if program is None:
        refuse_options(["seconds"], "goes with --command")
    vocabulary = None if words is None else _read_words(words)
    collection = open_collection(source, videos=videos)
    if head not in collection.labels.titles:
        raise InputError(
            f"--head {head}: {source} has {', '.join(collection.labels.titles)}", option="head", value=head
        )
    with Interruptible("the same command continues where it stopped"):
        if features is not None:
            classes = class_probabilities(features)
            if not classes:
                raise InputError(
                    f"--features {features} holds no class probabilities; use --encoder", option="features"
                )
        else:
            run = Run(collection.source)
            classes = stored_class_probabilities(run) if run.config_file.exists() else []
        if vocabulary is not None and not encoders:
            encoders = _with_texts(collection, source)
        if not (files or classes or encoders or program):
            raise InputError(
                "--no-files leaves nothing to take names from; give --encoder, --features or --command",
                option="no-files",
            )
        classes = [*classes, *_encoded(collection, encoders, vocabulary, device, workers)]
        found = propose_names(
            collection,
            files=files,
            classes=classes,
            program=program,
            seconds=seconds,
            accept=accept,
            labelling=head,
            reporter=TERMINAL,
        )
    table = _table(collection, head, found)
    echo(table.to(form))
    if form == "text":
        note(_next_step(found, source, all(row["name"] for row in table.rows)), err=True)


def _encoded(
    collection: Any, encoders: tuple[str, ...], vocabulary: list[str] | None, device: str, workers: int | None
) -> list[Any]:
    """Return the class probabilities of encoders, computed where there are none yet."""
    if not encoders:
        return []
    import os

    from backbones.commands.progress import TERMINAL
    from backbones.encoders.text_search import class_probabilities_of

    threads = (os.cpu_count() or 1) if workers is None else workers
    options = {"device": device, "workers": threads, "reporter": TERMINAL}
    return [class_probabilities_of(collection, encoder, vocabulary, **options) for encoder in encoders]


def _with_texts(collection: Any, source: str) -> tuple[str, ...]:
    """Return the encoder that a collection has features of and that takes texts."""
    from backbones.encoders.text_search import search_texts

    try:
        return (search_texts(collection, [])[0],)
    except InputError as error:
        raise InputError(
            f"--words needs --encoder with a model of pictures (or sounds) and texts; {source} has no features by one",
            option="words",
        ) from error


def _read_words(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8-sig") as file:
            words = list(dict.fromkeys(" ".join(line.split()) for line in file))
    except (OSError, ValueError) as error:
        raise InputError(
            f"--words {printable(path)} cannot be read: {reason(error)}", option="words", path=path
        ) from error
    words = [word for word in words if word]
    if len(words) < 2:
        why = f"has {len(words)} of them; give two or more names, one a line"
        raise InputError(f"--words {printable(path)} {why}", option="words", path=path)
    return words


def _table(collection: Any, head: str, found: Any) -> Any:
    """Return what was found as a table: a row for each cluster."""
    from collections import Counter

    from selavi_ref.browser.final_labels import final_labels
    from selavi_ref.report.table import Table

    sizes = Counter(k for k in final_labels(collection, head).cluster.tolist() if k >= 0)
    columns = {"cluster": "cluster", "videos": "videos", "name": "name", "proposed": "proposed (score, source)"}
    rows: list[Mapping[str, Any]] = []
    for cluster in sorted(sizes):
        proposals = [
            f"{one.name} ({'' if one.score is None else f'{one.score:.2f}, '}{one.source})"
            for one in found.proposals.get(cluster, [])[:3]
        ]
        row = {"cluster": cluster, "videos": sizes[cluster], "name": found.names.get(cluster, "")}
        rows.append(row | {"proposed": "; ".join(proposals)})
    return Table("", columns, rows)


def _next_step(found: Any, source: str, all_named: bool) -> str:
    """Return the sentence that says what was named, and how to name the rest."""
    from selavi_ref.runs.reporter import counted

    named = f"{counted(len(found.accepted), 'cluster')} got a name. " if found.accepted else ""
    if all_named:
        return f"{named}all clusters have names; change them on the page: selavi browse {source}"
    if not found.proposals:
        return f"{named}nothing was found that tells the clusters apart; try --encoder efficientnet-lite0, or --command"
    more = "more of them by a smaller --accept" if found.accepted else "good ones by --accept 0.5"
    return f"{named}accept or write names on the page: selavi browse {source}; or accept {more}"
