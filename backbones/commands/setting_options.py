"""Options made from the fields of settings: type, bounds, help and defaults stand there, once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING
from typing import Any

import click

from backbones.commands.help_text import shown
from selavi_ref.runs.setting_fields import Setting, kind_of, settings_of

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def setting_option(
    cls: type,
    name: str,
    *,
    option: str | None = None,
    default: Any = None,
    default_text: str | None = None,
    help: str | None = None,  # noqa: A002
    kind: click.ParamType | None = None,
) -> Decorator:
    """
    Return an option for a field of settings.

    Parameters
    ----------
    cls, name
        The settings dataclass, and the field.
    option, help : str, optional
        Name of the option, without dashes, and its help, instead of those of the field.
    default : object, optional
        Value of the option if it is not given; None: something else decides, such as a preset.
    default_text : str, optional
        How the default is described, instead of the field's default, and its published value.
    kind : click.ParamType, optional
        How the value is read, instead of by the field's type and bounds.
    """
    item, details = next((item, details) for item, details in settings_of(cls) if item.name == name)
    option = option or details.option
    if default_text is None and default is None:
        default_text = details.default_text or ("" if item.default in (MISSING, "") else shown(item.default))
        if default_text and details.published is not None and shown(details.published) != default_text:
            default_text += f"; published: {shown(details.published)}"
    text = details.description if help is None else help
    if default_text:
        text += f" [default: {default_text}]"
    switch = kind_of(item) is bool and default is not False
    flags = f"--{option}/--no-{option}" if switch else f"--{option}"
    return click.option(
        flags,
        option.replace("-", "_"),
        type=kind or _param_type(kind_of(item), details),
        is_flag=kind_of(item) is bool,
        default=default,
        help=text,
    )


def field_options(cls: type, *names: str, with_defaults: bool = False) -> list[Decorator]:
    """Return options for fields of settings, by default without values of their own, since a preset decides."""
    defaults = {item.name: item.default for item, _ in settings_of(cls)}
    return [setting_option(cls, name, default=defaults[name] if with_defaults else None) for name in names]


def _param_type(kind: type | None, details: Setting) -> Any:
    """Return Click's type of an option's value."""
    if details.choices:
        return click.Choice(details.choices)
    low = details.minimum if details.above is None else details.above
    high = details.maximum if details.below is None else details.below
    bounds = {"min_open": details.above is not None, "max_open": details.below is not None}
    if kind is int:
        return click.IntRange(None if low is None else int(low), None if high is None else int(high))
    if kind is float:
        return click.FloatRange(low, high, **bounds)
    return bool if kind is bool else str
