"""-q, -v and --log-file of every command: what is said beside the results, and what stays in a file."""

import re
import subprocess
import sys

import numpy as np
import pytest

import cli
from selavi_ref.store import FeatureStore
from tests.support.command_line import refused, selavi, succeeded


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kinds = np.arange(40) % 2
    features = (np.random.default_rng(0).normal(size=(40, 4)) + 6 * np.eye(4)[kinds]).astype(np.float32)
    log_prob = np.log(np.where(kinds[:, None] == [0, 1], 0.9, 0.1)).astype(np.float32)
    paths = [f"{kind}/{row}.mp4" for row, kind in enumerate(kinds)]
    FeatureStore.from_arrays("f.h5", {"clip": features}, paths=paths, log_prob={"clip/0": log_prob}).close()
    return tmp_path


def test_every_command_has_the_options():
    def commands(command):
        below = getattr(command, "list_commands", None)
        if below is None:
            yield command
            return
        for name in below(None):
            yield from commands(command.get_command(None, name))

    for command in commands(cli.main):
        names = [name for option in command.params for name in option.opts]
        assert {"-q", "--quiet", "-v", "--verbose", "--log-file"} <= set(names), command.name
        assert len(names) == len(set(names)), command.name


def test_quiet_shows_results_and_errors_only(place):
    train = ["train-heads", "f.h5", "-k", "2", "--out"]
    loud = selavi(*train, "loud")
    quiet = selavi(*train, "quiet", "-q")
    assert "labelling" in loud.stderr
    assert "wrote" in succeeded(loud)
    assert quiet.stderr == ""
    assert "wrote" not in succeeded(quiet)
    assert (place / "quiet" / "labels.csv").read_bytes() == (place / "loud" / "labels.csv").read_bytes()
    assert "NMI" in succeeded(selavi("evaluate", "loud/labels.csv", "--quiet"))
    refused(selavi("label", "nothing.h5", "-q"), "nothing.h5")


def test_verbose_shows_times_and_where_an_error_arose(place):
    done = selavi("train-heads", "f.h5", "-k", "2", "--out", "run", "-v")
    assert re.search(r"^labelling: 40 videos in \d+\.\d s$", done.stderr, re.MULTILINE)
    done = selavi("label", "nothing.h5", "--verbose")
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("selavi label: ")
    assert "Traceback" not in selavi("label", "nothing.h5").stderr  # one command does not change the next


def test_the_log_file_has_all_messages_with_the_time(place):
    succeeded(selavi("train-heads", "f.h5", "-k", "2", "--out", "run", "-q", "--log-file", "all.log"))
    refused(selavi("label", "nothing.h5", "--log-file", "all.log"), "nothing.h5")
    lines = (place / "all.log").read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S* (info|warning|error) ", line) for line in lines)
    text = "\n".join(lines)
    for wanted in ("wrote", "labelling: 40 videos in", "error selavi label: ", "Traceback"):
        assert wanted in text
    refused(selavi("label", "f.h5", "--log-file", "no/such/folder.log"), "no/such/folder.log")


def test_no_colour_is_ever_written(place):
    code = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"
    command = [sys.executable, "-m", "selavi_ref", "train-heads", "f.h5", "-k", "2", "--out", "run"]
    environment = {"PATH": "", "NO_COLOR": "1", "COLUMNS": "100", "LINES": "30"}
    done = subprocess.run([sys.executable, "-c", code, *command], cwd=place, capture_output=True, env=environment)
    assert b"labelled" in done.stdout
    assert not re.search(rb"\x1b\[[0-9;]*m", done.stdout)
