"""Pages of the site that lie outside ``docs/``: README, contributing, changes, and the tables of the benchmarks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
NO_PAGE = ("LICENSE", "CITATION.cff", "examples", "tests", "benchmarks")  # shown as plain text


def on_files(files: Files, config: Any) -> Files:
    """Add the pages, with links as seen from ``docs/``."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=_moved((ROOT / source).read_text(encoding="utf-8"))))
    for source in sorted((ROOT / "benchmarks/results").glob("*")):
        files.append(File.generated(config, f"benchmarks/{source.name}", abs_src_path=str(source)))
    return files


def on_page_markdown(markdown: str, **others: Any) -> str:
    """Let links to the tables of the benchmarks lead to their pages."""
    return markdown.replace("](../benchmarks/results/", "](benchmarks/")


def _moved(text: str) -> str:
    for source, page in PAGES.items():
        text = text.replace(f"]({source}", f"]({page}")
    text = text.replace("](docs/", "](").replace("](benchmarks/results/", "](benchmarks/")
    return re.sub(rf"\[([^\]]*)\]\((?:{'|'.join(map(re.escape, NO_PAGE))})[^)]*\)", r"\1", text)
