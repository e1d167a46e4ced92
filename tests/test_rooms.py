"""Imports between the package's rooms run downwards only."""

import ast

import pytest

from tests.commands import ROOT

PACKAGE = ROOT / "fairseq_layerdrop"
MAY_IMPORT = {
    "plan": set(),
    "surgery": {"plan", "modules", "version"},
    "modules": set(),
    "models": {"modules", "plan", "surgery"},
    "tasks": {"plan", "surgery", "modules", "models", "evaluation"},
    "evaluation": set(),
    "selection": {"plan", "surgery", "modules", "evaluation"},
    "reports": {"plan"},
    "corpora": set(),
    "cli": {
        "version",
        "plan",
        "surgery",
        "modules",
        "models",
        "tasks",
        "evaluation",
        "corpora",
        "selection",
        "reports",
    },
}


def imported_rooms(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 2:
            yield from {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            for name in names:
                assert not (name or "").startswith("fairseq_layerdrop"), f"{path}: import rooms relatively"


def test_every_room_is_known():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and not path.is_symlink()}  # configs is a link
    assert folders - {"__pycache__"} == set(MAY_IMPORT)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports(room):
    for path in (PACKAGE / room).glob("*.py"):
        assert set(imported_rooms(path)) <= MAY_IMPORT[room], path
