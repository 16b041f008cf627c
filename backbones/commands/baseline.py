"""`selavi baseline`: scores of simpler ways to label the same videos."""

from __future__ import annotations

from typing import Any

import click

from backbones.commands.command import Command, Interruptible, refuse_options
from backbones.commands.messages import note
from backbones.commands.output import OutPath
from backbones.commands.progress import TERMINAL
from backbones.commands.shared_options import device_option, format_option, memory_option, seed_option, workers_option
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
@click.option("--run", type=click.Path(), help="A run whose labels and features are scored, too.")
@click.option(
    "--truth",
    type=click.Path(),
    help="CSV with the columns path and class: the true classes. [default: those of the folders or the list]",
)
@click.option(
    "--video-net", help="Video network that --video-weights or --init is for. [default: nano, or that of RUN]"
)
@click.option(
    "--audio-net",
    help="Audio network that --audio-weights or --init is for. [default: that of RUN, or fits --video-net]",
)
@click.option("--video-weights", type=click.Path(), help="File of weights of the video network, such as torchvision's.")
@click.option("--audio-weights", type=click.Path(), help="File of weights of the audio network.")
@click.option("--init", type=click.Path(), help="Published checkpoint whose networks are used.")
@click.option("--out", type=OutPath(file_okay=False), default="baseline", help="Folder for tables and a figure.")
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

    K-means on pictures, sounds and both: on the networks' inputs, on the features of networks with random weights, of
    networks from files, and of the networks of RUN. The own labels of RUN are scored, too: by both modalities and each.
    """
    import os

    from selavi_ref.report.figures import check_drawing
    from selavi_ref.report.table import results_folder

    is_store = os.path.isfile(source) and not _is_list(source)
    if is_store:
        refuse_options(["run", *networks], "goes with VIDEOS; a store has its features already")
    check_drawing()
    with Interruptible("the same command starts again; features of RUN are kept"):
        if is_store:
            classes, labels = _of_store(source, clusters, truth, seed)
        else:
            data_source = {"workers": workers, "memory_gb": memory_gb}
            classes, labels = _of_videos(source, clusters, run, truth, out, networks, seed, device, data_source)
    _show(classes, labels, results_folder(out), form)


def _of_store(source: str, clusters: int | None, truth: str | None, seed: int) -> tuple[list[str], dict[str, Any]]:
    """Return the true class of each video, and its label by each way."""
    from backbones.runs.baselines import label_features
    from selavi_ref.report.evaluation import true_classes
    from selavi_ref.store import FeatureStore

    with FeatureStore(source) as store:
        if clusters is None and not store.heads:
            raise InputError(
                "--clusters is missing: the store has no heads whose number of clusters could be taken",
                option="clusters",
            )
        classes = true_classes(source, store.paths, store.classes, truth)
        return classes, label_features(store, clusters or store.n_clusters, "features", seed=seed)


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
    """Return the true class of each video, and its label by each way; settings that do not fit are refused first."""
    from backbones.commands.scanning import list_collection, scan_videos
    from backbones.data.data_source import DataSource
    from backbones.runs.baselines import Baselines, network_settings
    from backbones.runs.initial_weights import check_initial_weights
    from backbones.runs.run_settings import RunSettings
    from backbones.runs.train import usable_length
    from selavi_ref.report.evaluation import true_classes
    from selavi_ref.report.table import results_folder
    from selavi_ref.runs.run import Run

    run = None if run_folder is None else Run.of_videos(run_folder, "give its store in place of VIDEOS")
    run_settings = None if run is None else RunSettings.from_dict(run.config)
    K = clusters or (None if run_settings is None else run_settings.clusters)
    if K is None:
        raise InputError("--clusters is missing: how many clusters should K-means find?", option="clusters")
    names = {name: networks[name] for name in ("video_net", "audio_net")}
    if run_settings is not None and not any(names.values()):
        names = {"video_net": run_settings.backbone.video_net, "audio_net": run_settings.backbone.audio_net}
    random = network_settings(1000, K, device=device, **names)
    pretrained = None
    if any(networks[name] for name in ("video_weights", "audio_weights", "init")):
        pretrained = check_initial_weights(network_settings(1000, K, device=device, **{**networks, **names}))
    least = usable_length(random.backbone.clip)
    manifest = scan_videos(list_collection(source), data_source["workers"], min_seconds=least).usable
    if len(manifest) < K:
        raise InputError(f"--clusters {K}: {source} has too few usable videos ({len(manifest)})", option="clusters")
    classes = true_classes(source, manifest.paths, manifest.classes, truth)
    baselines = Baselines(manifest, K, results_folder(out), device, DataSource(**data_source), seed, TERMINAL)
    ours = {} if run is None else baselines.label_run(run)
    labels = baselines.label_inputs(random) | baselines.label_networks("random networks", random)
    if pretrained is not None:
        labels |= baselines.label_networks("given networks", pretrained)
    return classes, labels | ours


def _show(classes: list[str], labellings: dict[str, Any], folder: Any, form: str) -> None:
    """Score each labelling, write table and figure, and print the table."""
    from backbones.commands.output import echo
    from selavi_ref.metrics import summary
    from selavi_ref.report.evaluation import SCORES, scores_table
    from selavi_ref.report.figures import bar_figure

    rows = {}
    for name, labels in labellings.items():
        pairs = [(true, int(k)) for true, k in zip(classes, labels, strict=True) if true and k >= 0]
        if pairs:
            rows[name] = summary([true for true, _ in pairs], [k for _, k in pairs])
    table = scores_table(rows, tuple(SCORES))
    table.write(folder / "baselines", figures=[folder / "baselines"])
    bar_figure(
        folder / "baselines",
        list(rows),
        {"NMI": [float(scores["nmi"]) for scores in rows.values()]},
        title="Simpler ways to label the same videos, and ours",
        y="NMI with the true classes",
    )
    echo(table.to(form))
    note(f"tables and a figure are in {click.format_filename(str(folder))}", err=True)


def _is_list(source: str) -> bool:
    from selavi_ref.datasets.video_files import LIST_EXTENSIONS

    return source.lower().endswith(LIST_EXTENSIONS)
