"""The page in a real browser: all clusters can be found, sorted and linked to, by everyone and on every screen."""

from __future__ import annotations

import json
import re

import pytest

from tests.support.browser_run import ODD, ODD_CLASS, K
from tests.support.browser_server import ROOT, becomes, has_values, points_on, ready
from tests.support.browser_truth import NAME, WRONG, figures_of, in_words

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect
pytest_plugins = ["tests.support.chromium", "tests.support.browser_fixture"]
pytestmark = pytest.mark.browser

CLASS = ODD_CLASS.replace("/", "\u2215")
SHOWN = ["<img src=x onerror=alert(1)>.mp4", "quotes \"'`&amp;.mp4", "line\u240abreak.mp4"]
SORTS = ["size", "confidence", "entropy", "purity", "mixture", "wrong", "name", "number"]
CLUSTERS = "main [data-cluster]"
TILES = "main [data-at]"
AXE = ROOT / "selavi_ref" / "browser" / "web" / "node_modules" / "axe-core" / "axe.min.js"


# All clusters


def test_all_clusters_are_there_with_their_figures(page, home, truth):
    page.goto(home)
    expect(page).to_have_title("Clusters \u2013 run")
    expect(page.get_by_role("heading", level=1)).to_have_text("Clusters")
    expect(page.locator(".tally")).to_have_text(f"{K} clusters")
    for cluster in range(K):
        card, figures = page.locator(f'.card[data-cluster="{cluster}"]'), figures_of(truth, cluster)
        expect(card.get_by_role("heading")).to_contain_text(figures["name"])
        expect(card.locator(".card-size")).to_have_text(str(figures["size"]))
        for name, key in (("confidence", "confidence"), ("uncertainty", "entropy"), ("purity", "purity")):
            expect(card.locator(f'[data-figure="{name}"] dd')).to_have_text(in_words(figures[key]))
        expect(card.locator(".bar-figure")).to_have_text([str(count) for count in truth.class_counts(cluster)[:3]])
    expect(page.locator(".card").last).to_contain_text("Without label")


def test_clusters_are_sorted_by_each_figure_both_ways(page, home, truth):
    figures = [figures_of(truth, cluster) for cluster in range(K)]
    page.goto(home)
    for key in SORTS:
        page.get_by_label("Sort by").select_option(key)
        down = key not in ("name", "number")
        for turned in (False, True):
            if turned:
                page.get_by_role("button", name="reverse").click()
            signs = -1 if down != turned else 1
            order = sorted(range(K), key=lambda one: figures[one][key])
            if signs < 0:
                order = sorted(range(K), key=lambda one: figures[one][key], reverse=True)
            has_values(page, CLUSTERS, "cluster", [*order, -1])  # those without label are last


def test_heads_of_the_table_sort_it(page, home, truth):
    page.goto(home)
    page.get_by_role("button", name="Table").click()
    expect(page).to_have_url(re.compile("view=table"))
    for title, key in (("Purity", "purity"), ("Confidence", "confidence"), ("Videos", "size")):
        head = page.get_by_role("columnheader", name=title)
        for direction in ("descending", "ascending"):
            head.get_by_role("button").click()
            expect(head).to_have_attribute("aria-sort", direction)
            order = sorted(range(K), key=lambda one: truth.figures(one)[key], reverse=direction == "descending")
            has_values(page, "tr[data-cluster]", "cluster", [*order, -1])


def test_clusters_are_filtered_by_range_and_class(page, home, truth):
    page.goto(home)
    page.get_by_role("button", name=re.compile("^Filter")).click()
    titles = {"size": "Videos", "confidence": "Confidence", "entropy": "Uncertainty", "purity": "Purity"}
    for key, title in titles.items():
        values = sorted(truth.figures(cluster)[key] for cluster in range(K))
        low, high = (round(sum(pair) / 2 + 1e-3, 4) for pair in (values[:2], values[-2:]))
        kept = [one for one in (0, 1, 3, 2) if truth.figures(one)[key] >= low]
        fill(page.get_by_label(f"{title}, at least"), low)
        has_values(page, CLUSTERS, "cluster", kept)
        kept = [one for one in kept if truth.figures(one)[key] <= high]
        fill(page.get_by_label(f"{title}, at most"), high)
        has_values(page, CLUSTERS, "cluster", kept)
        expect(page.locator(".tally")).to_contain_text(f"{len(kept)} of {K} clusters")
        page.get_by_role("button", name="No filter").click()
        has_values(page, CLUSTERS, "cluster", [0, 1, 3, 2, -1])
    for name in ("lamp", CLASS):
        page.get_by_label("Contains class").select_option(name)
        cluster = truth.label[truth.classes.index(name)]
        has_values(page, CLUSTERS, "cluster", [cluster])
        expect(page.locator(".card .bar-name").first).to_have_text(name)


