"""The page in a real browser: segments of one file as a coloured bar in step with the player, each played alone."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.support.browser_server import Program
from tests.support.media_files import tone, write_video

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect
pytest_plugins = ["tests.support.chromium"]
pytestmark = pytest.mark.browser

MANY = 1000


def write_labels(path: Path, video: Path, count: int, seconds: float) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "start", "end", "label", "confidence"])
        for n in range(count):
            writer.writerow([video, f"{n * seconds / count:.3f}", f"{(n + 1) * seconds / count:.3f}", n // 2 % 3, 0.9])


@pytest.fixture(scope="module")
def place(chromium, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve segments of a video of 24 s, and the same in a thousand."""
    folder = tmp_path_factory.mktemp("page")
    video = write_video(folder / "long.mp4", n_frames=24 * 10, fps=10, sound=tone(24.0, 440))
    for name, count in (("few", 12), ("many", MANY)):
        (folder / name).mkdir()
        write_labels(folder / name / "run", video, count, 24.0)
    return folder


@pytest.fixture(scope="module")
def home() -> str:
    """Return where pages may be: on this machine."""
    return "http://127.0.0.1:"


def test_segments_are_a_bar_in_step_with_the_player(place: Path, new_page) -> None:
    with Program(place / "few") as program:
        page = new_page()
        page.goto(f"{program.url}#/video/5")
        bar = page.locator("[data-timeline='12'] .timeline-bar")
        expect(bar).to_be_visible()
        expect(bar).to_have_attribute("aria-valuenow", "6")
        image = bar.evaluate("(bar) => getComputedStyle(bar).backgroundImage")
        assert image.count("rgb") == 2 * 6, "neighbours of one cluster are one piece, which begins and ends"
        player = page.locator(".player video")
        source = player.evaluate("(video) => video.src")
        assert "#t=10,12" in source or "preview" in source, "the latter, where the browser has no H.264"
        if "#t" in source:
            page.wait_for_function("() => document.querySelector('.player video').currentTime >= 10")
            page.wait_for_function("() => parseFloat(document.querySelector('.timeline-cursor').style.left) > 41")
        box = bar.bounding_box()
        page.mouse.click(box["x"] + box["width"] * 0.97, box["y"] + box["height"] / 2)
        expect(page.locator(".video-view")).to_have_attribute("data-video", "11")
        bar.focus()
        page.keyboard.press("ArrowLeft")
        expect(page.locator(".video-view")).to_have_attribute("data-video", "10")
        page.wait_for_load_state("networkidle")
        page.goto("about:blank")  # ends the player before the server


def test_a_thousand_segments_stay_fluid(place: Path, new_page) -> None:
    with Program(place / "many") as program:
        page = new_page()
        page.goto(f"{program.url}#/video/500")
        bar = page.locator(f"[data-timeline='{MANY}'] .timeline-bar")
        expect(bar).to_be_visible()
        longest = page.evaluate(
            """() => new Promise((resolve) => {
                const times = [];
                const bar = document.querySelector('.timeline-bar');
                const box = bar.getBoundingClientRect();
                const step = (now) => {
                    times.push(now);
                    const x = box.left + (box.width * (times.length % 50)) / 50;
                    bar.dispatchEvent(new MouseEvent('mousemove', { clientX: x, clientY: box.top + 3, bubbles: true }));
                    if (times.length < 60) requestAnimationFrame(step);
                    else resolve(times.slice(1).map((t, n) => t - times[n]).sort((a, b) => a - b)[30]);
                };
                requestAnimationFrame(step);
            })"""
        )
        assert longest < 60, "milliseconds of half of the frames while the mouse moves over the bar"
