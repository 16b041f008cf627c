"""Names for clusters from a program or an HTTP endpoint of the user, such as one that asks a language model."""

from __future__ import annotations

import json
import math
import shlex
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from selavi_ref.errors import InputError
from selavi_ref.naming.proposals import Proposal, clean_name

SOURCE = "program"
_MOST_BYTES = 1 << 20


def ask_program(command: str, facts: Mapping[str, Any], seconds: float = 60.0) -> Proposal | None:
    """
    Ask a program, or an endpoint, for the name of a cluster.

    Parameters
    ----------
    command : str
        A command line, run without a shell; or the address of an endpoint, ``http://`` or ``https://``.
    facts : mapping
        What is known of the cluster. A program gets it as JSON on its standard input, an endpoint as the body of a POST
        request. Either answers with the name as text, or with JSON: ``{"name": ..., "score": ...}``, where the score
        is from 0 to 1 and may be left out.
    seconds : float
        Longest time for an answer.

    Returns
    -------
    Proposal or None
        None for an empty answer.

    Raises
    ------
    InputError
        If there is no such program or endpoint, it fails, or it takes too long.
    """
    data = json.dumps(facts, ensure_ascii=True).encode()
    try:
        url = command.lower().startswith(("http://", "https://"))
        answer = _post(command, data, seconds) if url else _run(command, data, seconds)
    except (TimeoutError, subprocess.TimeoutExpired) as error:
        raise _refusal(command, f"gave no answer within {seconds:g} s; --seconds allows more") from error
    return _read_answer(command, answer.decode("utf-8", "replace"))


def _run(command: str, data: bytes, seconds: float) -> bytes:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise _refusal(command, f"is no command line: {error}") from error
    if not words:
        raise _refusal(command, "names no program")
    try:
        done = subprocess.run(words, input=data, capture_output=True, timeout=seconds, check=False)
    except OSError as error:
        raise _refusal(command, f"cannot be started: {error.strerror or error}") from error
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise _refusal(command, f"ended with status {done.returncode}{f': {lines[-1]}' if lines else ''}")
    return done.stdout


def _post(url: str, data: bytes, seconds: float) -> bytes:
    try:
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            read: bytes = answer.read(_MOST_BYTES)
            return read
    except urllib.error.HTTPError as error:
        raise _refusal(url, f"answered {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise error.reason from error
        raise _refusal(url, f"cannot be reached: {error.reason}") from error
    except (OSError, ValueError) as error:
        if isinstance(error, TimeoutError):
            raise
        raise _refusal(url, f"cannot be reached: {error}") from error


def _read_answer(command: str, text: str) -> Proposal | None:
    """Return the name in an answer: JSON, or the first line of a text."""
    text = text.strip()
    score: Any = None
    if text.startswith("{"):
        try:
            data = json.loads(text)
            text, score = data.get("name") or "", data.get("score")
        except ValueError as error:
            raise _refusal(command, f"answered with damaged JSON: {error}") from error
        if not isinstance(text, str) or isinstance(score, bool) or not isinstance(score, (int, float, type(None))):
            raise _refusal(command, 'answered with JSON that is not {"name": TEXT, "score": NUMBER}')
        if score is not None and not (math.isfinite(score) and 0 <= score <= 1):
            raise _refusal(command, f"answered with the score {score}; scores are from 0 to 1")
    lines = text.splitlines()
    name = clean_name(lines[0]) if lines else ""
    return Proposal(name, None if score is None else float(score), SOURCE) if name else None


def _refusal(command: str, why: str) -> InputError:
    return InputError(f"--command {' '.join(command.split())} {' '.join(why.split())}", option="command", value=command)
