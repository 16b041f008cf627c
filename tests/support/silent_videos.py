"""Small silent collections in the forms of UCF-101 and HMDB-51: three classes that are told by their stripes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.support.media_files import write_video

CLASSES = ("Across", "Down", "Plain")
GROUPS = 6  # videos of a class; every third is tested in each of the three folds


def pictures_of(kind: str, number: int, n_frames: int = 10) -> np.ndarray:
    """Moving stripes, or none, of other colours and widths in each video: uint8, shape (T, 48, 64, 3)."""
    rng = np.random.default_rng([CLASSES.index(kind), number])
    down, across, time = np.meshgrid(np.arange(48), np.arange(64), np.arange(n_frames), indexing="ij")
    place = {"Across": down, "Down": across, "Plain": 0 * down}[kind] + time
    wave = np.sin(2 * np.pi * place / rng.uniform(7, 10))
    colours = 100 + rng.uniform(30, 60, 3) * wave[..., None]
    return np.clip(colours + rng.normal(0, 5, colours.shape), 0, 255).astype(np.uint8).transpose(2, 0, 1, 3)


def write_silent(path: Path, kind: str, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, fps=8, n_frames=10, pictures=pictures_of(kind, number), codec="mpeg4")


def make_ucf101(place: Path) -> Path:
    """``UCF-101/{class}/v_{class}_g01_c01.avi`` with the lists of three folds beside it."""
    lists = place / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    (lists / "classInd.txt").write_text("".join(f"{n} {kind}\r\n" for n, kind in enumerate(CLASSES, 1)))
    texts = dict.fromkeys((f"{part}list0{fold}.txt" for part in ("train", "test") for fold in (1, 2, 3)), "")
    for number, kind in enumerate(CLASSES, 1):
        for group in range(1, GROUPS + 1):
            name = f"{kind}/v_{kind}_g{group:02d}_c01.avi"
            write_silent(place / "UCF-101" / name, kind, group)
            for fold in (1, 2, 3):
                tested = group % 3 == fold - 1
                texts[f"{'test' if tested else 'train'}list0{fold}.txt"] += name + ("\n" if tested else f" {number}\n")
    for name, text in texts.items():
        (lists / name).write_text(text)
    return place / "UCF-101"


def make_hmdb51(place: Path) -> Path:
    """``HMDB-51/{class}/`` with files of odd names, and the lists of fold 1, which leaves one video of each unused."""
    lists = place / "testTrainMulti_7030_splits"
    lists.mkdir(parents=True)
    for kind in CLASSES:
        text = ""
        for number in range(5):
            name = f"(Rad)_{kind}!_#{number}.avi"
            write_silent(place / "HMDB-51" / kind.lower() / name, kind, number)
            text += f"{name} {(1, 1, 2, 2, 0)[number]} \n"
        (lists / f"{kind.lower()}_test_split1.txt").write_text(text)
    return place / "HMDB-51"


def make_folders(root: Path, n_videos: int = 2) -> Path:
    """``ROOT/{train,test}/{class}/{number}.avi``."""
    for split in ("train", "test"):
        for kind in CLASSES:
            for number in range(n_videos):
                write_silent(root / split / kind / f"{number}.avi", kind, number + 10 * (split == "test"))
    return root
