"""Edits of clusters and videos on the page, by mouse or by keys, are saved at once and survive a reload."""

from __future__ import annotations

import json
import re

import pytest

from tests.support.browser_edits import choose, edit, select
from tests.support.browser_run import K
from tests.support.browser_server import becomes, has_values, ready

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect
pytest_plugins = ["tests.support.chromium", "tests.support.browser_fixture"]
pytestmark = pytest.mark.browser

TILES = "main [data-at]"
HOSTILE = "<img src=x onerror=alert(1)> & \u202eevil"


@pytest.fixture(scope="module")
def place(unedited):
    return unedited


@pytest.fixture
def home(program, place):
    yield program.url
    (place / "run" / "annotations.json").unlink(missing_ok=True)


def test_a_cluster_is_renamed(page, home, entries):
    page.goto(f"{home}#/cluster/1")
    page.get_by_role("button", name="Rename", exact=True).click()
    field = page.get_by_label("Name of cluster 1")
    expect(field).to_be_focused()
    field.fill("lamps and bells")
    field.press("Enter")
    expect(page.locator("h1")).to_have_text("lamps and bells")
    assert entries() == [edit("rename", cluster=1, name="lamps and bells")]
    expect(page.get_by_role("status").filter(has_text="Renamed cluster 1 to lamps and bells")).to_be_visible()
    page.reload()
    expect(page.locator("h1")).to_have_text("lamps and bells")
    page.get_by_role("link", name="All clusters").click()
    card = page.locator('.card[data-cluster="1"]')
    expect(card.get_by_role("heading")).to_contain_text("lamps and bells")
    # By key, on the card; first without keeping it.
    ready(page)
    card.get_by_role("link", name="lamps").focus()
    page.keyboard.press("r")
    field = page.get_by_label("Name of cluster 1")
    expect(field).to_have_value("lamps and bells")
    field.fill("something else")
    page.keyboard.press("Escape")
    expect(card.get_by_role("heading")).to_contain_text("lamps and bells")
    expect(card.get_by_role("link", name="lamps")).to_be_focused()
    page.keyboard.press("r")
    field.fill("")
    page.keyboard.press("Enter")
    expect(card.get_by_role("heading")).to_have_text("Cluster 1")
    assert entries()[-1] == edit("rename", cluster=1, name="")
    expect(card.get_by_role("link", name="Cluster 1")).to_be_focused()


def test_a_proposed_name_is_accepted(page, home, place, entries):
    hostile = HOSTILE.replace("\u202e", "")  # such marks are taken away from proposals
    proposals = [{"name": hostile, "score": 0.913, "source": "files"}, {"name": "bells", "score": None, "source": "e"}]
    kept = {"format": "selavi names", "version": 1, "clusters": K}
    kept["labellings"] = {"consensus": {"1": proposals, "2": proposals[1:]}}
    (place / "run" / "names.json").write_text(json.dumps(kept))
    try:
        page.goto(home)
        card = page.locator('.card[data-cluster="1"]')
        expect(card.get_by_role("list", name="Proposed names of cluster 1").get_by_role("button")).to_have_count(2)
        expect(card.get_by_role("button").first).to_contain_text("0.91")
        card.get_by_role("button", name="bells").click()
        expect(card.get_by_role("heading")).to_contain_text("bells")
        expect(card.get_by_role("button")).to_have_count(0)
        assert entries() == [edit("rename", cluster=1, name="bells")]
        page.keyboard.press("u")
        expect(card.get_by_role("button")).to_have_count(2)
        page.locator('.card[data-cluster="2"]').get_by_role("link", name="Cluster 2").focus()
        page.keyboard.press("a")
        expect(page.locator('.card[data-cluster="2"]').get_by_role("heading")).to_contain_text("bells")
        page.goto(f"{home}#/cluster/1")
        ready(page)
        page.keyboard.press("a")
        expect(page.locator("h1")).to_contain_text("onerror")
        assert entries()[-1] == edit("rename", cluster=1, name=hostile)
        page.keyboard.press("a")  # there is nothing to accept any more
        assert len(entries()) == 2
    finally:
        (place / "run" / "names.json").unlink()


