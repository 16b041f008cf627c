"""A plugin of pytest: a real browser, in which whatever a page complains of or asks for elsewhere fails the test."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",  # nothing can leave this machine
]
PATIENCE = 15_000  # ms: on a busy machine everything comes, but late


class Faults:
    """
    What pages complained of, and what they asked for that is not their own.

    Parameters
    ----------
    home : str
        What the addresses of all that a page may load begin with.
    """

    def __init__(self, home: str):
        self._own = [home, "data:", "blob:", "about:blank"]
        self._expected: list[str] = []
        self._found: list[str] = []

    def allow(self, home: str) -> None:
        """Let pages load from there as well."""
        self._own.append(home)

    def expect(self, pattern: str) -> None:
        """Let pages complain of this."""
        self._expected.append(pattern)

    def watch(self, context: Any) -> None:
        """Collect the faults of all pages of a context."""
        context.on("console", self._console)
        context.on("weberror", lambda error: self._found.append(f"uncaught: {error.error}"))
        context.on("dialog", self._dialog)
        context.on("request", self._request)
        context.on("requestfailed", self._failed)
        context.on("response", self._response)

    @property
    def found(self) -> list[str]:
        """All that was not expected."""
        return [fault for fault in self._found if not any(re.search(known, fault) for known in self._expected)]

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self._found.append(f"console {message.type}: {message.text} ({message.location.get('url', '')})")

    def _dialog(self, dialog: Any) -> None:
        self._found.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _request(self, request: Any) -> None:
        if not request.url.startswith(tuple(self._own)):
            self._found.append(f"asked for {request.url}")

    def _failed(self, request: Any) -> None:
        if request.failure != "net::ERR_ABORTED":  # given up by the page itself, which has gone on
            self._found.append(f"failed: {request.url} {request.failure}")

    def _response(self, response: Any) -> None:
        if response.status >= 400:
            self._found.append(f"status {response.status}: {response.url}")


def find_chromium() -> str | None:
    """Return the program, if there is one."""
    named = os.environ.get("CHROMIUM")
    return named or next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Start one browser for the tests of a module; where there is none, they are skipped before anything is made."""
    if os.name != "posix":
        pytest.skip("the page is tested on POSIX systems only")
    if find_chromium() is None:
        pytest.skip("there is no Chromium; install it, or name it in the environment variable CHROMIUM")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        sync_api.expect.set_options(timeout=PATIENCE)
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def faults(home: str) -> Iterator[Faults]:
    """Fail after a test in which a page complained of anything; the module says where `home` is."""
    collected = Faults(home)
    yield collected
    assert not collected.found


@pytest.fixture
def new_page(chromium: Any, faults: Faults) -> Iterator[Callable[..., Any]]:
    """Open pages in windows of their own, which share nothing."""
    contexts = []

    def opened(**options: Any) -> Any:
        context = chromium.new_context(**options)
        context.set_default_timeout(PATIENCE)
        faults.watch(context)
        contexts.append(context)
        return context.new_page()

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture
def page(new_page: Callable[..., Any]) -> Any:
    """Open a page of the size of a small screen, in which nothing moves by itself: that would keep the machine busy."""
    return new_page(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
