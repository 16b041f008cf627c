"""Click's classes as `selavi` uses them: examples in the help, one line for an error that a user can mend, Ctrl-C."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

import click

from backbones.commands import messages
from backbones.commands.help_text import write_options
from backbones.commands.old_options import with_current_options
from selavi_ref.errors import InputError, SelaviError, StopRequest
from selavi_ref.install_hints import missing_package

INTERRUPTED = 130  # exit status after Ctrl-C, as a shell gives it
TO_BE_CONTINUED = 75  # after SIGTERM or SIGUSR1: EX_TEMPFAIL, try the same again

# Packages of the extra `all`, by what they are imported as: without them, the core still works.
_OPTIONAL = (
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
)


class _WithExamples(click.Command):
    """A command whose help shows options in groups, and examples below them as they are written."""

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, in their groups, with their defaults."""
        write_options(self, ctx, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples below the options."""
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples.strip().splitlines():
                    formatter.write(f"  {line.strip()}\n")


class Command(_WithExamples):
    """A command of `selavi`; an error that a user can mend takes one line, and exit status 2."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.params += messages.message_options()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line, on which options may still have the names of version 0.1.0."""
        messages.begin()
        ctx.call_on_close(messages.close)
        try:
            return super().parse_args(ctx, with_current_options(self, args, command_name(ctx)))
        except click.UsageError as error:
            error.ctx = error.ctx or ctx  # so that the message names the command
            raise
        except SelaviError as error:
            messages.error(f"{command_name(ctx)}: {_one_line(str(error))}")
            return ctx.exit(2)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, and turn an error that a user can mend into one line."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            message = _advice(error)
            if message is None:
                if not isinstance(error, (click.ClickException, click.exceptions.Exit)):
                    messages.record(traceback.format_exc(), "error")
                raise
            messages.detail(traceback.format_exc())
        messages.error(f"{command_name(ctx)}: {_one_line(message)}")
        return ctx.exit(2)


def _advice(error: Exception) -> str | None:
    """Return what a user can do about an error; None for one that is a fault of the program, or no error."""
    if isinstance(error, SelaviError):
        return str(error)
    if isinstance(error, MemoryError):
        return f"the memory is full{f': {error}' if str(error) else ''}"
    if isinstance(error, RuntimeError) and type(error).__name__ == "OutOfMemoryError":  # torch's, not imported for this
        return "the GPU's memory is full; try a smaller --batch-size"
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in _OPTIONAL:
        return missing_package(error.name)
    return None


class Group(_WithExamples, click.Group):
    """A command that has commands of its own; their list shows the whole first sentence of each."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.summary(ctx, name)) for name in self.list_commands(ctx)])

    def summary(self, ctx: click.Context, name: str) -> str:
        """Return the first sentence of a command's help."""
        command = self.get_command(ctx, name)
        return command.get_short_help_str(limit=1000) if command else ""


class Program(Group):
    """
    The group of all commands, each of which is imported when it is called.

    Parameters
    ----------
    table : mapping of str to (str, str)
        Name of each command -> where it is defined (``"module:name"``), and the first sentence of its help.
    """

    def __init__(self, *args: Any, table: Mapping[str, tuple[str, str]], **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in self.table:
            return None
        module, _, name = self.table[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def summary(self, ctx: click.Context, name: str) -> str:
        """Return the first sentence of a command's help, without importing the command."""
        return self.table[name][1]

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command and leave with its exit status; a wrong command line is reported in one line."""
        _prepare_streams()
        # Numba would write a control sequence at the end, for colours in messages of its own.
        os.environ.setdefault("NUMBA_DISABLE_ERROR_MESSAGE_HIGHLIGHTING", "1")
        kwargs["standalone_mode"] = False
        kwargs.setdefault("prog_name", "selavi")
        try:
            status = super().main(*args, **kwargs)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(error.exit_code)
        except click.ClickException as error:
            context = getattr(error, "ctx", None)
            name = command_name(context) if context else "selavi"
            click.echo(f"{name}: {_one_line(error.format_message())} See {name} --help.", err=True)
            sys.exit(error.exit_code)
        except click.Abort:
            sys.exit(INTERRUPTED)
        sys.exit(status if isinstance(status, int) else 0)


def command_name(context: click.Context) -> str:
    """Return how a command is called, such as ``selavi study degrade``, whatever the program's file is called."""
    names: list[str] = []
    while context.parent is not None:
        names.append(context.info_name or "")
        context = context.parent
    return " ".join(["selavi", *reversed(names)])


def _one_line(message: str) -> str:
    return message.replace("\n", "\\n").encode("utf-8", "backslashreplace").decode()


def _prepare_streams() -> None:
    """Let messages go nowhere if standard streams are closed, and escape characters that their encoding lacks."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:  # else files take the numbers of closed streams
        pass
    os.close(number)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif getattr(stream, "errors", None) == "strict" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


class Interruptible:
    """
    A context in which Ctrl-C, or a signal to stop, ends the program with one line that says how to continue.

    Parameters
    ----------
    advice : str
        How to continue.
    """

    def __init__(self, advice: str):
        self.advice = advice

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if kind is KeyboardInterrupt:
            messages.error(f"\nstopped; {self.advice}")
            sys.exit(INTERRUPTED)
        if kind is not None and issubclass(kind, StopRequest):
            messages.error(f"stopped by a signal; {self.advice}")
            sys.exit(TO_BE_CONTINUED)


def given_on_command_line(name: str) -> bool:
    """Tell whether the user has given a parameter of the running command."""
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE


def refuse_options(names: Iterable[str], why: str) -> None:
    """
    Refuse options that were given on the command line.

    Parameters
    ----------
    names : iterable of str
        Names of the command's parameters.
    why : str
        What follows the options' names in the message.

    Raises
    ------
    InputError
        If one of them was given.
    """
    parameters = {parameter.name: parameter for parameter in click.get_current_context().command.params}
    given = [parameters[name].opts[0] for name in names if given_on_command_line(name)]
    if given:
        raise InputError(f"{', '.join(given)} {why}")


def combine(*decorators: Callable[[Any], Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return one decorator that applies several, as if they stood above the function in this order."""

    def apply(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply
