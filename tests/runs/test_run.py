"""The files of a run: a folder is a run from its settings on, and what a resumed run repeats is forgotten."""

import errno
import json
import os

import pytest

from selavi_ref.browser.annotations import annotations_of
from selavi_ref.errors import InputError, SelaviError
from selavi_ref.runs.atomic import write_text
from selavi_ref.runs.pilot_run import PilotRun
from selavi_ref.runs.run import Run
from tests.support.refusal import refused


def test_a_run_is_one_from_its_settings_on(tmp_path):
    with refused(path=tmp_path / "run"):
        Run.open(tmp_path / "run")
    run = Run.prepare(tmp_path / "run")
    with refused(path=tmp_path / "run"):
        Run.open(tmp_path / "run")
    run.rewrite_config({"clusters": 3})
    assert Run.open(tmp_path / "run").config == {"clusters": 3}
    with refused(path=tmp_path / "run"):
        Run.prepare(tmp_path / "run")
    run.config_file.write_text("clusters = ")
    with refused(path=tmp_path / "run/config.toml"):
        _ = run.config


def test_a_run_cannot_be_made_or_opened_in_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with refused():
            Run.prepare(folder)
        with refused():
            Run.open(folder)


def test_the_log_is_one_record_a_line(tmp_path):
    run = Run.prepare(tmp_path / "run")
    records = [{"step": 0, "loss": 2.5}, {"step": 1, "note": "line\nbreak"}]
    for record in records:
        run.log(record)
    assert [json.loads(line) for line in run.log_file.read_text().splitlines()] == records


def test_records_that_will_be_written_again_are_removed_from_the_log(tmp_path):
    run = Run.prepare(tmp_path / "run")
    run.keep_records(lambda record: record["step"] <= 6)
    assert not run.log_file.exists()
    for record in ({"step": 0, "changed": 1.0}, {"step": 6, "epoch": 1}, {"step": 6, "changed": 0.5}, {"step": 8}):
        run.log(record)
    with open(run.log_file, "a") as file:
        file.write('{"step": 3, "ch')  # of a killed process
    run.keep_records(lambda record: record["step"] < 6 or record == {"step": 6, "epoch": 1})
    run.log({"step": 7})
    kept = [json.loads(line) for line in run.log_file.read_text().splitlines()]
    assert kept == [{"step": 0, "changed": 1.0}, {"step": 6, "epoch": 1}, {"step": 7}]


@pytest.mark.parametrize("name", ["file", "none", "a\nb"])
def test_what_cannot_be_written_is_one_line_that_names_it(tmp_path, name):
    (tmp_path / "file").write_text("")
    run = Run(tmp_path / name)
    for write, file in (
        (lambda: run.log({"step": 0}), "metrics.jsonl"),
        (lambda: run.rewrite_config({"clusters": 3}), "config.toml"),
    ):
        with refused(SelaviError, path=run.folder / file):
            write()


def test_a_text_that_cannot_take_its_place_leaves_the_old_one_and_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "x.txt").write_text("old")

    def refuse(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "replace", refuse)
    with refused(SelaviError, path=tmp_path / "x.txt"):
        write_text(tmp_path / "x.txt", "new")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("x.txt", "old")]


@pytest.mark.parametrize("kind", ["heads", "finetune"])
def test_a_run_of_another_kind_is_refused_where_networks_are_needed(tmp_path, kind):
    Run.prepare(tmp_path / "r").rewrite_config({"clusters": 2})
    assert Run.of_videos(tmp_path / "r").config["clusters"] == 2
    Run(tmp_path / "r").rewrite_config({"kind": kind})
    with refused(path=tmp_path / "r"):
        Run.of_videos(tmp_path / "r", "do that")


@pytest.mark.parametrize("setting", ["clusters = inf", 'heads = "5"', "heads = true", "store = 3", "clusters = [4]"])
def test_a_setting_of_another_type_is_named(tmp_path, setting):
    run, name = Run(tmp_path), setting.split()[0]
    run.config_file.write_text(setting + "\n")
    for read in (lambda: run.config, lambda: annotations_of(run)):
        with refused(path=run.config_file, option=name):
            read()


@pytest.mark.parametrize("content", [b"\xff", b"[" * 100_000, b"a = " + b"[" * 100_000, b'{"options": 3}', b"[]", b"3"])
def test_settings_and_notes_of_another_content_are_one_line(tmp_path, content):
    run, pilot = Run(tmp_path), PilotRun(tmp_path)
    for file, read in ((run.config_file, lambda: run.config), (pilot.note_file, lambda: pilot.note)):
        file.write_bytes(content)
        with pytest.raises(InputError) as caught:
            read()
        assert caught.value.path == file
        assert len(str(caught.value).splitlines()) == 1
