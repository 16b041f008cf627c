"""Commands that are killed at random moments, and called again."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from selavi_ref.errors import SelaviError
from tests.support.command_line import start_process

_SECONDS = 300


def assert_kills_do_no_harm(
    command: Sequence[str],
    cwd: Path,
    *,
    restore: Callable[[], object],
    content: Callable[[], Any],
    check: Callable[[], object] = lambda: None,
    times: int = 10,
) -> None:
    """
    Kill a command at random moments, and assert that a second call ends with what an uninterrupted one leaves.

    `restore` puts everything in its place before a call, `content` returns what must be the same in the end, and
    `check` is called after each kill.
    """

    def complete() -> None:
        process = start_process(*command, cwd=cwd)
        _, said = process.communicate(timeout=_SECONDS)
        assert process.returncode == 0, said

    restore()
    began = time.monotonic()
    complete()
    took, whole = time.monotonic() - began, content()
    for number in range(times):
        restore()
        process = start_process(*command, cwd=cwd)
        time.sleep(took * random.Random(number).uniform(0.3, 1.0))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        check()
        if not has_ended(content, whole):
            complete()
        assert content() == whole


def has_ended(content: Callable[[], Any], whole: Any) -> bool:
    """Return whether a command was killed after its work: another call might be asked for more of it."""
    try:
        return bool(content() == whole)
    except (AssertionError, OSError, SelaviError):
        return False
