"""What a person sees: tables, pictures, and the files of a run."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from selavi_ref.errors import InputError, SelaviError
from selavi_ref.media import make_collection
from selavi_ref.report.sheet import contact_sheet
from selavi_ref.report.tables import SCORES, evaluate_csv, scores_table
from selavi_ref.run import Run
from selavi_ref.selflabel import ClusterSizes


def write_labels(path, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([["path", "label", "confidence"], *rows])


def test_labels_are_compared_with_the_folders_of_the_videos(tmp_path):
    rows = [[f"videos/{kind}/{i}.mp4", label, 0.9] for kind, label in (("dog", 1), ("cat", 0)) for i in range(5)]
    write_labels(tmp_path / "l.csv", [*rows, ["videos/dog/broken.mp4", "", ""]])
    scores = evaluate_csv(tmp_path / "l.csv")
    assert (scores["nmi"], scores["accuracy"], scores["n"]) == (pytest.approx(1), 1, 10)
    assert (scores["videos"], scores["unlabelled"]) == (11, 1)
    table = scores_table({"ours": scores})
    assert all(title in table for title in SCORES.values())
    assert "10 videos, 2 classes, 2 clusters" in table


def test_a_single_folder_names_no_classes(tmp_path):
    write_labels(tmp_path / "l.csv", [["videos/a.mp4", 0, 1], ["videos/b.mp4", 1, 1]])
    with pytest.raises(InputError, match="--truth"):
        evaluate_csv(tmp_path / "l.csv")
    (tmp_path / "t.csv").write_text("path,class\nvideos/a.mp4,x\nvideos/b.mp4,y\n")
    assert evaluate_csv(tmp_path / "l.csv", tmp_path / "t.csv")["accuracy"] == 1


def test_the_sheet_shows_frames_and_grey_for_what_is_gone(tmp_path):
    made = make_collection(tmp_path / "videos", 8)
    rows = [[path, i % 2, 0.5] for i, path in enumerate(made.paths)]
    write_labels(tmp_path / "l.csv", [*rows, [tmp_path / "gone.mp4", 0, 0.9]])
    contact_sheet(tmp_path / "l.csv", tmp_path / "sheet.png", columns=5, side=40)
    picture = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert picture.shape == (2 * 43 + 3, 96 + 5 * 43 + 3, 3)
    assert (picture[10:30, 100:130] == 200).all()  # the most confident video of label 0 is the one that is gone
    assert picture[10:30, 145:175].std() > 0
    with pytest.raises(SelaviError, match="cannot be written"):
        contact_sheet(tmp_path / "l.csv", tmp_path / "l.csv" / "sheet.png")


def test_a_run_is_one_from_its_settings_on(tmp_path):
    with pytest.raises(InputError, match="not a folder"):
        Run.open(tmp_path / "run")
    run = Run.prepare(tmp_path / "run")
    with pytest.raises(InputError, match="no run"):
        Run.open(tmp_path / "run")
    run.rewrite_config({"clusters": 3})
    assert Run.open(tmp_path / "run").config == {"clusters": 3}
    with pytest.raises(InputError, match="--resume"):
        Run.prepare(tmp_path / "run")
    run.config_file.write_text("clusters = ")
    with pytest.raises(InputError, match=r"config\.toml cannot be read"):
        _ = run.config


def test_a_resumed_run_forgets_what_it_will_do_again(tmp_path):
    run = Run.prepare(tmp_path / "run")
    for record in ({"step": 0, "changed": 1.0}, {"step": 6, "epoch": 1}, {"step": 6, "changed": 0.5}, {"step": 8}):
        run.log(record)
    with open(run.log_file, "a") as file:
        file.write('{"step": 9, "ch')
    run.forget_log_after(6)
    kept = [json.loads(line) for line in run.log_file.read_text().splitlines()]
    assert kept == [{"step": 0, "changed": 1.0}, {"step": 6, "epoch": 1}]


@pytest.mark.parametrize("distribution", ["uniform", "gaussian", "zipf"])
def test_sizes_are_shares_of_at_least_one_video(distribution):
    sizes = ClusterSizes(distribution, spread=2.0).draw(10, 40, np.random.default_rng(0))
    assert sizes.sum() == pytest.approx(1)
    assert sizes.min() >= 1 / 40 - 1e-12
