"""One finding of a report: its severity, one sentence, and its figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from selavi_ref.errors import printable

Severity = Literal["ok", "look", "warning"]
Figure = float | int | str

_NAMED = 5  # items that a sentence names; further ones are counted
_ALL = 1 - 1e-12  # 1 up to rounding
_SHOWN = {"video": "picture", "audio": "sound"}


@dataclass(frozen=True)
class Finding:
    """
    One finding.

    Parameters
    ----------
    name : str
        What was checked, such as ``modalities``.
    severity : {"ok", "look", "warning"}
        ``look``: a person should look at it; ``warning``: the labels are in doubt.
    sentence : str
        The finding in plain English, with its main figures.
    figures : mapping
        All figures by name; ``measured`` is 0 if the check could not be made.
    """

    name: str
    severity: Severity
    sentence: str
    figures: Mapping[str, Figure] = field(default_factory=dict)

    @property
    def measured(self) -> bool:
        """Whether the check could be made."""
        return self.figures.get("measured", 1) != 0


def unmeasured(name: str, why: str) -> Finding:
    """Return the finding that something could not be measured, and why or what to do about it."""
    return Finding(name, "ok", f"{name} not measured: {why}", {"measured": 0})


def at_least(value: float, look: float, warning: float) -> Severity:
    """Judge a figure that should be large by the values below which to look and to warn."""
    return "warning" if value < warning else "look" if value < look else "ok"


def at_most(value: float, look: float, warning: float) -> Severity:
    """Judge a figure that should be small by the values above which to look and to warn."""
    return at_least(-value, -look, -warning)


def worst(*severities: Severity) -> Severity:
    """Return the worst of several judgements."""
    order: tuple[Severity, ...] = ("warning", "look", "ok")
    return next((level for level in order if level in severities), "ok")


def percent(share: float) -> str:
    """Format a fraction in per cent; only 0 gives 0 % and only 1 gives 100 %."""
    value = 100.0 if share > _ALL else 100 * share
    if 0 < value < 0.1:
        return "under 0.1 %"
    if value < 10 or 99 < value < 100:
        value = math.floor(10 * value) / 10 if value > 99 else round(value, 1)
        return f"{value:g} %"
    return f"{value:.0f} %"


def score(value: float) -> str:
    """Format a score; only 1 gives 1.00."""
    return f"{value:.2f}" if value > _ALL or value < 0.995 else f"{min(value, 0.9999):.4f}"


def counted(number: int, what: str) -> str:
    """Format a number with its noun, in the plural where needed."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def listed(items: Sequence[object]) -> str:
    """Join items with commas and 'and'; of many, the first five and the number of others."""
    names = [str(item) for item in items[:_NAMED]]
    if len(items) > _NAMED:
        return f"{', '.join(names)} and {len(items) - _NAMED:,} more"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def clusters(numbers: Sequence[int]) -> str:
    """Format numbers of clusters."""
    return f"cluster{'' if len(numbers) == 1 else 's'} {listed(numbers)}"


def shown(modality: str) -> str:
    """Return the name of a modality for people."""
    return _SHOWN.get(modality, printable(modality))