def test_clusters_are_merged(page, home, truth, entries):
    page.goto(f"{home}#/cluster/2")
    page.get_by_role("button", name=re.compile("^Merge")).click()
    expect(page.get_by_role("dialog")).to_contain_text("Merge Cluster 2 into")
    page.get_by_role("option", name="Cluster 0").click()
    expect(page).to_have_url(f"{home}#/cluster/0")
    expect(page.get_by_text("with cluster 2 merged into it")).to_be_visible()
    assert entries() == [edit("merge", clusters=[2], into=0)]
    expect(page.locator('[data-figure="videos"] dd')).to_have_text("12")
    becomes(
        lambda: set(page.locator(TILES).evaluate_all("(all) => all.map((one) => Number(one.dataset.video))")),
        lambda: {*truth.members(0), *truth.members(2)},
    )
    page.goto(f"{home}#/cluster/2")
    expect(page.locator("main")).to_contain_text("It was merged into Cluster 0")
    page.goto(home)
    has_values(page, "main [data-cluster]", "cluster", [0, 1, 3, -1])
    page.goto(f"{home}#/video/{truth.members(2)[0]}")
    expect(page.get_by_role("region", name="Label")).to_contain_text("Cluster 0")


def test_videos_are_marked_as_wrong(page, home, truth, entries):
    first, second, third = truth.members(3)[:3]
    page.goto(f"{home}#/cluster/3")
    select(page, first, third)
    page.locator(".selection-bar").get_by_role("button", name="Mark wrong", exact=True).click()
    for video in (first, third):
        expect(page.locator(f'[data-at][data-video="{video}"] .mark')).to_have_text("wrong")
    kept = entries()
    assert [set(kept[0].pop("videos")), kept] == [
        {truth.paths[first], truth.paths[third]},
        [edit("wrong", wrong=True)],
    ]
    page.reload()
    expect(page.locator(".mark")).to_have_count(2)
    expect(page.locator('[data-figure="marked wrong"] dd')).to_have_text("2")
    page.get_by_role("button", name="Marked wrong").click()
    has_values(page, TILES, "video", [first, third])
    page.locator(f'[data-at][data-video="{first}"]').press("w")
    has_values(page, TILES, "video", [third])
    page.goto(f"{home}#/video/{second}")
    page.get_by_role("button", name="Mark wrong", exact=True).click()
    expect(page.get_by_role("button", name="Not wrong", exact=True)).to_be_visible()
    assert entries()[1:] == [
        edit("wrong", videos=[truth.paths[first]], wrong=False),
        edit("wrong", videos=[truth.paths[second]], wrong=True),
    ]
    page.goto(f"{home}#/clusters?sort=wrong")
    has_values(page, "main [data-cluster]", "cluster", [3, 0, 1, 2, -1])


def test_videos_are_moved_to_another_and_to_a_new_cluster(page, home, truth, entries):
    first, second = truth.members(3)[:2]
    page.goto(f"{home}#/cluster/3")
    select(page, first)
    page.get_by_role("button", name=re.compile("^Move to")).click()
    choose(page, "cluster 0")
    has_values(page, TILES, "video", truth.members(3)[1:])
    expect(page.locator(".selection-bar")).to_have_count(0)
    select(page, second)
    page.get_by_role("button", name=re.compile("^Move to")).click()
    choose(page, HOSTILE)
    has_values(page, TILES, "video", truth.members(3)[2:])
    assert entries() == [
        edit("move", videos=[truth.paths[first]], to=0),
        edit("move", videos=[truth.paths[second]], to="new", name=HOSTILE),
    ]
    page.reload()
    has_values(page, TILES, "video", truth.members(3)[2:])
    page.goto(f"{home}#/cluster/{K}")
    has_values(page, TILES, "video", [second])
    expect(page.locator("h1")).to_have_text("<img src=x onerror=alert(1)> & \u27e8202E\u27e9evil")
    expect(page.locator(".mark")).to_have_text("moved")
    assert page.locator("img[src=x]").count() == 0
    page.goto(f"{home}#/cluster/0?show=moved")
    has_values(page, TILES, "video", [first])
    page.goto(f"{home}#/video/{first}")
    expect(page.get_by_role("region", name="Label")).to_contain_text("before it was moved, Cluster 3")
    # One without label can be moved as well; from its own page.
    page.goto(f"{home}#/video/25")
    page.get_by_role("button", name=re.compile("^Move to")).click()
    choose(page, "1")
    expect(page.get_by_role("region", name="Label")).to_contain_text("Cluster 1")
    page.goto(f"{home}#/cluster/none")
    expect(page.locator("h1")).to_have_text("Every video has a label")


