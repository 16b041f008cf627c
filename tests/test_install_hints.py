"""Install hints name what this package was installed from."""

import importlib.metadata
import json

import pytest

from selavi_ref import install_hints


class Installed:
    def __init__(self, source):
        self.source = source

    def read_text(self, name):
        assert name == "direct_url.json"
        return self.source if self.source is None or isinstance(self.source, str) else json.dumps(self.source)


@pytest.mark.parametrize(
    ("source", "command"),
    [
        (None, 'pip install "selavi-ref[all]"'),
        ("no JSON", 'pip install "selavi-ref[all]"'),
        ("[]", 'pip install "selavi-ref[all]"'),
        (
            {"url": "file:///a%20b/selavi", "dir_info": {"editable": True}},
            "pip install -e '/a b/selavi[all]'",
        ),
        ({"url": "file:///src", "dir_info": {}}, "pip install '/src[all]'"),
        (
            {"url": "file:///x/selavi_ref-0.2.0-py3-none-any.whl", "archive_info": {}},
            'pip install "selavi-ref[all] @ file:///x/selavi_ref-0.2.0-py3-none-any.whl"',
        ),
    ],
)
def test_the_command_installs_from_the_same_source(monkeypatch, source, command):
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Installed(source))
    assert install_hints.install_command("all") == command
    assert command in install_hints.missing_package("av")


def test_a_checkout_that_is_not_installed_is_named(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    assert install_hints.install_command("video").startswith("pip install -e ")
    assert "[video]" in install_hints.install_command("video")
