"""Fields of settings that carry their help, unit, bounds and command-line option: each is written down once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import Field, dataclass, field, fields
from typing import Any, TypeVar

from selavi_ref.errors import InputError

_KEY = "setting"
_KINDS: dict[str, type] = {"bool": bool, "int": int, "float": float, "str": str}
S = TypeVar("S")


@dataclass(frozen=True)
class Setting:
    """
    What is known of a field of a settings dataclass besides its name and default.

    Parameters
    ----------
    help : str
        What it is, without a full stop.
    unit : str
        Unit of the value, such as ``"seconds"``.
    minimum, maximum : float, optional
        Smallest and largest value.
    above, below : float, optional
        Bounds that the value itself must not reach.
    choices : tuple of str
        All values, if they are few.
    option : str
        Its command-line option, without the dashes; "" if there is none.
    default_text : str
        How the default is described where it depends on other settings or on the collection.
    published : object, optional
        The value in the paper's program, if it differs from the default.
    """

    help: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    option: str = ""
    default_text: str = ""
    published: Any = None

    @property
    def description(self) -> str:
        """The help as a sentence, with the unit."""
        return f"{self.help}{f', in {self.unit}' if self.unit else ''}."


def described(help: str, **details: Any) -> dict[str, Setting]:  # noqa: A002
    """Return the metadata of a field without default; `details` are fields of `Setting`."""
    return {_KEY: Setting(help, **details)}


def setting(default: Any, *, help: str, **details: Any) -> Any:  # noqa: A002
    """Return a field of a settings dataclass; `details` are fields of `Setting`."""
    return field(default=default, metadata=described(help, **details))


def settings_of(cls: Any) -> Iterator[tuple[Field[Any], Setting]]:
    """Yield the fields made by `setting` or `described`, with their `Setting`."""
    for item in fields(cls):
        if _KEY in item.metadata:
            yield item, item.metadata[_KEY]


def kind_of(item: Field[Any]) -> type | None:
    """Return bool, int, float or str, if this is the type of a field."""
    return _KINDS.get(str(item.type))


def published(cls: type[S], **values: Any) -> S:
    """Return settings with the published value of every field that has one, and with the given values."""
    known = {item.name: details.published for item, details in settings_of(cls) if details.published is not None}
    return cls(**{**known, **values})


def check_settings(settings: Any, prefix: str | None = None) -> None:
    """
    Refuse values of another type than the field, outside of its bounds, or not among its choices.

    Parameters
    ----------
    settings : dataclass
        Some of its fields were made by `setting` or `described`.
    prefix : str, optional
        What stands before the field's name in messages, such as ``"training."``; by default the option is named.

    Raises
    ------
    InputError
        If a value does not fit; it has the name in `option`, and `value`.
    """
    for item, details in settings_of(settings):
        value, kind = getattr(settings, item.name), kind_of(item)
        if details.choices:
            fits, requirement = value in details.choices, f"known are {', '.join(details.choices)}"
        else:
            fits, requirement = _fits(value, kind, details), f"it must be {_requirement(kind, details)}"
        if not fits:
            option = f"--{details.option}" if details.option else item.name
            name = option if prefix is None else f"{prefix}{item.name}"
            raise InputError(f"{name} is {value!r}; {requirement}", option=name, value=value)


def _fits(value: Any, kind: type | None, details: Setting) -> bool:
    if kind not in (int, float):
        return kind is None or isinstance(value, kind)
    if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
        return False
    return (
        math.isfinite(value)
        and (details.minimum is None or value >= details.minimum)
        and (details.maximum is None or value <= details.maximum)
        and (details.above is None or value > details.above)
        and (details.below is None or value < details.below)
    )


def _requirement(kind: type | None, details: Setting) -> str:
    if kind in (bool, str):
        return "true or false" if kind is bool else "a text"
    number = "a whole number" if kind is int else "a number"
    low = "" if details.minimum is None else f"{details.minimum:g}"
    high = "" if details.maximum is None else f"{details.maximum:g}"
    high = high if details.below is None else f"below {details.below:g}"
    if low and high:
        return f"{number} from {low} to {high}"
    if details.above is not None:
        return f"{number} above {details.above:g}"
    return f"{number} of at least {low}" if low else number
