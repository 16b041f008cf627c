"""Measure the waiting times of `selavi browse`: opening the page, thumbnails, nearest videos, and the map.

Run ``python -m pip install -e ".[all,test,bench]" && python benchmarks/browser.py`` on a machine that does nothing else
and has Chromium. ``--videos 1000 --points 5000`` for a quick look. Writes the tables that it prints to
``benchmarks/results/browser.md``.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from tables import parsed, processor, show

from selavi_ref.browser.thumbnails import ThumbnailCache
from selavi_ref.datasets import make_collection
from selavi_ref.metrics import nearest
from selavi_ref.report.embedding import embed
from selavi_ref.runs.atomic import write_text
from selavi_ref.store import FeatureStore, StoreWriter

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
FILMED = 200  # videos that are drawn; a collection names each of them many times
WIDTH = 256  # of the features of each modality
# Moves the map by its keys for two seconds, and counts the pictures that the browser shows meanwhile.
PAN = """async () => {
  const canvas = document.querySelector('canvas');
  canvas.focus();
  let frames = 0, going = true;
  const count = () => { frames += 1; if (going) requestAnimationFrame(count); };
  const box = canvas.getBoundingClientRect(), at = [box.x + box.width / 2, box.y + box.height / 2];
  const mouse = { pointerId: 1, pointerType: 'mouse', isPrimary: true, buttons: 1, button: 0, bubbles: true };
  const send = (kind, x, y) => canvas.dispatchEvent(new PointerEvent(kind, { ...mouse, clientX: x, clientY: y }));
  requestAnimationFrame(count);
  send('pointerdown', ...at);
  const start = performance.now();
  while (performance.now() - start < 2000) {
    const t = (performance.now() - start) / 300;
    send('pointermove', at[0] + 150 * Math.sin(t), at[1] + 100 * Math.cos(t));
    await new Promise((done) => requestAnimationFrame(done));
  }
  going = false;
  send('pointerup', ...at);
  return frames / 2;
}"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--videos", type=int, default=10_000, help="of the collection that is opened")
    options.add_argument("--clusters", type=int, default=400)
    options.add_argument("--heads", type=int, default=10)
    options.add_argument("--points", type=int, default=100_000, help="of the map")
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--only", choices=list(SECTIONS), action="append", help="do this section alone; repeatable")
    options.add_argument("--note", default="", help="a remark to write with the figures, such as what else was running")
    given = parsed(options, "browser.md")
    given.filmed = FILMED
    if given.quick:
        given.videos, given.clusters, given.heads, given.points, given.repeats, given.filmed = 60, 5, 2, 300, 1, 16
    packages = ("selavi-ref", "numpy", "flask", "waitress", "openTSNE", "av", "pillow")
    lines = show(
        "# The browser",
        "",
        f"{date.today()}, {processor()}, {os.cpu_count()} cores, Python {sys.version.split()[0]}; "
        + ", ".join(f"{name} {version(name)}" for name in packages),
        f"and {chromium_version().strip()}.",
        f"Load of the machine at the start: {os.getloadavg()[0]:.1f}. {given.note}".rstrip(),
    )
    with tempfile.TemporaryDirectory(prefix="selavi-browser-") as folder:
        given.folder = Path(folder)
        make_collection(given.folder / "filmed", given.filmed)
        for name in given.only or SECTIONS:
            lines += ["", *SECTIONS[name](given)]
            given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def opening(given: argparse.Namespace) -> list[str]:
    """Start the program and open the page in Chromium, the first time and again."""
    run = make_run(given.folder / "run", given.videos, given.clusters, given.heads)
    rows = []
    for _ in range(given.repeats):
        shutil.rmtree(run / "browser", ignore_errors=True)
        rows.append([*opened(run), *opened(run)])
    medians = np.median(rows, axis=0)
    return show(
        f"## Opening {given.videos:,} videos, {given.clusters} clusters, {given.heads} heads",
        "",
        f"Seconds, medians of {given.repeats}; all cards are on the page. The first time, labels are computed from the",
        "log-probabilities of all heads, and no thumbnail exists.",
        "",
        "| | program serves | page shows clusters | both | page again | other head |",
        "|---|---|---|---|---|---|",
        *(
            f"| {name} | {serves:.2f} | {shows:.2f} | **{serves + shows:.2f}** | {again:.2f} | {head:.2f} |"
            for name, (serves, shows, again, head) in (("first time", medians[:4]), ("later", medians[4:]))
        ),
    )


def opened(run: Path) -> tuple[float, float, float, float]:
    with a_page() as page:
        start = time.perf_counter()
        with serving(run) as url:
            serves = time.perf_counter() - start
            shows = timed(lambda: (page.goto(url), page.locator("[data-cluster]").last.wait_for()))
            again = timed(lambda: (page.reload(), page.locator("[data-cluster]").last.wait_for()))
            picker = page.get_by_role("combobox").first
            head = timed(lambda: (picker.select_option("1"), page.get_by_text("head 1").last.wait_for()))
    return serves, shows, again, head


def pictures(given: argparse.Namespace) -> list[str]:
    """Make all thumbnails and previews of the drawn videos, two at a time, and again."""
    files = sorted(map(str, (given.folder / "filmed").rglob("*.mp4")))
    lines = show(
        "## Thumbnails and previews",
        "",
        f"{given.filmed} videos of 2 s, 64 x 64, by two decoders, which are started in this time.",
        "",
        "| | a second | kB each | a second, when they are there |",
        "|---|---|---|---|",
    )
    for name, previews in (("thumbnails", False), ("both", True)):
        kept = given.folder / name
        with closing(ThumbnailCache(kept, files)) as made:
            first = timed(partial(made.make_all, previews=previews))
            again = timed(partial(made.make_all, previews=previews))
        size = sum(file.stat().st_size for file in kept.rglob("*.*")) / len(files) / 1000
        lines += show(f"| {name} | {len(files) / first:.0f} | {size:.1f} | {len(files) / again:.0f} |")
    return lines


