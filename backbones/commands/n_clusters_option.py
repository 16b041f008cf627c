"""The value of --clusters: a number, or that it is to be estimated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click

_LEAST = 2  # one cluster has nothing to tell apart


@dataclass(frozen=True)
class Estimated:
    """A number of clusters to be estimated, at most `most`; None: as many as the heads can tell apart."""

    most: int | None = None


class NumberOfClusters(click.ParamType):
    """A whole number of at least 2, ``auto``, or ``auto:MOST``."""

    name = "N|auto"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Return how the value is written in the help; click would write it in capitals."""
        return self.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | Estimated:
        """Return the number, or that it is to be estimated."""
        if isinstance(value, (int, Estimated)):
            return value
        kind, colon, most = str(value).partition(":")
        try:
            if kind != "auto":
                number = int(value)
                if number >= _LEAST:
                    return number
            elif not colon:
                return Estimated()
            elif int(most) >= _LEAST:
                return Estimated(int(most))
        except ValueError:
            pass
        return self.fail(f"{value!r} is not a whole number of at least {_LEAST}, auto, or auto:MOST, at least 2.")
