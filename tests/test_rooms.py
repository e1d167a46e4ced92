"""Imports between the package's rooms run downwards only."""

import ast
from pathlib import Path

import pytest

import fairseq_layerdrop
from tests.commands import ROOT

PACKAGE = ROOT / "fairseq_layerdrop"
_PURE = {"base", "plan"}
MAY_IMPORT = {
    "base": set(),
    "plan": {"base"},
    "modules": {"base"},
    "surgery": {*_PURE, "modules", "version"},
    "families": set(),
    "imports": {*_PURE, "surgery", "families"},
    "exports": {*_PURE, "modules", "surgery", "families", "imports", "version"},
    "evaluation": {"base"},
    "reports": {*_PURE, "evaluation"},
    "corpora": {"base", "imports"},
    "models": {*_PURE, "modules", "surgery"},
    "tasks": {*_PURE, "modules", "surgery", "evaluation", "models"},
    "running": {*_PURE, "modules", "surgery", "evaluation", "register"},
    "selection": {*_PURE, "modules", "surgery", "evaluation", "running", "version"},
}
MAY_IMPORT["recipes"] = {*MAY_IMPORT["selection"], "models", "tasks", "register"}
MAY_IMPORT["analysis"] = {*MAY_IMPORT, "version"} - {"recipes", "selection"}
MAY_IMPORT["cli"] = {*MAY_IMPORT, "version", "register", *fairseq_layerdrop.__all__}
# Modules of the package itself, above all rooms.
TOP = {
    "__init__": {"register", "version"},
    "__main__": {"cli"},
    "register": {"fairseq_fixes", "models", "tasks"},
    "fairseq_fixes": {"numpy_fixes", "base", "models", "plan", "surgery", "tasks"},
    "numpy_fixes": {"base"},
    "version": set(),
}


def imported_rooms(path: Path):
    """The rooms, or modules of the package itself, that a file imports from outside its own."""
    depth = len(path.relative_to(PACKAGE).parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.level <= depth, f"{path}: imports from outside the package"
            if node.level == depth:
                yield from {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            for name in names:
                assert not (name or "").startswith("fairseq_layerdrop"), f"{path}: import rooms relatively"


def test_every_room_is_known():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and not path.is_symlink()}  # configs is a link
    assert folders - {"__pycache__"} == set(MAY_IMPORT)
    assert {path.stem for path in PACKAGE.glob("*.py")} == set(TOP)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports(room):
    paths = list((PACKAGE / room).rglob("*.py"))
    assert paths
    for path in paths:
        assert set(imported_rooms(path)) <= MAY_IMPORT[room] | {room}, path


@pytest.mark.parametrize("module", TOP)
def test_imports_of_the_package_itself(module):
    assert set(imported_rooms(PACKAGE / f"{module}.py")) <= TOP[module]


def test_files_of_any_depth_are_seen():
    assert "plan" in set(imported_rooms(PACKAGE / "selection" / "methods" / "search.py"))


def test_no_file_is_long():
    lengths = {path: len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {path.name: length for path, length in lengths.items() if length > 300} == {}