def fill(field, value):
    field.fill(str(value))
    field.press("Enter")


def test_search_finds_names_classes_and_paths(page, home, truth):
    page.goto(home)
    field = page.get_by_role("searchbox")
    field.fill("WEATHER <i>")
    has_values(page, CLUSTERS, "cluster", [2])
    expect(page.locator(".tally")).to_have_text(f"1 of {K} clusters")
    field.fill("windmill")
    videos = [row for row, path in enumerate(truth.paths) if "windmill" in path]
    has_values(page, CLUSTERS, "cluster", [0])
    has_values(page, TILES, "video", videos)
    field.fill("etc/passwd")
    has_values(page, CLUSTERS, "cluster", [])
    has_values(page, TILES, "video", [26])
    field.fill("no such thing")
    expect(page.get_by_text("No cluster or video matches.")).to_be_visible()
    page.get_by_role("button", name="Show all").click()
    expect(field).to_have_value("")
    has_values(page, CLUSTERS, "cluster", [0, 1, 3, 2, -1])
    page.goto(f"{home}#/map")
    field.fill("lamp")
    field.press("Enter")
    has_values(page, CLUSTERS, "cluster", [1])


# Addresses


def test_every_state_has_an_address(page, new_page, home):
    def steps():
        page.get_by_label("Sort by").select_option("purity")
        yield
        page.get_by_role("button", name="reverse").click()
        yield
        page.get_by_role("button", name=re.compile("^Filter")).click()
        page.get_by_label("Contains class").select_option("lamp")
        yield
        page.get_by_role("button", name="No filter").click()
        page.get_by_role(
            "button", name=re.compile("^Filter")
        ).click()  # whether the panel is open is no part of the state
        page.get_by_role("button", name="Table").click()
        yield
        page.get_by_label("Labelling").select_option("1")
        yield
        page.get_by_role("searchbox").fill("windmill")
        yield
        page.get_by_role("link", name="Cluster 0").click()
        page.get_by_role("button", name="Least typical first").click()
        yield
        page.get_by_role("button", name=re.compile("^clock")).click()
        yield
        page.locator(TILES).first.press("Enter")
        yield
        page.get_by_role("link", name="Map").click()
        points_on(page, home)
        page.get_by_role("button", name="Class", exact=True).click()
        page.get_by_role("checkbox", name="train").click()
        yield

    page.goto(home)
    fresh, seen, texts = new_page(), set(), set()
    for _ in steps():
        address = page.evaluate("location.href")
        seen.add(address)
        fresh.goto("about:blank")
        fresh.goto(address)
        becomes(lambda: state_of(fresh), lambda: state_of(page))
        texts.add(state_of(page))
    assert len(seen) == len(texts) == 10


def state_of(page):
    """Return all that is to be read, and what is chosen."""
    controls = """() => [...document.querySelectorAll("select, input, [aria-pressed], [aria-sort]")]
      .map((one) => `${one.value} ${one.checked} ${one.ariaPressed} ${one.ariaSort}`).join()"""
    return f"{page.inner_text('body')} {page.evaluate(controls)}"


