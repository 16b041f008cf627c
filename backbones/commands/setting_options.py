"""The options of `selavi train`: what is not given is the preset's."""

from __future__ import annotations

import click

from backbones.commands.command import combine
from backbones.commands.n_clusters_option import NumberOfClusters

_POSITIVE = click.FloatRange(0, min_open=True)
_FROM_0 = click.FloatRange(0)

# Of a run's settings. Where none of two flags is given, the preset decides as well.
_SETTINGS = (
    click.option(
        "--preset",
        type=click.Choice(["small", "published", "one-gpu"]),
        help="small: for a CPU. published: the paper's recipe. one-gpu: a smaller one. [default: small; published "
        "beside another --video-net than tiny]",
    ),
    click.option(
        "--config",
        type=click.Path(dir_okay=False),
        help="Settings, or some of them, as in a run's config.toml; options go before them, they before the preset's.",
    ),
    click.option(
        "--clusters",
        "-k",
        type=NumberOfClusters(),
        help="How many kinds of videos to find; auto or auto:MOST: estimated first, which takes as long again.",
    ),
    click.option(
        "--video-net", help="tiny, r2plus1d_18, r3d_18, mc3_18, s3d, mvit_v2_s, swin3d_t, or others installed."
    ),
    click.option("--audio-net", help="tiny, resnet9, resnet18, resnet34, resnet50, or another package's."),
    click.option("--video-weights", type=click.Path(), help="File of weights to begin with, such as torchvision's."),
    click.option("--audio-weights", type=click.Path(), help="The same of the audio network; of pictures, too."),
    click.option("--init", type=click.Path(), help="Run or published checkpoint whose networks to begin with."),
    click.option("--heads", type=click.IntRange(1), help="Labellings learnt at once. [small: 5; published: 10]"),
    click.option("--mlp/--no-mlp", default=None, help="Heads with a hidden layer, or linear ones."),
    click.option("--groups", type=click.IntRange(1), help="Groups of heads with looks of their own. [1; published: 2]"),
    click.option("--distribution", help="Cluster sizes: uniform, gaussian, zipf, or a file of sizes. [gaussian]"),
    click.option("--spread", type=_FROM_0, help="Standard deviation of gaussian sizes. [0.02; published: 0.1]"),
    click.option("--size-per-head/--no-size-per-head", default=None, help="Each head draws its own sizes. [so]"),
    click.option("--redraw-sizes/--no-redraw-sizes", default=None, help="Each labelling draws sizes anew. [kept]"),
    click.option(
        "--match-sizes/--no-match-sizes",
        default=None,
        help="Whether the largest predicted cluster gets the largest size. [so]",
    ),
    click.option(
        "--soft-sizes",
        type=_FROM_0,
        help="Price of missing the sizes once something is learnt: 10 bends them, 1000 hardly, 0 not. [small, without "
        "--distribution: 10; else 0]",
    ),
    click.option(
        "--label-by",
        type=click.Choice(["both", "video", "audio"]),
        help="Whose predictions labels follow; one alone goes without side heads. [both]",
    ),
    click.option(
        "--labeller", type=click.Choice(["transport", "kmeans"]), help="kmeans: instead, for comparison. [transport]"
    ),
    click.option(
        "--overclustering-heads",
        type=click.IntRange(0),
        help="Heads of finer labels. [small: 5; published: none]",
    ),
    click.option("--align/--no-align", default=None, help="Match the modalities' clusters at first. [so]"),
    click.option("--strength", type=_POSITIVE, help="lambda / 2 of the transport. [10]"),
    click.option(
        "--epochs",
        type=click.IntRange(1),
        help="Passes over the videos. [small: until picture and sound agree, then some more; published: 200]",
    ),
    click.option("--labellings", type=click.IntRange(1), help="Self-labellings in all. [80 to 160; published: 99]"),
    click.option("--labelling-power", type=_POSITIVE, help="Above 1: dense at first, rare later. [1.5]"),
    click.option("--batch-size", type=click.IntRange(2), help="Clips per step of a process. [32 or 64; published: 16]"),
    click.option("--learning-rate", type=_POSITIVE, help="Learning rate. [0.1; published: 0.01]"),
    click.option(
        "--scale-learning-rate/--no-scale-learning-rate",
        default=None,
        help="Learn at the rate times the processes. [published: so]",
    ),
    click.option("--warmup-epochs", type=_FROM_0, help="Over which the rate rises. [3; published: 10]"),
    click.option("--decay", type=click.Choice(["cosine", "constant"]), help="[cosine; published: constant]"),
    click.option(
        "--bn-warmup-batches",
        type=click.IntRange(0),
        help="Batches before the first labelling. [20]",
    ),
    click.option("--momentum", type=click.FloatRange(0, 1, max_open=True), help="Of gradient descent. [0.9]"),
    click.option("--weight-decay", type=_FROM_0, help="Of gradient descent. [1e-4; published: 1e-5]"),
    click.option("--dropout", type=click.FloatRange(0, 1, max_open=True), help="Of the heads. [0; published: 0.3]"),
    click.option(
        "--sync-batch-norm/--no-sync-batch-norm",
        default=None,
        help="Batch norms that span all processes. [so]",
    ),
    click.option(
        "--precision",
        type=click.Choice(["auto", "float32", "bfloat16"]),
        default="auto",
        help="Of the networks. [bfloat16 for small ones and one GPU where the hardware has it; published: float32]",
    ),
    click.option("--compile/--no-compile", default=None, help="Compile the networks (needs a C++ compiler). [not]"),
    click.option("--frames", type=click.IntRange(1), help="Frames of a clip. [4; published: 30]"),
    click.option("--stride", type=click.IntRange(1), help="Take every n-th of the frames a second. [1]"),
    click.option("--clips-per-video", type=click.IntRange(1), help="Clips of each video in an epoch. [1]"),
    click.option("--sound-seconds", type=click.FloatRange(0.1), help="Sound of a clip, seconds. [1]"),
    click.option("--sound-rate", type=click.IntRange(4000), help="Samples a second. [16000; published: 24000]"),
    click.option("--mel-bands", type=click.IntRange(4), help="Of the sound. [64; published: 257]"),
    click.option(
        "--sound-level",
        metavar="LEVEL",
        help="How log energies are normalised: collection (measured), none, published (1.93,17.89), or MEAN,STD. "
        "[collection; published: none]",
    ),
    click.option(
        "--augment",
        multiple=True,
        metavar="NAME=VALUE",
        help="How clips are varied: none, published or strong, and any of scale=LOW,HIGH flip jitter jitter_chance "
        "grey blur rotation zoom shift colour brightness volume time_shift band_shift band_mask time_mask; repeatable.",
    ),
)

# Of the command: they may be given anew when a run goes on.
_KEEPING = (
    click.option(
        "--checkpoint-minutes",
        "minutes",
        type=_POSITIVE,
        default=15.0,
        show_default=True,
        help="Save the state so often within an epoch, beside at its end; the last three are kept.",
    ),
    click.option(
        "--keep-every",
        type=click.IntRange(0),
        default=25,
        show_default=True,
        help="Keep a checkpoint for good every so many epochs; 0: none.",
    ),
    click.option("--scratch", type=click.Path(), help="Folder for features in hand. [default: the run's]"),
)


settings_options = combine(*_SETTINGS)
keeping_options = combine(*_KEEPING)
