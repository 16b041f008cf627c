"""The built script of the page belongs to its sources, lists the licences of its libraries, and is installed."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WEB = ROOT / "selavi_ref" / "browser" / "web"
BUILT = WEB / "built"
LOCK = json.loads((WEB / "package-lock.json").read_text(encoding="utf-8"))


def sources_digest() -> str:
    """Hash the sources as web/README.md says."""
    names = [path.relative_to(WEB).as_posix() for path in (WEB / "src").rglob("*") if path.is_file()]
    digest = hashlib.sha256()
    for name in sorted([*names, "build.mjs", "package-lock.json"], key=str.encode):
        digest.update(name.encode() + b"\0" + (WEB / name).read_bytes() + b"\0")
    return digest.hexdigest()


@pytest.mark.parametrize("name", ["app.js", "app.css"])
def test_what_is_built_belongs_to_the_sources(name):
    with open(BUILT / name, encoding="utf-8") as file:
        first = file.readline()
    assert first == f"/* sources: {sources_digest()} */\n", "run npm run build in selavi_ref/browser/web"


def test_every_library_inside_is_licensed():
    licences = (BUILT / "LICENCES.txt").read_text(encoding="utf-8")
    inside = {
        name.removeprefix("node_modules/"): package
        for name, package in LOCK["packages"].items()
        if name and not package.get("dev") and not package.get("optional")
    }
    assert inside
    for name, package in inside.items():
        assert re.search(rf"^{re.escape(name)} {re.escape(package['version'])} \(", licences, re.MULTILINE), name
    assert len(re.findall("Copyright", licences)) >= len(inside)


def test_the_lock_file_names_versions_and_no_addresses():
    for name, package in LOCK["packages"].items():
        assert "resolved" not in package
        if name:
            assert re.fullmatch(r"\d+\.\d+\.\d+", package["version"])
            assert package["integrity"].startswith("sha512-")


def test_the_page_loads_nothing_from_elsewhere():
    # Addresses occur in texts of licences and as names of XML's kinds alone.
    names = {"http://www.w3.org/2000/svg", "http://www.w3.org/1998/Math/MathML", "http://www.w3.org/1999/xhtml"}
    names.add("http://www.w3.org/1999/xlink")
    for file in (BUILT / "app.js", BUILT / "app.css", WEB / "index.html"):
        found = set(re.findall(r"https?://[\w.-]+[\w./-]*", file.read_text(encoding="utf-8")))
        assert found <= names, file.name
    assert not re.search(r"@import|url\((?!['\"]?data:)", (BUILT / "app.css").read_text(encoding="utf-8"))
    assert not re.search(r"\beval\(|new Function|sourceMappingURL", (BUILT / "app.js").read_text(encoding="utf-8"))


def test_sources_never_make_html_of_text():
    for file in (WEB / "src").rglob("*.js*"):
        unsafe = re.search(r"HTML\s*[=({]|__html|\beval\(|document\.write", file.read_text(encoding="utf-8"))
        assert unsafe is None, file.name


def test_what_is_installed_has_the_page(tmp_path):
    if find_spec("setuptools") is None:  # not imported here: what it does to distutils is refused once that is there
        pytest.skip("needs setuptools")
    # A copy, since building leaves its own files where the sources are.
    source = tmp_path / "source"
    source.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "cli.py"):
        shutil.copy(ROOT / name, source)
    for name in ("selavi_ref", "backbones"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
    code = "from setuptools import setup; setup()"
    command = [sys.executable, "-c", code, "-q", "build_py", "--build-lib", str(tmp_path / "lib")]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    web = tmp_path / "lib" / "selavi_ref" / "browser" / "web"
    installed = {path.relative_to(web).as_posix() for path in web.rglob("*") if path.is_file()}
    assert installed == {"index.html", "built/app.js", "built/app.css", "built/LICENCES.txt"}