def test_back_and_forward_find_the_same_place_again(page, home):
    page.set_viewport_size({"width": 700, "height": 500})
    page.goto(home)
    page.get_by_label("Sort by").select_option("number")
    link = page.locator('[data-cluster="3"]').get_by_role("link", name="Cluster 3")
    link.click()
    expect(page.locator("h1")).to_have_text("Cluster 3")
    expect(page.locator("h1")).to_be_focused()
    tile = page.locator(TILES).last
    tile.scroll_into_view_if_needed()
    below = page.evaluate("scrollY")
    assert below > 0
    tile.focus()
    tile.press("Enter")
    expect(page.locator("h1")).to_be_focused()
    assert page.evaluate("scrollY") == 0
    page.go_back()
    expect(page.locator("h1")).to_have_text("Cluster 3")
    expect(page.locator(TILES).last).to_be_focused()
    page.wait_for_function("(y) => Math.abs(scrollY - y) < 2", arg=below)
    page.go_back()
    expect(link).to_be_focused()
    has_values(page, CLUSTERS, "cluster", [0, 1, 2, 3, -1])
    page.go_back()
    has_values(page, CLUSTERS, "cluster", [0, 1, 3, 2, -1])
    for _ in range(3):
        page.go_forward()
    expect(page.get_by_role("heading", name="Probabilities")).to_be_visible()


@pytest.mark.parametrize("address", ["cluster/99", "video/99", "video/-1", "nowhere", "cluster/x", "video/"])
def test_an_address_that_leads_nowhere_says_so(page, home, address):
    page.goto(f"{home}#/{address}")
    expect(page.locator("main")).to_contain_text(re.compile("no such cluster|no longer exists"))
    page.locator("main").get_by_role("link", name="All clusters").click()
    has_values(page, CLUSTERS, "cluster", [0, 1, 3, 2, -1])


# A cluster


def test_a_cluster_shows_the_least_typical_last(page, home, truth):
    for cluster in range(K):
        page.goto(f"{home}#/cluster/{cluster}")
        expect(page.locator("h1")).to_have_text(figures_of(truth, cluster)["name"])
        members, mixture = truth.members(cluster), truth.figures(cluster)["mixture"]
        has_values(page, TILES, "video", members)
        expect(page.locator(f'[data-video="{members[0]}"]')).to_contain_text(in_words(truth.confidence[members[0]]))
        page.get_by_role("button", name="Least typical first").click()
        has_values(page, TILES, "video", members[::-1])
        expect(page.locator('[data-figure="class entropy"] dd')).to_have_text(in_words(mixture))


def test_a_cluster_is_narrowed_to_a_class_or_to_what_is_wrong(page, home, truth):
    page.goto(f"{home}#/cluster/3")
    page.get_by_role("button", name=re.compile("^bird")).click()
    has_values(page, TILES, "video", [row for row in truth.members(3) if truth.classes[row] == "bird"])
    expect(page.locator(".tally")).to_have_text("3 of 6 videos of class bird")
    page.get_by_role("button", name=re.compile("^bird")).click()
    page.get_by_role("button", name="Marked wrong").click()
    has_values(page, TILES, "video", [row for row in truth.members(3) if row in WRONG])


def test_videos_without_label_are_shown_with_the_reason(page, home):
    page.goto(f"{home}#/cluster/none")
    expect(page.locator(".reasons")).to_have_text("1 video: the file is missing")
    has_values(page, TILES, "video", [25])


# Names


def test_names_are_never_more_than_text(page, home, truth):
    for view in ("", "clusters?view=table", "cluster/1", "cluster/2", "map?colour=class", "video/0", "clusters?q=mp4"):
        page.goto(f"{home}#/{view}")
        expect(page.locator("h1")).to_be_visible()
        assert page.locator("img[src=x], main b, main i, [onclick], [onerror]").count() == 0
    page.goto(f"{home}#/clusters?q=mp4")
    for row, name in ((0, SHOWN[0]), (3, SHOWN[1]), (2, SHOWN[2])):
        expect(page.locator(f'[data-at][data-video="{row}"] .tile-name')).to_have_text(name, use_inner_text=True)
        assert page.locator(f'[data-at][data-video="{row}"] .tile-name').text_content() == name
    for row in range(len(ODD)):
        page.goto(f"{home}#/video/{row}")
        name = page.locator("h1")
        expect(name).to_be_visible()
        assert not re.search("[\u202a-\u202e\u2066-\u2069\n]", name.text_content())
        expect(page.locator('[data-figure="true class"] dd')).to_have_text(CLASS)
        page.wait_for_function("() => document.querySelector('video')?.videoWidth === 32")
    page.goto(f"{home}#/cluster/2")
    expect(page.locator("h1")).to_have_text(NAME)


# How it is used


