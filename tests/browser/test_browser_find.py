"""Search on the page by a text and by a file; the least certain videos are listed, and judged with one key."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest

from backbones.encoders.text_search import encode_collection, search_texts
from selavi_ref.browser.collection import open_collection
from selavi_ref.browser.look_next import look_next_in
from tests.support.browser_run import make_run, make_videos
from tests.support.browser_server import Program, becomes, has_values, ready
from tests.support.text_models import make_clip

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect
pytest_plugins = ["tests.support.chromium", "tests.support.browser_fixture"]
pytestmark = pytest.mark.browser

TILES = "main [data-at]"
PATIENCE = 90_000  # ms: the first search loads PyTorch


@pytest.fixture(scope="module")
def place(chromium, tmp_path_factory):
    folder = tmp_path_factory.mktemp("find")
    make_videos(folder / "videos", 16)
    make_run(folder / "run", folder / "videos")
    make_run(folder / "bare" / "run", folder / "videos")
    make_clip(folder / "model")
    encode_collection(open_collection(folder / "run"), f"clip=transformers:{folder / 'model'}")
    return folder


@pytest.fixture
def home(program, place):
    yield program.url
    (place / "run" / "annotations.json").unlink(missing_ok=True)


@pytest.fixture
def collection(place):
    return open_collection(place / "run")


def ranked(collection, text):
    similarity = search_texts(collection, [text])[1][:, 0]
    return [row for row in np.argsort(-similarity, kind="stable").tolist() if np.isfinite(similarity[row])]


def drop(page, file):
    """Drop a file on the page, as from a folder on the desktop."""
    page.evaluate(
        """async ([name, bytes]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], name));
            for (const kind of ["dragover", "drop"])
                document.querySelector("main").dispatchEvent(
                    new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }));
        }""",
        [Path(file).name, list(Path(file).read_bytes())],
    )


def first_tiles(page, wanted):
    """Wait until the first tiles are of these videos."""
    read = "() => [...document.querySelectorAll('main [data-at]')].slice(0, 5).map((one) => Number(one.dataset.video))"
    page.locator(TILES).first.wait_for(timeout=PATIENCE)
    becomes(lambda: page.evaluate(read), lambda: wanted[:5])


def test_a_text_ranks_the_videos_and_has_an_address(page, new_page, home, collection):
    page.goto(home)
    page.get_by_role("link", name="Find", exact=True).click()
    page.get_by_label("A text").fill("a dog")
    page.get_by_role("button", name="Find").click()
    first_tiles(page, ranked(collection, "a dog"))
    expect(page).to_have_url(re.compile(r"#/find\?text=a\+dog"))
    page.get_by_label("A text").fill("guitar")
    page.get_by_label("A text").press("Enter")
    first_tiles(page, ranked(collection, "guitar"))
    page.go_back()
    first_tiles(page, ranked(collection, "a dog"))
    other = new_page()
    other.goto(page.url)
    first_tiles(other, ranked(collection, "a dog"))
    expect(other.get_by_label("A text")).to_have_value("a dog")


def test_the_search_of_the_header_leads_to_videos_like_the_text(page, home, collection):
    page.goto(home)
    page.get_by_role("searchbox").fill("a dog")
    page.get_by_role("link", name="Find videos by this text").click()
    first_tiles(page, ranked(collection, "a dog"))


def test_a_file_that_is_dropped_anywhere_finds_itself_first(page, home, collection):
    row = next(row for row, path in enumerate(collection.paths) if "windmill" in path)
    before = set(Path(tempfile.gettempdir()).glob("selavi-*"))
    page.goto(f"{home}#/map")
    ready(page)
    drop(page, collection.files[row])
    page.locator(TILES).first.wait_for(timeout=PATIENCE)
    expect(page).to_have_url(re.compile("#/find$"))
    expect(page.locator(TILES).first).to_have_attribute("data-video", str(row))
    expect(page.get_by_role("heading", level=2)).to_have_text(f"Most similar to “{Path(collection.files[row]).name}”")
    page.locator("input[type=file]").set_input_files(collection.files[row + 1])
    expect(page.locator(TILES).first).to_have_attribute("data-video", str(row + 1))
    assert set(Path(tempfile.gettempdir()).glob("selavi-dropped-*")) <= before


def test_a_file_that_is_none_is_refused_in_one_line(page, home, faults, tmp_path):
    faults.expect("status of 4(00|15)|status 4(00|15)")
    (tmp_path / "<b>notes.txt").write_text("no video")
    (tmp_path / "text.mp4").write_text("no video")
    page.goto(f"{home}#/find")
    ready(page)
    drop(page, tmp_path / "<b>notes.txt")
    expect(page.locator(".find-notice")).to_contain_text("<b>notes.txt does not end like a video")
    drop(page, tmp_path / "text.mp4")
    expect(page.locator(".find-notice")).to_contain_text("text.mp4 has no neighbours", timeout=PATIENCE)


def test_without_encoders_the_page_names_the_next_step(place, page, faults):
    with Program(place / "bare") as program:
        faults.allow(program.url)
        page.goto(f"{program.url}#/find")
        expect(page.get_by_text("--encoder clip=transformers:openai/clip-vit-base-patch32")).to_be_visible()
        expect(page.get_by_label("A text")).to_have_count(0)


def test_the_least_certain_videos_are_judged_by_one_key(page, home, place, collection):
    proposed = look_next_in(collection, most=24)
    label, second = collection.labelling("consensus").label, collection.labelling("consensus").runner_up

    def kept():
        file = place / "run" / "annotations.json"
        entries = json.loads(file.read_text())["entries"] if file.exists() else []
        return [(e["op"], [collection.paths.index(path) for path in e["videos"]], e.get("to")) for e in entries]

    page.goto(home)
    page.get_by_role("link", name="Look next").click()
    has_values(page, ".next-item > .tile", "video", proposed)
    wanted = []
    page.locator(".next-item > .tile").first.focus()
    for key, what in (
        ("y", ("move", [proposed[0]], int(label[proposed[0]]))),
        ("o", ("move", [proposed[1]], int(second[proposed[1]]))),
        ("w", ("wrong", [proposed[2]], None)),
    ):
        page.keyboard.press(key)
        wanted.append(what)
        becomes(kept, lambda: wanted)
        page.keyboard.press("ArrowRight")
    marks = page.locator(".next-item[data-judged] .mark")
    expect(marks).to_have_text(["confirmed", "moved", "wrong"])
    expect(page.locator(".tally")).to_have_text(re.compile(r"^3 of"))
    page.get_by_role("button", name="Show the next ones").click()
    has_values(page, ".next-item > .tile", "video", look_next_in(open_collection(place / "run"), most=24))
    assert not set(proposed[:3]) & set(look_next_in(open_collection(place / "run"), most=24))
    page.locator(".next-item").first.get_by_role("button", name="Right").click()
    becomes(lambda: len(kept()), lambda: 4)
    page.keyboard.press("u")
    becomes(lambda: len(kept()), lambda: 3)
