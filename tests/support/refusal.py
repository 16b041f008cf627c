"""Expecting an error with certain fields."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from selavi_ref.errors import InputError, SelaviError


@contextmanager
def refused(kind: type[SelaviError] = InputError, **fields: Any) -> Iterator[pytest.ExceptionInfo[SelaviError]]:
    """Expect an error of type ``kind``, with a message of one line and these fields."""
    with pytest.raises(kind) as caught:
        yield caught
    assert str(caught.value).isprintable()
    assert {name: getattr(caught.value, name) for name in fields} == fields
