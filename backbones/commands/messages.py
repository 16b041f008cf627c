"""What a command says beside its results: notes, warnings, errors; fewer with -q, more with -v, all in a log file."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from datetime import datetime
from typing import IO, Any

import click

from backbones.commands.output import OutPath

GROUP = "Messages"


@dataclass
class _State:
    """How much the running command says."""

    quiet: bool = False
    verbose: bool = False
    log: IO[str] | None = None
    warned: set[str] = field(default_factory=set)


_state = _State()


def is_quiet() -> bool:
    """Return whether notes and progress are to be left out."""
    return _state.quiet


def note(text: str, *, err: bool = False) -> None:
    """Say what was done, or what to do next, unless -q is given."""
    record(text)
    if not _state.quiet:
        click.echo(text, err=err)


def warning(text: str, *, err: bool = True) -> None:
    """Say what the user should know, with -q, too."""
    record(text, "warning")
    click.echo(text, err=err)


def warn_once(text: str) -> None:
    """Say what the user should know, unless this command has said it before: several steps may read one file."""
    if text not in _state.warned:
        _state.warned.add(text)
        warning(text)


def error(text: str) -> None:
    """Say why a command ends, on the error stream."""
    record(text, "error")
    click.echo(text, err=True)


def detail(text: str) -> None:
    """Say what only -v shows, on the error stream."""
    record(text)
    if _state.verbose:
        click.echo(text, err=True)


def record(text: str, level: str = "info") -> None:
    """Write lines to the log file, if there is one, with the time."""
    if _state.log is None:
        return
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    try:
        for line in text.strip().splitlines():
            _state.log.write(f"{now} {level} {line}\n")
        _state.log.flush()
    except (OSError, ValueError) as failure:  # a full disk must not end a training; ValueError: it is closed
        _state.log = None
        click.echo(f"the log file cannot be written any more: {failure}", err=True)


def begin() -> None:
    """Forget what an earlier command of the same process was told."""
    close()
    _state.quiet = _state.verbose = False
    _state.warned.clear()


def close() -> None:
    """Close the log file."""
    if _state.log is not None:
        _state.log.close()
        _state.log = None


def message_options() -> list[click.Option]:
    """Return the options -q, -v and --log-file, which take effect while the command line is read."""

    def set_quiet(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        _state.quiet = value

    def set_verbose(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        _state.verbose = value

    def open_log(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
        if value is None or ctx.resilient_parsing:
            return
        try:
            _state.log = open(value, "a", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        except OSError as failure:
            why = failure.strerror or str(failure)
            raise click.BadParameter(f"{value!r} cannot be written: {why}.", ctx, param) from failure
        record(" ".join(sys.argv))

    flags: dict[str, Any] = {"is_flag": True, "expose_value": False}
    options = [
        click.Option(["-q", "--quiet"], callback=set_quiet, help="Show results, warnings and errors only.", **flags),
        click.Option(
            ["-v", "--verbose"],
            callback=set_verbose,
            help="Show how long each step took, and where an error arose.",
            **flags,
        ),
        click.Option(
            ["--log-file"],
            type=OutPath(dir_okay=False),
            callback=open_log,
            expose_value=False,
            help="File to which all messages are appended, with the time.",
        ),
    ]
    for option in options:
        option.help_group = GROUP  # type: ignore[attr-defined]
    return options
