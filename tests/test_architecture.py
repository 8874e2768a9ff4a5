"""The house as drawn: arrows run tui → ops → dataflows, and every room is where its name says."""

import ast
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
ROOMS = {"dataflows": {"dataflows"}, "ops": {"ops", "dataflows"}, "tui": {"tui", "ops", "dataflows"}}
"""Which rooms each room may import from."""


def modules(room: str) -> list[Path]:
    return sorted((PROJECT / room).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """The top-level names a module imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("room", ROOMS)
def test_arrows_run_from_tui_to_ops_to_dataflows(room):
    others = {*ROOMS, "tests", "bench", "transform"} - ROOMS[room]
    wrong = {
        str(path.relative_to(PROJECT)): sorted(found) for path in modules(room) if (found := imported(path) & others)
    }
    assert wrong == {}


def test_every_room_has_modules():
    assert all(modules(room) for room in ROOMS)


def test_dataflows_read_no_environment():
    """What a dataflow works on, it is given; only what Hamilton and SQLMesh read is set where they are at work."""
    readers = {
        path.name
        for path in modules("dataflows")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}
        if isinstance(node.value, ast.Name) and node.value.id == "os"
    }
    assert readers <= {"driver.py", "sqlmesh_child.py"}


def test_dataflows_know_no_terminal():
    assert {name for path in modules("dataflows") for name in imported(path)} & {"click", "rich", "textual"} == set()
