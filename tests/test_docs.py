"""What a reader sees is true: examples run, commands and their options exist, names in the glossary are in the code."""

import ast
import doctest
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import cli
from selavi_ref import __version__

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
WITH_EXAMPLES = [
    file for file in sorted((ROOT / "selavi_ref").rglob("*.py")) if ">>> " in file.read_text(encoding="utf-8")
]
# Programs beside `selavi` whose options the pages name.
OTHERS = {"--nproc-per-node", "--max-restarts", "--logdir", "--strict", "--target", "--rm", "--gpus", "--shm-size"}
OTHERS |= {"--index-url", "--sizes"}


def options_of(command: click.Command) -> set[str]:
    """Return the options of a command; those of a group's commands as well."""
    names = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            names |= options_of(command.get_command(context, name))
    return names | {"--help"}


def code_blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def command_lines(page: Path) -> Iterator[list[str]]:
    """Yield the arguments of each call of the program in the shell examples of a page."""
    for block in code_blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while "&&" in words:
                words = words[words.index("&&") + 1 :]
            if words[:1] == ["selavi"]:
                yield words[1:]
            elif "selavi_ref" in words:
                yield words[words.index("selavi_ref") + 1 :]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_pages_exist(page):
    for words in command_lines(page):
        command: click.Command = cli.main
        while isinstance(command, click.Group) and words:
            found = command.get_command(click.Context(command), words[0])
            assert found is not None, words
            command, words = found, words[1:]
        unknown = {word for word in words if word.startswith("--")} - options_of(command)
        assert not unknown, f"{command.name}: {unknown}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_named_in_the_pages_exist(page):
    named = set(re.findall(r"`(?:[a-z]+ )?(--[a-z][a-z0-9-]*)", page.read_text(encoding="utf-8")))
    assert named <= options_of(cli.main) | OTHERS


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("docs/first-steps.md", "import"),
        ("docs/python.md", "import SelfLabeller"),
        ("docs/store.md", "import h5py"),
    ],
)
def test_python_in_the_pages_runs(page, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    block = next(block for block in code_blocks(ROOT / page, "python") if text in block)
    exec(compile(block, page, "exec"), {})


@pytest.mark.parametrize("file", WITH_EXAMPLES, ids=lambda file: str(file.relative_to(ROOT)))
def test_examples_in_docstrings_run(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parts = file.relative_to(ROOT).with_suffix("").parts
    outcome = doctest.testmod(import_module(".".join(parts).removesuffix(".__init__")))
    assert outcome.attempted
    assert not outcome.failed


def documented(docstring: str) -> set[str]:
    """Return the names below ``Parameters`` in a docstring of NumPy's style."""
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\w[\w ]*\n-+\n|\Z)", docstring, re.MULTILINE | re.DOTALL)
    lines = re.findall(r"^([\w*][\w*, ]*?)(?: : .*)?$", section[1], re.MULTILINE) if section else []
    return {name.strip().lstrip("*") for line in lines for name in line.split(",")}


def parameters(node: ast.FunctionDef | ast.ClassDef) -> set[str]:
    """Return the arguments of a function, or those of a class and its annotated fields."""
    if isinstance(node, ast.FunctionDef):
        a = node.args
        return {arg.arg for arg in (*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg) if arg is not None}
    names = set()
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            names |= parameters(part)
        elif isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            names.add(part.target.id)
    return names


def test_documented_parameters_exist():
    wrong = [
        f"{file.relative_to(ROOT)}:{node.lineno} {node.name}: {sorted(unknown)}"
        for folder in ("selavi_ref", "backbones")
        for file in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        and (unknown := documented(ast.get_docstring(node) or "") - parameters(node))
    ]
    assert not wrong, "\n".join(wrong)


def test_names_in_the_glossary_are_in_the_code():
    code = "\n".join(
        file.read_text(encoding="utf-8")
        for folder in ("selavi_ref", "backbones")
        for file in (ROOT / folder).rglob("*.py")
    )
    rows = re.findall(
        r"^\| .* \| .* \| (.*) \|$", (ROOT / "docs/glossary.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    names = [name for row in rows for name in re.findall(r"`([A-Za-z_][\w.]*)", row) if name != "selavi"]
    assert len(names) > 30
    for name in names:
        if name.startswith("selavi_ref."):
            import_module(name)
        elif not name.endswith((".csv", ".h5")):
            assert re.search(rf"\b{name.rpartition('.')[2]}\b", code), name


def test_files_named_in_the_architecture_exist():
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    for name in re.findall(r"`((?:selavi_ref|backbones)/[\w/]+(?:\.py|/)?)`", text):
        assert (ROOT / name).exists(), name
    for package in ("selavi_ref", "backbones"):
        for folder in (ROOT / package).iterdir():
            if (folder / "__init__.py").exists():
                assert re.search(rf"^\|.*`{folder.name}/`.* \|", text, re.MULTILINE), (
                    f"the room {folder.name} is missing"
                )
    room = ROOT
    for line in text.splitlines():
        if folder := re.match(r"\| room of `(\w+)/`", line):
            room = ROOT / folder[1]
        elif named := re.match(r"\| `(\w+)/` \| .* \| (.*) \|$", line):
            for name in re.findall(r"`(\w+\.py)`", named[2]):
                assert (room / named[1] / name).exists(), f"{named[1]}/{name}"


def test_every_command_shows_examples():
    for name in cli.COMMANDS:
        result = CliRunner().invoke(cli.main, [name, "--help"])
        assert result.exit_code == 0
        assert f"selavi {name}" in result.output.partition("Examples")[2]


def test_the_version_is_the_same_everywhere():
    citation = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    changes = re.search(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert citation is not None
    assert changes is not None
    assert citation[1] == changes[1] == __version__
