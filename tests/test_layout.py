"""The folders are the architecture: cli -> backbones -> selavi_ref, and importing stays cheap."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def imported_roots(file: Path) -> set[str]:
    roots = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            roots |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            roots.add((node.module or "").partition(".")[0])
    return roots


@pytest.mark.parametrize("file", sorted((ROOT / "selavi_ref").rglob("*.py")), ids=lambda f: str(f.relative_to(ROOT)))
def test_the_core_imports_neither_torch_nor_what_stands_above_it(file):
    assert not imported_roots(file) & {"torch", "torchvision", "backbones", "cli"}


@pytest.mark.parametrize("file", sorted((ROOT / "backbones").rglob("*.py")), ids=lambda f: f.name)
def test_the_backbones_do_not_import_the_program(file):
    assert "cli" not in imported_roots(file)


def modules_after(code: str) -> set[str]:
    script = f"{code}\nimport sys; print(*sys.modules)"
    return set(
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    )


def test_importing_the_core_loads_nothing_heavy():
    assert not modules_after("import selavi_ref") & {"torch", "numba", "scipy", "h5py", "numpy"}


def test_the_solver_and_labelling_a_store_do_without_torch():
    modules = "selavi_ref.ensemble.labels, selavi_ref.selflabel.training, selavi_ref.media"
    code = f"from selavi_ref import assign, sinkhorn\nimport {modules}"
    assert not modules_after(code) & {"torch", "numba", "av"}


def test_help_loads_nothing_heavy():
    code = "import cli\nfrom click.testing import CliRunner\nassert not CliRunner().invoke(cli.main, ['-h']).exit_code"
    assert not modules_after(code) & {"torch", "numba", "numpy", "scipy", "h5py", "av"}


def test_every_command_shows_examples():
    from click.testing import CliRunner

    import cli

    for name in cli.main.commands:
        result = CliRunner().invoke(cli.main, [name, "--help"])
        assert result.exit_code == 0
        assert f"selavi {name}" in result.output.partition("Examples")[2]
