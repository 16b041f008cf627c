"""The program as a whole: its table of commands, its help, and `python -m selavi_ref`."""

import ast
import subprocess
import sys
import time

import numpy as np
import pytest

import cli
from selavi_ref.store import StoreWriter
from tests.support.command_line import ROOT, refused, selavi, succeeded

PRINTING = {"print", "echo", "secho", "tqdm"}


def run_python(*args, cwd=ROOT, **environment):
    return subprocess.run(
        [sys.executable, *args], cwd=cwd, capture_output=True, text=True, env={"PATH": "", **environment}
    )


def modules_after(code):
    done = run_python("-c", f"{code}\nimport sys; print(*sys.modules)", PYTHONPATH=str(ROOT))
    assert not done.returncode, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_table_has_the_first_sentence_of_each_command(name):
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


def test_python_m_names_the_next_step_where_the_program_is_not_installed(tmp_path):
    (tmp_path / "selavi_ref").symlink_to(ROOT / "selavi_ref")
    done = run_python("-S", "-m", "selavi_ref", cwd=tmp_path)
    assert done.returncode == 1
    assert "pip install" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_option_of_version_0_1_still_works_and_is_warned_of_once():
    done = selavi("train", "no-videos", "-k", "2", "--rate", "0.1", "--rate=0.2", "--out", "r")
    refused(done, "no-videos")
    assert done.stderr.splitlines()[:-1] == ["selavi train: --rate is now called --learning-rate"]
    assert "--rate" not in succeeded(selavi("train", "--help"))


@pytest.mark.parametrize("old", ["--same-rate", "--own-norm", "--size-for-all", "--sizes-as-drawn", "--keep-sizes"])
def test_old_names_of_switches_still_work(old):
    done = selavi("train", "no-videos", "-k", "2", old, "--out", "r")
    refused(done, "no-videos")
    assert f"{old} is now called --no-" in done.stderr


def test_commands_on_stores_import_no_torch(tmp_path):
    rng = np.random.default_rng(0)
    kinds = np.arange(60) % 3
    features = (rng.normal(size=(60, 6)) + 4 * np.eye(6)[kinds]).astype(np.float32)
    paths = [f"{kind}/{row}.mp4" for row, kind in enumerate(kinds)]
    with StoreWriter(tmp_path / "f.h5", paths, {"features/video": 6, "features/audio": 6}) as writer:
        writer.write(range(60), {"features/video": features, "features/audio": features})
        writer.finish()
    commands = [
        "train-heads f.h5 -k 3 --out run",
        "label run f.h5 --out labels.csv",
        "evaluate labels.csv",
        "check run --no-files",
        "export run --out exported.csv",
        "plot run --only sizes --no-tensorboard",
        "browse run --export page --thumbnails-only",
    ]
    calls = [
        f"try: cli.main({command.split()!r})\nexcept SystemExit as end: assert not end.code, {command!r}"
        for command in commands
    ]
    calls.insert(1, "assert not {'torchvision', 'av', 'backbones.runs.train'} & set(sys.modules)")
    script = "\n".join(calls)
    code = f"import sys; sys.modules['torch'] = None\nimport cli\n{script}"
    done = run_python("-c", code, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr


def test_only_commands_print():
    """Progress and messages are handed in; programs of their own (`python -m`, POT's ``verbose``) are excepted."""
    excepted = {"selavi_ref/report/embedding.py", "selavi_ref/transport/pot.py", "selavi_ref/api/progress.py"}
    wrong = []
    for file in [*(ROOT / "selavi_ref").rglob("*.py"), *(ROOT / "backbones").rglob("*.py")]:
        name = str(file.relative_to(ROOT))
        if name in excepted or file.name == "__main__.py" or name.startswith("backbones/commands/"):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            if getattr(called, "id", getattr(called, "attr", None)) in PRINTING:
                wrong.append(f"{name}:{node.lineno}")
            if isinstance(node, ast.Import) and {alias.name for alias in node.names} & {"click", "tqdm"}:
                wrong.append(f"{name}:{node.lineno}")
    assert not wrong
