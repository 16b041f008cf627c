"""A page beside other windows, a server that ends, and files: edits are seen, refused in words, or exported."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil

import pyarrow.parquet
import pytest

from tests.support.browser_edits import choose
from tests.support.browser_server import Program, becomes

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect
pytest_plugins = ["tests.support.chromium", "tests.support.browser_fixture"]
pytestmark = pytest.mark.browser

TILES = "main [data-at]"
CUT_OFF = "net::ERR_(CONNECTION|SOCKET|EMPTY_RESPONSE|CONTENT_LENGTH|INCOMPLETE)"  # of a server that has just ended


@pytest.fixture(scope="module")
def place(unedited):
    return unedited


@pytest.fixture
def home(program, place):
    yield program.url
    (place / "run" / "annotations.json").unlink(missing_ok=True)


def test_another_window_learns_of_edits(page, home):
    page.goto(f"{home}#/cluster/1")
    other = page.context.new_page()
    other.goto(f"{home}#/cluster/1")
    other.get_by_role("button", name="Rename", exact=True).click()
    other.get_by_label("Name of cluster 1").fill("from elsewhere")
    other.keyboard.press("Enter")
    expect(other.locator("h1")).to_have_text("from elsewhere")
    expect(page.locator("h1")).to_have_text("Cluster 1")
    page.bring_to_front()
    page.evaluate("() => window.dispatchEvent(new Event('focus'))")  # without a screen, no window has or loses it
    expect(page.locator("h1")).to_have_text("from elsewhere")
    page.keyboard.press("u")
    expect(page.locator("h1")).to_have_text("Cluster 1")


def test_an_edit_that_has_become_impossible_is_refused_in_words(page, home, faults, entries):
    page.goto(f"{home}#/cluster/1")
    other = page.context.new_page()
    other.goto(f"{home}#/cluster/1")
    other.get_by_role("button", name=re.compile("^Merge")).click()
    choose(other, "3")
    expect(other).to_have_url(f"{home}#/cluster/3")
    faults.expect("api/annotate")
    page.get_by_role("button", name="Rename", exact=True).click()
    page.get_by_label("Name of cluster 1").fill("too late")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    assert "\n" not in page.get_by_role("alert").inner_text()
    assert len(entries()) == 1
    page.get_by_role("button", name="Close this message").click()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_labels_are_exported_as_they_are_now(page, home, truth, place, tmp_path):
    row = truth.members(3)[0]
    page.goto(f"{home}#/cluster/0")
    page.get_by_role("button", name="Rename", exact=True).click()
    page.get_by_label("Name of cluster 0").fill("clocks")
    page.keyboard.press("Enter")
    page.goto(f"{home}#/video/{row}")
    page.get_by_role("button", name=re.compile("^Move to")).click()
    choose(page, "clocks")
    expect(page.get_by_role("region", name="Label")).to_contain_text("clocks")
    tables = {}
    for kind, title in (("csv", "CSV"), ("json", "JSON"), ("parquet", "Parquet")):
        page.get_by_role("button", name="Export labels").click()
        with page.expect_download() as download:
            page.get_by_role("link", name=title, exact=True).click()
        file = tmp_path / f"labels.{kind}"
        download.value.save_as(file)
        assert download.value.suggested_filename.endswith(f"labels.{kind}")
        tables[kind] = file.read_bytes()
    labels = truth.label.copy()
    labels[row] = 0
    rows = list(csv.DictReader(io.StringIO(tables["csv"].decode("utf-8-sig"), newline="")))
    assert [int(line["label"] or -1) for line in rows] == labels.tolist()
    assert [line["path"] for line in rows] == truth.paths
    assert {line["name"] for line in rows if line["label"] == "0"} == {"clocks"}
    assert [line["mark"] for line in rows] == ["moved" if one == row else "" for one in range(len(labels))]
    videos = json.loads(tables["json"])["videos"]
    assert [-1 if one["label"] is None else one["label"] for one in videos] == labels.tolist()
    table = pyarrow.parquet.read_table(io.BytesIO(tables["parquet"])).to_pydict()
    assert [-1 if one is None else one for one in table["label"]] == labels.tolist()
    # A folder of links.
    page.get_by_role("button", name="Export labels").click()
    page.get_by_role("button", name="Folder of links").click()
    folder = place / "run" / "labelled"
    expect(page.locator(".menu-answer")).to_contain_text(str(folder.name))
    links = [path for path in folder.rglob("*") if path.is_symlink()]
    assert sum("clocks" in path.parent.name for path in links) > 0
    assert str(len(links)) in page.locator(".menu-answer").inner_text()
    page.keyboard.press("Escape")
    expect(page.locator("#export-menu")).to_be_hidden()
    expect(page.get_by_role("button", name="Export labels")).to_be_focused()
    shutil.rmtree(folder)


def test_a_page_whose_server_has_gone_says_so_and_stays(page, home, place, faults):
    faults.expect(CUT_OFF)
    with Program(place) as other:
        faults.allow(other.url)
        page.goto(f"{other.url}#/cluster/1")
        expect(page.locator(TILES)).to_have_count(8)
        other.kill()
        page.get_by_role("button", name="Rename", exact=True).click()
        page.get_by_label("Name of cluster 1").fill("in vain")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("is not running any more")
        expect(page.locator(TILES)).to_have_count(8)
        page.keyboard.press("Escape")
        expect(page.locator("h1")).to_have_text("Cluster 1")
    assert not (place / "run" / "annotations.json").exists()
    with Program(place, "--port", other.port) as again:
        assert again.url == other.url
        page.evaluate("() => window.dispatchEvent(new Event('focus'))")
        expect(page.get_by_text("is not running any more")).to_have_count(0)


def test_ctrl_c_ends_it_while_the_map_is_made(page, home, place, tmp_path, faults):
    shutil.copytree(place / "run", tmp_path / "run", ignore=shutil.ignore_patterns("browser"))
    faults.expect(CUT_OFF)
    with Program(tmp_path) as other:
        faults.allow(other.url)
        page.goto(f"{other.url}#/map")
        expect(page.get_by_text("Computing the map")).to_be_visible()
        becomes(lambda: len(other.children()) > 0, lambda: True)
        other.stop()
    page.goto("about:blank")
