"""Lists, true classes and labels as people write them."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from selavi_ref.datasets import Manifest, ManifestEntry, read_manifest, write_manifest
from selavi_ref.datasets.manifest import is_scan_list
from selavi_ref.datasets.scan import scan_to
from selavi_ref.datasets.tables import folder_classes, match_paths
from selavi_ref.ensemble.label_table import look_up_classes, read_csv, read_truths
from selavi_ref.errors import InputError
from selavi_ref.report.evaluation import evaluate_csv, evaluation_table, read_labelled
from tests.support.media_files import tone, write_video

FORMS = {
    "comma.csv": "path,class\na.mp4,dog\nb.mp4,cat\n",
    "semicolon.csv": "path;class\na.mp4;dog\nb.mp4;cat\n",
    "semicolons.txt": "a.mp4;dog\nb.mp4;cat\n",
    "tab.csv": "path\tclass\na.mp4\tdog\nb.mp4\tcat\n",
    "tabs.txt": "a.mp4\tdog\nb.mp4\tcat\n",
    "commas.tsv": "path,class\na.mp4,dog\nb.mp4,cat\n",
    "spaces.csv": "path, class\na.mp4, dog\nb.mp4, cat\n",
    "padded.csv": "a.mp4 , dog\nb.mp4 , cat\n",
    "capitals.csv": "Path,Class\na.mp4,dog\nb.mp4,cat\n",
    "names.csv": "filename,label\na.mp4,dog\nb.mp4,cat\n",
    "order.csv": '"Category";"File"\ndog;a.mp4\ncat;b.mp4\n',
    "blank.csv": "\n\npath,class\n\na.mp4,dog\n,\nb.mp4,cat\n\n",
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", FORMS)
def test_lists_of_any_form_are_read(tmp_path: Path, name: str, encoding: str) -> None:
    (tmp_path / name).write_bytes(FORMS[name].replace("\n", "\r\n").encode(encoding))
    manifest = read_manifest(tmp_path / name)
    assert manifest.paths == [str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4")]
    assert manifest.classes == ["dog", "cat"]


@pytest.mark.parametrize("name", [name for name, text in FORMS.items() if "ath" in text or "ile" in text])
def test_true_classes_and_labels_of_any_form_are_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(FORMS[name])
    assert read_truths(tmp_path / name) == {"a.mp4": "dog", "b.mp4": "cat"}
    labels = FORMS[name].replace("dog", "0").replace("cat", "1")
    for word in ("class", "Class", "Category"):
        labels = labels.replace(word, "Cluster")
    (tmp_path / name).write_text(labels)
    assert [(row["path"], row["label"]) for row in read_csv(tmp_path / name)] == [("a.mp4", "0"), ("b.mp4", "1")]


@pytest.mark.parametrize(
    "text", [b"path,class,label\na.mp4,d\0g,\0\n", b"\x89PNG\r\n\0\0\0", b"\xff\xfea", b"\0" * 300]
)
def test_what_is_no_text_is_an_input_error(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(text)
    for read in (read_manifest, read_truths, read_csv):
        with pytest.raises(InputError) as error:
            read(tmp_path / "a.csv")
        assert error.value.path == tmp_path / "a.csv"
        assert str(error.value).isprintable()


def test_a_table_of_labels_names_no_true_classes(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("path,label,confidence\na.mp4,3,0.9\nb.mp4,1,0.8\n")
    with pytest.raises(InputError):
        read_truths(tmp_path / "labels.csv")
    assert read_manifest(tmp_path / "labels.csv").classes == ["", ""]


def test_a_list_separated_by_tabs_is_read_back_and_continued(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a, b.mp4", n_frames=45, sound=tone(1.5, 440))
    scan_to(tmp_path / "m.tsv", Manifest([ManifestEntry(str(video), "dog, cat")]))
    assert "\t" in (tmp_path / "m.tsv").read_text()
    assert is_scan_list(tmp_path / "m.tsv")
    (entry,) = read_manifest(tmp_path / "m.tsv")
    assert (entry.path, entry.class_name) == (str(video), "dog, cat")
    assert entry.info is not None
    assert scan_to(tmp_path / "m.tsv", read_manifest(tmp_path / "m.tsv")).entries == [entry]


def test_names_with_delimiters_survive(tmp_path: Path) -> None:
    names = ["a;b.mp4", "a,b.mp4", "a\tb.mp4", " a.mp4", "a .mp4", "class", '"q".mp4']
    entries = [ManifestEntry(str(tmp_path / name), "x;y") for name in names]
    for name in ("m.csv", "m.tsv"):
        write_manifest(Manifest(entries), tmp_path / name)
        assert read_manifest(tmp_path / name).entries == entries
    (tmp_path / "plain.txt").write_text("a;b.mp4\nc.mp4\n")
    assert read_manifest(tmp_path / "plain.txt").paths == [str(tmp_path / "a;b.mp4"), str(tmp_path / "c.mp4")]


def test_paths_match_however_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    composed, decomposed = (unicodedata.normalize(form, "chaîne/é.mp4") for form in ("NFC", "NFD"))
    known = [decomposed, "./videos/b.mp4", "c.mp4", "x/d.mp4", "y/d.mp4", str(tmp_path / "e.mp4"), "list/f.mp4"]
    paths = [composed, "videos/b.mp4", "far/away/c.mp4", "z/d.mp4", "e.mp4", "nothing.mp4", "there/list/f.mp4"]
    assert match_paths(paths, known, tmp_path / "there") == [
        *(decomposed, "./videos/b.mp4", "c.mp4", None, str(tmp_path / "e.mp4"), None, "list/f.mp4"),
    ]
    # The same name twice on this side matches none by its name alone.
    assert match_paths(["p/c.mp4", "q/c.mp4"], ["c.mp4"], tmp_path) == [None, None]


def test_evaluation_counts_videos_without_a_true_class(tmp_path: Path) -> None:
    rows = [("a/1.mp4", 0), ("a/2.mp4", 0), ("b/3.mp4", 1), ("b/4.mp4", 1), ("b/5.mp4", "")]
    (tmp_path / "labels.csv").write_text("path,label\n" + "".join(f"{path},{label}\n" for path, label in rows))
    (tmp_path / "truth.csv").write_text("path,class\n./a/1.mp4,x\n3.mp4,y\n")
    scores = evaluate_csv(tmp_path / "labels.csv", tmp_path / "truth.csv")
    assert (scores["videos"], scores["without_class"], scores["n"]) == (5, 3, 2)
    table = evaluation_table(*read_labelled(tmp_path / "labels.csv", tmp_path / "truth.csv"))
    assert table.facts["without_class"] == 3
    assert any("3 of 5 videos have no true class" in note for note in table.notes)
    assert look_up_classes(["b/3.mp4", "b/4.mp4"], tmp_path / "truth.csv") == ["y", ""]


def test_a_loose_video_beside_class_folders_has_no_class() -> None:
    assert folder_classes(["root/a.mp4", "root/dog/b.mp4", "root/cat/c.mp4"]) == ["", "dog", "cat"]
    assert folder_classes(["/videos/dog/a.mp4", "/videos/cat/b.mp4"]) == ["dog", "cat"]
    assert folder_classes(["dog/a.mp4", "dog/b.mp4"]) == ["dog", "dog"]
    assert folder_classes(["a.mp4"]) == [""]
    assert folder_classes([]) == []
