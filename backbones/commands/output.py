"""Results of a command, on standard output."""

from __future__ import annotations

import click


def echo(text: str) -> None:
    """Print a text with the bytes that it would have in a file: names that are not UTF-8 keep theirs."""
    click.echo(text.rstrip("\n").encode("utf-8", "surrogateescape"))
