"""Edits on the page: as they are saved, and the dialog and the selection as people use them."""

from __future__ import annotations

import re
from typing import Any

import pytest

expect = pytest.importorskip("playwright.sync_api").expect


def edit(op: str, **what: Any) -> dict[str, Any]:
    """Return an edit of the consensus as it is saved, without the time."""
    return {"op": op, "labelling": "consensus", **what}


def choose(page: Any, typed: str) -> None:
    """Choose in the open dialog what is typed."""
    field = page.get_by_role("combobox", name="Name or number of the cluster")
    expect(field).to_be_focused()
    field.fill(typed)
    field.press("Enter")
    expect(page.locator("dialog")).to_have_count(0)


def select(page: Any, *videos: int) -> None:
    """Select videos by the boxes on their tiles."""
    for video in videos:
        tile = page.locator(f'[data-at][data-video="{video}"]')
        tile.hover()
        tile.get_by_role("checkbox").click()
    expect(page.locator(".selection-count")).to_have_text(re.compile(rf"^{len(videos)} video"))
