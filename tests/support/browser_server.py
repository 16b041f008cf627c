"""The real program that serves a page, which must end in order; and waiting for what a page shows."""

from __future__ import annotations

import base64
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
SECONDS = 15  # on a busy machine everything comes, but late


class Program:
    """
    `selavi browse run` as a process of its own, in a session of its own, as in a terminal.

    Parameters
    ----------
    folder : Path
        Where `run` is.
    arguments : str
        More of them.
    """

    def __init__(self, folder: Path, *arguments: str):
        self._ended = False
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cli", "browse", "run", "--no-open", *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        data = re.search(r"http://127\.0\.0\.1:\d+/", self._process.stdout.readline())
        assert data is not None, self._stderr()
        self.url = data[0]

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *error: object) -> None:
        if not self._ended:
            early = self._process.poll()
            assert early is None, f"it ended by itself, with status {early}: {self._stderr()}"
            self.stop()

    @property
    def port(self) -> str:
        """Where it is served."""
        return self.url.rsplit(":", 1)[1].rstrip("/")

    def children(self) -> list[int]:
        """Return the processes that it has started, and those that they have."""
        return descendants(self._process.pid)

    def stop(self) -> None:
        """Press Ctrl-C, upon which it must end in order: no traceback, and no process that goes on."""
        children = self.children()
        os.killpg(self._process.pid, signal.SIGINT)
        status = self._end()
        assert status in (0, 130), self._stderr()
        assert "Traceback" not in self._stderr()
        gone(children)

    def kill(self) -> None:
        """Kill it, as the system does when memory runs out."""
        children = self.children()
        self._process.kill()
        self._end()
        gone(children)

    def _end(self) -> int:
        self._ended = True
        try:
            return self._process.wait(30)
        finally:
            self._process.kill()
            self._process.stdout.close()  # type: ignore[union-attr]

    def _stderr(self) -> str:
        self._said.seek(0)
        return self._said.read()


def descendants(parent: int) -> list[int]:
    """Return the processes that one has started, and those that they have; none where there is no /proc to say."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(entry.parent.name)] = int(entry.read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, IndexError):  # it has just ended
            continue
    found, new = [], [parent]
    while new:
        new = [pid for pid, above in parents.items() if above in new]
        found += new
    return found


def gone(processes: list[int], seconds: float = 10) -> None:
    """Wait until processes have ended."""
    deadline = time.monotonic() + seconds
    while left := [pid for pid in processes if _runs(pid)]:
        assert time.monotonic() < deadline, f"still running: {left}"
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def ready(page: Any) -> None:
    """Wait until a view is there and listens to keys, which it does a moment after it is seen."""
    page.locator("h1").wait_for()
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")


def becomes(read: Callable[[], Any], wanted: Callable[[], Any]) -> None:
    """Wait until two things are the same; else fail and show both."""
    deadline = time.monotonic() + SECONDS
    while (found := read()) != (expected := wanted()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert found == expected, f"{found} is not {expected}"


def has_values(page: Any, selector: str, key: str, wanted: list[Any]) -> None:
    """Wait until the elements of a selector have these values of a ``data-`` attribute, in this order."""
    read = "([selector, key]) => [...document.querySelectorAll(selector)].map((one) => one.dataset[key])"
    becomes(lambda: page.evaluate(read, [selector, key]), lambda: [str(value) for value in wanted])


def points_on(page: Any, home: str) -> list[tuple[float, float]]:
    """Wait for the map; return where each video lies on the window."""
    canvas = page.get_by_role("application")
    canvas.wait_for(timeout=60_000)  # it is made when it is first asked for
    payload = page.request.get(f"{home}data/map.json").json()
    x, y = (np.frombuffer(base64.b64decode(payload[axis]), "<u2") / 65535 for axis in "xy")
    box = canvas.bounding_box()
    scale = 0.94 * min(box["width"], box["height"])
    return [
        (box["x"] + box["width"] / 2 + (u - 0.5) * scale, box["y"] + box["height"] / 2 + (v - 0.5) * scale)
        for u, v in zip(x, y, strict=True)
    ]
