"""Runs of heads as version 0.1.0 made them, by gradient descent."""

from selavi_ref.heads.training_run import start_heads
from tests.support.command_line import selavi, succeeded


def train_old_heads(place, store, out, clusters=4, **options):
    """Start a run of heads of version 0.1.0 in a folder, and let the program continue it to its end."""
    start_heads(place / store, place / out, clusters, **{"epochs": 2, "labellings": 2, "heads": 2, **options})
    succeeded(selavi("train-heads", "--resume", "--out", out, cwd=place))
