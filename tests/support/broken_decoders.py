"""What can go wrong inside a decoder, to be carried out in the decoder's own process."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from typing import Any


def crash(path: str) -> None:
    """Read from address 0, as a bug in a C library would."""
    ctypes.string_at(0)


def hang(path: str, *, deaf: bool = False) -> None:
    """Do nothing for ever; `deaf`: not even hear the alarm."""
    if deaf:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    while True:
        time.sleep(60)


def leave(path: str) -> None:
    """End the process."""
    os._exit(3)


def swallow(path: str) -> bytearray:
    """Ask for more memory than there is."""
    return bytearray(1 << 40)


def stumble(path: str) -> None:
    """Raise a KeyError, as a bug would."""
    raise KeyError("a bug")


def echo(path: str, value: Any) -> Any:
    """Give something back."""
    return value


def process_number(path: str) -> int:
    """Tell which process this is."""
    return os.getpid()
