"""The hub that libraries fetch weights from, where there is a network."""

from __future__ import annotations

import os
import socket
import sys
from urllib.parse import urlsplit
from urllib.request import getproxies


def prepare_hub() -> None:
    """
    Let libraries use only what they have fetched before, if the hub cannot be reached.

    Without a network they would try again and again for a minute before they fail.
    """
    from huggingface_hub import constants

    host = urlsplit(constants.ENDPOINT).hostname or ""
    if getproxies() or constants.HF_HUB_OFFLINE:
        return
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        os.environ["HF_HUB_OFFLINE"] = "1"
        sys.modules["huggingface_hub.constants"].__dict__["HF_HUB_OFFLINE"] = True
