"""The HTML of the page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

WEB = Path(__file__).parent / "web"
BUILT = WEB / "built"


def render_page(page: Mapping[str, str | bool]) -> str:
    """
    Return the page as HTML.

    Parameters
    ----------
    page : mapping
        Values for its script: ``mode`` (served or exported), ``title``, the ``token`` for edits, and whether there are
        ``previews``.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(WEB), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("index.html").render(page=page)