def test_the_theme_is_kept(page, home):
    page.goto(home)
    paper = "() => getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(paper)
    page.get_by_role("button", name="Dark theme").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert page.evaluate(paper) != light
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.get_by_role("button", name="Light theme").click()
    assert page.evaluate(paper) == light


def test_the_system_decides_on_the_theme_until_asked(new_page, home):
    page = new_page(color_scheme="dark")
    page.goto(home)
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_help_gives_the_focus_back(page, home):
    page.goto(home)
    button = page.get_by_role("button", name="Help and keyboard shortcuts")
    button.click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    expect(dialog).to_contain_text("mark as wrong")
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)
    expect(button).to_be_focused()
    link = page.locator(CLUSTERS).first.get_by_role("link")
    link.focus()
    page.keyboard.press("?")
    expect(dialog).to_be_visible()
    dialog.get_by_role("button", name="Close").click()
    expect(link).to_be_focused()


def test_single_letters_can_be_turned_off(page, home):
    page.goto(home)
    ready(page)
    page.keyboard.press("?")
    page.get_by_role("checkbox", name="Use single-letter shortcuts").click()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.press("p")
    expect(page.locator("html")).to_have_attribute("data-motion", "off")
    expect(page.get_by_role("searchbox")).not_to_be_focused()


VIEWS = [
    "",
    "#/clusters?view=table",
    "#/cluster/1",
    "#/cluster/none",
    "#/video/0",
    "#/video/25",
    "#/map",
    "#/find",
    "#/next",
    "#/nowhere",
]


def test_a_small_window_needs_no_scrolling_sideways(new_page, home):
    page = new_page(viewport={"width": 360, "height": 640}, has_touch=True)
    for view in VIEWS:
        page.goto(home + view)
        expect(page.locator("h1")).to_be_visible()
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 360, view
    page.goto(f"{home}#/cluster/1")
    page.get_by_role("button", name="Rename", exact=True).click()
    page.get_by_label("Export labels").click()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
    sheet = page.locator("#export-menu").bounding_box()
    assert sheet["x"] >= 0
    assert sheet["x"] + sheet["width"] <= 360
    page.keyboard.press("Escape")
    page.get_by_label("Help and keyboard shortcuts").click()
    box = page.get_by_role("dialog").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360


def test_every_control_has_a_name(page, home):
    unnamed = """() => [...document.querySelectorAll("a[href], button, input, select, [tabindex='0'], canvas")]
      .filter((one) => one.checkVisibility() && !one.closest("[aria-hidden=true]"))
      .filter((one) => !one.ariaLabel && !one.labels?.length && !one.textContent.trim() && !one.ariaLabelledByElements)
      .map((one) => one.outerHTML)"""
    for view in VIEWS:
        page.goto(home + view)
        expect(page.locator("h1")).to_have_count(1)
        assert page.evaluate(unnamed) == [], view
        ids = page.locator("[id]").evaluate_all("(all) => all.map((one) => one.id)")
        assert len(ids) == len(set(ids))
        expect(page.locator("html")).to_have_attribute("lang", "en")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_barrier_is_found_by_axe(new_page, home, theme):
    if not AXE.exists():
        pytest.skip("axe-core is not installed: npm install --no-save axe-core in selavi_ref/browser/web")
    # Reduced motion: a colour that is just fading in has no contrast to be judged.
    page = new_page(color_scheme=theme, reduced_motion="reduce", viewport={"width": 1280, "height": 800})
    opened = [("#/cluster/1", "?"), ("#/cluster/1", "m"), ("#/video/0", "m"), ("#/cluster/1", "r")]
    for view, key in [*((view, None) for view in VIEWS), *opened]:
        page.goto("about:blank")
        page.goto(home + view)
        expect(page.locator("h1")).to_be_visible()
        if view == "#/map":
            points_on(page, home)
        if key is not None:
            ready(page)
            page.keyboard.press(key)
            expect(page.locator("dialog[open], .name-field")).to_be_visible()
        page.evaluate(AXE.read_text(encoding="utf-8"))
        found = page.evaluate("() => axe.run().then(({ violations }) => violations)")
        serious = [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]
        assert serious == [], (view, key)


def test_the_page_is_told_nothing_that_is_not_json(page, home):
    page.goto(home)
    data = json.loads(page.locator("#page").text_content())
    assert data["mode"] == "served"
    assert data["title"] == "run"
