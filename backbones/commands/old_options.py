"""Options of version 0.1.0 that have other names now: they still work, and a line tells the new name."""

from __future__ import annotations

import click

from backbones.commands.messages import warning

RENAMED_OPTIONS = {
    "--rate": "--learning-rate",
    "--base-rate": "--base-learning-rate",
    "--scale-rate": "--scale-learning-rate",
    "--same-rate": "--no-scale-learning-rate",
    "--norm-warmup": "--bn-warmup-batches",
    "--side-heads": "--overclustering-heads",
    "--sync-norm": "--sync-batch-norm",
    "--own-norm": "--no-sync-batch-norm",
    "--size-for-all": "--no-size-per-head",
    "--keep-sizes": "--no-redraw-sizes",
    "--sizes-as-drawn": "--no-match-sizes",
}


def with_current_options(command: click.Command, args: list[str], name: str) -> list[str]:
    """
    Return a command line with today's names of options, and warn once of each old one.

    Parameters
    ----------
    command : click.Command
        A name is replaced only if this command has the new option and not the old one.
    args : list of str
        The command line.
    name : str
        How the command is called, for the warning.
    """
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    end = args.index("--") if "--" in args else len(args)
    warned = set()
    current = list(args)
    for place, argument in enumerate(args[:end]):
        old, equals, value = argument.partition("=")
        new = RENAMED_OPTIONS.get(old)
        if new is None or old in known or new not in known:
            continue
        current[place] = new + equals + value
        if old not in warned:
            warned.add(old)
            warning(f"{name}: {old} is now called {new}")
    return current
