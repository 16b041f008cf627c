"""Words about videos: of their file names and folders, and of texts beside them (.txt, .json, .srt)."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import PurePath
from typing import Any

TEXT_ENDINGS = (".txt", ".json", ".srt")
_MOST_BYTES = 8 << 20  # of a text beside a video
# Fields of descriptions that programs such as yt-dlp write beside videos.
_FIELDS = "title fulltitle description caption captions text transcript summary name label labels tags keywords genre"
_DESCRIBING = frozenset([*_FIELDS.split(), "category", "categories"])
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)?")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_NOT_SPOKEN = re.compile(r"<[^>]*>|\{[^}]*\}|^\d+\s*$|^.*-->.*$", re.MULTILINE)
_ADDRESS = re.compile(r"\b(?:https?://|www\.)\S+", re.IGNORECASE)
_ENGLISH = """
a about after again all also am an and any are as at be because been before being but by can could did do does doing
down during each few for from further had has have having he her here hers him his how i if in into is it its just me
more most my no nor not now of off on once only or other our out over own same she should so some such than that the
their them then there these they this those through to too under until up very was we were what when where which while
who whom why will with would you your
"""
STOP_WORDS = frozenset(_ENGLISH.split())


def describing_words(files: Sequence[str], *, names: bool = True, beside: bool = True) -> list[frozenset[str]]:
    """
    Return the words, and the pairs of neighbouring words, that describe each video.

    Parameters
    ----------
    files : sequence of str
        Paths of the N videos. Folders above all of them say nothing, and are left out.
    names : bool
        Take words of file names and folders.
    beside : bool
        Take words of texts that lie beside a video under its name: ``clip.txt``, ``clip.json``, ``clip.en.srt`` of
        ``clip.mp4``. Of JSON, the fields that describe (title, description, tags ...); without any, all texts.

    Returns
    -------
    list of frozenset of str
        In small letters; pairs with a space between them.
    """
    try:
        common = os.path.commonpath([os.path.dirname(file) for file in files]) if files else ""
    except ValueError:  # absolute and relative ones, or several drives
        common = ""
    listing = lru_cache(maxsize=64)(_texts_in)
    found = []
    for file in files:
        parts = [*PurePath(os.path.relpath(file, common) if common else file).with_suffix("").parts] if names else []
        lines = [_CAMEL.sub(" ", part) for part in parts]
        if beside:
            folder, name = os.path.split(file)
            stem = f"{os.path.splitext(name)[0]}."
            lines += [
                text for path in listing(folder) if os.path.basename(path).startswith(stem) for text in _read(path)
            ]
        found.append(frozenset(terms(lines)))
    return found


def terms(texts: Iterable[str]) -> Iterator[str]:
    """Yield the words of texts without stop words, and pairs of neighbours, in small letters."""
    for text in texts:
        words = [word.lower() for word in _WORD.findall(_ADDRESS.sub(" ", text))]
        yield from (word for word in words if _says_something(word))
        yield from (f"{a} {b}" for a, b in pairwise(words) if _says_something(a) and _says_something(b) and a != b)


def _says_something(word: str) -> bool:
    return word not in STOP_WORDS and (len(word) > 1 or ord(word) > 0x2E7F)  # a Chinese character is a word


def _texts_in(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.path for entry in entries if entry.name.lower().endswith(TEXT_ENDINGS)]
    except OSError:
        return []


def _read(path: str) -> list[str]:
    """Return the texts of a file; none if it cannot be read."""
    try:
        if not os.path.isfile(path) or os.path.getsize(path) > _MOST_BYTES:
            return []
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            text = file.read()
        if path.lower().endswith(".json"):
            data = json.loads(text)
            return list(_strings(data, described=False)) or list(_strings(data, described=True))
    except (OSError, ValueError, RecursionError):
        return []
    return _NOT_SPOKEN.sub(" ", text).splitlines()


def _strings(data: Any, described: bool) -> Iterator[str]:
    """Yield texts in JSON data: those of describing fields, or all."""
    if isinstance(data, str):
        if described:
            yield data
    elif isinstance(data, list):
        for part in data:
            yield from _strings(part, described)
    elif isinstance(data, dict):
        for key, part in data.items():
            yield from _strings(part, described or str(key).lower() in _DESCRIBING)
