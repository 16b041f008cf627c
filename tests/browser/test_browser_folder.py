"""The exported page shows the same from disk and from any web host, and offers no editing."""

from __future__ import annotations

import contextlib
import csv
import functools
import http.server
import json
import os
import re
import subprocess
import sys
import threading

import pytest

from selavi_ref.browser.annotations import annotations_of
from tests.support.browser_run import ODD_CLASS, K, make_run, make_videos
from tests.support.browser_server import ROOT, becomes, has_values, ready
from tests.support.browser_truth import in_words, truth_of

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect
pytest_plugins = ["tests.support.chromium"]
pytestmark = pytest.mark.browser

TILES = "main [data-at]"
CLASS = ODD_CLASS.replace("/", "\u2215")
MOVED, WRONG, LOST = 6, 8, 10


@pytest.fixture(scope="module")
def place(chromium, tmp_path_factory):
    """Make a run that was edited, one of whose videos was lost since, and write its page to `site`."""
    folder = tmp_path_factory.mktemp("folder")
    make_videos(folder / "videos")
    run = make_run(folder / "run", folder / "videos")
    truth = truth_of(folder / "run")
    annotations = annotations_of(run)
    annotations.apply({"op": "rename", "cluster": 3, "name": "<b>birds</b>"})
    annotations.apply({"op": "move", "videos": [truth.paths[MOVED]], "to": 0})
    annotations.apply({"op": "wrong", "videos": [truth.paths[WRONG]], "wrong": True})
    os.unlink(truth.paths[LOST])
    done = subprocess.run(
        [sys.executable, "-m", "cli", "browse", "run", "--export", "site"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "wrote site/index.html\n"
    return folder


@pytest.fixture(scope="module")
def truth(place):
    return truth_of(place / "run")


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder and nothing else, as any web host does."""

    def log_message(self, *what):
        pass

    def copyfile(self, source, outputfile):
        with contextlib.suppress(ConnectionError):  # a video that nobody waits for any more
            super().copyfile(source, outputfile)


@pytest.fixture(scope="module", params=["from disk", "from a web host"])
def home(place, request):
    if request.param == "from disk":
        yield f"{(place / 'site').as_uri()}/"
        return
    handler = functools.partial(Quiet, directory=place / "site")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def page(page, home):
    page.goto(f"{home}index.html")
    return page


def show(page, home, address):
    page.goto(f"{home}index.html{address}")
    ready(page)


def test_all_clusters_are_shown_sorted_and_found(page, home, truth):
    members = {cluster: set(truth.members(cluster)) for cluster in range(K)}
    members[3].remove(MOVED)
    members[0].add(MOVED)
    expect(page.locator(".tally")).to_have_text(f"{K} clusters")
    for cluster in range(K):
        expect(page.locator(f'.card[data-cluster="{cluster}"] .card-size')).to_have_text(str(len(members[cluster])))
    page.get_by_label("Sort by").select_option("purity")
    purity = {}
    for cluster, rows in members.items():
        known = [truth.classes[row] for row in rows if truth.classes[row]]
        purity[cluster] = max(map(known.count, known)) / len(known)
    has_values(page, "main [data-cluster]", "cluster", [*sorted(range(K), key=lambda one: -purity[one]), -1])
    page.get_by_role("searchbox").fill("<b>birds")
    has_values(page, "main [data-cluster]", "cluster", [3])
    page.get_by_role("searchbox").fill("/rain_0001")
    has_values(page, TILES, "video", [16])
    assert page.locator("main b, main i, img[src=x]").count() == 0
    expect(page.locator(".strip[data-here]").first).to_be_visible()


def test_labellings_and_addresses_work(page, home, truth):
    page.get_by_label("Labelling").select_option("1")
    expect(page.locator(".intro")).to_contain_text("labels: head 1")
    page.get_by_role("link", name="Cluster 3").click()
    expect(page).to_have_url(f"{home}index.html#/cluster/3?labelling=1")
    expect(page.locator('[data-figure="videos"] dd')).to_have_text("6")
    page.reload()
    expect(page.locator("h1")).to_have_text("Cluster 3")
    page.go_back()
    expect(page.locator("h1")).to_have_text("Clusters")
    page.get_by_label("Labelling").select_option("consensus")
    expect(page.locator('.card[data-cluster="3"]')).to_contain_text("<b>birds</b>")


def test_nothing_can_be_edited(page, home):
    for address in ("#/clusters", "#/cluster/3", "#/video/7", "#/map"):
        show(page, home, address)
        for name in ("Rename", "Merge", "Mark wrong", "Move to", "Undo", "undo", "Select"):
            expect(page.get_by_role("button", name=name)).to_have_count(0)
        expect(page.locator("main .tile input[type=checkbox]")).to_have_count(0)
    show(page, home, "#/cluster/3")
    page.locator(TILES).first.focus()
    for key in ("r", "m", "w", "x", "u"):
        page.keyboard.press(key)
    expect(page.locator("dialog")).to_have_count(0)
    expect(page.locator(".name-field, .selection-bar, .message, .notice")).to_have_count(0)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    expect(page.get_by_role("dialog")).not_to_contain_text("rename")


def test_a_cluster_has_its_edits(page, home, truth):
    show(page, home, "#/cluster/3")
    expect(page.locator("h1")).to_have_text("<b>birds</b>")
    has_values(page, TILES, "video", [row for row in truth.members(3) if row != MOVED])
    expect(page.locator(f'[data-video="{WRONG}"] .mark')).to_have_text("wrong")
    show(page, home, "#/cluster/0?show=moved")
    has_values(page, TILES, "video", [MOVED])


def test_sound_is_heard(page, home):
    show(page, home, "#/cluster/1")
    page.evaluate(
        "() => { window.heard = 0; addEventListener('timeupdate', ({ target }) => {"
        " if (target.volume > 0 && !target.muted) heard = Math.max(heard, target.currentTime); }, true); }"
    )
    tile = page.locator(TILES).first
    tile.focus()
    page.keyboard.press("s")
    page.wait_for_function("() => heard > 0")
    expect(page.locator("video")).to_have_count(0)


def test_a_video_is_shown_with_all_that_is_known(page, home, truth):
    row = truth.members(3)[-1]
    show(page, home, f"#/video/{row}")
    expect(page.locator(".path")).to_have_text(truth.paths[row])
    for head, shares in enumerate(truth.heads[:, row]):
        cells = page.locator(f'[data-head="{head}"]').locator("th, td")
        expect(cells.nth(0)).to_have_text(f"head {head}")
        expect(cells.nth(2)).to_have_text(in_words(shares.max()))
    expect(page.locator("[data-cluster-bar] .bar-figure").first).to_have_text(in_words(truth.confidence[row]))
    for modality in ("video", "audio"):
        has_values(page, f'[data-neighbours="{modality}"] [data-place]', "video", truth.nearest(row, modality))
    video = page.locator("video")
    page.wait_for_function("() => document.querySelector('video')?.videoWidth > 0")
    assert video.evaluate("(element) => element.src") == f"{home}media/preview/{row}.mp4"
    page.keyboard.press("s")
    page.wait_for_function("() => document.querySelector('video').currentTime > 0")


@pytest.mark.parametrize("row", [24, 25, 26, LOST])
def test_what_cannot_be_shown_says_so(page, home, row):
    show(page, home, f"#/video/{row}")
    expect(page.locator(".player-none")).to_have_text("This video cannot be played.")
    if row == 25:
        expect(page.get_by_role("region", name="Label")).to_contain_text("the file is missing")


def test_the_map_is_shown(page, home):
    page.get_by_role("link", name="Map").click()
    canvas = page.get_by_role("application")
    expect(canvas).to_have_accessible_name("Map of 27 videos")
    canvas.focus()
    page.keyboard.press("+")
    expect(page).to_have_url(re.compile("at="))
    page.get_by_role("checkbox", name="<b>birds</b>").click()
    expect(page).to_have_url(re.compile("hide=3"))
    expect(page.get_by_role("button", name="Select videos")).to_have_count(0)
    # Some way from the middle there is a video, which is named, and opened.
    canvas.focus()
    becomes(lambda: [page.keyboard.press("ArrowLeft"), page.locator(".map-card").count()][1], lambda: 1)
    name = page.locator(".map-card .tile-name").inner_text()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text(name)


def test_labels_lie_beside_the_page(page, home, place, truth):
    page.get_by_role("button", name="Export labels").click()
    for kind in ("csv", "json"):
        link = page.get_by_role("link", name=kind.upper(), exact=True)
        assert link.evaluate("(one) => one.href") == f"{home}labels.{kind}"
    expect(page.get_by_role("link", name="Parquet")).to_have_count(0)
    expect(page.get_by_role("button", name="Folder of links")).to_have_count(0)
    labels = truth.label.copy()
    labels[MOVED] = 0
    with open(place / "site" / "labels.csv", encoding="utf-8-sig", newline="") as file:
        assert [int(line["label"] or -1) for line in csv.DictReader(file)] == labels.tolist()
    videos = json.loads((place / "site" / "labels.json").read_text())["videos"]
    assert [-1 if one["label"] is None else one["label"] for one in videos] == labels.tolist()


def test_videos_themselves_are_not_in_the_folder(place):
    names = {str(path.relative_to(place / "site")) for path in (place / "site").rglob("*") if path.is_file()}
    media = {name for name in names if name.startswith("media/")}
    assert {name.split("/")[1] for name in media} == {"thumbnail", "preview"}
    assert {f"media/thumbnail/{row}.webp" for row in range(27)} <= media
    assert not {f"media/preview/{row}.mp4" for row in (24, 25, 26, LOST)} & media
    assert all(path.stat().st_size > 0 for path in (place / "site").rglob("*") if path.is_file())


def test_a_small_window_needs_no_scrolling_sideways(new_page, home):
    page = new_page(viewport={"width": 360, "height": 640})
    for address in ("#/clusters", "#/cluster/1", "#/video/0", "#/map"):
        show(page, home, address)
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 360, address
