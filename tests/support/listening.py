"""A reporter that remembers what it is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from selavi_ref.runs.reporter import ProgressBar, Reporter


class Listening(Reporter):
    """Remembers the actions of all bars, the bars, and the messages."""

    def __init__(self) -> None:
        self.actions: list[str] = []
        self.bars: list[ProgressBar] = []
        self.messages: list[str] = []

    @contextmanager
    def bar(self, total: int, action: str, unit: str, done: int = 0) -> Iterator[ProgressBar]:
        self.actions.append(action)
        self.bars.append(ProgressBar(total, done))
        yield self.bars[-1]

    def info(self, message: str) -> None:
        self.messages.append(message)
