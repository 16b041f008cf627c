"""`selavi extract`: features of videos, written to a store by a run, by pretrained encoders, or from given arrays."""

from __future__ import annotations

from typing import Any

import click

from backbones.commands.command import Command, Interruptible, given_on_command_line, refuse_options
from backbones.commands.help_text import option_group
from backbones.commands.messages import note
from backbones.commands.output import OutPath, refuse_foreign_store
from backbones.commands.shared_options import (
    OF_NETWORKS,
    USUAL_FILES,
    USUAL_SEGMENTS,
    encoder_option,
    viewing_options_of,
)
from selavi_ref.errors import InputError

_ENCODER_CLIPS = 3


@click.command(
    cls=Command,
    examples="""
    selavi extract RUN VIDEOS --out features.h5
    selavi extract RUN new_videos.csv --clips 10 --crops 3 --out features.h5
    selavi extract VIDEOS --encoder efficientnet-lite0 --encoder logmel --out features.h5
    selavi extract VIDEOS --encoder clip=transformers:openai/clip-vit-base-patch32 --out features.h5
    selavi extract VIDEOS --encoder timm:resnet50@weights.safetensors --out features.h5
    selavi extract --embeddings clip.npy sound=mel.npy videos.csv --out features.h5
    """,
)
@click.argument("sources", nargs=-1, type=click.Path(), metavar="[RUN] VIDEOS | FILES")
@option_group(
    "Main options",
    click.option("--out", type=OutPath(), required=True, help="Store to write; an interrupted one is continued."),
    encoder_option,
    click.option(
        "--embeddings",
        is_flag=True,
        help="Make the store of FILES of features, [NAME=]FILE (.npy, .npz, .parquet), and a list of their videos (CSV "
        "with a column path).",
    ),
)
@viewing_options_of(
    f"those that RUN has; with --encoder: {USUAL_FILES}",
    f"as those that RUN has learnt from; with --encoder: {USUAL_SEGMENTS}",
)
def extract(
    sources: tuple[str, ...], out: str, encoders: tuple[str, ...], embeddings: bool, workers: int | None, **viewing: Any
) -> None:
    """
    Write features of VIDEOS to a store: by the networks of RUN, by pretrained encoders, or from FILES.

    Encoders are LIBRARY:MODEL of torchvision, timm, transformers and open_clip, and efficientnet-lite0 and logmel.
    docs/encoders.md says more.
    """
    first = True
    refuse_foreign_store(out)
    with Interruptible("the same command continues where it stopped"):
        if embeddings:
            refuse_options(("encoders", *viewing, "workers"), "does not go with --embeddings")
            _import_arrays(sources, out)
        elif encoders:
            from selavi_ref.datasets.scan import list_videos

            refuse_options(OF_NETWORKS, "does not go with --encoder")
            (videos,) = _positions(sources, "VIDEOS")
            clips = viewing["clips"] if given_on_command_line("clips") else _ENCODER_CLIPS
            segments, listed = viewing["segments"], list_videos(videos, viewing["types"])
            encode_videos(listed, out, encoders, viewing["device"], workers, clips, segments)
        else:
            from selavi_ref.runs.run import Run

            run, videos = _positions(sources, "RUN", "VIDEOS")
            opened = Run.of_videos(run, f"selavi label {run} STORE takes features")
            first = extract_videos(opened, videos, out, workers=workers, **viewing | segments_for(opened))
    if first:
        note(f"wrote {click.format_filename(out)}")


def segments_for(run: Any) -> dict[str, str]:
    """Return the option --segments: as the videos of a run were cut, unless it was given."""
    given = given_on_command_line("segments")
    return {"segments": click.get_current_context().params["segments"] if given else run.usual_segments}


def _positions(sources: tuple[str, ...], *names: str) -> tuple[str, ...]:
    """Return the arguments, or raise an error that says which there must be."""
    from selavi_ref.runs.reporter import counted

    if len(sources) != len(names):
        given = counted(len(sources), "argument")
        raise InputError(
            f"{given} where {' and '.join(names)} belong; with --encoder: VIDEOS, otherwise RUN VIDEOS",
            option="sources",
        )
    return sources


def _import_arrays(files: tuple[str, ...], out: str) -> None:
    """Make a store of files of features."""
    from selavi_ref.datasets.embeddings import read_embeddings
    from selavi_ref.store import FeatureStore

    given = read_embeddings(files)
    provenance = {"embeddings": list(files)}
    with FeatureStore.from_arrays(
        out, given.spaces, paths=given.paths, classes=given.classes, provenance=provenance
    ) as store:
        spaces = ", ".join(f"{space} ({store.width(f'features/{space}')})" for space in store.modalities)
        note(f"{store.n_videos} videos; {spaces}", err=True)


def encode_videos(
    listed: Any,
    out: str,
    encoders: tuple[str, ...],
    device: str,
    workers: int | None,
    clips: int = _ENCODER_CLIPS,
    segments: str = "auto",
) -> None:
    """Scan the listed videos, and write the store of the features of encoders."""
    import os

    from backbones.commands.progress import TERMINAL
    from backbones.encoders import extract_features, load_encoders
    from selavi_ref.datasets.scan import scan_playable
    from selavi_ref.datasets.video_files import left_out_sentence

    if left_out := left_out_sentence(listed.ignored):
        TERMINAL.info(left_out)
    loaded = load_encoders(encoders, device)
    manifest = scan_playable(listed, workers=workers, segments=segments, reporter=TERMINAL)
    threads = (os.cpu_count() or 1) if workers is None else workers
    extract_features(manifest, loaded, out, clips=clips, workers=threads, reporter=TERMINAL)


def extract_videos(
    run: Any,
    videos: str,
    out: str,
    *,
    clips: int | None,
    crops: int,
    shrink: int,
    attenuate: float,
    noise: float,
    segments: str,
    types: list[str] | None,
    device: str,
    workers: int | None,
) -> bool:
    """List and scan videos, write their store, and return whether this is the process that reports it."""
    from backbones.commands.progress import TERMINAL
    from backbones.data.degradation import Degradation
    from backbones.data.loader import ClipSampling
    from backbones.distributed.processes import process_group
    from backbones.runs import video_runs
    from backbones.runs.run_settings import choose_device
    from selavi_ref.api.listing import list_for_run
    from selavi_ref.runs.processes import raise_together
    from selavi_ref.runs.reporter import SILENT

    degradation = Degradation(shrink, attenuate, noise)
    with process_group(choose_device(device)) as exchange:
        with raise_together(exchange):
            listed = list_for_run(run, videos, types, reporter=TERMINAL if exchange.rank == 0 else SILENT)
        video_runs.extract_videos(
            run,
            listed,
            out,
            sampling=ClipSampling(clips or run.usual_clips, crops),
            degradation=degradation,
            device=device,
            workers=workers,
            exchange=exchange,
            segments=segments,
            reporter=TERMINAL,
        )
        return exchange.rank == 0
