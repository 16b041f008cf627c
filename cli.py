"""The program `selavi`: the table of its commands."""

from __future__ import annotations

import os

import click

from backbones.commands.command import Program
from selavi_ref import __version__

# Idle threads of PyTorch keep cores busy for milliseconds, in case there is work soon; threads of others need them.
# PyTorch reads this when it is imported, which commands do later.
if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "10000"

# Name of a command -> where it is defined, and the first sentence of its help, which a test holds equal. A command is
# imported when it is called, so that the list of commands appears at once.
COMMANDS = {
    "demo": (
        "backbones.commands.demo:demo",
        "Make a small synthetic collection of videos, label it from scratch, and compare with K-means.",
    ),
    "scan": (
        "backbones.commands.scan:scan",
        "List the videos of a folder, with what each file holds and whether it can be used.",
    ),
    "train": (
        "backbones.commands.train:train",
        "Learn to label VIDEOS: a folder of videos, in any depth, or a list of them (CSV with a column path).",
    ),
    "label": (
        "backbones.commands.label:label",
        "Label the videos of a STORE, or VIDEOS with the networks of RUN, seen in training or not.",
    ),
    "update": (
        "backbones.commands.update:update",
        "Follow changes of VIDEOS: label new files by RUN as it is, and keep all that was there.",
    ),
    "browse": (
        "backbones.commands.browse:browse",
        "Show the clusters of a RUN, of a table of labels, or of a store, in a web browser.",
    ),
    "name": ("backbones.commands.name:name", "Propose names for the clusters of a RUN, a table or a store."),
    "export": (
        "backbones.commands.export:export",
        "Write the labels of a RUN, a table or a store, with all edits made on the page of selavi browse.",
    ),
    "check": (
        "backbones.commands.check:check",
        "Check how far the labels of a RUN or STORE can be trusted, without looking at any true label.",
    ),
    "evaluate": (
        "backbones.commands.evaluate:evaluate",
        "Compare the labels of a RUN or a table with true classes: those of the videos' folders, or of a CSV file.",
    ),
    "plot": (
        "backbones.commands.plot:plot",
        "Draw what RUN has learnt, as PNG and SVG, with the tables behind each figure.",
    ),
    "extract": (
        "backbones.commands.extract:extract",
        "Write features of VIDEOS to a store: by the networks of RUN, by pretrained encoders, or from FILES.",
    ),
    "train-heads": (
        "backbones.commands.train_heads:train_heads",
        "Label the videos of a STORE by their features, computed by any models, and learn heads that label others.",
    ),
    "retrieve": (
        "backbones.commands.retrieve:retrieve",
        "Find the ITEMS nearest to each of the QUERIES (videos, or a text); score them where true classes are known.",
    ),
    "finetune": (
        "backbones.commands.finetune:finetune",
        "Fine-tune the video network of RUN on the classes of VIDEOS, and test it, fold by fold, as published.",
    ),
    "baseline": (
        "backbones.commands.baseline:baseline",
        "Score simpler ways to label VIDEOS, or a STORE of features, by the true classes of the videos.",
    ),
    "study": (
        "backbones.commands.study:study",
        "Test the claims of the method on videos whose true classes are known.",
    ),
    "convert": (
        "backbones.commands.convert:convert",
        "Make a run of a published SeLaVi checkpoint, or write the networks of a run as one.",
    ),
}


@click.group(
    cls=Program, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, prog_name="selavi")
def main() -> None:
    """
    Label collections of unlabelled videos from scratch.

    A video network and an audio network learn to predict the same label, while optimal transport chooses the labels
    again and again (SeLaVi, NeurIPS 2020). No human label is needed, and none is used.
    """


if __name__ == "__main__":
    main()