def test_edits_are_undone_and_done_again(page, home, truth, entries):
    page.goto(f"{home}#/cluster/1")
    undo, redo = page.get_by_role("button", name="undo").first, page.get_by_role("button", name="redo")
    expect(undo).to_have_attribute("aria-disabled", "true")
    expect(redo).to_have_attribute("aria-disabled", "true")
    for name in ("one", "two"):
        page.get_by_role("button", name="Rename", exact=True).click()
        page.get_by_label("Name of cluster 1").fill(name)
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_have_text(name)
    page.locator(".message").get_by_role("button", name="Undo").click()
    expect(page.locator("h1")).to_have_text("one")
    page.keyboard.press("u")
    expect(page.locator("h1")).to_have_text("Cluster 1")
    assert entries() == []
    page.reload()
    expect(page.locator("h1")).to_have_text("Cluster 1")
    expect(undo).to_have_attribute("aria-disabled", "true")
    redo.click()
    expect(page.locator("h1")).to_have_text("one")
    page.keyboard.press("Shift+U")
    expect(page.locator("h1")).to_have_text("two")
    expect(redo).to_have_attribute("aria-disabled", "true")
    assert entries() == [edit("rename", cluster=1, name=name) for name in ("one", "two")]
    undo.click()
    expect(page.locator("h1")).to_have_text("one")


def test_labellings_are_edited_apart(page, home, entries):
    page.goto(f"{home}#/cluster/1?labelling=0")
    page.get_by_role("button", name="Rename", exact=True).click()
    page.get_by_label("Name of cluster 1").fill("of head 0")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("of head 0")
    assert entries() == [{"op": "rename", "labelling": "0", "cluster": 1, "name": "of head 0"}]
    page.goto(f"{home}#/cluster/1")
    expect(page.locator("h1")).to_have_text("Cluster 1")
    page.goto(f"{home}#/video/0")
    expect(page.locator('[data-head="0"] td').first).to_have_text("of head 0")


def test_all_is_done_by_keys_alone(page, home, truth, entries):
    page.goto(home)
    expect(page.locator(".card").first).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    first = page.locator('.card[data-cluster="0"] a.card-link')
    for _ in range(12):
        page.keyboard.press("Tab")
        if first.evaluate("(one) => one === document.activeElement"):
            break
    expect(first).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.locator('.card[data-cluster="1"] a.card-link')).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Cluster 1")
    expect(page.locator("h1")).to_be_focused()
    members = truth.members(1)
    tile = page.locator(f'[data-at][data-video="{members[0]}"]')
    for _ in range(12):
        page.keyboard.press("Tab")
        if tile.evaluate("(one) => one === document.activeElement"):
            break
    expect(tile).to_be_focused()
    ready(page)
    page.keyboard.press("x")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+X")
    expect(page.locator(".selection-count")).to_have_text("3 videos")
    page.keyboard.press("m")
    choose(page, "brand new")
    has_values(page, TILES, "video", members[3:])
    assert entries() == [edit("move", videos=[truth.paths[row] for row in members[:3]], to="new", name="brand new")]
    # The next one has the focus, so that one goes on.
    expect(page.locator(TILES).and_(page.locator(":focus"))).to_have_count(1)
    page.keyboard.press("Home")
    expect(page.locator(f'[data-at][data-video="{members[3]}"]')).to_be_focused()
    page.keyboard.press("w")
    expect(page.locator(f'[data-at][data-video="{members[3]}"] .mark')).to_have_text("wrong")
    page.keyboard.press("Control+a")
    expect(page.locator(".selection-count")).to_have_text("5 videos")
    page.keyboard.press("Escape")
    expect(page.locator(".selection-bar")).to_have_count(0)
    page.keyboard.press("m")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(f'[data-at][data-video="{members[3]}"]')).to_be_focused()
    page.keyboard.press("g")
    page.keyboard.press("c")
    expect(page.locator("h1")).to_have_text("Clusters")
    expect(page.locator("h1")).to_be_focused()
    page.keyboard.press("/")
    page.keyboard.type("brand")
    has_values(page, "main [data-cluster]", "cluster", [K])


def test_points_of_the_map_are_drawn_around_and_moved(page, home, entries):
    page.goto(f"{home}#/map")
    canvas = page.get_by_role("application")
    expect(canvas).to_be_visible(timeout=60_000)
    box = canvas.bounding_box()
    left, right, top, bottom = box["x"] + 20, box["x"] + box["width"] - 20, box["y"] + 20, box["y"] + box["height"] - 20
    page.keyboard.down("Shift")
    page.mouse.move(left, top)
    page.mouse.down()
    for x, y in ((right, top), (right, bottom), (left, bottom), (left, top)):
        page.mouse.move(x, y, steps=3)
    page.mouse.up()
    page.keyboard.up("Shift")
    expect(page.get_by_role("heading", name="27 selected videos")).to_be_visible()
    page.get_by_role("button", name="Mark wrong", exact=True).click()
    expect(page.locator(".message")).to_contain_text("27 videos")
    assert len(entries()[0]["videos"]) == 27
