"""The folders are the architecture: imports between rooms point one way, modules stay short, importing stays cheap."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
MAX_LINES = 400

# A room imports only from rooms on lines above its own.
ROOMS = """
selavi_ref.errors selavi_ref.install_hints selavi_ref.compiler
selavi_ref.store selavi_ref.metrics
selavi_ref.media selavi_ref.transport
selavi_ref.runs
selavi_ref.datasets
selavi_ref.ensemble
selavi_ref.timeline
selavi_ref.selflabel
selavi_ref.report
selavi_ref.crossfit
selavi_ref.heads
selavi_ref.estimators
selavi_ref.diagnostics selavi_ref.naming
selavi_ref.browser
selavi_ref.api
backbones.engines backbones.distributed backbones.networks
backbones.data
backbones.learner
backbones.runs
backbones.encoders backbones.studies backbones.finetuning
backbones.commands
cli
"""
RANKS = {room: rank for rank, line in enumerate(ROOMS.strip().splitlines()) for room in line.split()}


class Import(NamedTuple):
    """One name that a module takes from another module of this program."""

    importer: str
    imported: str
    name: str | None


def _module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    _module_name(file): file
    for file in [*(ROOT / "selavi_ref").rglob("*.py"), *(ROOT / "backbones").rglob("*.py"), ROOT / "cli.py"]
}
TREES = {module: ast.parse(file.read_text(encoding="utf-8")) for module, file in FILES.items()}


def imports_of(module: str) -> list[Import]:
    """Imports anywhere in a module, those inside of functions too; names read as ``module._name`` count as imports."""
    imports, aliases = [], {}
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            imports += [Import(module, alias.name, None) for alias in node.names]
            aliases.update({alias.asname: alias.name for alias in node.names if alias.asname})
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                if full in FILES:
                    imports.append(Import(module, full, None))
                    aliases[alias.asname or alias.name] = full
                else:
                    imports.append(Import(module, node.module or "", alias.name))
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases:
            imports.append(Import(module, aliases[node.value.id], node.attr))
    return imports


IMPORTS = [item for module in FILES for item in imports_of(module)]
OURS = [item for item in IMPORTS if item.imported in FILES]


def room_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def test_every_module_is_in_a_room():
    rooms = {room_of(module) for module in FILES} - {"selavi_ref", "backbones", "selavi_ref.__main__"}
    assert rooms == set(RANKS)


def test_rooms_import_only_from_rooms_above():
    wrong = {
        (here, there)
        for item in OURS
        if (here := room_of(item.importer)) != (there := room_of(item.imported))
        and RANKS.get(here, -1) <= RANKS.get(there, -1)
    }
    assert not wrong


def test_no_room_takes_what_another_keeps_private():
    private = [
        item
        for item in OURS
        if room_of(item.importer) != room_of(item.imported)
        and any(part.startswith("_") and not part.endswith("__") for part in f"{item.imported}.{item.name}".split("."))
    ]
    assert not private


def test_no_modules_import_each_other_in_a_circle():
    graph: dict[str, set[str]] = {module: set() for module in FILES}
    for item in OURS:
        graph[item.importer].add(item.imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("file", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda file: file.stem)
def test_benchmarks_import_what_there_is(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in ("selavi_ref", "backbones"):
            module = import_module(node.module)
            assert not [
                name.name
                for name in node.names
                if not hasattr(module, name.name) and f"{node.module}.{name.name}" not in FILES
            ]


def test_the_core_does_not_import_torch():
    core = [item for item in IMPORTS if item.importer.startswith("selavi_ref")]
    assert not [
        item for item in core if item.imported.partition(".")[0] in {"torch", "torchvision", "backbones", "cli"}
    ]


def test_modules_are_short():
    lengths = {
        str(file.relative_to(ROOT)): len(file.read_text(encoding="utf-8").splitlines())
        for file in FILES.values()
        if not file.stem.endswith("kernels")
    }
    assert not {name for name, lines in lengths.items() if lines > MAX_LINES}


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


def test_the_help_of_no_command_loads_anything_heavy():
    code = (
        "import cli\nfrom click.testing import CliRunner\n"
        "for args in ([], *([name] for name in cli.COMMANDS)):\n"
        "    assert not CliRunner().invoke(cli.main, [*args, '-h']).exit_code"
    )
    assert not modules_after(code) & {"torch", "numba", "numpy", "scipy", "h5py", "av"}
