"""The page in a real browser: videos are seen, moving, and heard; what is known of each is there; a map shows all."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image

from tests.support.browser_run import K
from tests.support.browser_server import has_values, points_on, ready
from tests.support.browser_truth import in_words

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect
pytest_plugins = ["tests.support.chromium", "tests.support.browser_fixture"]
pytestmark = pytest.mark.browser

TILES = "main [data-at]"


# Pictures and sound


def frame(page):
    """Return what a thumbnail shows now, once its picture is there."""
    strip = page.locator(f"{TILES} .strip[data-here] img").first
    strip.wait_for()
    page.wait_for_function("(image) => getComputedStyle(image).opacity === '1'", arg=strip.element_handle())
    return page.locator(f"{TILES} .strip").first.screenshot()


def moves(page):
    """Tell whether a thumbnail shows something else some time later."""
    before = frame(page)
    for _ in range(10):
        page.wait_for_timeout(300)  # longer than a frame is shown
        if frame(page) != before:
            return True
    return False


def test_thumbnails_move(new_page, home):
    page = new_page()
    page.goto(f"{home}#/cluster/0")
    assert moves(page)
    page.keyboard.press("p")
    stopped = frame(page)
    page.wait_for_timeout(600)
    assert frame(page) == stopped
    page.reload()
    frame(page)
    expect(page.locator("html")).to_have_attribute("data-motion", "off")


def test_thumbnails_stand_still_where_that_is_preferred(new_page, home):
    page = new_page(reduced_motion="reduce")
    page.goto(f"{home}#/cluster/0")
    stopped = frame(page)
    page.wait_for_timeout(900)
    assert frame(page) == stopped
    # All can be asked to move nevertheless.
    page.get_by_role("button", name="Play all thumbnails").click()
    assert moves(page)


HEAR = """() => {
  window.heard = new Set();
  document.addEventListener("timeupdate", ({ target }) => {
    const { currentTime, muted, volume, webkitAudioDecodedByteCount, src } = target;
    if (currentTime > 0 && !muted && volume > 0 && webkitAudioDecodedByteCount > 0) window.heard.add(src);
  }, true);
}"""


def heard(page, url):
    """Wait until the page has played sound."""
    page.wait_for_function("(url) => heard.has(url)", arg=url)


def test_sound_is_heard_on_demand(page, home, truth):
    first, second = truth.members(1)[:2]
    page.goto(f"{home}#/cluster/1")
    page.evaluate(HEAR)
    tile = page.locator(f'[data-at][data-video="{first}"]')
    expect(page.locator("video")).to_have_count(0)
    tile.hover()
    tile.get_by_role("button", name="Sound of").click()
    heard(page, f"{home}media/preview/{first}.mp4")
    expect(page.locator("video")).to_have_count(0)  # it ends by itself
    other = page.locator(f'[data-at][data-video="{second}"]')
    tile.focus()
    page.keyboard.press("s")
    expect(tile.locator("video")).to_have_count(1)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("s")
    expect(other.locator("video")).to_have_count(1)
    expect(page.locator("video")).to_have_count(1)  # one at a time
    page.keyboard.press("s")
    expect(page.locator("video")).to_have_count(0)
    page.keyboard.press("s")
    page.keyboard.press("Escape")
    expect(page.locator("video")).to_have_count(0)


def test_what_cannot_be_heard_says_so(page, home, faults):
    faults.expect("preview/25.mp4")
    page.goto(f"{home}#/cluster/none")
    ready(page)
    page.locator(TILES).press("s")
    expect(page.locator(".message")).to_have_text("gone.mp4 cannot be played.")
    expect(page.locator("video")).to_have_count(0)


# A video


def test_a_video_is_shown_with_all_that_is_known(page, home, truth):
    row = truth.members(3)[-1]
    assert truth.confidence[row] < 0.9
    page.goto(f"{home}#/cluster/3")
    page.locator(f'[data-at][data-video="{row}"] a').click()
    expect(page.locator("h1")).to_have_text("train_0002.mp4")
    expect(page.locator(".path")).to_have_text(truth.paths[row])
    expect(page.get_by_role("region", name="Label")).to_contain_text(f"confidence {in_words(truth.confidence[row])}")
    for head, shares in enumerate(truth.heads[:, row]):
        cells = page.locator(f'[data-head="{head}"]').locator("th, td")
        expect(cells).to_have_text([f"head {head}", f"Cluster {shares.argmax()}", in_words(shares.max())])
    mean = truth.heads[:, row].mean(0)
    expected = [one for one in np.argsort(-mean).tolist() if mean[one] > 5e-5]
    has_values(page, "[data-cluster-bar]", "clusterBar", expected)
    expect(page.locator("[data-cluster-bar] .bar-figure").first).to_have_text(in_words(mean.max()))
    for modality in ("video", "audio"):
        has_values(page, f'[data-neighbours="{modality}"] [data-place]', "video", truth.nearest(row, modality))
    expect(page.locator('[data-figure="true class"] dd')).to_have_text("train")
    expect(page.locator('[data-figure="length"] dd')).to_have_text("1.0 s")


def test_the_video_itself_plays(page, home):
    page.goto(f"{home}#/video/10")
    page.evaluate(HEAR)
    video = page.locator("video")
    page.wait_for_function("() => document.querySelector('video')?.videoWidth === 32")
    assert video.evaluate("(element) => element.src") == f"{home}media/video/10"
    page.keyboard.press("s")
    heard(page, f"{home}media/video/10")
    page.locator('[data-neighbours="audio"] [data-place="0"]').press("s")
    page.wait_for_function("() => [...heard].some((url) => url.includes('preview'))")


def test_one_goes_from_video_to_video(page, home, truth):
    members = truth.members(0)
    page.goto(f"{home}#/video/{members[1]}")
    expect(page.get_by_text("2 of 8")).to_be_visible()
    ready(page)
    page.keyboard.press("ArrowRight")
    has_values(page, ".video-view", "video", [members[2]])
    page.get_by_role("link", name="Previous").click()
    has_values(page, ".video-view", "video", [members[1]])
    page.locator('[data-neighbours="video"] [data-place="0"]').press("Enter")
    has_values(page, ".video-view", "video", [truth.nearest(members[1], "video")[0]])


@pytest.mark.parametrize(
    ("row", "name", "words"),
    [(25, "gone.mp4", "does not exist"), (24, "text.mp4", "cannot be played"), (26, "passwd", "does not exist")],
)
def test_what_is_no_video_has_a_placeholder_and_plain_words(page, home, truth, faults, row, name, words):
    faults.expect("preview/24.mp4")  # it could be a video, until one has tried
    page.goto(f"{home}#/cluster/{'none' if truth.label[row] < 0 else truth.label[row]}")
    tile = page.locator(f'[data-at][data-video="{row}"]')
    picture = tile.locator(".strip[data-here] img")
    expect(picture).to_have_js_property("naturalHeight", 128)
    expect(picture).to_have_js_property("naturalWidth", 12 * 128)
    tile.focus()
    tile.press("Enter")
    expect(page.locator("h1")).to_have_text(name)
    expect(page.locator(".player-none")).to_contain_text(words)
    expect(page.locator("video")).to_have_count(0)


def test_heads_are_switched(page, home, truth):
    page.goto(home)
    page.get_by_label("Labelling").select_option(label="head 1")
    expect(page).to_have_url(f"{home}#/clusters?labelling=1")
    expect(page.locator(".intro")).to_contain_text("labels: head 1")
    labels, shares = truth.heads[1].argmax(1), truth.heads[1].max(1)
    card = page.locator('.card[data-cluster="3"]')
    confidence = shares[(labels == 3) & (shares > 0)].mean()
    expect(card.locator('[data-figure="confidence"] dd')).to_have_text(in_words(confidence))
    expect(page.locator('.card[data-cluster="2"]')).to_contain_text("Cluster 2")  # names are those of the consensus
    card.get_by_role("link", name="Cluster 3").click()
    expect(page).to_have_url(f"{home}#/cluster/3?labelling=1")
    page.locator('[data-at][data-video="20"]').press("Enter")
    expect(page.get_by_role("region", name="Label")).to_contain_text(f"head 1, confidence {in_words(shares[20])}")
    expect(page.locator("[data-present]")).to_have_attribute("data-head", "1")
    page.locator('[data-head="0"]').get_by_role("link").click()
    expect(page.get_by_label("Labelling")).to_have_value("0")
    page.get_by_label("Labelling").select_option("consensus")
    expect(page).to_have_url(f"{home}#/clusters")


# The map


def picture_of(page):
    """Return what is on the map: colours (h, w) as 0xRRGGBB."""
    shot = page.get_by_role("application").screenshot()
    with Image.open(io.BytesIO(shot)) as image:
        red, green, blue = np.moveaxis(np.asarray(image.convert("RGB"), np.int64), 2, 0)
    return red << 16 | green << 8 | blue


def colour_of(page, cluster):
    """Return the colour that the legend tells for a cluster."""
    box = page.locator(f'[data-group="{cluster}"] input')
    return int(box.evaluate("(box) => box.style.getPropertyValue('--colour')").strip().lstrip("#"), 16)


def test_the_map_shows_every_cluster_and_opens_videos(page, home, truth):
    page.goto(f"{home}#/map")
    places = points_on(page, home)
    picture = picture_of(page)
    for cluster in range(K):
        assert 20 < (picture == colour_of(page, cluster)).sum() < 0.1 * picture.size
    # The one that lies farthest from any other, so that no other is meant.
    gaps = np.linalg.norm(np.array(places)[:, None] - np.array(places), axis=2) + 1e9 * np.eye(len(places))
    row = int(np.nanargmax(gaps.min(1)))
    page.mouse.move(*places[row])
    card = page.locator(".map-card")
    expect(card).to_have_attribute("data-video", str(row))
    expect(card).to_contain_text(truth.paths[row].rsplit("/", 1)[1])
    page.mouse.click(*places[row])
    expect(page).to_have_url(f"{home}#/video/{row}")


def test_the_map_is_moved_by_keys_and_its_state_linked_to(page, home):
    page.goto(f"{home}#/map")
    points_on(page, home)
    before = picture_of(page)
    page.get_by_role("application").focus()
    for key in ("+", "+", "ArrowLeft", "ArrowUp"):
        page.keyboard.press(key)
    expect(page).to_have_url(re.compile(r"at=[\d.]+_[\d.]+_1\.56"))
    assert (picture_of(page) != before).sum() > 100
    page.reload()
    expect(page.get_by_role("application")).to_be_visible()
    page.get_by_role("application").press("0")
    expect(page).to_have_url(f"{home}#/map")
    page.mouse.move(0, 0)
    page.get_by_role("searchbox").focus()
    page.reload()
    points_on(page, home)
    assert (picture_of(page) == before).all()


def test_a_legend_hides_groups(page, home):
    page.goto(f"{home}#/map")
    points_on(page, home)
    colour = colour_of(page, 1)
    assert (picture_of(page) == colour).any()
    page.get_by_role("checkbox", name="Cluster 1").click()
    expect(page).to_have_url(re.compile("hide=1"))
    page.reload()
    points_on(page, home)
    expect(page.get_by_role("checkbox", name="Cluster 1")).not_to_be_checked()
    assert not (picture_of(page) == colour).any()
    assert (picture_of(page) == colour_of(page, 0)).any()
    page.get_by_role("button", name="Confidence").click()
    expect(page.locator(".ramp")).to_be_visible()
    page.get_by_role("button", name="Class", exact=True).click()
    expect(page.locator("[data-group]")).to_have_count(9)
