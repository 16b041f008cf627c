"""How the program behaves on a command line: examples in its help, one line for what a user can mend, Ctrl-C."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import click

from selavi_ref.errors import InputError, SelaviError, StopRequest

INTERRUPTED = 130  # exit status after Ctrl-C, as a shell gives it
TO_BE_CONTINUED = 75  # after SIGTERM or SIGUSR1: EX_TEMPFAIL, try the same again


class _Exemplified(click.Command):
    """Shows examples below the options, as they are written."""

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples below the options."""
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples.strip().splitlines():
                    formatter.write(f"  {line.strip()}\n")


class Group(_Exemplified, click.Group):
    """A command that has commands of its own, and examples."""


class Command(_Exemplified):
    """A command whose examples are shown as they are written, and whose known errors take one line."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run, turning what a user can mend into one line and exit status 2."""
        try:
            return super().invoke(ctx)
        except SelaviError as error:
            click.echo(f"{_called(ctx)}: {_one_line(error)}", err=True)
            ctx.exit(2)
        except RuntimeError as error:
            if type(error).__name__ != "OutOfMemoryError":  # torch's, which must not be imported for this
                raise
            click.echo(f"{_called(ctx)}: the GPU's memory is full; try a smaller --batch-size", err=True)
            ctx.exit(2)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in (
                "torch",
                "torchvision",
                "av",
                "sklearn",
                "PIL",
                "matplotlib",
                "flask",
                "jinja2",
                "waitress",
                "openTSNE",
                "pyarrow",
            ):
                raise
            click.echo(
                f'{_called(ctx)}: it needs the package {error.name}; install with pip install "selavi-ref[all]"',
                err=True,
            )
            ctx.exit(2)


class Program(click.Group):
    """The group of commands, which tells what is wrong with the command line in one line."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command and leave with its exit status."""
        kwargs["standalone_mode"] = False
        try:
            status = super().main(*args, **kwargs)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(error.exit_code)
        except click.ClickException as error:
            name = getattr(getattr(error, "ctx", None), "command_path", "selavi")
            click.echo(f"{name}: {_one_line(Exception(error.format_message()))} See {name} --help.", err=True)
            sys.exit(error.exit_code)
        except click.Abort:
            sys.exit(INTERRUPTED)
        sys.exit(status if isinstance(status, int) else 0)


def _called(context: click.Context) -> str:
    """Return how a command is called, such as ``selavi study degrade``, whatever the program's file is called."""
    names = []
    while context.parent is not None:
        names.append(context.info_name or "")
        context = context.parent
    return " ".join(["selavi", *reversed(names)])


def _one_line(error: Exception) -> str:
    return str(error).replace("\n", "\\n").encode("utf-8", "backslashreplace").decode()


class Interruptible:
    """Turns Ctrl-C, and the system's request to stop, into one line that says how to go on."""

    def __init__(self, advice: str):
        self.advice = advice

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if kind is KeyboardInterrupt:
            click.echo(f"\nstopped; {self.advice}", err=True)
            sys.exit(INTERRUPTED)
        if kind is not None and issubclass(kind, StopRequest):
            click.echo(f"stopped as the system asked; {self.advice}", err=True)
            sys.exit(TO_BE_CONTINUED)


def refuse_options(names: Iterable[str], why: str) -> None:
    """Refuse options that were given on the command line."""
    context = click.get_current_context()
    given = [
        f"--{name.replace('_', '-')}"
        for name in names
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    ]
    if given:
        raise InputError(f"{', '.join(given)} {why}")
