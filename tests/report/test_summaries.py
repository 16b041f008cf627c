"""What a person sees: scores and labels in words, and a picture of the clusters."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from selavi_ref.datasets import make_collection
from selavi_ref.ensemble.labels import Labels
from selavi_ref.errors import InputError, SelaviError
from selavi_ref.report.contact_sheet import contact_sheet
from selavi_ref.report.evaluation import BRIEF, SCORES, evaluate_csv, scores_table
from selavi_ref.report.summaries import labels_summary
from tests.support.refusal import refused


def write_labels(path, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([["path", "label", "confidence"], *rows])


def two_kinds():
    return [[f"videos/{kind}/{i}.mp4", label, 0.9] for kind, label in (("dog", 1), ("cat", 0)) for i in range(5)]


def test_labels_are_compared_with_the_folders_of_the_videos(tmp_path):
    write_labels(tmp_path / "l.csv", [*two_kinds(), ["videos/dog/broken.mp4", "", ""]])
    scores = evaluate_csv(tmp_path / "l.csv")
    assert (scores["nmi"], scores["accuracy"], scores["n"]) == (pytest.approx(1), 1, 10)
    assert (scores["videos"], scores["unlabelled"]) == (11, 1)


def test_labels_are_compared_with_a_list_of_classes(tmp_path):
    write_labels(tmp_path / "l.csv", two_kinds())
    lines = [f"{path},{i % 2}" for i, (path, *_) in enumerate(two_kinds()[:8])]
    (tmp_path / "t.csv").write_text("\n".join(["path,class", *lines]))
    scores = evaluate_csv(tmp_path / "l.csv", tmp_path / "t.csv")
    assert (scores["n"], scores["videos"]) == (8, 10)  # two videos have no class
    assert scores["nmi"] < 0.1
    (tmp_path / "t.csv").write_text("path,class\nelsewhere.mp4,dog\n")
    with refused(path=tmp_path / "l.csv"):
        evaluate_csv(tmp_path / "l.csv", tmp_path / "t.csv")


def test_a_list_of_classes_names_videos_as_seen_from_its_folder(tmp_path):
    rows = [[tmp_path / path, label, 1] for path, label, _ in two_kinds()]
    write_labels(tmp_path / "l.csv", rows)
    lines = [f"{path},{label}" for path, label, _ in two_kinds()]
    (tmp_path / "t.csv").write_text("\n".join(["path,class", *lines]))
    assert evaluate_csv(tmp_path / "l.csv", tmp_path / "t.csv")["accuracy"] == 1


@pytest.mark.parametrize(
    "unlabelled", [[], [["videos/other/broken.mp4", "", ""]], [["bare.mp4", 1, 1]]], ids=["none", "other", "bare"]
)
def test_a_single_folder_names_no_classes(tmp_path, unlabelled):
    write_labels(tmp_path / "l.csv", [["videos/a.mp4", 0, 1], ["videos/b.mp4", 1, 1], *unlabelled])
    with refused(path=tmp_path / "l.csv", option="truth"):
        evaluate_csv(tmp_path / "l.csv")
    (tmp_path / "t.csv").write_text("path,class\nvideos/a.mp4,x\nvideos/b.mp4,y\n")
    assert evaluate_csv(tmp_path / "l.csv", tmp_path / "t.csv")["accuracy"] == 1


def test_a_single_cluster_of_several_classes_has_scores(tmp_path):
    write_labels(tmp_path / "l.csv", [[path, 0, 1] for path, *_ in two_kinds()])
    scores = evaluate_csv(tmp_path / "l.csv")
    assert (scores["clusters"], scores["classes"], scores["accuracy"]) == (1, 2, 0.5)
    assert scores["nmi"] == pytest.approx(0)


def test_without_any_label_there_is_nothing_to_compare(tmp_path):
    write_labels(tmp_path / "l.csv", [["videos/a.mp4", "", ""]])
    with refused(path=tmp_path / "l.csv"):
        evaluate_csv(tmp_path / "l.csv")


def test_the_table_of_scores_has_a_column_for_each_score(tmp_path):
    write_labels(tmp_path / "l.csv", two_kinds())
    scores = evaluate_csv(tmp_path / "l.csv")
    table = scores_table({"ours": scores, "a longer name": scores | {"nmi": 0.25}})
    head, ours, other, last = table.text().splitlines()
    assert head.split() == ["labels", *" ".join(SCORES[key] for key in BRIEF).split()]
    assert ours.split() == ["ours", *(f"{scores[key]:.3f}" for key in BRIEF)]
    assert other.split()[:4] == ["a", "longer", "name", "0.250"]
    assert len(head) == len(ours) == len(other)
    assert last.startswith("10 videos, 2 classes, 2 clusters")


def some_labels():
    return Labels(
        paths=["a.mp4", "b.mp4", "c.mp4"],
        label=np.array([0, 1, -1], np.int32),
        runner_up=np.array([1, 0, -1], np.int32),
        confidence=np.array([0.9, 0.7, 0], np.float32),
        heads=np.array([[0], [1], [-1]], np.int32),
        modalities=["video+audio", "audio", ""],
        reasons=["", "", "no video stream"],
        disagreement=np.array([0.5, 0, np.nan], np.float32),
        source="the only head",
    )


def test_a_summary_has_the_number_of_labelled_videos_and_the_heads():
    text = labels_summary(some_labels())
    assert "2 of 3 videos labelled by the only head; 2 clusters of 1 video, mean confidence 0.80" in text
    assert "labels rest on audio (1), video+audio (1)" in text
    assert "1 without a label" in text
    assert "25.0%" in text
    none = replace(some_labels(), label=np.full(3, -1, np.int32))
    assert labels_summary(none) == "0 of 3 videos labelled: no video stream"


def test_whatever_things_are_called_the_texts_can_be_printed(tmp_path):
    hostile = "bytes \udcff\nof no text"
    none = replace(some_labels(), label=np.full(3, -1, np.int32), reasons=[hostile] * 3)
    write_labels(tmp_path / "l.csv", two_kinds())
    table = scores_table({hostile: evaluate_csv(tmp_path / "l.csv")}).text()
    assert len(table.splitlines()) == 3
    for text in (table, labels_summary(none), labels_summary(replace(some_labels(), source=f"head {hostile}"))):
        text.encode()
    with pytest.raises(InputError) as caught:
        evaluate_csv(tmp_path / hostile)
    assert str(caught.value).isprintable()


def test_the_sheet_shows_frames_and_grey_for_what_is_gone(tmp_path):
    made = make_collection(tmp_path / "videos", 8)
    rows = [[path, i % 2, 0.5] for i, path in enumerate(made.paths)]
    write_labels(tmp_path / "l.csv", [*rows, [tmp_path / "gone.mp4", 0, 0.9], [tmp_path / "unlabelled.mp4", "", ""]])
    contact_sheet(tmp_path / "l.csv", tmp_path / "sheet.png", columns=5, side=40)
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.format == "PNG"
        picture = np.asarray(image)
        image.save(tmp_path / "plain.png")
    assert (tmp_path / "sheet.png").stat().st_size < (tmp_path / "plain.png").stat().st_size
    assert picture.shape == (2 * 43 + 3, 96 + 5 * 43 + 3, 3)
    assert (picture[10:30, 100:130] == 200).all()  # the most confident video of label 0 is the one that is gone
    assert picture[10:30, 145:175].std() > 0


@pytest.mark.parametrize("name", ["l.csv/s.png", "none/s.png", "taken"])
def test_a_sheet_that_cannot_be_written_is_one_error_and_leaves_nothing(tmp_path, name):
    write_labels(tmp_path / "l.csv", [[tmp_path / "gone.mp4", 0, 0.9]])
    (tmp_path / "taken").mkdir()
    with refused(SelaviError, path=tmp_path / name):
        contact_sheet(tmp_path / "l.csv", tmp_path / name)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["l.csv", "taken"]
