"""The program as a whole: its table of commands, its help, and `python -m selavi_ref`."""

import subprocess
import sys
import time

import pytest

import cli
from tests.support.command_line import ROOT, refused, selavi, succeeded

TORCH_FREE = ["scan", "browse", "export", "check", "evaluate", "plot", "train-heads", "baseline"]


def run_python(*args, cwd=ROOT, **environment):
    return subprocess.run(
        [sys.executable, *args], cwd=cwd, capture_output=True, text=True, env={"PATH": "", **environment}
    )


def modules_after(code):
    done = run_python("-c", f"{code}\nimport sys; print(*sys.modules)", PYTHONPATH=str(ROOT))
    assert not done.returncode, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_table_says_what_the_command_says_of_itself(name):
    command = cli.main.get_command(None, name)
    assert command.get_short_help_str(limit=1000) == cli.COMMANDS[name][1]
    assert command.name == name
    assert f"selavi {name}" in command.examples


def test_the_list_of_commands_shows_whole_sentences():
    text = " ".join(succeeded(selavi("--help")).split())
    for name, (_, sentence) in cli.COMMANDS.items():
        assert f"{name} {sentence}" in text


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_shows_every_default_in_one_form(name):
    help_text = " ".join(succeeded(selavi(name, "--help")).split())
    assert "[so]" not in help_text
    assert "default:" not in help_text.replace("[default:", "")


def test_help_of_all_commands_imports_no_torch():
    calls = "".join(f"assert not CliRunner().invoke(cli.main, [{name!r}, '-h']).exit_code\n" for name in cli.COMMANDS)
    code = f"import cli\nfrom click.testing import CliRunner\n{calls}"
    assert not modules_after(code) & {"torch", "numba", "av"}


@pytest.mark.slow
def test_the_list_of_commands_opens_at_once():
    times = []
    for _ in range(5):
        started = time.perf_counter()
        assert not run_python("cli.py", "--help").returncode
        times.append(time.perf_counter() - started)
    assert min(times) < 0.2


def test_python_m_runs_the_program_in_spite_of_foreign_modules(tmp_path):
    for name in ("cli.py", "backbones.py"):
        (tmp_path / name).write_text("raise SystemExit('a module of somebody else')")
    for environment in ({}, {"PYTHONPATH": "."}):
        done = run_python("-m", "selavi_ref", "--version", cwd=tmp_path, **environment)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("selavi, version ")


def test_python_m_names_the_program_as_the_console_script_does():
    done = run_python("-m", "selavi_ref", "lable", cwd=ROOT)
    assert (done.returncode, done.stderr) == (2, "selavi: No such command 'lable'. See selavi --help.\n")


def test_python_m_says_what_to_do_where_the_program_is_not_installed(tmp_path):
    (tmp_path / "selavi_ref").symlink_to(ROOT / "selavi_ref")
    done = run_python("-S", "-m", "selavi_ref", cwd=tmp_path)
    assert done.returncode == 1
    assert "pip install" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_option_of_version_0_1_still_works_and_is_warned_of_once():
    done = selavi("train-heads", "no.h5", "-k", "2", "--rate", "0.1", "--rate=0.2", "--out", "r")
    refused(done, "no.h5")
    assert done.stderr.splitlines()[:-1] == ["selavi train-heads: --rate is now called --learning-rate"]
    assert "--rate" not in succeeded(selavi("train-heads", "--help"))


@pytest.mark.parametrize("old", ["--same-rate", "--own-norm", "--size-for-all", "--sizes-as-drawn", "--keep-sizes"])
def test_old_names_of_switches_still_work(old):
    done = selavi("train", "no-videos", "-k", "2", old, "--out", "r")
    refused(done, "no-videos")
    assert f"{old} is now called --no-" in done.stderr
