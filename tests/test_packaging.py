"""What other package managers are told agrees with setup.cfg; the shell completes commands and options."""

import configparser
import os
import subprocess
import sys
from pathlib import Path

import pytest

from selavi_ref import __version__

ROOT = Path(__file__).parent.parent
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")


def listed(text):
    return {line.replace(" ", "") for line in text.strip().splitlines() if line and not line.startswith("#")}


def test_the_conda_recipe_agrees_with_setup_cfg():
    yaml = pytest.importorskip("yaml")
    recipe = yaml.safe_load((ROOT / "packaging" / "conda-forge" / "recipe.yaml").read_text(encoding="utf-8"))
    options = SETUP["options"]
    run = {requirement.replace(" ", "") for requirement in recipe["requirements"]["run"]}
    assert run == listed(options["install_requires"]) | {f"python{options['python_requires']}"}
    scripts = listed(SETUP["options.entry_points"]["console_scripts"])
    assert {script.replace(" ", "") for script in recipe["build"]["python"]["entry_points"]} == scripts
    assert recipe["context"]["version"] == __version__
    assert recipe["about"]["license"] == SETUP["metadata"]["license"]


@pytest.mark.parametrize(("typed", "wanted"), [("selavi trai", "train-heads"), ("selavi export --t", "--truth")])
def test_the_shell_completes_commands_and_options(typed, wanted):
    environment = {**os.environ, "_SELAVI_COMPLETE": "bash_complete", "COMP_WORDS": typed, "PYTHONPATH": str(ROOT)}
    environment["COMP_CWORD"] = str(len(typed.split()) - 1)
    done = subprocess.run([sys.executable, "-m", "selavi_ref"], capture_output=True, text=True, env=environment)
    assert f"plain,{wanted}" in done.stdout.splitlines()
