"""Signals by which a system asks a program to end soon: SIGTERM, and SIGUSR1, as job schedulers can send it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from selavi_ref.errors import StopRequest

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Stops:
    """Who is asked to stop: ``ask``, if it is set, and else the program at once, by a `StopRequest`."""

    def __init__(self) -> None:
        self.ask: Callable[[], None] | None = None
        self.asked = False
        self._process = os.getpid()

    def __call__(self, number: int, frame: Any) -> None:
        """Handle a signal."""
        if os.getpid() != self._process:  # a worker that was forked: it ends when the program does
            return
        self.asked = True
        if self.ask is None:
            raise StopRequest
        self.ask()


@contextmanager
def stoppable() -> Iterator[Stops]:
    """
    Within this block, let SIGTERM and SIGUSR1 raise a `StopRequest`, now or when it suits.

    Any other error after such a signal, such as that of another process that has stopped already, is taken for it. It
    works in the main thread alone, as signals do.
    """
    stops = Stops()
    before = {number: signal.signal(number, stops) for number in _SIGNALS}
    try:
        yield stops
    except StopRequest:
        raise
    except Exception as error:
        if stops.asked:
            raise StopRequest from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