def neighbours(given: argparse.Namespace) -> list[str]:
    """Time the search of one video's nearest videos."""
    run = make_run(given.folder / "wide", given.points, 20, 1)
    from selavi_ref.browser.posterior_index import PosteriorIndex

    with FeatureStore(run / "features.h5") as store:
        index = PosteriorIndex(store, store)
        first = timed(lambda: index.neighbours(0, 12))
        later = np.median([timed(partial(index.neighbours, row, 12)) for row in range(20)])
        values = store.features("video")
        peer = np.median([timed(partial(nearest, values[row : row + 1], values, 13)) for row in range(5)])
    return show(
        f"## Neighbours among {given.points:,} videos",
        "",
        f"By picture and by sound, {WIDTH} features each: {1000 * first:.0f} ms the first time, {1000 * later:.0f} ms",
        f"then; `metrics.nearest`, with the features of one modality in memory: {1000 * peer:.0f} ms.",
    )


def the_map(given: argparse.Namespace) -> list[str]:
    """Time making a map, and moving it on the page."""
    run = make_run(given.folder / "points", given.points, 20, 1)
    with FeatureStore(run / "features.h5") as store:
        made = timed(lambda: embed(store, rng=np.random.default_rng(0)))
    with a_page() as page, serving(run) as url:
        page.goto(f"{url}#/map")
        page.get_by_role("button", name="Zoom in").wait_for(timeout=1_800_000)
        page.wait_for_function(
            "() => document.querySelector('canvas') && document.querySelector('canvas').width > 300", timeout=1_800_000
        )
        page.locator("canvas").hover()  # the last of the map is drawn
        rates = [page.evaluate(PAN) for _ in range(given.repeats)]
    return show(
        f"## A map of {given.points:,} points",
        "",
        f"Made in {made:.0f} s. Moved by the mouse: {np.median(rates):.0f} pictures a second (least of {given.repeats}",
        f"times: {min(rates):.0f}) in 1280 x 900, drawn by the processor alone.",
    )


def make_run(place: Path, N: int, K: int, H: int) -> Path:
    """Write a run of N videos, which are links to the synthetic ones, with random labels and features."""
    filmed = sorted((place.parent / "filmed").rglob("*.mp4"))
    rng = np.random.default_rng(0)
    kinds = rng.integers(K, size=N)
    paths = [place / "videos" / f"class {i % 30:02d}" / f"{i:06d}.mp4" for i in range(N)]
    for folder in {path.parent for path in paths}:
        folder.mkdir(parents=True)
    for i, path in enumerate(paths):
        path.symlink_to(filmed[i % len(filmed)])
    datasets = {f"log_prob/{m}/{h}": K for m in ("video", "audio") for h in range(H)}
    datasets |= {f"features/{m}": WIDTH for m in ("video", "audio")}
    plain = np.tile(np.arange(K, dtype=np.int32), (H, 1))
    with StoreWriter(
        place / "features.h5",
        list(map(str, paths)),
        datasets,
        classes=[path.parent.name for path in paths],
        whole={"alignment": plain, "groups": plain},
    ) as writer:
        centres = rng.normal(size=(K, WIDTH)).astype(np.float32)
        for start in range(0, N, 5000):
            rows = slice(start, min(N, start + 5000))
            n = rows.stop - start
            values = {}
            for name, width in datasets.items():
                values[name] = rng.normal(size=(n, width)).astype(np.float32)
                if name.startswith("features/"):
                    values[name] += centres[kinds[rows]]
                else:
                    values[name][np.arange(n), kinds[rows]] += 6
                    values[name] -= np.log(np.exp(values[name]).sum(1, keepdims=True))
            writer.write(rows, values, present=dict.fromkeys(("video", "audio"), np.ones(n, bool)))
        writer.finish()
    write_text(place / "config.toml", f"clusters = {K}\nheads = {H}\n")
    return place


@contextmanager
def serving(run: Path) -> Iterator[str]:
    """Start the program on a run, and give its address."""
    command = [sys.executable, "-m", "cli", "browse", str(run), "--no-open"]
    root = Path(__file__).parent.parent
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as program:
        try:
            assert program.stdout is not None
            found = re.search(r"http\S+", program.stdout.readline())
            assert found is not None
            yield found[0]
        finally:
            program.send_signal(signal.SIGINT)


@contextmanager
def a_page() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with (
        sync_playwright() as playwright,
        closing(playwright.chromium.launch(executable_path=chromium(), args=FLAGS)) as browser,
    ):
        yield browser.new_page(viewport={"width": 1280, "height": 900}, bypass_csp=True)


def chromium() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        raise SystemExit("this benchmark needs Chromium")
    return found


def chromium_version() -> str:
    return subprocess.run([chromium(), "--version"], capture_output=True, text=True, check=True).stdout.split(" built")[
        0
    ]


def timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


SECTIONS: dict[str, Callable[[argparse.Namespace], list[str]]] = {
    "opening": opening,
    "pictures": pictures,
    "neighbours": neighbours,
    "map": the_map,
}

if __name__ == "__main__":
    main()
