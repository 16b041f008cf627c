"""`selavi baseline`: simpler ways to label the same videos, beside ours."""

from __future__ import annotations

from typing import Any

import click

from backbones.commands.options import device_option, format_option, memory_option, seed_option, workers_option
from backbones.commands.program import Command, Interruptible, refuse_options
from backbones.commands.progress import TERMINAL
from selavi_ref.errors import InputError


@click.command(
    cls=Command,
    examples="""
    selavi baseline VIDEOS --clusters 10
    selavi baseline VIDEOS --run RUN --out baselines
    selavi baseline VIDEOS --clusters 10 --video-net r3d_18 --video-weights r3d_18.pth
    selavi baseline features.h5 --clusters 10 --format csv
    """,
)
@click.argument("source", type=click.Path(), metavar="VIDEOS|STORE")
@click.option("--clusters", "-k", type=click.IntRange(2), help="Number of clusters. [default: that of RUN or STORE]")
@click.option("--run", type=click.Path(), help="A run, whose labels and features are scored beside.")
@click.option("--truth", type=click.Path(), help="CSV with the columns path and class. [default: folders or the list]")
@click.option("--video-net", help="Video network of files of weights. [default: tiny, or that of RUN]")
@click.option("--audio-net", help="Audio network of files of weights.")
@click.option("--video-weights", type=click.Path(), help="File of weights, such as torchvision's.")
@click.option("--audio-weights", type=click.Path(), help="The same of the audio network.")
@click.option("--init", type=click.Path(), help="Published checkpoint whose networks to take.")
@click.option(
    "--out", type=click.Path(file_okay=False), default="baseline", show_default=True, help="Folder of the results."
)
@format_option
@seed_option
@device_option
@workers_option
@memory_option
def baseline(
    source: str,
    clusters: int | None,
    run: str | None,
    truth: str | None,
    out: str,
    form: str,
    seed: int,
    device: str,
    workers: int | None,
    memory_gb: float,
    **networks: Any,
) -> None:
    """
    Score simpler ways to label VIDEOS, or a STORE of features, by the true classes of the videos.

    K-means on pictures, sounds and both: as the networks see them; on the features of networks with random weights; of
    networks from files; and of the networks of RUN, whose own labels stand beside, by both modalities and by each.
    """
    import os

    from selavi_ref.report.figures import check_drawing
    from selavi_ref.report.table import results_folder

    of_store = os.path.isfile(source) and not _is_list(source)
    if of_store:
        refuse_options(["run", *networks], "goes with VIDEOS; a store has its features already")
    check_drawing()
    with Interruptible("the same command begins again, but for what RUN sees, which is kept"):
        if of_store:
            classes, found = _of_store(source, clusters, truth, seed)
        else:
            data_source = {"workers": workers, "memory_gb": memory_gb}
            classes, found = _of_videos(source, clusters, run, truth, out, networks, seed, device, data_source)
    _show(classes, found, results_folder(out), form)


def _of_store(source: str, clusters: int | None, truth: str | None, seed: int) -> tuple[list[str], dict[str, Any]]:
    """Return the true class of each video, and its label by each way."""
    from backbones.runs.baselines import labels_of_store
    from selavi_ref.report.evaluation import true_classes
    from selavi_ref.store import FeatureStore

    with FeatureStore(source) as store:
        if clusters is None and not store.heads:
            raise InputError("--clusters is missing: the store has no log-probabilities that would tell their number")
        classes = true_classes(source, store.paths, store.classes, truth)
        return classes, labels_of_store(store, clusters or store.n_clusters, "features", seed=seed)


def _of_videos(
    source: str,
    clusters: int | None,
    run_folder: str | None,
    truth: str | None,
    out: str,
    networks: dict[str, Any],
    seed: int,
    device: str,
    data_source: dict[str, Any],
) -> tuple[list[str], dict[str, Any]]:
    """Return the true class of each video, and its label by each way; what cannot be is refused before all else."""
    from backbones.commands.scanning import list_collection, scan_videos
    from backbones.data.data_source import DataSource
    from backbones.runs.baselines import Baselines, network_settings
    from backbones.runs.initial_weights import check_initial_weights
    from backbones.runs.run_settings import RunSettings
    from selavi_ref.report.evaluation import true_classes
    from selavi_ref.report.table import results_folder
    from selavi_ref.runs.run import Run

    run = None if run_folder is None else Run.of_videos(run_folder, "give its store in place of VIDEOS")
    of_run = None if run is None else RunSettings.from_dict(run.config)
    K = clusters or (None if of_run is None else of_run.clusters)
    if K is None:
        raise InputError("--clusters is missing: into how many clusters is K-means to divide the videos?")
    given = any(networks[name] for name in ("video_weights", "audio_weights", "init"))
    named = {name: networks[name] for name in ("video_net", "audio_net")}
    if of_run is not None and not any(named.values()):
        named = {"video_net": of_run.backbone.video_net, "audio_net": of_run.backbone.audio_net}
    random = network_settings(1000, K, device=device, **named)
    pretrained = None
    if given:
        pretrained = check_initial_weights(network_settings(1000, K, device=device, **{**networks, **named}))
    least = max(1.1, random.backbone.clip.length + 0.1)
    manifest = scan_videos(list_collection(source), data_source["workers"], min_seconds=least).usable
    if len(manifest) < K:
        raise InputError(f"--clusters {K}: {source} has too few usable videos ({len(manifest)})")
    classes = true_classes(source, manifest.paths, manifest.classes, truth)
    all_of_them = Baselines(manifest, K, results_folder(out), device, DataSource(**data_source), seed, TERMINAL)
    ours = {} if run is None else all_of_them.of_run(run)
    found = all_of_them.on_inputs(random) | all_of_them.on_networks("random networks", random)
    if pretrained is not None:
        found |= all_of_them.on_networks("given networks", pretrained)
    return classes, found | ours


def _show(classes: list[str], found: dict[str, Any], folder: Any, form: str) -> None:
    from selavi_ref.metrics import summary
    from selavi_ref.report.evaluation import SCORES, scores_table
    from selavi_ref.report.figures import bar_figure
    from selavi_ref.report.table import echo

    rows = {}
    for name, labels in found.items():
        both = [(true, int(k)) for true, k in zip(classes, labels, strict=True) if true and k >= 0]
        if both:
            rows[name] = summary([true for true, _ in both], [k for _, k in both])
    table = scores_table(rows, tuple(SCORES))
    table.write(folder / "baselines")
    bar_figure(
        folder / "baselines",
        list(rows),
        {"NMI": [float(scores["nmi"]) for scores in rows.values()]},
        title="Simpler ways to label the same videos, and ours",
        y="NMI with the true classes",
    )
    echo(table.to(form))
    click.echo(f"tables and a figure are in {click.format_filename(str(folder))}", err=True)


def _is_list(source: str) -> bool:
    from selavi_ref.datasets.manifest import LIST_EXTENSIONS

    return source.lower().endswith(LIST_EXTENSIONS)
