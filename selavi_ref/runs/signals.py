"""Signals by which a system asks a program to end soon: SIGTERM, and SIGUSR1, which job schedulers can send."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from selavi_ref.errors import StopRequest

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Stops:
    """Signal handler that calls ``on_stop`` if it is set, and raises a `StopRequest` otherwise."""

    def __init__(self) -> None:
        self.on_stop: Callable[[], None] | None = None
        self.requested = False
        self._process = os.getpid()

    def __call__(self, number: int, frame: Any) -> None:
        """Handle a signal."""
        if os.getpid() != self._process:  # a forked worker: it ends when the program does
            return
        self.requested = True
        if self.on_stop is None:
            raise StopRequest
        self.on_stop()


@contextmanager
def stoppable() -> Iterator[Stops]:
    """
    Let SIGTERM and SIGUSR1 raise a `StopRequest` within this block, or call ``on_stop`` of the handler it yields.

    Any other error after such a signal, such as that of another process that has stopped already, becomes a
    `StopRequest` too. Only the main thread can use it, since Python delivers signals there.
    """
    stops = Stops()
    previous = {number: signal.signal(number, stops) for number in _SIGNALS}
    try:
        yield stops
    except StopRequest:
        raise
    except Exception as error:
        if stops.requested:
            raise StopRequest from error
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
