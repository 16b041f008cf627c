"""The help of a command: its options in groups, each with its default as ``[default: ...]``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import click

from backbones.commands.messages import GROUP as MESSAGES


def option_group(title: str, *options: Callable[[Any], Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that gives a command some options, which its help shows under a title of their own."""

    def apply(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
            parameter = function.__click_params__[-1]  # type: ignore[attr-defined]
            parameter.help_group = title
        return function

    return apply


def write_options(command: click.Command, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """Write the options of a command in their groups, messages last; those without a group are in the first."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
        if record is not None and isinstance(parameter, click.Option):
            title = getattr(parameter, "help_group", "")
            groups.setdefault(title, []).append((_names(record[0]), _described(parameter)))
    others, messages = groups.pop("", []), groups.pop(MESSAGES, [])
    first = next(iter(groups), "Options")
    for title, records in (groups | {first: [*groups.get(first, []), *others]} | {MESSAGES: messages}).items():
        if records:
            with formatter.section(title):
                formatter.write_dl(records)
    if isinstance(command, click.Group):
        command.format_commands(ctx, formatter)


def shown(value: Any) -> str:
    """Return a value as a default is shown: yes or no, and numbers without needless digits."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return re.sub(r"e([+-])0+", r"e\1", f"{value:g}")
    return str(value)


def _names(record: str) -> str:
    """Return how an option is written: N and X stand for a whole and any number, [no-] for either of two switches."""
    record = record.replace("INTEGER RANGE", "N").replace("INTEGER", "N").replace("FLOAT RANGE", "X")
    return re.sub(r"--(\S+) / --no-\1$", r"--[no-]\1", record.replace("FLOAT", "X"))


def _described(option: click.Option) -> str:
    """Return the help of an option with its default, unless the text has it already."""
    text = option.help or ""
    if option.required:
        return f"{text} [required]"
    default = option.default
    without = default is None or default == () or callable(default) or type(default).__name__ == "Sentinel"
    off = option.is_flag and not option.secondary_opts
    if "[default: " in text or without or off or option.multiple:
        return text
    return f"{text} [default: {shown(default)}]"
