"""Splits of a collection are never mixed unless that is asked for."""

from __future__ import annotations

import click
import pytest

from backbones.commands.scanning import list_collection
from selavi_ref.errors import InputError


@pytest.fixture
def listed(tmp_path):
    """A list of videos with splits."""
    lines = [f"v{n}.mp4,bell,{split}" for n, split in enumerate(["train", "train", "test", "val", "train"])]
    path = tmp_path / "list.csv"
    path.write_text("path,class,split\n" + "\n".join(lines) + "\n")
    return path


def names(path, **options):
    with click.Context(click.Command("train")):
        return [entry.path.rpartition("/")[2] for entry in list_collection(str(path), **options)]


def test_training_takes_the_training_videos_with_a_note(listed, capsys):
    assert names(listed, usual_split="train") == ["v0.mp4", "v1.mp4", "v4.mp4"]
    assert "train (3), test (1), val (1): taking train" in capsys.readouterr().err


def test_any_part_or_all_of_it_can_be_asked_for(listed, capsys):
    assert names(listed, split="test", usual_split="train") == ["v2.mp4"]
    assert len(names(listed, split="all", usual_split="train")) == 5
    assert capsys.readouterr().err == ""
    assert len(names(listed)) == 5
    assert "used together" in capsys.readouterr().err
    with pytest.raises(InputError) as caught:
        names(listed, split="dev")
    assert (caught.value.option, caught.value.value) == ("split", "dev")


def test_a_list_of_one_part_or_none_is_taken_whole(tmp_path, capsys):
    for split in ("test", ""):
        (tmp_path / "one.csv").write_text(f"path,split\na.mp4,{split}\nb.mp4,{split}\n")
        assert len(names(tmp_path / "one.csv", usual_split="train")) == 2
    assert capsys.readouterr().err == ""
