"""Time of finding the nearest of many videos, by features and by clusters; arguments are numbers of videos.

Seconds are those of the processor in one thread. The first search of a store checks its checksums, and later ones of a
page, or of a Python program that keeps the store open, do not.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numba
import numpy as np
from numpy.typing import NDArray

from selavi_ref.report.neighbours import similar_files
from selavi_ref.report.store_search import SearchedStore
from selavi_ref.store import FeatureStore, StoreWriter

_BLOCK = 20_000  # videos


def write_store(path: Path, n_videos: int, features: int, heads: int, clusters: int) -> None:
    """Write features around 200 centres, or log-probabilities of some heads for both modalities."""
    rng = np.random.default_rng(0)
    centres, directions = rng.standard_normal((200, features or 1)), rng.standard_normal((32, features or 1)) / 6
    widths = {f"log_prob/{m}/{head}": clusters for head in range(heads) for m in ("video", "audio")}
    widths |= {"features/video": features} if features else {}

    def values(name: str, n: int) -> NDArray[np.float32]:
        if name.startswith("log_prob"):
            logits = 4 * rng.standard_normal((n, clusters), np.float32)
            return np.asarray(logits - np.log(np.exp(logits).sum(1, keepdims=True)), np.float32)
        near = rng.standard_normal((n, 32)) @ directions + 0.3 * rng.standard_normal((n, features))
        return np.asarray(centres[rng.integers(0, 200, n)] + near, np.float32)

    with StoreWriter(path, [f"videos/{row:07d}.mp4" for row in range(n_videos)], widths, resume=False) as writer:
        for start in range(0, n_videos, _BLOCK):
            n = min(_BLOCK, n_videos - start)
            has = {m: np.ones(n, bool) for m in (("video", "audio") if heads else ("video",))}
            writer.write(slice(start, start + n), {name: values(name, n) for name in widths}, present=has)
        writer.finish()


def measure(folder: Path, n_videos: int, features: int, heads: int, clusters: int, n_queries: int) -> str:
    """Return a row of the table: seconds of the first and of a later search for the 10 nearest."""
    path = folder / f"{n_videos}-{features}-{heads}-{clusters}.h5"
    if not path.exists():
        write_store(path, n_videos, features, heads, clusters)
    asked = folder / "queries.h5"
    rng = np.random.default_rng(1)
    if features:
        queries = {"video": rng.standard_normal((n_queries, features))}
        FeatureStore.from_arrays(asked, queries, paths=[f"{row}.mp4" for row in range(n_queries)]).close()
    else:
        write_store(asked, n_queries, 0, heads, clusters)
    seconds = []
    with SearchedStore(path) as items, FeatureStore(asked) as few:
        items.paths  # noqa: B018 - the names are read once, whatever is searched
        for _ in range(3):
            begin = time.process_time()
            similar_files(items, few, 10)
            seconds.append(time.process_time() - begin)
    what = f"{features:,} features" if features else f"{heads} heads of {clusters} clusters"
    return f"| {n_videos:,} | {what} | {n_queries} | {seconds[0]:.2f} | {min(seconds[1:]):.2f} |"


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("videos", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--folder", type=Path, help="where the stores are made, of up to 8 GB; a temporary one without")
    options = parser.parse_args()
    numba.set_num_threads(1)
    print("| videos | compared by | queries | first search, s | later ones, s |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        for n_videos in options.videos:
            for features, heads, clusters in ((256, 0, 0), (512, 0, 0), (1024, 0, 0), (0, 5, 32), (0, 10, 309)):
                if n_videos * max(features, 2 * heads * clusters) > 2e9:
                    continue
                for n_queries in (1, 20) if features == 512 else (1,):
                    print(measure(folder, n_videos, features, heads, clusters, n_queries), flush=True)
                (folder / f"{n_videos}-{features}-{heads}-{clusters}.h5").unlink()


if __name__ == "__main__":
    main()
